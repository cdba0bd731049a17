"""Running a study: a plan first, then part by part, each written as soon as it is done; what is kept is not computed again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pci_bench.api.dataset import DATASETS
from pci_bench.errors import UserError
from pci_bench.features.estimate import duration, matmul_gflops, rates
from pci_bench.reporting.html.page import Opening, write_report
from pci_bench.runs.runner import RunOutput, run
from pci_bench.runs.runner import default_folder as folder_of_run
from pci_bench.study.conclusions import Conclusion, by_evaluator, conclusions
from pci_bench.study.declared import Part, Study, study_of
from pci_bench.study.written import as_markdown
from pci_bench.system.arguments import split_names
from pci_bench.system.files import atomic_file, check_writable, make_folder, user_path
from pci_bench.system.machine import cpu_seconds
from pci_bench.system.progress import Progress
from pci_bench.system.reporter import reporter
from pci_bench.system.threads import available_cores


@dataclass(frozen=True)
class Plan:
    """What a study will do.

    Attributes
    ----------
    study, dataset
        The declaration, and the cells.
    quick
        Whether few cells and feature sets are taken.
    features
        Asked for by the user, in place of the declared ones; empty where nothing was.
    """

    study: Study
    dataset: str
    quick: bool = False
    features: tuple[str, ...] = ()

    def features_of(self, part: Part) -> tuple[str, ...]:
        """Return the feature sets of a part."""
        declared = self.study.quick_features if self.quick else part.features or self.study.features
        return self.features or declared

    def parameters_of(self, part: Part) -> dict[str, list[Any]]:
        """Return the parameters of a part in place of what its benchmark declares."""
        return part.parameters | part.quick if self.quick else part.parameters

    @property
    def limit(self) -> int | None:
        """How many cells are evaluated, about; None is all."""
        return self.study.quick_limit if self.quick else None

    def minutes_of(self, part: Part) -> float | None:
        """Return the CPU minutes that a part takes on this machine where nothing is kept; None where nobody measured."""
        measured = part.quick_minutes if self.quick else part.minutes
        return measured * _slowness() if measured else None

    def text(self) -> str:
        """Return about how long all of it takes, as a sentence."""
        minutes = [self.minutes_of(part) for part in self.study.parts]
        known, cores = sum(m for m in minutes if m is not None), available_cores()
        if self.features or not known:
            return "How long it takes was not measured with these feature sets."
        without = minutes.count(None)
        unknown = (
            f"; {without} of {len(minutes)} parts {'was' if without == 1 else 'were'} not measured" if without else ""
        )
        return f"About {duration(60 * known / cores)} on {cores} core{'s' if cores > 1 else ''} where nothing is kept from earlier runs{unknown}."


@dataclass(frozen=True)
class PartOutcome:
    """What came of one part: its run and what follows from it, or the reason why there is none."""

    part: Part
    folder: Path
    output: RunOutput | None = None
    reason: str = ""
    said: tuple[Conclusion, ...] = ()
    cpu_seconds: float = 0.0


@dataclass(frozen=True)
class StudyOutput:
    """A study that was run.

    Attributes
    ----------
    plan
        What was to be done.
    parts
        What came of it, part by part.
    report, page
        The page for browsers, and the same conclusions as Markdown.
    """

    plan: Plan
    parts: tuple[PartOutcome, ...]
    report: Path
    page: Path
    conclusions: tuple[Conclusion, ...]


def study(
    dataset: str,
    *,
    quick: bool = False,
    features: Sequence[str] | str | None = None,
    out: str | Path | None = None,
    device: str = "auto",
    workers: int | None = None,
    seed: int = 0,
    progress: Progress | bool | None = None,
) -> StudyOutput:
    """Run all benchmarks that tell which features of a dataset are better and why, and write one report of them.

    Every part is a run of its own in a folder of its own. A study that is interrupted continues where it was: what was computed
    is taken from the cache.

    Parameters
    ----------
    dataset
        Its name. Where it has no study of its own, that of any labelled dataset is run.
    quick
        Take few cells and feature sets, for a first look in minutes.
    features
        In place of those that the study declares.
    out
        The folder; by default ``runs/study/<dataset>``, of a quick one ``runs/study/<dataset>-quick``.
    device, workers, seed, progress
        As in :func:`pci_bench.run`.

    Raises
    ------
    UserError
        For unknown names, or where no part can be run.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     made = study("yeast-sim", quick=True, features="intensity,noise", out=folder)  # doctest: +SKIP
    ...     made.conclusions[0].text  # doctest: +SKIP
    'Of 2 feature sets …'
    """
    planned = Plan(study_of(dataset), dataset, quick, tuple(split_names(features)) if features is not None else ())
    DATASETS.get(dataset)
    folder = user_path(out, "The output folder") if out is not None else default_folder(dataset, quick=quick)
    check_writable(folder)
    make_folder(folder)
    progress = reporter(progress)
    parts: list[PartOutcome] = []
    for number, part in enumerate(planned.study.parts, 1):
        progress.say(f"{number}/{len(planned.study.parts)} {part.name}: {part.question}")
        place = folder / f"{number:02d}-{part.name}"
        parts.append(_part(planned, part, place, device=device, workers=workers, seed=seed, progress=progress))
        for about, texts in by_evaluator(parts[-1].said).items():
            for line in [*([f"  {about}"] if about else []), *(f"  - {text}" for text in texts)]:
                progress.say(line)
        if parts[-1].reason:
            progress.say(f"  Not run: {parts[-1].reason}")
        page = write_page(planned, parts, folder)
    if not any(p.output for p in parts):
        raise UserError(f"No part of the study of {dataset} could be run. First: {parts[0].reason}")
    return StudyOutput(
        planned,
        tuple(parts),
        write_study(planned, parts, folder),
        page,
        tuple(conclusion for p in parts for conclusion in p.said),
    )


def default_folder(dataset: str, *, quick: bool) -> Path:
    """Return where a study writes that names no folder."""
    first = study_of(dataset).parts[0].benchmark
    return Path("runs", "study", folder_of_run(first, [dataset]).name + ("-quick" if quick else ""))


def _part(planned: Plan, part: Part, place: Path, **options: Any) -> PartOutcome:
    """Run one part; where it cannot be run, the others go on."""
    began = cpu_seconds()
    try:
        output = run(
            part.benchmark,
            dataset=planned.dataset,
            features=planned.features_of(part),
            parameters=planned.parameters_of(part),
            limit=planned.limit,
            out=place,
            **options,
        )
    except UserError as error:
        return PartOutcome(part, place, reason=str(error))
    return PartOutcome(part, place, output, "", tuple(conclusions(part.name, output.results)), cpu_seconds() - began)


def write_page(planned: Plan, parts: Sequence[PartOutcome], folder: Path) -> Path:
    """Write what there is of a study as ``study.md``, in place of what there was."""
    page = folder / "study.md"
    with atomic_file(page) as temporary:
        temporary.write_text(as_markdown(planned, parts, title(planned)), encoding="utf-8", newline="\n")
    return page


def write_study(planned: Plan, parts: Sequence[PartOutcome], folder: Path) -> Path:
    """Write ``study.html`` of parts of which one at least was run, and return it."""
    done = [p for p in parts if p.output is not None]
    opening = Opening(
        title=title(planned),
        questions={p.folder.name: p.part.question for p in done},
        sentences={p.folder.name: by_evaluator(p.said) for p in done},
        missing=tuple((p.part.name, p.reason) for p in parts if p.reason),
    )
    return write_report([p.folder for p in done], folder / "study.html", opening=opening)


def title(planned: Plan) -> str:
    """Return what a study is of: ``Study of rxrx1-organelles``."""
    return f"{'Quick study' if planned.quick else 'Study'} of {planned.dataset}"


@cache
def _slowness() -> float:
    """Return how many times as long as where the minutes were measured matrix products take here."""
    return float(rates()["gflops"]) / matmul_gflops()

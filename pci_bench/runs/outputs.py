"""What a run writes: results, tables and figures, each in its place below the output folder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from pci_bench.api.segmenter import DEFAULT_SEGMENTER
from pci_bench.api.skipped import Skipped
from pci_bench.errors import PluginError, UserError
from pci_bench.reporting.figures import FIGURES, draw
from pci_bench.reporting.tables.table import FilledTable, NotRun, Table
from pci_bench.runs import kept
from pci_bench.runs.record import RunRecord
from pci_bench.runs.results import Result, key_and_defaults, read_result, write_result
from pci_bench.system.files import atomic_file, escape
from pci_bench.system.progress import Progress


def write_results(results: Sequence[Result], folder: Path) -> None:
    """Write results below an output folder, each in its place."""
    for result in results:
        write_result(result, folder / result_path(result))


def check_not_replaced(results: Sequence[Result], folder: Path) -> None:
    """Raise where a result file would be replaced by another result: of another seed, or of other features of the same name.

    Raises
    ------
    UserError
        With the first such file.
    """
    for result in results:
        file = folder / result_path(result)
        if file.is_file():
            before = read_result(file)
            differing = [
                what
                for what, then, now in (
                    ("another seed", before.run.get("seed"), result.run.get("seed")),
                    ("other cells", before.dataset, result.dataset),
                    ("other features of this name", before.features, result.features),
                    ("other features of this name, or another version", before.metrics, result.metrics),
                )
                if then != now
            ]
            if differing:
                raise UserError(
                    f"{file} is a result of {differing[0]}, and would be replaced. Name another folder with --out, or remove it."
                )


def check_same_settings(
    folder: Path, dataset: str, limit: int | None, seed: int, segmenter: str, annotations: str | None
) -> None:
    """Raise where an output folder holds results on a dataset that were made with other settings.

    A run of more feature sets or other parameters adds results to those in a folder; one of another subset, seed, segmenter
    or table of annotations would replace some and stand beside others, and a report would say of one what holds for another.

    Raises
    ------
    UserError
        With the settings that differ.
    """
    before: dict[str, Any] = {}
    for file in sorted((folder / "results" / escape(dataset)).glob("*/*/*.json")):
        with suppress(UserError):  # whoever reads the results says what is wrong with them
            result = read_result(file)
            before = {"limit": result.dataset.limit, "seed": result.run.get("seed")}
            break
    if not before:
        return
    with suppress(UserError):  # a run that was killed writes no record
        record = RunRecord.of(folder)
        if record is not None and dataset in record.arguments.get("dataset", ()):
            before |= {"segmenter": record.arguments.get("segmenter", DEFAULT_SEGMENTER)}
            before |= {"annotations": record.arguments.get("annotations_sha256")}
    now = {"limit": limit, "seed": seed, "segmenter": segmenter, "annotations": annotations}
    differing = [
        f"{name} = {_setting(then)}, not {_setting(now[name])}" for name, then in before.items() if then != now[name]
    ]
    if differing:
        raise UserError(
            f"{folder} holds results on {dataset} of a run with {', and '.join(differing)}. "
            "Name another folder with --out, or remove that one."
        )


def _setting(value: Any) -> str:
    return "none" if value is None else str(value)[:16]


def result_path(result: Result) -> Path:
    """Return the place of a result below an output folder."""
    return result.path(*key_and_defaults(result))


def fill_tables(
    tables: Iterable[Table], results: Sequence[Result], not_run: NotRun
) -> tuple[list[FilledTable], list[Skipped]]:
    """Return tables filled from results, and those whose code failed."""
    filled, failed = [], []
    for table in tables:
        try:
            for made in table.filled(results, not_run):
                filled.append(made)  # also where the next one fails
        except PluginError as error:  # the other tables are written
            failed.append(Skipped.failed(error, evaluator=f"table {table.name}"))
    return filled, failed


def write_tables_and_figures(
    tables: Sequence[FilledTable], results: Sequence[Result], folder: Path, *, several: bool, progress: Progress
) -> tuple[list[Path], list[Skipped]]:
    """Write tables and figures; return the figures' files, and what failed.

    Parameters
    ----------
    tables, results
        What is written.
    folder
        The output folder.
    several
        Whether the tables are of several datasets.
    progress
        The progress reporter.
    """
    for table in tables:
        for form in table.forms:
            with atomic_file(folder / "tables" / f"{table.file_name(several=several)}.{form}") as temporary:
                temporary.write_text(table.text(form), encoding="utf-8", newline="\n")
    failed: list[Skipped] = []
    with progress.stage("drawing figures"):
        drawn = list(results)
        while True:
            try:
                return kept.figures(drawn, FIGURES, folder / "figures", partial(draw, drawn), progress.say), failed
            except PluginError as error:  # the figures of other evaluators are drawn
                failed.append(Skipped.failed(error, evaluator=f"figures of {', '.join(error.names)}"))
                drawn = [r for r in drawn if r.evaluator.name not in error.names]

"""Benchmarks: one TOML each, which datasets × feature sets × evaluators fill which tables."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import pydantic

from pci_bench.api.evaluator import EVALUATORS
from pci_bench.api.registry import Origin, Registry
from pci_bench.errors import UserError
from pci_bench.features.postprocessing import postprocessings
from pci_bench.system.files import user_path
from pci_bench.system.foreign import first_fault, toml_value


def _checked(declared: Any) -> tuple[str, ...]:
    """Return post-processings as they are written, each once."""
    try:
        return tuple(map(str, postprocessings(declared))) if declared else ()
    except UserError as error:
        raise ValueError(str(error).rstrip(".")) from error


Postprocess = Annotated[tuple[str, ...], pydantic.BeforeValidator(_checked)]


class Evaluation(pydantic.BaseModel):
    """An evaluator and its grid: a list of values for a parameter means one evaluation for each.

    ``postprocess`` is what is done to features before, in place of what the benchmark declares; one evaluation for each.
    """

    model_config = pydantic.ConfigDict(extra="allow", frozen=True)

    name: str
    postprocess: Postprocess = ()

    @property
    def grid(self) -> dict[str, list[Any]]:
        """Values of every parameter."""
        return {k: v if isinstance(v, list) else [v] for k, v in (self.model_extra or {}).items()}


class Benchmark(pydantic.BaseModel):
    """A combination that can be run by name."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    name: str
    title: str
    datasets: tuple[str, ...]
    features: tuple[str, ...]
    evaluate: tuple[Evaluation, ...]
    tables: tuple[str, ...] = ()
    postprocess: Postprocess = ()
    # all that are available, not the first of them; the second names are those of version 0.1
    all_datasets: bool = pydantic.Field(False, validation_alias=pydantic.AliasChoices("all_datasets", "every"))
    # values of parameters, by dataset
    dataset_overrides: dict[str, dict[str, Any]] = pydantic.Field(
        {}, validation_alias=pydantic.AliasChoices("dataset_overrides", "on")
    )

    @pydantic.model_validator(mode="after")
    def _known_parameters(self) -> Benchmark:
        for dataset, values in self.dataset_overrides.items():
            for name in values:
                if not any(name in evaluation.grid for evaluation in self.evaluate):
                    raise ValueError(f"dataset_overrides.{dataset} sets '{name}', which no evaluation declares")
        return self

    def evaluations_on(self, dataset: str) -> list[Evaluation]:
        """Return the evaluations, with the values for one dataset in place of the declared ones of the same parameters."""
        values = self.dataset_overrides.get(dataset, {})
        return [
            Evaluation(
                **{
                    **e.model_dump(),
                    **{n: v for n, v in values.items() if n in e.grid},
                    "postprocess": e.postprocess or self.postprocess or ("none",),
                }
            )
            for e in self.evaluate
        ]

    def with_evaluators(self, names: Iterable[str]) -> Benchmark:
        """Return the benchmark with further evaluators, at their defaults; those that it has stay as it declares them.

        One that may leave out what cells share is run with all other cells and without those of the dataset's confounder.

        Raises
        ------
        UserError
            For an unknown name.

        Examples
        --------
        >>> [(e.name, e.grid) for e in BENCHMARKS.get("umap").with_evaluators(["logistic-regression", "umap"]).evaluate]
        [('umap', {}), ('logistic-regression', {'exclude': ['cell', 'confounder']})]
        """
        evaluations = list(self.evaluate)
        for name in names:
            exclude = EVALUATORS.get(name).Params.model_fields.get("exclude")
            grid = {"exclude": ["cell", "confounder"]} if exclude is not None and exclude.default == "cell" else {}
            if name not in {e.name for e in evaluations}:
                evaluations.append(Evaluation(name=name, **grid))
        return self.model_copy(update={"evaluate": tuple(evaluations)})


def register_benchmarks(file: Path) -> list[str]:
    """Register every benchmark of a TOML file, and return their names.

    Raises
    ------
    UserError
        Where the file is not TOML or a declaration is incomplete.
    """
    try:
        text = file.read_text(encoding="utf-8")
        declarations = toml_value(text)
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read as a benchmark declaration: {error}.") from error
    lines = text.splitlines()
    for name, declaration in declarations.items():
        line = next((i for i, content in enumerate(lines, 1) if content.strip() == f"[{name}]"), 1)
        try:
            benchmark = Benchmark(name=name, **declaration)
        except (pydantic.ValidationError, TypeError) as error:
            what = first_fault(error) if isinstance(error, pydantic.ValidationError) else error
            raise UserError(f"The benchmark '{name}' in {file}:{line} is incomplete: {what}.") from error
        BENCHMARKS.register(name, benchmark, origin=Origin(str(file), line))
    return list(declarations)


BENCHMARKS: Registry[Benchmark] = Registry("benchmark", declared_in="benchmarks", declare=register_benchmarks)

for _file in sorted(files(__name__).iterdir(), key=lambda f: f.name):
    if _file.name.endswith(".toml"):
        register_benchmarks(Path(str(_file)))


def benchmark_of(file: Path) -> str:
    """Return the name of the one benchmark that a TOML file declares, which is registered now.

    Raises
    ------
    UserError
        As :func:`register_benchmarks`, and where it declares none or several.
    """
    names = register_benchmarks(user_path(file, "The benchmark"))
    if len(names) != 1:
        raise UserError(f"{file} declares {len(names)} benchmarks ({', '.join(names) or 'none'}); expected one.")
    return names[0]

"""What studies there are: the benchmarks that each runs, in their order, and the question that each answers."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import pydantic

from pci_bench.benchmarks import BENCHMARKS
from pci_bench.system.foreign import toml_value

ANY = "any"  # the study of a dataset that has none of its own


class Part(pydantic.BaseModel):
    """One benchmark of a study.

    Attributes
    ----------
    name, question
        What it is called in files, and what it answers.
    benchmark
        Its name.
    features
        In place of the study's.
    parameters, quick
        Of its evaluators, in place of what the benchmark declares; and those of a quick study in place of these.
    minutes, quick_minutes
        CPU minutes that it took where nothing was kept, on one core that multiplies matrices at ``gflops`` of
        ``rates.toml``; 0 where nobody measured.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    name: str
    question: str
    benchmark: str
    features: tuple[str, ...] = ()
    parameters: dict[str, list[Any]] = {}
    quick: dict[str, list[Any]] = {}
    minutes: float = 0
    quick_minutes: float = 0


class Study(pydantic.BaseModel):
    """A study, as ``studies.toml`` declares it.

    Attributes
    ----------
    name
        Of the dataset, or ``any``.
    features, quick_features
        Feature sets, groups or patterns that are compared; and those of a quick study.
    quick_limit
        About how many cells a quick study evaluates.
    parts
        In the order in which they are run and shown.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    name: str
    features: tuple[str, ...]
    quick_features: tuple[str, ...]
    quick_limit: int
    parts: tuple[Part, ...]

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> Study:
        names = [part.name for part in self.parts]
        if len(set(names)) < len(names):
            raise ValueError("two parts have one name")
        for part in self.parts:
            BENCHMARKS.get(part.benchmark)
        return self


@cache
def studies() -> dict[str, Study]:
    """Return all studies by name, in the order in which they are declared.

    Examples
    --------
    >>> studies()["any"].parts[0].name
    'ladder'
    """
    text = files("pci_bench.study").joinpath("studies.toml").read_text(encoding="utf-8")
    return {name: Study(name=name, **declared) for name, declared in toml_value(text).items()}


def study_of(dataset: str) -> Study:
    """Return the study of a dataset: its own, else the one of any labelled dataset.

    Examples
    --------
    >>> study_of("rxrx1-organelles").name, study_of("folder:my/crops").name
    ('rxrx1-organelles', 'any')
    """
    return studies().get(dataset, studies()[ANY])

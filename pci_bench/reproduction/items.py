"""What can be reproduced: tables and figures, each with the runs that it needs and the numbers that are printed of it."""

from __future__ import annotations

import difflib
from functools import cache
from importlib.resources import files
from typing import Any

import pydantic

from pci_bench.errors import UserError
from pci_bench.system.foreign import toml_value

EVERYTHING = "all"


class ItemRun(pydantic.BaseModel):
    """One benchmark on one dataset, as an item needs it.

    Attributes
    ----------
    benchmark, dataset
        Their names.
    needed, besides
        Feature sets, with their weights, without which there is nothing to compare; and those that stand beside them.
    parameters
        Of the evaluators, in place of what the benchmark declares.
    ontology, table
        Annotations by name (``pci-bench data get``): an ontology that an evaluator takes by itself, and a table of proteins that is
        joined onto the cells; "" where there is none.
    cells
        How many cells, or profiles, are published of a dataset that is always had as a whole; 0 of others.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    benchmark: str
    dataset: str
    needed: tuple[str, ...]
    besides: tuple[str, ...] = ()
    parameters: dict[str, list[Any]] = {}
    ontology: str = ""
    table: str = ""
    cells: int = 0

    @property
    def features(self) -> tuple[str, ...]:
        """All its feature sets."""
        return (*self.needed, *self.besides)


class Item(pydantic.BaseModel):
    """A table or figure, as ``items.toml`` declares it."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    name: str
    title: str
    aliases: tuple[str, ...] = ()
    runs: tuple[ItemRun, ...]
    tables: tuple[str, ...] = ()
    judged: tuple[str, ...] = ()
    tolerance: float | None = None
    why_not: str = ""

    @pydantic.model_validator(mode="after")
    def _complete(self) -> Item:
        if bool(self.judged) != (self.tolerance is not None):
            raise ValueError("judged feature sets need a tolerance, and a tolerance judged feature sets")
        return self


@cache
def items() -> dict[str, Item]:
    """Return all items by name, in the order in which they are declared.

    Examples
    --------
    >>> items()["table1"].runs[0].benchmark
    'yeast-knn'
    """
    text = files("pci_bench.reproduction").joinpath("items.toml").read_text(encoding="utf-8")
    return {name: Item(name=name, **declared) for name, declared in toml_value(text).items()}


def chosen(name: str) -> list[Item]:
    """Return the item of a name or of another of its names; all of them for ``"all"``.

    Raises
    ------
    UserError
        For a name that there is not, with the nearest.

    Examples
    --------
    >>> [item.name for item in chosen("figure2a")]
    ['supplementary-table1']
    """
    if name == EVERYTHING:
        return list(items().values())
    by_name = {n: item for item in items().values() for n in (item.name, *item.aliases)}
    if name not in by_name:
        near = difflib.get_close_matches(name.lower(), by_name, n=3)
        hint = f"Did you mean {' or '.join(near)}?" if near else ""
        raise UserError(
            f"There is nothing called '{name}' to reproduce. {hint} Known: {', '.join(by_name)}, {EVERYTHING}.".replace(
                "  ", " "
            )
        )
    return [by_name[name]]

"""Tolerances: how far a metric may move before it counts as changed."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import pydantic

from pci_bench.errors import UserError
from pci_bench.system.foreign import first_fault, toml_value


class Tolerance(pydantic.BaseModel):
    """How far a metric may move: |Δ| ≤ max(absolute, cells / n), or what ``metrics`` says of a metric by name."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    absolute: float = pydantic.Field(0.005, ge=0)
    cells: float = pydantic.Field(2.0, ge=0)
    metrics: dict[str, Annotated[float, pydantic.Field(ge=0)]] = {}

    def of(self, metric: str, n_cells: int) -> float:
        """Return the largest difference of a metric (or of a class's recall) over n cells that is no change."""
        return self.metrics.get(metric, max(self.absolute, self.cells / max(n_cells, 1)))

    def of_column(self, column: str, largest: float) -> float:
        """Return the largest difference in a table's column that is no change: more where its values exceed 1."""
        return self.metrics.get(column, self.absolute * max(1.0, largest))


@cache
def default_tolerance() -> Tolerance:
    """Return the packaged tolerance, ``tables/expected/tolerance.toml``."""
    text = files("pci_bench_tables").joinpath("expected/tolerance.toml").read_text(encoding="utf-8")
    return Tolerance(**toml_value(text))


def read_tolerance(file: Path) -> Tolerance:
    """Return the tolerance of a TOML file: ``absolute``, ``cells`` and a table ``metrics``; the default's where it says nothing.

    Raises
    ------
    UserError
        For a file that is not TOML, or holds anything else.
    """
    default = default_tolerance()
    try:
        given = Tolerance(**{**default.model_dump(exclude={"metrics"}), **toml_value(file.read_text(encoding="utf-8"))})
        return given.model_copy(update={"metrics": default.metrics | given.metrics})
    except (OSError, ValueError) as error:  # TOML's and pydantic's errors are ValueErrors
        what = first_fault(error) if isinstance(error, pydantic.ValidationError) else error
        raise UserError(
            f"{file} is not a tolerance ({what}). It may hold absolute = 0.005, cells = 2 and a table [metrics]."
        ) from error

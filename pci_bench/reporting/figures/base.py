"""Which figures an evaluator's results are drawn as."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pci_bench.registry import Registry, origin_of
from pci_bench.results import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Figures = Callable[[Sequence[Result]], Iterator[tuple[str, "Figure"]]]

FIGURES: Registry[Figures] = Registry("figure")


def register_figures(evaluator: str) -> Callable[[Figures], Figures]:
    """Return a decorator for a function that draws one evaluator's results on one dataset, as (file stem, figure)."""

    def register(function: Figures) -> Figures:
        FIGURES.register(evaluator, function, origin=origin_of(function))
        return function

    return register


def draw(results: Sequence[Result], folder: Path) -> list[Path]:
    """Draw every figure of some results into a folder, and return the files."""
    from pci_bench.drawing import save

    files: list[Path] = []
    for dataset, evaluator in dict.fromkeys((r.dataset.name, r.evaluator.name) for r in results):
        if evaluator not in FIGURES:
            continue
        mine = [r for r in results if (r.dataset.name, r.evaluator.name) == (dataset, evaluator)]
        for stem, figure in FIGURES.get(evaluator)(mine):
            files += save(figure, folder / stem)
    return files

"""Which figures an evaluator's results are drawn as, and what is written beneath them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from pci_bench.api.registry import Registry, origin_of
from pci_bench.features.names import seeds_of
from pci_bench.runs.frame import results_frame
from pci_bench.runs.results import Result
from pci_bench.system.files import atomic_file
from pci_bench.system.text import csv_table

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

Figures = Callable[[Sequence[Result]], Iterator[tuple[str, "Figure"]]]


@dataclass(frozen=True)
class Drawing:
    """A function that draws results as (file stem, figure), and whether it takes all datasets, or all evaluators, at once."""

    function: Figures
    all_datasets: bool = False
    all_evaluators: bool = False


FIGURES: Registry[Drawing] = Registry("figure")

_data: WeakKeyDictionary[Figure, pd.DataFrame] = WeakKeyDictionary()  # of figures that were described


def register_figures(
    evaluator: str, *, all_datasets: bool = False, all_evaluators: bool = False
) -> Callable[[Figures], Figures]:
    """Return a decorator for a function that draws one evaluator's results as (file stem, figure).

    Parameters
    ----------
    evaluator
        Its name.
    all_datasets
        Whether the function is given the results on all datasets of a run; else it is called for each dataset.
    all_evaluators
        Whether it is given all results of a run, with those of every post-processing; `evaluator` is then what it draws.

    Examples
    --------
    >>> @register_figures("my-evaluator")
    ... def bars(results):
    ...     from matplotlib.figure import Figure
    ...
    ...     figure = Figure()
    ...     figure.subplots().bar([r.features.name for r in results], [r.metrics["separation"] for r in results])
    ...     yield "separation", figure
    """

    def register(function: Figures) -> Figures:
        FIGURES.register(evaluator, Drawing(function, all_datasets, all_evaluators), origin=origin_of(function))
        return function

    return register


def draw(results: Sequence[Result], folder: Path) -> list[Path]:
    """Draw every figure of some results into a folder with its data as CSV beside it, and return the files.

    Of feature sets that differ in nothing but the seed of their weights the first is drawn; of several post-processings the first,
    beside the ranks under each (:mod:`pci_bench.reporting.figures.rank_changes`).
    """
    from pci_bench.system.drawing import save

    files: list[Path] = []
    sets: dict[tuple[str, str], list[Result]] = {}
    for result in first_of_postprocessings(first_of_seeds(results)):
        if (evaluator := result.evaluator.name) in FIGURES:
            dataset = "" if FIGURES.get(evaluator).all_datasets else result.dataset.name
            sets.setdefault((dataset, evaluator), []).append(result)
    drawn = [(evaluator, group) for (_, evaluator), group in sets.items()]
    drawn += [(name, list(results)) for name in FIGURES if FIGURES.get(name).all_evaluators]
    for name, group in drawn:
        for stem, figure in _drawn(name, group):
            files += save(figure, folder / stem)
            data = _data.get(figure)
            files.append(folder / f"{stem}.csv")
            with atomic_file(files[-1]) as temporary:
                text = csv_table(results_frame(group) if data is None else data)
                temporary.write_text(text, encoding="utf-8", newline="\n")
    return files


def _drawn(evaluator: str, results: Sequence[Result]) -> Iterator[tuple[str, Figure]]:
    """Yield an evaluator's figures; what goes wrong where they are saved is not the fault of their code."""

    def code() -> AbstractContextManager[None]:
        return FIGURES.code(evaluator, f"on {len(results)} results", [evaluator], what=f"of {evaluator}")

    with code():
        figures = iter(FIGURES.get(evaluator).function(results))
    while True:
        with code():
            drawn = next(figures, None)
            if drawn is None:
                return
            stem, figure = drawn
        yield stem, figure


def first_of_seeds(results: Sequence[Result]) -> list[Result]:
    """Return results without those of a second, third … seed of a network's weights."""
    first: dict[tuple[str, str, tuple[str, bool]], str] = {}
    for result in results:
        features = result.features.full_name
        first.setdefault((result.dataset.name, result.evaluator.name, seeds_of(features)), features)
    return [
        r
        for r in results
        if first[r.dataset.name, r.evaluator.name, seeds_of(r.features.full_name)] == r.features.full_name
    ]


def first_of_postprocessings(results: Sequence[Result]) -> list[Result]:
    """Return the results of the first post-processing of each dataset and evaluator."""
    first: dict[tuple[str, str], object] = {}
    for result in results:
        key = (result.dataset.name, result.evaluator.name)
        first.setdefault(key, result.evaluator.params.get("postprocess"))
    return [r for r in results if first[r.dataset.name, r.evaluator.name] == r.evaluator.params.get("postprocess")]


def described(figure: Figure, results: Sequence[Result], note: str = "", *, data: pd.DataFrame | None = None) -> Figure:
    """Write beneath a figure what it was made of: a note, then data, weights, evaluator, seed and version.

    Parameters
    ----------
    figure
        It is returned.
    results
        Those that it shows.
    note
        Sentences on how it is read.
    data
        The numbers that it shows, which are written beside it; by default the results' parameters, metrics and intervals.
    """
    from pci_bench.system.drawing import caption

    caption(figure, f"{note} {provenance_of(results)}".strip())
    _data[figure] = results_frame(results) if data is None else data
    return figure


def stacked(results: Sequence[Result], tables: Iterable[pd.DataFrame | None]) -> pd.DataFrame:
    """Return a table of each result under each other, led by dataset, feature set and the parameters in which the results differ."""
    import pandas as pd

    params = [r.evaluator.params for r in results]
    differing = [n for n in params[0] if len({str(p.get(n)) for p in params}) > 1]
    parts = []
    for result, table in zip(results, tables, strict=True):
        if table is None:
            continue
        about: dict[str, Any] = {"dataset": result.dataset.name, "features": result.features.full_name}
        about |= {name: result.evaluator.params.get(name) for name in differing}
        shown = table.drop(columns=[c for c in table.columns if c == "pixels" or c in about])
        parts.append(pd.concat([pd.DataFrame(about, index=shown.index), shown], axis=1))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def provenance_of(results: Sequence[Result]) -> str:
    """Return data with version and number of cells, weights with hash, evaluator, seeds and version, as sentences."""
    datasets: dict[tuple[str, str], str] = {}
    weights: dict[str, str] = {}
    for result in results:
        data = result.dataset
        version = f" {data.version}" if data.version else ""
        subset = f", a subset (--limit {data.limit})" if data.limit else ""
        datasets[data.name, data.sha256] = f"{data.name}{version}, {data.n_cells:,} cells{subset}"
        if (name := result.features.weights) and "random" not in result.features.name:
            digest = (result.features.weights_sha256 or "")[:8]
            weights.setdefault(digest or name, f"{result.features.name.split('-')[0]}@{name} {digest}".strip())
    evaluators = dict.fromkeys(f"{r.evaluator.name} {r.evaluator.version}" for r in results)
    seeds = dict.fromkeys(str(r.run["seed"]) for r in results if "seed" in r.run)
    packages = dict.fromkeys(f"pci-bench {r.run['package']}" for r in results if "package" in r.run)
    untrained = any("random" in r.features.name for r in results)
    note = " Networks named random are untrained." if untrained else ""
    if any(seeds_of(r.features.full_name)[1] for r in results):
        note += " Of several seeds the first is drawn."
    made = [*evaluators, *([f"seed {', '.join(seeds)}"] if seeds else []), *packages]
    done = dict.fromkeys(str(r.evaluator.params["postprocess"]) for r in results if "postprocess" in r.evaluator.params)
    note += f" Post-processing: {', '.join(done)}." if done else ""
    trained = ", ".join(weights.values()) or "none"
    return f"Data: {'; '.join(datasets.values())}. Trained weights: {trained}.{note} {', '.join(made)}."

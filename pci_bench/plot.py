"""Figures for notebooks and papers: functions of results, features or cells that return Matplotlib axes.

Each draws into `ax` where it is given, else into a new figure. What they draw is what `pci-bench run` writes as figures.

Examples
--------
>>> import pci_bench
>>> output = pci_bench.run("yeast-knn", dataset="yeast-sim", features=["intensity", "raw-pixels"], k=11, limit=300)
>>> axes = pci_bench.plot.accuracy(output)
>>> [label.get_text() for label in axes.get_yticklabels()]  # from the bottom
['raw-pixels (control)', 'intensity (control)']
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pci_bench.data.observations import obs_strings
from pci_bench.data.pictures import channels_sentence, sampled, tile_side, tiles
from pci_bench.data.provenance import Provenance
from pci_bench.errors import UserError
from pci_bench.reporting.candidates import Candidates, balanced_where_known, ladder_of
from pci_bench.reporting.figures import classification, embedding
from pci_bench.reporting.figures import ladder as ladder_figure
from pci_bench.reporting.headline import headline_k
from pci_bench.reporting.palette import in_groups
from pci_bench.reporting.ranking import other_settings
from pci_bench.runs.evaluation import evaluate
from pci_bench.runs.results import Result, headline
from pci_bench.system.drawing import SMALLEST, shortened
from pci_bench.system.text import plot_text

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

    from pci_bench.data.cells import Cells

__all__ = ["accuracy", "classes_in_groups", "confusion", "ladder", "mosaic", "umap"]

WIDE = 7.2  # inches
UMAP = "X_umap"  # where scanpy keeps an embedding


def __dir__() -> list[str]:
    return __all__


def accuracy(
    results: Iterable[Result], *, metric: str | None = None, k: int | None = None, ax: Axes | None = None
) -> Axes:
    """Return axes with a bar for each feature set, ranked by the strictest comparison, with 95 % intervals.

    Where unbalanced and balanced classes were evaluated, the balanced ones are drawn. Controls and features that learned labels are marked.

    Parameters
    ----------
    results
        Of one evaluator on one dataset, for example a run.
    metric
        By default the evaluator's headline.
    k
        The number of neighbours, where the evaluator has some; by default its own default.
    ax
        Where to draw.

    Raises
    ------
    UserError
        Where the results are none, or of several datasets or evaluators.

    Examples
    --------
    >>> import pci_bench
    >>> intensity = pci_bench.extract("intensity", pci_bench.load_dataset("yeast-sim")[::4])
    >>> axes = accuracy(pci_bench.evaluate("loo-knn", intensity, k=11, exclude=["cell", "image"]))
    >>> axes.get_xlabel()
    'balanced accuracy (%), with 95 % interval'
    """
    from matplotlib.transforms import ScaledTranslation

    chosen, metric = _comparable(results, metric, k)
    chosen = balanced_where_known(chosen)
    names, kinds = {r.features.full_name for r in chosen}, len(ladder_of(chosen))
    ax = ax or _new_axes(WIDE, 1.9 + (0.3 if kinds == 1 else 0.2 * kinds) * len(names))
    handles = classification.draw_accuracy(ax, chosen, metric)
    if len(handles) > 1:
        ax.legend(
            handles=handles,
            loc="upper left",
            ncols=2,
            bbox_to_anchor=(0, 0),
            borderaxespad=0,
            bbox_transform=ax.transAxes + ScaledTranslation(0, -0.5, ax.figure.dpi_scale_trans),
            alignment="left",
            **classification.LEGEND_OF_KINDS,
        )
    ax.set_title(_what(chosen), loc="left", fontsize=9.5)
    return ax


def ladder(
    results: Iterable[Result], *, metric: str | None = None, k: int | None = None, ax: Axes | None = None
) -> Axes:
    """Return axes with a line for each feature set, from neighbours among all other cells to the strictest comparison.

    A line that falls steeply is of features that know the image, the plate or the class's size better than the biology.
    Controls are thin, grey and broken. Vertical lines are 95 % intervals; grey dashes are chance at each level.

    Parameters
    ----------
    results
        Of one evaluator on one dataset, for example a run.
    metric
        By default the evaluator's headline.
    k
        Number of neighbours; by default as in :func:`accuracy`.
    ax
        Where to draw; by default a new figure.

    Raises
    ------
    UserError
        As :func:`accuracy`, and where all results exclude the same: ask for more, as ``exclude=["cell", "confounder"]``.

    Examples
    --------
    >>> import pci_bench
    >>> intensity = pci_bench.extract("intensity", pci_bench.load_dataset("yeast-sim")[::4])
    >>> axes = ladder(pci_bench.evaluate("loo-knn", intensity, k=11, exclude=["cell", "image"]))
    >>> [label.get_text() for label in axes.get_xticklabels()]
    ['all other cells', 'other images only']
    """
    chosen, metric = _comparable(results, metric, k)
    if len(ladder_of(chosen)) < 2:
        raise UserError(
            "A ladder needs results with at least two kinds of exclusion, and these have one. "
            'Evaluate for example with exclude=["cell", "confounder"].'
        )
    names = {r.features.full_name for r in chosen}
    ax = ax or _new_axes(WIDE, max(3.6, 0.9 + 0.17 * len(names)))
    ladder_figure.draw_ladder(ax, chosen, metric)
    ax.set_title(_what(chosen), loc="left", fontsize=9.5)
    return ax


def confusion(result: Result, *, ax: Axes | None = None) -> Axes:
    """Return axes with the confusion matrix of a classifier's result: true classes in rows, in percent of each.

    Parameters
    ----------
    result
        Of an evaluator that predicts a class for each cell.
    ax
        Where to draw.

    Raises
    ------
    UserError
        For a result without a confusion matrix.

    Examples
    --------
    >>> import pci_bench
    >>> intensity = pci_bench.extract("intensity", pci_bench.load_dataset("yeast-sim")[::4])
    >>> (result,) = pci_bench.evaluate("loo-knn", intensity, k=11)
    >>> confusion(result).get_ylabel()
    'true'
    """
    if not isinstance(result, Result):
        raise UserError(
            f"confusion() draws one result, and was given {type(result).__name__}. Name one, as results[0]."
        )
    if "confusion" not in result.details:
        raise UserError(
            f"{result.evaluator.name} predicts no class for a cell, so its results have no confusion matrix. "
            "Use one of loo-knn, logistic-regression or random-forest."
        )
    n = len(result.dataset.classes)
    small = n <= 8
    ax = ax or _new_axes(4.6 if small else WIDE, (0.36 if small else 0.23) * n + 2.3)
    figure = ax.get_figure(root=True)
    assert figure is not None
    classification.draw_confusion(ax, result, inches_of_a_cell=(figure.get_figwidth() - 2.4) / max(n, 1))
    ax.set_xlabel("predicted", fontsize=8.5)
    ax.set_ylabel("true", fontsize=8.5)
    classification.colour_bar(figure, [ax], shrink=0.8 if small else 0.5)
    found = Candidates.of(result).words
    compared = f"{'neighbours' if 'k' in result.evaluator.params else 'training cells'}: {found}"
    accuracy = 100 * result.metrics["balanced_accuracy"]
    first = f"{shortened(result.features.full_name)}: {_what([result])}"
    ax.set_title(f"{first}\n{plot_text(compared)}; balanced accuracy {accuracy:.1f} %", loc="left", fontsize=8.5)
    ax.set_title("")
    return ax


def umap(
    source: AnnData | Result,
    *,
    color: str = "label",
    classes: Iterable[str] | None = None,
    seed: int = 0,
    ax: Axes | None = None,
) -> Axes:
    """Return axes with a UMAP, a point for each cell, or for each protein.

    Parameters
    ----------
    source
        A result of ``umap`` or ``protein-umap``; or features, whose ``obsm["X_umap"]`` is drawn where scanpy or anybody has
        computed one, and which are else embedded by the evaluator ``umap`` with its defaults.
    color
        The obs column of features that gives points their colour; the 24 most frequent values have one. A result has its own.
    classes
        Those that are in colour, the others being grey; by default the 24 most frequent. Each has one colour and shape, whichever
        others are shown, and eight at a time are told apart most easily: :func:`classes_in_groups` makes such groups.
    seed
        The random seed where features are embedded.
    ax
        Where to draw.

    Raises
    ------
    UserError
        For a result without an embedding, and for a column or class that is not there.

    Examples
    --------
    >>> import numpy as np, pci_bench
    >>> intensity = pci_bench.extract("intensity", pci_bench.load_dataset("yeast-sim")[:90])
    >>> intensity.obsm["X_umap"] = np.random.default_rng(0).normal(size=(90, 2))
    >>> umap(intensity, color="plate").get_title(loc="left")
    'intensity, 90 cells, by plate'
    """
    import pandas as pd

    if isinstance(source, Result):
        if not source.evaluator.name.endswith("umap"):
            raise UserError(f"{source.evaluator.name} makes no embedding. Use a result of umap or protein-umap.")
        table = embedding.points_of(source)
        text = f"{source.features.full_name}, {source.dataset.name}, {len(table):,} {'proteins' if 'proteins' in source.tables else 'cells'}"
    else:
        if color not in source.obs:
            raise UserError(
                f"The features have no column '{color}' to colour points by. Columns: {', '.join(source.obs)}."
            )
        if UMAP in source.obsm:
            coordinates = np.asarray(source.obsm[UMAP])[:, :2]
        else:
            (result,) = evaluate("umap", source, seed=seed, color=color)
            coordinates = embedding.points_of(result)[["umap_1", "umap_2"]].to_numpy()
        table = pd.DataFrame({"label": obs_strings(source.obs, color)})
        table["umap_1"], table["umap_2"] = coordinates.T
        features = Provenance.of(source).features
        name = features.name + (f"@{features.weights}" if features.weights else "")
        text = f"{name or 'features'}, {source.n_obs:,} cells, by {color}"
    labels = table["label"].to_numpy(str)
    styles = embedding.looks(labels)
    if classes is not None:
        shown = [classes] if isinstance(classes, str) else list(classes)
        if unknown := [name for name in shown if name not in styles]:
            raise UserError(
                f"There is no class '{unknown[0]}' among those with a colour: {', '.join(styles) or 'none'}."
            )
        styles = {name: look for name, look in styles.items() if name in shown}
    ax = ax or _new_axes(6.4, max(4.2, 0.155 * (len(styles) + 3)))
    embedding.draw_points(ax, table, styles)
    if handles := embedding.legend_handles(labels, styles):
        ax.legend(
            handles=handles, loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=7.5, handletextpad=0.2,
            borderaxespad=0,
        )  # fmt: skip
    ax.set_title(plot_text(text), loc="left", fontsize=9.5)
    return ax


def classes_in_groups(source: AnnData | Result, *, color: str = "label") -> list[list[str]]:
    """Return the classes that :func:`umap` can colour, in groups of at most eight: a picture for each of them shows all.

    Parameters
    ----------
    source, color
        As in :func:`umap`.

    Examples
    --------
    >>> import pci_bench
    >>> intensity = pci_bench.extract("intensity", pci_bench.load_dataset("yeast-sim")[::4])
    >>> [len(group) for group in classes_in_groups(intensity)]
    [6, 6, 5]
    """
    if isinstance(source, Result):
        labels = embedding.points_of(source)["label"].to_numpy(str)
    elif color not in source.obs:
        raise UserError(f"The features have no column '{color}'. Columns: {', '.join(source.obs)}.")
    else:
        labels = obs_strings(source.obs, color)
    return in_groups(list(embedding.looks(np.asarray(labels, str))))


def mosaic(cells: Cells, *, count: int = 24, columns: int = 8, seed: int = 0, ax: Axes | None = None) -> Axes:
    """Return axes with crops of some cells, as evenly over the labels as there are cells, each under its label.

    Every channel is stretched to the minimum and maximum of its crop; the title says which colour is which.

    Parameters
    ----------
    cells
        From :func:`pci_bench.load_dataset`.
    count
        How many cells.
    columns
        How many of them in a row.
    seed
        Which cells are drawn.
    ax
        Where to draw.

    Raises
    ------
    UserError
        Where there are no cells.

    Examples
    --------
    >>> import pci_bench
    >>> axes = mosaic(pci_bench.load_dataset("yeast-sim"), count=6)
    >>> len(axes.images), axes.texts[0].get_text()
    (6, 'ACTIN')
    """
    if not len(cells) or count < 1 or columns < 1:
        raise UserError(f"There is nothing to show: {count} of {len(cells)} cells, {columns} in a row.")
    chosen = sampled(cells, count, seed)
    columns = min(columns, len(chosen))
    rows = -(-len(chosen) // columns)
    labels = obs_strings(cells.obs, "label")[chosen]
    above = 0.2 if any(labels) else 0.0  # a crop's side is 1
    across, down = 1.05 * columns, (1.05 + above) * rows
    ax = ax or _new_axes(WIDE, WIDE * down / across + 0.5)
    letters = max(5, round(11 * 8 / columns))  # that fit above a crop
    for place, (tile, label) in enumerate(zip(tiles(cells, chosen.tolist(), tile_side(cells)), labels, strict=True)):
        row, column = divmod(place, columns)
        left, top = 1.05 * column, (1.05 + above) * row + above
        ax.imshow(tile, extent=(left, left + 1, top + 1, top), interpolation="nearest")
        if label:
            ax.text(left, top - 0.03, shortened(str(label), letters), fontsize=SMALLEST, va="bottom")
    ax.set_xlim(0, across - 0.05)
    ax.set_ylim(down - 0.05, 0)
    ax.set_axis_off()
    colours = channels_sentence(cells).partition(": ")[2].rstrip(".")
    ax.set_title(plot_text(f"{cells.meta.name}: {colours}"), loc="left", fontsize=9.5)
    return ax


def _new_axes(width: float, height: float) -> Axes:
    """Return the axes of a new figure (inches), which a notebook shows at the end of its cell."""
    from matplotlib import pyplot

    _, axes = pyplot.subplots(figsize=(width, height), layout="constrained")
    return axes


def _comparable(results: Iterable[Result], metric: str | None, k: int | None) -> tuple[list[Result], str]:
    """Return the results to draw together, with one number of neighbours, and the metric."""
    if isinstance(results, Result):
        results = [results]
    given = list(results)
    if not given:
        raise UserError("There are no results to draw.")
    for what, names in (
        ("datasets", dict.fromkeys(r.dataset.name for r in given)),
        ("evaluators", dict.fromkeys(r.evaluator.name for r in given)),
    ):
        if len(names) > 1:
            raise UserError(f"These results are of several {what}: {', '.join(names)}. Draw those of one at a time.")
    for name in dict.fromkeys(name for r in given for name in other_settings(r)):
        values = list(dict.fromkeys(str(r.evaluator.params.get(name)) for r in given))
        if len(values) > 1:
            raise UserError(
                f"These results differ in {name}: {', '.join(values)}. Draw those of one at a time, for example "
                f"[r for r in results if r.evaluator.params['{name}'] == {given[0].evaluator.params.get(name)!r}]."
            )
    neighbors = headline_k(given) if k is None else k
    chosen = [r for r in given if r.evaluator.params.get("k") == neighbors]
    metric = headline(given[0]) if metric is None else metric
    if without := [r for r in chosen if metric not in r.metrics]:
        raise UserError(f"{without[0].evaluator.name} gives no '{metric}'. It gives {', '.join(without[0].metrics)}.")
    if not chosen:
        ks = sorted({r.evaluator.params["k"] for r in given if "k" in r.evaluator.params})
        raise UserError(f"No result has k = {neighbors}; there are {', '.join(map(str, ks)) or 'none with a k'}.")
    return chosen, metric


def _what(results: Sequence[Result]) -> str:
    """Return evaluator, number of neighbours, dataset and number of cells."""
    result = results[0]
    k = result.evaluator.params.get("k")
    settings = "" if k is None else f", k = {k}"
    return plot_text(f"{result.evaluator.name}{settings}, {result.dataset.name} ({result.dataset.n_cells:,} cells)")

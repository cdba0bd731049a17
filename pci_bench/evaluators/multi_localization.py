"""Where between two compartments a cell's protein is (paper: Figure 5, Supplementary Data 2)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pydantic

from pci_bench.errors import UserError
from pci_bench.evaluators.annotated_variability import with_annotations
from pci_bench.evaluators.base import (
    EvaluatorMeta,
    Outcome,
    Run,
    dataset_name,
    exclusion_groups,
    register_evaluator,
    resolve_exclude,
    texts,
)
from pci_bench.evaluators.examples import spread_over_scores
from pci_bench.evaluators.metrics import percentile_interval
from pci_bench.evaluators.pairwise_distance import missing_columns, split_terms

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from pci_bench.cells import Cells

REPLICATES = 1000
MOST_VARIABLE = 10
NEAREST = 1e-9  # of the distance between the two averages: what a distance of 0 counts as
FIRST, SECOND, BOTH, NEITHER = 0, 1, 2, -1
NOTHING = "none"
AT_ONCE = 8192


def compartment_scores(features: np.ndarray, annotation: np.ndarray, groups: np.ndarray | None = None) -> np.ndarray:
    """Return log(d₁ / d₂) of every cell; negative where it is nearer the first compartment (paper: Methods).

    Features are standardised over the given cells (ours). d₁ and d₂ are a cell's Euclidean distances to the average of all
    cells of the first compartment only, and to that of the second only. A distance below 10⁻⁹ of the one between the
    averages counts as that much, so that a cell on an average has a finite score; where the distances are equal, it is 0.

    Parameters
    ----------
    features
        (n, d) float.
    annotation
        (n,) int: 0 for cells of the first compartment only, 1 of the second only; others are scored.
    groups
        (n,) int: the averages that a cell is measured against leave out the cells of its group, since a cell is nearer an
        average that it is part of. Each compartment needs two groups. Default: all cells count, as in the paper.

    Raises
    ------
    UserError
        For NaN or infinite values.
    """
    from pci_bench.evaluators.compiled.distances import column_scale

    mean, inverse = column_scale(features, np.arange(len(features)))
    if not (np.isfinite(mean).all() and np.isfinite(inverse).all()):
        raise UserError("The features hold NaN or infinite values; distances to compartments need finite ones.")

    def totals(cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (2, d) sums and (2, 1) numbers of the cells of each compartment only."""
        alone = [cells[annotation[cells] == compartment] for compartment in (FIRST, SECOND)]
        sums = np.stack([features[some].sum(axis=0, dtype=np.float64) for some in alone])
        return sums, np.array([[len(some)] for some in alone])

    every = np.arange(len(features))
    sums, counts = totals(every)
    least = NEAREST * np.linalg.norm(np.diff(sums / counts, axis=0) * inverse)
    scores = np.empty(len(features))
    codes = np.zeros(len(features), np.int64) if groups is None else np.unique(groups, return_inverse=True)[1]
    by_group = np.argsort(codes, kind="stable")
    for cells in np.split(by_group, np.searchsorted(codes[by_group], np.arange(1, codes.max() + 1))):
        own, own_counts = totals(cells) if groups is not None else (0, 0)
        averages = ((sums - own) / (counts - own_counts) - mean) * inverse
        for start in range(0, len(cells), AT_ONCE):
            some = cells[start : start + AT_ONCE]
            part = (features[some] - mean) * inverse
            near, far = (np.maximum(np.sqrt(np.square(part - average).sum(axis=1)), least) for average in averages)
            with np.errstate(divide="ignore", invalid="ignore"):
                scores[some] = np.where(near == far, 0, np.log(near) - np.log(far))
    return scores


def separation(first: np.ndarray, second: np.ndarray) -> float:
    """Return the probability that a cell of `first` has a lower score than a cell of `second`; ties count half."""
    ordered = np.sort(first)
    below, up_to = np.searchsorted(ordered, second, "left"), np.searchsorted(ordered, second, "right")
    return float((below + up_to).mean() / (2 * len(first)))


def summary(scores: np.ndarray, annotation: np.ndarray) -> dict[str, float]:
    """Return the medians of the three groups, the share of "both" between the single medians, and the separation."""
    groups = [scores[annotation == group] for group in (FIRST, SECOND, BOTH)]
    first, second, both = (float(np.median(group)) for group in groups)
    between = (groups[2] > min(first, second)) & (groups[2] < max(first, second))
    return {
        "median_first": first,
        "median_second": second,
        "median_both": both,
        "both_between": float(between.mean()),
        "separation": separation(groups[0], groups[1]),
    }


def bootstrap_summary(
    scores: np.ndarray, annotation: np.ndarray, protein: np.ndarray, *, replicates: int = REPLICATES, seed: int = 0
) -> tuple[dict[str, tuple[float, float]], np.ndarray]:
    """Return 95 % intervals of :func:`summary`, from a bootstrap of whole proteins within each group.

    The scores are taken as they are: the compartments' averages are not drawn again. A group of one protein is resampled by cells.

    Parameters
    ----------
    scores, annotation
        (n,) float and (n,) int, each group at least once.
    protein
        (n,) int.
    replicates, seed
        How many, and what they depend on.

    Returns
    -------
    (intervals, by_protein)
        By metric; and (3,) bool: which groups were resampled by protein.
    """
    rng = np.random.default_rng(seed)
    ordered, units, by_protein = [], [], np.zeros(3, bool)
    for group in (FIRST, SECOND, BOTH):
        members = np.flatnonzero(annotation == group)
        members = members[np.lexsort((protein[members], scores[members]))]
        codes = np.unique(protein[members], return_inverse=True)[1]
        by_protein[group] = codes.max() > 0
        ordered.append(scores[members])
        units.append(codes if by_protein[group] else np.arange(len(members)))
    places = [np.searchsorted(ordered[FIRST], ordered[SECOND], side) for side in ("left", "right")]
    found = []
    for _ in range(replicates):
        weights = []
        for codes in units:
            n = codes.max() + 1
            weights.append(np.bincount(rng.integers(n, size=n), minlength=n)[codes])
        medians = [_weighted_median(values, w) for values, w in zip(ordered, weights, strict=True)]
        low = np.searchsorted(ordered[BOTH], min(medians[:BOTH]), "right")
        high = np.searchsorted(ordered[BOTH], max(medians[:BOTH]), "left")
        lower = np.concatenate([[0], np.cumsum(weights[FIRST])])
        wins = (weights[SECOND] * (lower[places[0]] + lower[places[1]])).sum() / 2
        found.append(
            [
                *medians,
                weights[BOTH][low:high].sum() / weights[BOTH].sum(),
                wins / (weights[FIRST].sum() * weights[SECOND].sum()),
            ]
        )
    names = ("median_first", "median_second", "median_both", "both_between", "separation")
    return {n: percentile_interval(v) for n, v in zip(names, np.array(found).T, strict=True)}, by_protein


def _weighted_median(ordered: np.ndarray, weights: np.ndarray) -> float:
    """Return the median of sorted values that occur `weights` times each."""
    above = np.cumsum(weights)
    middle = np.searchsorted(above, [(above[-1] - 1) // 2, above[-1] // 2], "right")
    return float(ordered[middle].mean())


def annotated_cells(terms: np.ndarray, image: np.ndarray, first: str, second: str) -> np.ndarray:
    """Return which cells are of images annotated with the first compartment only, the second only, or exactly both.

    Parameters
    ----------
    terms
        (n,) str, ``;``-joined, ``""`` where missing. An image's terms are those of all its cells.
    image
        (n,) str; cells without an image are not used.
    first, second
        The compartments, upper or lower case.

    Returns
    -------
    numpy.ndarray
        (n,) int: 0, 1 or 2; −1 for cells of other images.
    """
    import pandas as pd

    found: dict[str, frozenset[str]] = {}
    for name, joined in pd.DataFrame({"image": image, "terms": terms}).drop_duplicates().itertuples(index=False):
        found[name] = found.get(name, frozenset()) | split_terms(joined.casefold())
    first, second = first.strip().casefold(), second.strip().casefold()
    groups = {frozenset({first}): FIRST, frozenset({second}): SECOND, frozenset({first, second}): BOTH}
    codes = {name: groups.get(terms_of, NEITHER) for name, terms_of in found.items() if name}
    return np.array([codes.get(name, NEITHER) for name in image], np.int64)


class MultiLocalizationParams(pydantic.BaseModel):
    """Parameters of the score between two compartments."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    first: str = pydantic.Field("cytosol", min_length=1, description="compartment of negative scores, in any case")
    second: str = pydantic.Field("nucleoplasm", min_length=1, description="compartment of positive scores, in any case")
    exclude: str = pydantic.Field(
        "none",
        min_length=1,
        description="obs column: a cell's averages leave out cells that share its value; none: paper",
    )
    terms: str = pydantic.Field("labels", min_length=1, description="obs column of the ;-joined localization terms")
    variable: str = pydantic.Field(
        "variability",
        min_length=1,
        description="obs column that says which proteins vary from cell to cell, if there is one",
    )


@register_evaluator("multi-localization")
class MultiLocalization:
    """Log-ratio of every cell's distances to the averages of two compartments, for cells of either or of both.

    With few cells, a cell's part in its own compartment's average alone separates the compartments, even on noise;
    ``exclude=protein`` measures every cell against averages of other proteins.

    Tables: mean and SD of the score for every protein and cell line annotated with both compartments, and the ten images
    of them with the largest SD, which the paper found to be cells that differ among themselves; where the cells are given,
    crops of some of these. Where the obs column ``variable`` says which proteins are known to vary, ``annotated_variable`` is
    the share of the ten images that it names, and the details hold its share of all images beside it.
    """

    meta = EvaluatorMeta(
        "multi-localization",
        "1",
        "Scores of single cells between two compartments",
        "separation",
        key=("first", "second", "exclude"),
        any_order=True,
    )
    Params = MultiLocalizationParams

    def skip(self, adata: AnnData, params: MultiLocalizationParams) -> str | None:
        """Return why there are no compartments to compare, or None."""
        missing = missing_columns(adata, "image", "protein", params.terms)
        if missing:
            return missing
        first, second = params.first.strip(), params.second.strip()
        if first.casefold() == second.casefold():
            return f"first and second are both '{first}'; name two compartments"
        annotation = annotated_cells(texts(adata, params.terms), texts(adata, "image"), first, second)
        for group, words in ((FIRST, f"{first} only"), (SECOND, f"{second} only"), (BOTH, f"{first} and {second}")):
            if not (annotation == group).any():
                known = sorted(set().union(*map(split_terms, set(texts(adata, params.terms)))))
                return f"no image of {dataset_name(adata)} is annotated with {words}; its terms are {', '.join(known)}"
        return None if params.exclude == NOTHING else _why_not_exclude(adata, params, annotation)

    def __call__(self, adata: AnnData, grid: list[MultiLocalizationParams], run: Run) -> Iterator[Outcome]:
        """Yield one outcome per pair of compartments: medians, intervals, a score per cell, and two tables."""
        for params in grid:
            params = params.model_copy(update={"exclude": resolve_exclude(adata, params.exclude)})
            annotation = annotated_cells(texts(adata, params.terms), texts(adata, "image"), params.first, params.second)
            used = np.flatnonzero(annotation != NEITHER)
            groups = None if params.exclude == NOTHING else exclusion_groups(adata, params.exclude)[used]
            scores = compartment_scores(np.asarray(adata.X)[used], annotation[used], groups)
            outcome = _outcome(params, adata, used, annotation[used], scores, run.seed)
            outcome = with_annotations(outcome, annotation[used] == BOTH, texts(adata, params.variable)[used])
            yield outcome if run.cells is None else with_variable_crops(outcome, run.cells)


def _why_not_exclude(adata: AnnData, params: MultiLocalizationParams, annotation: np.ndarray) -> str | None:
    """Return why averages cannot leave out what shares a column's value, or None."""
    column = resolve_exclude(adata, params.exclude)
    if not column:
        return f"{dataset_name(adata)} declares no confounder"
    if column != "cell" and (missing := missing_columns(adata, column)):
        return missing
    groups = exclusion_groups(adata, column)
    for compartment, name in ((FIRST, params.first), (SECOND, params.second)):
        if len(np.unique(groups[annotation == compartment])) < 2:
            return f"all cells annotated with {name} only share one '{column}', so with exclude={column} none is left to compare with"
    return None


def _outcome(
    params: MultiLocalizationParams,
    adata: AnnData,
    used: np.ndarray,
    annotation: np.ndarray,
    scores: np.ndarray,
    seed: int,
) -> Outcome:
    import pandas as pd

    names = adata.obs["cell"] if "cell" in adata.obs else adata.obs_names.to_series()
    kinds = [f"{params.first} only", f"{params.second} only", f"{params.first} and {params.second}"]
    columns = {c: texts(adata, c)[used] if c in adata.obs else "" for c in ("protein", "cell_line", "image")}
    cells = pd.DataFrame(
        {
            "cell": names.astype(str).to_numpy()[used],
            **columns,
            "annotation": pd.Categorical.from_codes(annotation, pd.Index(kinds)),
            "score": scores,
        }
    )
    intervals, by_protein = bootstrap_summary(
        scores, annotation, pd.factorize(cells["protein"], sort=True)[0], seed=seed
    )
    by_cells = [kind for kind, grouped in zip(kinds, by_protein, strict=True) if not grouped]
    alone = f" (cells where annotated with {', '.join(by_cells)}, which is one protein)" if by_cells else ""
    proteins, variable = variability(cells[annotation == BOTH])
    groups = {
        kind: {
            "proteins": int(group["protein"].nunique()),
            "images": int(group["image"].nunique()),
            "cells": len(group),
            "quartiles": [float(q) for q in np.quantile(group["score"], [0.25, 0.5, 0.75])],
        }
        for kind, group in cells.groupby("annotation", observed=True)
    }
    return Outcome(
        params.model_dump(),
        summary(scores, annotation),
        intervals,
        {
            "groups": groups,
            "interval": f"bootstrap of the cells over protein{alone} within annotation, {REPLICATES}",
            "left_out": {"cells": int(adata.n_obs - len(used))},
        },
        cells,
        tables={"proteins": proteins, "variable-images": variable},
    )


def with_variable_crops(outcome: Outcome, cells: Cells) -> Outcome:
    """Return an outcome with crops of its most variable images, as the table ``crops``."""
    assert outcome.predictions is not None  # every outcome of this evaluator has a row per cell
    images = outcome.tables["variable-images"]["image"].tolist()
    crops = spread_over_scores(cells, outcome.predictions, images)
    return replace(outcome, tables=outcome.tables | {"crops": crops})


def variability(cells: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return mean and SD (ddof 0) of the score by protein and cell line, and the ten images with the largest SD.

    Parameters
    ----------
    cells
        One row per cell: protein, cell_line, image, score.
    """

    def described(by: list[str]) -> pd.DataFrame:
        grouped = cells.groupby(by, sort=True)
        found = grouped.agg(images=("image", "nunique"), cells=("score", "size"), mean=("score", "mean"))
        return found.assign(sd=grouped["score"].std(ddof=0)).reset_index()

    images = described(["image", "protein", "cell_line"]).drop(columns="images")
    images = images.sort_values(["sd", "image"], ascending=[False, True], kind="stable").head(MOST_VARIABLE)
    return described(["protein", "cell_line"]), images.reset_index(drop=True)

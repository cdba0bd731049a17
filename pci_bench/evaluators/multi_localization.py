"""Where between two compartments a cell's protein is (paper: Figure 5, Supplementary Data 2)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pydantic

from pci_bench.errors import UserError
from pci_bench.evaluators.annotated_variability import with_annotations
from pci_bench.evaluators.base import (
    OBS_COLUMN,
    EvaluatorMeta,
    Outcome,
    Run,
    dataset_name,
    exclusion_groups,
    register_evaluator,
    resolve_exclude,
    standardized,
    texts,
)
from pci_bench.evaluators.examples import spread_over_scores
from pci_bench.evaluators.intervals import Spread
from pci_bench.evaluators.pairwise_distance import missing_columns, split_terms

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from pci_bench.cells import Cells

HALVES, PERMUTATIONS = 100, 100
BOUNDS = {"both_between": (0.0, 1.0), "separation": (0.0, 1.0)}  # where no value lies outside
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


@dataclass(frozen=True)
class Units:
    """What is drawn anew: the proteins of each annotation; the cells of an annotation with one protein.

    Parameters
    ----------
    code
        (n,) int: each cell's unit.
    kind
        (units,) int: each unit's annotation.
    by_protein
        (3,) bool: which annotations are drawn by protein.
    """

    code: np.ndarray
    kind: np.ndarray
    by_protein: np.ndarray

    @classmethod
    def of(cls, annotation: np.ndarray, protein: np.ndarray) -> Units:
        """Return the units of cells with an annotation (n,) int and a protein (n,) int."""
        by_protein = np.array([len(np.unique(protein[annotation == kind])) > 1 for kind in (FIRST, SECOND, BOTH)])
        alone = np.where(by_protein[annotation], protein, np.arange(len(protein)))
        pairs, code = np.unique(np.stack([annotation, alone], axis=1), axis=0, return_inverse=True)
        return cls(code.reshape(-1), pairs[:, 0], by_protein)

    def halves(self, kind: int, rng: np.random.Generator) -> tuple[np.ndarray, float]:
        """Return which units are kept (replicates, units) int where half of those of one annotation are left out at random.

        And the factor from the variance over such replicates to that over samples of as many as there are (Shao and Wu 1989:
        (n − d) / d for d left out). Leaving out one at a time would not do, since medians are no smooth functions.
        """
        members = np.flatnonzero(self.kind == kind)
        n, kept = len(members), np.ones((HALVES, len(self.kind)), np.int64)
        left_out = n // 2
        if left_out:
            kept[:, members] = rng.permuted(np.tile(np.arange(n) >= left_out, (HALVES, 1)), axis=1)
        return kept, (n - left_out) / max(left_out, 1)


def scores_of_averages(
    features: np.ndarray,
    units: np.ndarray,
    weights: np.ndarray,
    groups: np.ndarray | None,
    precision: np.ndarray | None = None,
) -> np.ndarray:
    """Return log(d₁ / d₂) of every cell for many pairs of averages, as :func:`compartment_scores` for one.

    Parameters
    ----------
    features
        (n, d) float64, standardised.
    units
        (n,) int: each cell's unit, which counts as a whole.
    weights
        (2, replicates, units): how much each unit counts in the average of the first and of the second compartment.
    groups
        (n,) int: averages leave out the cells of a cell's own group; None: they do not.
    precision
        (replicates, d): what the square of a difference in each feature counts; default 1.

    Returns
    -------
    numpy.ndarray
        (replicates, n) float32; 0 where nothing is left of an average.
    """
    n_units = weights.shape[2]
    if precision is None:
        precision = np.ones((weights.shape[1], features.shape[1]))
    code = np.zeros(len(features), np.int64) if groups is None else np.unique(groups, return_inverse=True)[1]
    sums, sizes = _sums_by(units, features, n_units)
    totals, counts = weights @ sums, weights @ sizes  # (2, replicates, d), (2, replicates)
    scores = np.empty((weights.shape[1], len(features)), np.float32)
    order = np.argsort(code, kind="stable")
    for cells in np.split(order, np.searchsorted(code[order], np.arange(1, code.max() + 1))):
        left, remaining = totals, counts
        if groups is not None:
            own, place = np.unique(units[cells], return_inverse=True)
            own_sums, own_sizes = _sums_by(place, features[cells], len(own))
            left, remaining = totals - weights[..., own] @ own_sums, counts - weights[..., own] @ own_sizes
        some = remaining > 0.5  # a number of cells
        averages = left / np.maximum(remaining, 1)[..., None]
        scaled = averages * precision
        square = (averages * scaled).sum(axis=-1)  # (2, replicates)
        for start in range(0, len(cells), AT_ONCE):
            part = features[cells[start : start + AT_ONCE]]
            norms = precision @ np.square(part).T
            near = np.maximum(square[..., None] - 2 * scaled @ part.T + norms, 1e-12)
            ratio = 0.5 * (np.log(near[0]) - np.log(near[1]))
            scores[:, cells[start : start + AT_ONCE]] = np.where(some.all(axis=0)[:, None], ratio, 0)
    return scores


def precision_of(features: np.ndarray, units: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return 1 / variance of every feature over the cells that are kept (replicates, d); 0 where it is constant."""
    sums, sizes = _sums_by(units, features, weights.shape[1])
    squares, _ = _sums_by(units, np.square(features), weights.shape[1])
    counts = (weights @ sizes)[:, None]
    variance = weights @ squares / counts - np.square(weights @ sums / counts)
    return np.divide(1, variance, out=np.zeros(variance.shape), where=variance > 1e-9)


def _sums_by(codes: np.ndarray, values: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return sums (n, d) and numbers (n,) of the rows of each code."""
    order = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[order], np.arange(n))
    sizes = np.bincount(codes, minlength=n)
    sums = np.zeros((n, values.shape[1]))
    sums[sizes > 0] = np.add.reduceat(values[order], starts[sizes > 0], axis=0)
    return sums, sizes.astype(float)


def weighted_summary(scores: np.ndarray, annotation: np.ndarray, weights: np.ndarray) -> dict[str, float]:
    """Return :func:`summary` of cells that count `weights` (n,) int times each; every annotation must count."""
    ordered, cumulative = [], []
    for kind in (FIRST, SECOND, BOTH):
        members = np.flatnonzero((annotation == kind) & (weights > 0))
        members = members[np.argsort(scores[members], kind="stable")]
        ordered.append(scores[members])
        cumulative.append(np.concatenate([[0], np.cumsum(weights[members])]))
    medians = [_weighted_median(v, np.diff(c)) for v, c in zip(ordered, cumulative, strict=True)]
    low = cumulative[BOTH][np.searchsorted(ordered[BOTH], min(medians[:BOTH]), "right")]
    high = cumulative[BOTH][np.searchsorted(ordered[BOTH], max(medians[:BOTH]), "left")]
    below, up_to = (cumulative[FIRST][np.searchsorted(ordered[FIRST], ordered[SECOND], s)] for s in ("left", "right"))
    wins = float((np.diff(cumulative[SECOND]) * (below + up_to)).sum()) / 2
    return {
        "median_first": medians[FIRST],
        "median_second": medians[SECOND],
        "median_both": medians[BOTH],
        "both_between": float(max(high - low, 0) / cumulative[BOTH][-1]),
        "separation": wins / float(cumulative[FIRST][-1] * cumulative[SECOND][-1]),
    }


def summary_spreads(
    features: np.ndarray, annotation: np.ndarray, units: Units, groups: np.ndarray | None, *, seed: int = 0
) -> dict[str, Spread]:
    """Return the spread of :func:`summary` over proteins within annotations, from random halves of one annotation at a time.

    Averages, and the features' means and SDs, are of the same halves.

    Parameters
    ----------
    features
        (n, d) float64, standardised.
    annotation, units, groups
        (n,) int, each of the three at least once; what is left out; as of :func:`scores_of_averages`.
    seed
        Of the halves.
    """
    rng = np.random.default_rng(seed)
    parts: dict[str, list[Spread]] = {}
    for kind in (FIRST, SECOND, BOTH):
        kept, factor = units.halves(kind, rng)
        weights = np.stack([kept * (units.kind == single) for single in (FIRST, SECOND)])
        scores = scores_of_averages(features, units.code, weights, groups, precision_of(features, units.code, kept))
        found = [weighted_summary(s, annotation, w[units.code]) for s, w in zip(scores, kept, strict=True)]
        df = max(float(np.sum(units.kind == kind)) - 1, 1)
        for name in found[0]:
            variance = factor * float(np.var([f[name] for f in found], ddof=1))
            parts.setdefault(name, []).append(Spread(variance, df))
    return {name: Spread.total(spreads) for name, spreads in parts.items()}


def chance_separation(
    features: np.ndarray, annotation: np.ndarray, units: Units, groups: np.ndarray | None, *, seed: int = 0
) -> float:
    """Return the mean separation where the two single annotations are dealt at random to the units that have one.

    More than 0.5 where cells count in the averages that they are measured against. Parameters as of :func:`summary_spreads`.
    """
    rng = np.random.default_rng([seed, 1])
    single = np.flatnonzero(units.kind != BOTH)
    dealt = np.tile(units.kind, (PERMUTATIONS, 1))
    dealt[:, single] = rng.permuted(dealt[:, single], axis=1)
    weights = np.stack([dealt == kind for kind in (FIRST, SECOND)]).astype(float)
    alone = annotation != BOTH
    scores = scores_of_averages(features[alone], units.code[alone], weights, None if groups is None else groups[alone])
    found = []
    for values, kinds in zip(scores, dealt, strict=True):
        kind = kinds[units.code[alone]]
        found.append(separation(values[kind == FIRST], values[kind == SECOND]))
    return float(np.mean(found))


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
        json_schema_extra=OBS_COLUMN,
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
        "2",
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
            outcome = _outcome(params, adata, used, annotation[used], scores, groups, run.seed)
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
    groups: np.ndarray | None,
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
    # in the order of the cells' names, so that no draw depends on the order of the rows
    order = np.argsort(cells["cell"].to_numpy(str), kind="stable")
    features = standardized(np.asarray(adata.X)[used[order]])
    units = Units.of(annotation[order], pd.factorize(cells["protein"], sort=True)[0][order])
    excluded = None if groups is None else groups[order]
    metrics = summary(scores, annotation)
    spreads = summary_spreads(features, annotation[order], units, excluded, seed=seed)
    intervals = {}
    for name, value in metrics.items():
        low, high = BOUNDS.get(name, (-np.inf, np.inf))
        intervals[name] = spreads[name].interval(value, low=low, high=high)
    metrics["chance_separation"] = chance_separation(features, annotation[order], units, excluded, seed=seed)
    by_cells = [kind for kind, grouped in zip(kinds, units.by_protein, strict=True) if not grouped]
    alone = f" (cells where annotated with {', '.join(by_cells)}, which is one protein)" if by_cells else ""
    proteins, variable = variability(cells[annotation == BOTH])
    described = {
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
        metrics,
        intervals,
        {
            "groups": described,
            "interval": f"random halves of protein{alone} within annotation, averages and standardisation with them",
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

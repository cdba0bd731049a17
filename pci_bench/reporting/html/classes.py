"""Classes: recall of each with its interval, the confusion matrix, and the most confused pairs with example cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pci_bench.api.registry import natural_key
from pci_bench.reporting.candidates import Candidates, balanced_where_known, ladder_of
from pci_bench.reporting.headline import first_features, headline_k
from pci_bench.reporting.html.cells import Shown
from pci_bench.reporting.html.charts import Recalls, bars, bracketed
from pci_bench.reporting.html.words import exclusion, setting
from pci_bench.reporting.tables.fill import interval_words
from pci_bench.runs.recalls import Predictions, confusion_of, recall_intervals

if TYPE_CHECKING:
    from pci_bench.runs.results import Result

METRIC = "balanced_accuracy"
PAIRS, EXAMPLES, MAX_NAMED = 8, 6, 3


def classified(results: Sequence[Result]) -> list[Result]:
    """Return the results that hold a confusion matrix; of those with and without balanced candidates, the former."""
    return balanced_where_known([r for r in results if "confusion" in r.details])


def featured(results: Sequence[Result]) -> list[Result]:
    """Return the results that a page shows first: of each evaluator, those at its headline k, the benchmark's first feature set first.

    Then by their headline metric in the strictest comparison; the exclusions of a feature set stay together, the strictest first.
    """
    chosen = []
    first = first_features(results)
    for evaluator in dict.fromkeys(r.evaluator.name for r in results):
        evaluator_results = [r for r in results if r.evaluator.name == evaluator]
        if (k := headline_k(evaluator_results)) is not None:
            evaluator_results = [r for r in evaluator_results if r.evaluator.params.get("k") == k]
        ladder = ladder_of(evaluator_results)
        best = {r.features.full_name: 0.0 for r in evaluator_results}
        best |= {
            r.features.full_name: r.metrics.get(METRIC, 0.0)
            for r in evaluator_results
            if Candidates.of(r) == ladder[-1]
        }
        chosen += sorted(
            evaluator_results,
            key=lambda r: (
                r.features.name != first.get(r.benchmark),
                -best[r.features.full_name],
                r.features.full_name,
                -ladder.index(Candidates.of(r)),
            ),
        )
    return chosen


def confused_pairs(counts: np.ndarray) -> list[tuple[int, int, int, float]]:
    """Return true class, predicted class, cells and share of the true class of the largest confusions, largest share first."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    confusions = [(int(t), int(p), int(counts[t, p]), float(shares[t, p])) for t, p in np.argwhere(counts) if t != p]
    return sorted(confusions, key=lambda pair: (-pair[3], -pair[2], pair[0], pair[1]))[:PAIRS]


def examples_wanted(results: Sequence[Result]) -> list[str]:
    """Return the names of example cells of the most confused pairs of featured results, the most confused pair first."""
    wanted: list[list[str]] = []
    for result in featured(classified(results)):
        if (predictions := Predictions.of(result)) is not None:
            pairs = confused_pairs(confusion_of(result)[1])
            wanted += [predictions.confused(true, predicted)[:EXAMPLES] for true, predicted, _, _ in pairs]
    return [names[turn] for turn in range(EXAMPLES) for names in wanted if turn < len(names)]


def class_views(results: Sequence[Result], dataset: int, shown_cells: Shown) -> list[dict[str, Any]]:
    """Return what the page draws of classes: by setting (evaluator and k), by feature set, by exclusion."""
    first = {id(r): position for position, r in enumerate(featured(classified(results)))}
    strictest_first = sorted(classified(results), key=lambda r: Candidates.of(r).strictness, reverse=True)
    ordered = sorted(strictest_first, key=lambda r: first.get(id(r), len(first)))
    settings: dict[str, dict[str, list[Result]]] = {}
    for result in ordered:
        settings.setdefault(setting(result), {}).setdefault(result.features.full_name, []).append(result)
    leading = list(settings)[:1]
    titles = [*leading, *sorted((t for t in settings if t not in leading), key=natural_key)]
    return [
        {"title": title, "features": [_of_features(n, rs, dataset, shown_cells) for n, rs in settings[title].items()]}
        for title in titles
    ]


def _of_features(name: str, results: Sequence[Result], dataset: int, shown_cells: Shown) -> dict[str, Any]:
    """Return bars and matrices of one feature set in one setting, by exclusion."""
    predictions = [Predictions.of(r) for r in results]
    recalls = [_recalls(r, p) for r, p in zip(results, predictions, strict=True)]
    unit = interval_words(str(results[0].details.get("interval", "")))
    known = any(r.intervals is not None for r in recalls)
    return {
        "name": name,
        "bars": bars(recalls),
        "said": f"Lines: 95 % interval, {unit}." if known else "There are no intervals: the predictions are missing.",
        "runs": [_of_one(r, p, dataset, shown_cells) for r, p in zip(results, predictions, strict=True)],
    }


def _recalls(result: Result, predictions: Predictions | None) -> Recalls:
    exact = np.array(result.details["confusion"]["counts"], dtype=float)
    n_classes = len(exact)
    shares = exact[:, :n_classes].diagonal() / np.maximum(exact.sum(axis=1), 1)
    intervals = None
    if predictions is not None:
        bounds = recall_intervals(result, predictions, n_classes)
        intervals = [(round(100 * low, 1), round(100 * high, 1)) for low, high in bounds]
    values = [round(100 * float(share), 1) for share in shares]
    return Recalls(exclusion(result), confusion_of(result)[0][:n_classes], values, intervals)


def _of_one(result: Result, predictions: Predictions | None, dataset: int, shown_cells: Shown) -> dict[str, Any]:
    labels, counts = confusion_of(result)
    pairs = []
    for true, predicted, count, share in confused_pairs(counts):
        names = [] if predictions is None else predictions.confused(true, predicted)
        seen = [n for n in names if shown_cells.has_tile(dataset, n)][:EXAMPLES] or names[:MAX_NAMED]
        cells = [shown_cells.index(dataset, n, labels[true]) for n in seen]
        pairs.append([true, predicted, count, round(100 * share, 1), cells])
    value, interval = 100 * result.metrics.get(METRIC, 0.0), result.intervals.get(METRIC)
    text = bracketed(value, None if interval is None else [100 * v for v in interval])
    return {
        "said": exclusion(result),
        "title": f"{exclusion(result)}: balanced accuracy {text} %",
        "labels": labels,
        "counts": counts.tolist(),
        "pairs": pairs,
    }

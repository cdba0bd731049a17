"""Classes: recall of each with its interval, the confusion matrix, and the most confused pairs with example cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pci_bench.api.registry import natural_key
from pci_bench.reporting.candidates import balanced_where_known
from pci_bench.reporting.html.cells import Shown
from pci_bench.reporting.html.words import exclusion, setting
from pci_bench.reporting.tables.fill import interval_words
from pci_bench.runs.recalls import Predictions, confusion_of, recall_intervals

if TYPE_CHECKING:
    from pci_bench.runs.results import Result

PAIRS, EXAMPLES, NAMED = 8, 6, 3


def classified(results: Sequence[Result]) -> list[Result]:
    """Return the results that hold a confusion matrix; of those with and without balanced candidates, the former."""
    return balanced_where_known([r for r in results if "confusion" in r.details])


def featured(results: Sequence[Result]) -> list[Result]:
    """Return the results that a page shows first: of each evaluator, those at k = 11 or the middle k, the paper's layer first.

    Then by their headline metric; the exclusions of a feature set stay together.
    """
    chosen = []
    for evaluator in dict.fromkeys(r.evaluator.name for r in results):
        mine = [r for r in results if r.evaluator.name == evaluator]
        ks = sorted({r.evaluator.params["k"] for r in mine if "k" in r.evaluator.params})
        if ks:
            k = 11 if 11 in ks else ks[len(ks) // 2]
            mine = [r for r in mine if r.evaluator.params.get("k") == k]
        best: dict[str, float] = {}
        for r in mine:
            score = r.metrics.get("balanced_accuracy", 0.0)
            best[r.features.full_name] = max(score, best.get(r.features.full_name, 0.0))
        chosen += sorted(
            mine, key=lambda r: (r.features.name != "pci-conv4", -best[r.features.full_name], r.features.full_name)
        )
    return chosen


def confused_pairs(counts: np.ndarray) -> list[tuple[int, int, int, float]]:
    """Return true class, predicted class, cells and share of the true class of the largest confusions, largest share first."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    found = [(int(t), int(p), int(counts[t, p]), float(shares[t, p])) for t, p in np.argwhere(counts) if t != p]
    return sorted(found, key=lambda pair: (-pair[3], -pair[2], pair[0], pair[1]))[:PAIRS]


def examples_wanted(results: Sequence[Result]) -> list[str]:
    """Return the names of example cells of the most confused pairs of featured results, the most confused pair first."""
    wanted: list[list[str]] = []
    for result in featured(classified(results)):
        if (predictions := Predictions.of(result)) is not None:
            pairs = confused_pairs(confusion_of(result)[1])
            wanted += [predictions.confused(true, predicted)[:EXAMPLES] for true, predicted, _, _ in pairs]
    return [names[turn] for turn in range(EXAMPLES) for names in wanted if turn < len(names)]


def class_views(results: Sequence[Result], dataset: int, shown: Shown) -> list[dict[str, Any]]:
    """Return what the page draws of classes: by setting (evaluator and k), by feature set, by exclusion."""
    first = {id(r): position for position, r in enumerate(featured(classified(results)))}
    mine = sorted(classified(results), key=lambda r: first.get(id(r), len(first)))
    views: dict[str, dict[str, Any]] = {}
    for result in mine:
        view = views.setdefault(setting(result), {"title": setting(result), "features": {}})
        view["features"].setdefault(result.features.full_name, []).append(_of_one(result, dataset, shown))
    for view in views.values():
        view["features"] = [{"name": name, "runs": runs} for name, runs in view["features"].items()]
    leading = list(views)[:1]
    return [views[title] for title in (*leading, *sorted((t for t in views if t not in leading), key=natural_key))]


def _of_one(result: Result, dataset: int, shown: Shown) -> dict[str, Any]:
    labels, counts = confusion_of(result)
    n_classes = len(counts)
    exact = np.array(result.details["confusion"]["counts"], dtype=float)
    predictions = Predictions.of(result)
    intervals = None
    if predictions is not None:
        intervals = recall_intervals(result, predictions, n_classes)
    pairs = []
    for true, predicted, count, share in confused_pairs(counts):
        names = [] if predictions is None else predictions.confused(true, predicted)
        seen = [n for n in names if shown.has_tile(dataset, n)][:EXAMPLES] or names[:NAMED]
        cells = [shown.index(dataset, n, labels[true]) for n in seen]
        pairs.append([true, predicted, count, round(100 * share, 1), cells])
    headline = "balanced_accuracy"
    low_high = result.intervals.get(headline)
    return {
        "said": exclusion(result),
        "value": round(100 * result.metrics.get(headline, 0.0), 1),
        "interval": None if low_high is None else [round(100 * v, 1) for v in low_high],
        "labels": labels,
        "counts": counts.tolist(),
        "recalls": [
            [round(100 * float(r), 1), *(() if intervals is None else (round(100 * v, 1) for v in intervals[c]))]
            for c, r in enumerate(exact[:, :n_classes].diagonal() / np.maximum(exact.sum(axis=1), 1))
        ],
        "unit": interval_words(str(result.details.get("interval", ""))),
        "pairs": pairs,
    }

"""Results as tables: one row per result, for pandas and for notebooks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from pci_bench.runs.results import Result

ABOUT = ("benchmark", "dataset", "n_cells", "features", "weights", "evaluator")


def results_frame(results: Iterable[Result]) -> pd.DataFrame:
    """Return results as a table with one row for each, in their order.

    Parameters
    ----------
    results
        As :func:`pci_bench.evaluate`, :func:`pci_bench.run` or :func:`pci_bench.runs.results.read_results` return them; of
        several runs, datasets and evaluators, too.

    Returns
    -------
    pandas.DataFrame
        Columns ``benchmark``, ``dataset``, ``n_cells``, ``features``, ``weights`` and ``evaluator``; each parameter of any of
        the evaluators by its name (``k``, ``exclude``); each metric as a fraction, with its 95 % interval in ``<metric>_low``
        and ``<metric>_high``. What a result does not have is missing. A parameter that is called as another column is
        ``param_<name>``.

    Examples
    --------
    >>> import pci_bench
    >>> intensity = pci_bench.extract("intensity", pci_bench.load_dataset("yeast-sim")[::4])
    >>> frame = results_frame(pci_bench.evaluate("loo-knn", intensity, k=[1, 11]))
    >>> frame[["features", "k", "exclude", "balanced_accuracy"]].round(3)
        features   k exclude  balanced_accuracy
    0  intensity   1    cell              0.249
    1  intensity  11    cell              0.257
    """
    import pandas as pd

    results = list(results)
    metrics = list(dict.fromkeys(metric for r in results for metric in r.metrics))
    values = [f"{metric}{end}" for metric in metrics for end in ("", "_low", "_high")]
    taken = {*ABOUT, *values}
    rows = []
    for result in results:
        row: dict[str, Any] = {
            "benchmark": result.benchmark,
            "dataset": result.dataset.name,
            "n_cells": result.dataset.n_cells,
            "features": result.features.name,
            "weights": result.features.weights,
            "evaluator": result.evaluator.name,
        }
        for name, value in result.evaluator.params.items():
            row[f"param_{name}" if name in taken else name] = value
        for metric, number in result.metrics.items():
            row[metric] = number
            row[f"{metric}_low"], row[f"{metric}_high"] = result.intervals.get(metric, (None, None))
        rows.append(row)
    frame = pd.DataFrame(
        rows, columns=list(dict.fromkeys([*ABOUT, *(c for row in rows for c in row if c not in taken)]))
    )
    for column in values:
        frame[column] = pd.Series([row.get(column) for row in rows], dtype=float)
    bounds = [c for c in values if c not in metrics]
    return frame.drop(columns=[c for c in bounds if frame[c].isna().all()])

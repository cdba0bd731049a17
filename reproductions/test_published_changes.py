"""Protein change profiles: the scores that github.com/alexxijielu/protein_change_profiles @ c85da42 publishes (Lu et al. 2018)."""

from __future__ import annotations

import numpy as np
import pytest

import pci_bench
from pci_bench.datasets.yeast_proteome import read_table

EQUAL = {"RAP3": (3890, 3893), "ALP3": (3764, 3765)}  # rows within 1e-3 of the published ones, and rows
TIED = {"RAP3": ["ATP19", "PXL1", "YJL131C"], "ALP3": ["ECO1"]}  # the others


def both(published, condition):
    """Return our scores and the published ones, of the same proteins in the same order."""
    (result,) = [r for r in published.results("change-profiles") if r.evaluator.params["condition"] == condition]
    ours = result.tables["changes"].set_index("protein").drop(columns=["score", "largest"])
    theirs = read_table(published.folder / "yeast-proteome" / f"{condition}_change.txt").astype(float)
    assert sorted(ours.index) == sorted(theirs.index)
    assert list(ours.columns) == list(theirs.columns)
    return ours.loc[theirs.index], theirs


@pytest.mark.parametrize("condition", EQUAL)
def test_the_published_scores_are_found_again_in_all_rows_but_those_of_a_tie(published, condition):
    ours, theirs = both(published, condition)
    equal = (np.abs(ours - theirs) < 1e-3).all(axis=1)
    assert (int(equal.sum()), len(equal)) == EQUAL[condition]
    assert sorted(equal.index[~equal]) == TIED[condition]


@pytest.mark.parametrize(("condition", "protein"), [(c, p) for c, proteins in TIED.items() for p in proteins])
def test_a_row_that_differs_is_as_published_with_the_51st_neighbour_for_the_50th(published, condition, protein):
    """Both are equally far to 1e-5, less than float32 tells apart in ‖a‖² + ‖b‖² − 2 a·b, as the authors computed distances."""
    with published.in_use():
        cells = pci_bench.load_dataset("yeast-proteome-screens")
    _, theirs = both(published, condition)
    values, screens = cells.profiles()[0].astype(np.float64), cells.obs["screen"].to_numpy()
    row = {
        s: dict(zip(cells.obs["protein"][screens == s], values[screens == s], strict=True)) for s in ("WT2", condition)
    }
    names = list(theirs.index)
    reference = np.stack([row["WT2"][name] for name in names])
    difference = reference - np.stack([row[condition][name] for name in names])
    own = names.index(protein)
    distances = np.linalg.norm(reference - reference[own], axis=1)
    order = [i for i in np.argsort(distances, kind="stable") if i != own]
    assert distances[order[50]] / distances[order[49]] - 1 < 1.1e-5
    swapped = difference[[*order[:49], order[50]]]
    median = np.median(swapped, axis=0)
    scores = 0.6745 * (difference[own] - median) / np.median(np.abs(swapped - median), axis=0)
    np.testing.assert_allclose(scores, theirs.loc[protein], atol=1e-3)

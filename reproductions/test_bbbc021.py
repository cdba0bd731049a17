"""Mechanisms of action of BBBC021: what the vignette ``predict_moa`` of github.com/cytomining/cytominergallery @ 05d496f prints."""

from __future__ import annotations

import csv
from importlib.resources import files

import numpy as np

import pci_bench


def printed() -> tuple[list[str], np.ndarray]:
    """Return the mechanisms and the printed confusion matrix (12, 12): predicted in rows, true in columns."""
    text = files("pci_bench_tables").joinpath("bbbc021-moa-confusion.csv").read_text(encoding="utf-8")
    (_, *classes), *rows = csv.reader(text.splitlines())
    assert [row[0] for row in rows] == classes
    return classes, np.array([[int(count) for count in row[1:]] for row in rows])


def nearest(published, exclude: str, metric: str | None):
    (result,) = [
        r
        for r in published.results("bbbc021-moa")
        if (r.evaluator.params["exclude"], r.evaluator.params.get("metric")) == (exclude, metric)
    ]
    return result


def test_84_of_103_treatments_are_right(published):
    _, counts = printed()
    assert (np.trace(counts), counts.sum()) == (84, 103)
    result = nearest(published, "compound", "correlation")
    assert round(result.metrics["accuracy"] * 103, 9) == 84
    assert f"{result.metrics['accuracy']:.2f}" == "0.82"  # as the vignette prints it
    assert result.paper is not None
    assert result.paper.metrics == {"accuracy": 81.55}


def test_all_144_cells_of_the_confusion_matrix_are_as_printed(published):
    classes, counts = printed()
    confusion = nearest(published, "compound", "correlation").details["confusion"]
    assert confusion["labels"][:12] == classes
    ours = np.array(confusion["counts"])  # true in rows
    np.testing.assert_array_equal(ours[:, :12].T, counts)
    assert ours[:, 12:].sum() == 0


def test_the_profiles_are_of_the_printed_numbers_of_treatments_and_compounds(published):
    with published.in_use():
        cells = pci_bench.load_dataset("bbbc021")
    assert cells.obs["compound"].nunique() == 38
    assert cells.obs["wells"].value_counts().to_dict() == {3: 96, 2: 7}
    assert len(cells) == 103
    assert len(cells.profiles()[1]) == 177


def test_the_vignettes_mask_makes_no_difference_on_these_data(published):
    """It multiplies masked correlations by −∞, so that a negative one would win; but no two doses of a compound are correlated negatively."""
    with published.in_use():
        cells = pci_bench.load_dataset("bbbc021")
    correlations = np.corrcoef(cells.profiles()[0])
    compound = cells.obs["compound"].to_numpy()
    same = (compound[:, None] == compound) & ~np.eye(len(compound), dtype=bool)
    assert correlations[same].min() > 0.07


def test_excluding_batches_too_is_harder(published):
    compound = nearest(published, "compound", "correlation").metrics["accuracy"]
    both = nearest(published, "compound+batch", "correlation")
    assert both.metrics["accuracy"] < compound
    assert both.details["unreachable_classes"] == ["Cholesterol-lowering", "Kinase inhibitors"]

"""Table 2: the same distances within and between cell lines."""

import pytest
from claims import metric_of

from pci_bench.reporting.tables.declaration import TABLES

CONV4 = "pci-conv4@lu2019-human"
PCI = ["pci-conv3@lu2019-human", CONV4]
BASELINES = ["classic-haralick", "vgg16-gfp-only-block4_conv1@oxford", "autoencoder-conv3@lu2019-human"]


def scores(results, column):
    return metric_of(results, column, statistic="z")


@pytest.mark.parametrize("column", ["same_cell_line", "different_cell_line"])
def test_all_scores_are_negative(paper, column):
    score_by_set = scores(paper.results("human-cell-lines", "hpa-v18", PCI, besides=BASELINES), column)
    assert {name: score for name, score in score_by_set.items() if score >= 0} == {}


def test_every_set_is_worse_across_cell_lines(paper):
    score_by_set = scores(paper.results("human-cell-lines", "hpa-v18", PCI, besides=BASELINES), "difference")
    assert {name: drop for name, drop in score_by_set.items() if drop <= 0} == {}


def test_conv4_loses_the_least_across_cell_lines(paper):
    score_by_set = scores(paper.results("human-cell-lines", "hpa-v18", PCI, besides=BASELINES), "difference")
    assert min(score_by_set, key=score_by_set.__getitem__) == CONV4


def test_no_number_moved(bundled):
    bundled.assert_nothing_moved("human-cell-lines")


def test_a_difference_is_that_of_its_columns(bundled):
    for result in bundled.results("human-cell-lines"):
        m = result.metrics
        assert m["difference"] == pytest.approx(m["different_cell_line"] - m["same_cell_line"], abs=1e-12)


def test_the_printed_differences_follow_from_the_printed_columns():
    for same, different, difference, *_ in TABLES.get("table2").printed.values():
        assert difference == pytest.approx(different - same, abs=1.5e-4)  # three numbers rounded to 0.0001

"""Table 2: the same distances within and between cell lines."""

import pytest
from claims import assert_claims

from pci_bench.reporting.tables.declaration import TABLES


def test_all_scores_are_negative_and_every_set_is_worse_across_cell_lines_conv4_the_least(paper):
    assert_claims(paper.outcome("table2"))


def test_no_number_moved(bundled):
    bundled.assert_nothing_moved("human-cell-lines")


def test_a_difference_is_that_of_its_columns(bundled):
    for result in bundled.results("human-cell-lines"):
        m = result.metrics
        assert m["difference"] == pytest.approx(m["different_cell_line"] - m["same_cell_line"], abs=1e-12)


def test_the_printed_differences_follow_from_the_printed_columns():
    for same, different, difference, *_ in TABLES.get("table2").printed.values():
        assert difference == pytest.approx(different - same, abs=1.5e-4)  # three numbers rounded to 0.0001

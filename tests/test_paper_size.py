"""The measurement of a screen of the paper's size: what it prints follows from what was measured, and its screen is as it says."""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def program():
    spec = importlib.util.spec_from_file_location("paper_size", ROOT / "speed" / "paper_size.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["paper_size"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def kept(program):
    return json.loads(program.KEPT.read_text(encoding="utf-8"))


def between(name: str) -> str:
    """Return what stands between two marks of docs/speed.md."""
    text = (ROOT / "docs" / "speed.md").read_text(encoding="utf-8")
    return text.partition(f"<!-- paper-size: {name} -->\n")[2].partition("\n<!-- end -->")[0]


def test_the_docs_print_what_was_measured_at_the_papers_size(program, kept):
    assert between("measured") == program.printed(kept)


def test_the_docs_plan_a_hundred_million_cells_from_what_was_measured(program, kept):
    assert between("plan") == program.planned(kept, 100_000_000, 0.04, 0.023)


def test_no_stage_took_more_memory_than_it_may(kept):
    assert max(m["own_memory"] for m in kept["stages"]) < kept["memory"] * 2**30
    assert {m["n"] for m in kept["stages"]} == {10_000, 100_000, 1_200_000}


def test_the_kept_measurements_say_what_was_extrapolated(kept):
    for m in kept["stages"]:
        share = m.get("share", m["n"])
        assert m["seconds"] == pytest.approx(m["measured_seconds"] + m.get("whole", 0))
        assert (m.get("whole", 0) > 0) == (share < m["n"])


def test_a_plan_grows_with_the_cells_and_the_search_for_neighbours_with_their_square(program):
    stages = [
        {
            "stage": stage,
            "n": n,
            "seconds": 3600.0 * (n / 1000) ** (2 if stage == "knn" else 1),
            "own_memory": 1000.0 * n,
        }
        | ({"search": 3600.0 * (n / 1000) ** 2} if stage == "knn" else {})
        for n in (1000, 2000)
        for stage in program.STAGES
    ]
    text = program.planned({"stages": stages, "memory": 4.0}, 10_000_000, 1.0, 1.0)
    hours = {line.split(" | ")[0].lstrip("| "): line.split(" | ")[1] for line in text.splitlines() if " | " in line}
    assert hours[program.STAGES["open"][0]] == "10,000.0"
    assert hours[program.STAGES["knn"][0]] == "100,000,000.0"
    assert "4.3 million" in text  # 4 GiB at 1,000 bytes a cell


def test_the_screen_is_streamed_and_no_cell_is_anothers_copy(program, tmp_path, monkeypatch):
    monkeypatch.setenv("PCI_BENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(program, "NOISE_PIXELS", 2**21)
    options = argparse.Namespace(share=200, whole=100)
    found = program.stored(700, tmp_path, options)
    cells = program.cells_of(tmp_path)
    assert found["files"] == sum(p.is_file() for p in (tmp_path / "store").rglob("*"))
    assert not cells.notes  # copies would be noted
    assert cells.obs.groupby("image").size().tolist() == [60] * 11 + [40]
    assert cells.obs.groupby("image")["protein"].nunique().eq(1).all()
    crops = cells.stored(slice(0, 700)).astype(float)
    assert 0.2 < found["of_raw"] < 0.6
    same, other = crops[60:120, 0].mean(axis=0), crops[120:180, 0].mean(axis=0)
    assert (
        np.corrcoef(same.ravel(), crops[61, 0].ravel())[0, 1] > np.corrcoef(other.ravel(), crops[61, 0].ravel())[0, 1]
    )


def test_neighbours_of_a_share_are_those_of_a_whole_search(program):
    from pci_bench.statistics.compiled.neighbors import nearest

    features = np.random.default_rng(0).normal(size=(50, 4))
    share = program.OfAShare(20)
    ((some, _),) = nearest(features, 3, [np.arange(50)], share)
    ((every, _),) = nearest(features, 3, [np.arange(50)])
    np.testing.assert_array_equal(some[:20], every[:20])
    np.testing.assert_array_equal(some[20:40], (every[:20] + 20) % 50)
    assert share.seconds > 0

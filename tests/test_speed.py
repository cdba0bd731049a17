"""How fast we are beside what a user would use instead, as ratios within one process: never seconds, which are the machine's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
from command_line import call, refused

from pci_bench.speed import comparisons, measured

# CPU time of what a user would use instead over ours, one core each: how many items, and the bounds between which the ratio must
# lie. Beside them, what an AMD EPYC (Zen 5) gave while a dozen processes shared its two cores. The bounds are wide for other
# processors and BLAS; but a pass for every layer, a search in float64, a second one over all distances or an interpreted loop is
# outside. Nobody is faster than the upper bound: something would not be done.
BOUNDS = {
    "extraction": (32, 0.8, 8.0),  # 1.79 to 1.83
    "neighbors": (3000, 0.6, 10.0),  # 1.17 to 1.24
    "texture": (6, 5.0, 300.0),  # 46 to 50
}
SIDE_BY_SIDE = """
import json, statistics, sys, time
from pci_bench.speed.comparisons import COMPARISONS
ratios = {}
for name, size in json.loads(sys.argv[1]).items():
    ours, theirs = [way.prepare(size) for way in list(COMPARISONS[name].ways.values())[:2]]
    of_rounds = []
    for _ in range(3):
        spent = []
        for work in (ours, theirs):
            started = time.process_time()
            work()
            spent.append(time.process_time() - started)
        of_rounds.append(spent[1] / spent[0])
    ratios[name] = statistics.median(of_rounds)
print(json.dumps(ratios))
"""


def times_as_fast(sizes: dict[str, int]) -> dict[str, float]:
    """Return, for each comparison, the median of three rounds, in each of which both ways do the work, one after the other."""
    done = subprocess.run(
        [sys.executable, "-c", SIDE_BY_SIDE, json.dumps(sizes)],
        env={**os.environ, **measured.ONE_THREAD},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_work_takes_no_more_cpu_time_than_a_stated_multiple_of_what_a_user_would_use_instead():
    outside: dict[str, float] = {}
    for _ in range(3):  # a machine that others work on may go astray once, code that got slower does so every time
        sizes = {name: BOUNDS[name][0] for name in outside or BOUNDS}
        outside = {name: r for name, r in times_as_fast(sizes).items() if not BOUNDS[name][1] < r < BOUNDS[name][2]}
        if not outside:
            break
    assert outside == {}


@pytest.fixture
def few(monkeypatch):
    """A comparison that takes no time, one of whose ways lacks its library."""
    ways = {
        comparisons.OURS: comparisons.Way(comparisons._our_distances),
        "a loop in a library that nobody has": comparisons.Way(comparisons._scipy_distances, ("no_such_library",)),
    }
    small = replace(comparisons.COMPARISONS["distances"], quick_size=20, ways=ways)
    monkeypatch.setattr(measured, "COMPARISONS", {"distances": small})
    monkeypatch.setattr(measured, "STARTS", {"python": ["-c", "pass"]})
    monkeypatch.setattr(measured, "START_BESIDE", ("json", ["-c", "import json"]))


def test_what_is_not_measured_is_a_row_that_names_the_library(capsys, monkeypatch, few):
    table = json.loads(call(capsys, monkeypatch, "speed", "--quick", "--format", "json", "--quiet").out)
    ours, theirs, *starts = table["rows"]
    assert ours["seconds"] > 0
    assert ours["times_ours"] == 1
    assert theirs["seconds"] is None
    assert theirs["reason"] == "not measured: no_such_library not installed"
    assert [row["way"] for row in starts] == ["python", "json"]
    assert {"processor", "cores", "threads", "versions"} <= set(table["machine"])


def test_a_way_that_fails_is_a_sentence_with_the_command_that_shows_it(capsys, monkeypatch, few):
    impossible = replace(measured.COMPARISONS["distances"], quick_size=-1)
    monkeypatch.setattr(measured, "COMPARISONS", {"distances": impossible})
    said = call(capsys, monkeypatch, "speed", "--quick", "--quiet")
    refused(said, "could not be measured (distances, -1)", "-m pci_bench.speed.process distances")


def test_the_operations_of_the_encoder_are_those_that_torch_counts():
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from pci_bench.inpainting.network import PairedCellInpainting

    with FlopCounterMode(display=False) as counted:
        PairedCellInpainting().source_encoder.eval().features(torch.zeros(2, *comparisons.CROP))
    assert counted.get_total_flops() == comparisons.COMPARISONS["extraction"].operations(2)

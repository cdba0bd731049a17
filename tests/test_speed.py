"""How fast we are beside what a user would use instead, as ratios within one process: never seconds, which are the machine's."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from dataclasses import replace

import pytest
from command_line import call, refused

from pci_bench.speed import comparisons, measured

# CPU time of scikit-learn's brute force over ours, 3,000 × 384, one core each. An AMD EPYC (Zen 5) gave 1.20 to 1.24, quiet and
# with three other processes on its two cores. The band is wide for other processors and BLAS; a search in float64, a second pass
# over all distances or an interpreted loop leaves it.
TIMES_OURS = (0.6, 10.0)
SIDE_BY_SIDE = """
import json, time
from pci_bench.speed.comparisons import COMPARISONS
works = [way.prepare(3000) for way in COMPARISONS["neighbors"].ways.values()]
spent = [[], []]
for _ in range(5):
    for work, seconds in zip(works, spent):
        started = time.process_time()
        work()
        seconds.append(time.process_time() - started)
print(json.dumps(spent))
"""


def test_neighbours_take_no_more_cpu_time_than_a_stated_multiple_of_scikit_learns():
    environment = {**os.environ, **measured.ONE_THREAD}
    done = subprocess.run(
        [sys.executable, "-c", SIDE_BY_SIDE], env=environment, capture_output=True, text=True, check=True
    )
    ours, theirs = json.loads(done.stdout)
    ratio = statistics.median(b / a for a, b in zip(ours, theirs, strict=True))
    assert TIMES_OURS[0] < ratio < TIMES_OURS[1]


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

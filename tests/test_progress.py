"""What is said of work that takes long, where no terminal shows a bar."""

from __future__ import annotations

import io
import threading

import pytest
from rich.console import Console

import pci_bench
from pci_bench.system.progress import ConsoleProgress, Heartbeat


def test_a_stage_off_a_terminal_says_how_far_it_is_until_it_ends():
    said, twice = [], threading.Event()

    def say(sentence):
        said.append(sentence)
        if len(said) == 2:
            twice.set()

    with Heartbeat(say, "measuring", 8, seconds=0.01) as beat:
        beat.advance(6)
        assert twice.wait(10)
    count = len(said)
    assert all(line.startswith("  measuring: 6 of 8, 0 s, about 0 s left") for line in said)
    threading.Event().wait(0.05)
    assert len(said) == count


def test_time_left_follows_from_the_rate_so_far():
    beat = Heartbeat(print, "measuring", 400)
    assert beat.sentence(45) == "  measuring: 45 s so far"
    beat.advance(1)
    assert beat.sentence(50) == "  measuring: 1 of 400, 50 s"  # the first is slower than all others
    beat.advance(99)
    assert beat.sentence(60) == "  measuring: 100 of 400, 60 s, about 3 min left"
    assert Heartbeat(print, "drawing", None).sentence(7200) == "  drawing: 2.0 h so far"


def test_an_error_ends_the_lines_and_gets_the_stages_title():
    stream = io.StringIO()
    reporter = ConsoleProgress(Console(file=stream))
    with pytest.raises(ValueError, match="bad") as error, reporter.stage("measuring", 3):
        raise ValueError("bad")
    assert error.value.__notes__ == ["measuring"]
    assert not [thread for thread in threading.enumerate() if thread.name == "progress"]
    assert stream.getvalue() == ""


def test_progress_true_says_in_python_what_the_command_line_does(make_cells, capsys):
    cells = make_cells(30)
    capsys.readouterr()
    pci_bench.extract("intensity", cells, progress=True)
    assert "extracting intensity: " in capsys.readouterr().err
    pci_bench.extract("noise", cells)
    assert capsys.readouterr().err == ""

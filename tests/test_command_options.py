"""Options of every command, and what other programs read."""

from __future__ import annotations

import json
import platform
import subprocess
import sys

import numpy as np
import pytest
from command_line import call, environment

import pci_bench
from pci_bench.runs.results import Result


@pytest.mark.parametrize("place", ["before", "after"])
def test_quiet_prints_results_and_nothing_while_working(capsys, monkeypatch, tmp_path, test_data, place):
    monkeypatch.setenv("PCI_BENCH_CACHE", str(tmp_path))
    monkeypatch.setenv("PCI_BENCH_DATA", str(test_data))
    command = ("extract", "intensity", "--dataset", "toy-human", "--limit", 30, "--out", tmp_path / "f.npz")
    said = call(capsys, monkeypatch, *(("--quiet", *command) if place == "before" else (*command, "--quiet")))
    assert (said.code, said.err) == (0, "")
    assert "f.npz" in said.out
    loud = call(capsys, monkeypatch, *command[:-1], tmp_path / "g.npz", "--refresh", "always")
    assert "extracting intensity" in loud.err
    assert call(
        capsys, monkeypatch, "--quiet", "extract", "noise", "--dataset", "nowhere", "--out", "f.npz"
    ).err.startswith("Error: ")


@pytest.mark.parametrize("place", ["before", "after"])
def test_verbose_first_says_versions_and_folders(capsys, monkeypatch, tmp_path, place):
    monkeypatch.setenv("PCI_BENCH_CACHE", str(tmp_path))
    monkeypatch.delenv("PCI_BENCH_DATA", raising=False)
    command = ("list", "tables")
    said = call(capsys, monkeypatch, *(("--verbose", *command) if place == "before" else (*command, "--verbose")))
    versions, cache, data = said.err.splitlines()
    assert f"pci-bench {pci_bench.__version__}, python {platform.python_version()}, numpy {np.__version__}" in versions
    assert cache == f"Cache (PCI_BENCH_CACHE): {tmp_path}"
    assert data == "Your copies of data (PCI_BENCH_DATA): not set"
    assert said.out == call(capsys, monkeypatch, *command).out


@pytest.mark.parametrize("how", ["option", "environment"])
def test_without_colour_not_even_a_terminal_gets_any(how, tmp_path):
    arguments = ["pci-bench", "list", "tables", *(["--no-color"] if how == "option" else [])]
    program = (
        "import sys\n"
        "from rich.text import Text\n"
        "from pci_bench.cli import main, out\n"
        "out._force_terminal = True\n"
        f"sys.argv = {arguments}\n"
        "main()\n"
        "out.print(Text('green', style='green'))\n"
    )
    more = {"NO_COLOR": "1"} if how == "environment" else {}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment(tmp_path, **more), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "\x1b[32m" not in done.stdout


def test_the_schema_names_what_every_result_file_holds(capsys, monkeypatch):
    said = call(capsys, monkeypatch, "schema")
    schema = json.loads(said.out)
    assert (said.code, schema["type"]) == (0, "object")
    fields = {info.alias or name for name, info in Result.model_fields.items()}
    assert set(schema["properties"]) == fields
    assert {"dataset", "features", "evaluator", "metrics"} <= set(schema["required"])


def test_the_shell_can_complete(capsys, monkeypatch):
    assert "--install-completion" in call(capsys, monkeypatch, "--help").out

"""How many faults the tables of this folder hold."""

from __future__ import annotations

import importlib
from pathlib import Path


def test_every_table_holds_faults_of_different_names():
    total = 0
    for file in sorted(Path(__file__).parent.glob("test_*.py")):
        faults = getattr(importlib.import_module(file.stem), "FAULTS", [])
        names = [fault.what for fault in faults]
        assert len(set(names)) == len(names), file
        total += len(faults)
    assert total >= 150

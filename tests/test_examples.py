"""Every example in a docstring gives what it says, and every public name has one."""

from __future__ import annotations

import doctest
import importlib
import inspect
from pathlib import Path

import pytest

import pci_bench

ROOT = Path(pci_bench.__file__).parent
MODULES = sorted(
    ".".join(("pci_bench", *file.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
    for file in ROOT.rglob("*.py")
    if ">>> " in file.read_text(encoding="utf-8")
)
ALIASES = {"Compute"}  # of types, which have no docstring of their own


def test_examples_give_what_they_say(own_registries):
    """In one process and cache: several examples look at the same cells."""
    failed = attempted = 0
    for name in MODULES:
        found = doctest.testmod(importlib.import_module(name))
        failed, attempted = failed + found.failed, attempted + found.attempted
    assert attempted > 100
    assert failed == 0


@pytest.mark.parametrize("name", sorted(set(pci_bench.__all__) - ALIASES))
def test_every_public_name_has_an_example(name):
    public = getattr(pci_bench, name)
    if callable(public):
        assert ">>> " in (inspect.getdoc(public) or "")

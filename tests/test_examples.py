"""Every example in a docstring gives what it says, and every public name has one."""

from __future__ import annotations

import doctest
import importlib
import inspect
import re
from pathlib import Path

import pytest

import pci_bench

ROOT = Path(pci_bench.__file__).parent
MODULES = sorted(
    ".".join(("pci_bench", *file.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
    for file in ROOT.rglob("*.py")
    if ">>> " in file.read_text(encoding="utf-8")
)
DOCUMENTED = re.findall(r"^::: (\S+)$", (ROOT.parent / "docs" / "api.md").read_text(encoding="utf-8"), re.MULTILINE)
ALIASES = {"Compute"}  # of types, which have no docstring of their own


def test_examples_give_what_they_say(own_registries, simulated_cache):
    """In one process and cache: several examples look at the same cells."""
    failed = attempted = 0
    for name in MODULES:
        found = doctest.testmod(importlib.import_module(name))
        failed, attempted = failed + found.failed, attempted + found.attempted
    assert attempted > 100
    assert failed == 0


def public_objects() -> list:
    """Return what the package exports and what docs/api.md documents, each once, with its name as the test's."""
    documented = (name.rpartition(".") for name in DOCUMENTED)
    objects = [getattr(importlib.import_module(module), name) for module, _, name in documented if name not in ALIASES]
    objects += [getattr(pci_bench, name) for name in pci_bench.__all__ if name not in ALIASES]
    assert len(DOCUMENTED) > 30
    return [pytest.param(o, id=o.__name__) for o in sorted(set(objects), key=lambda o: o.__name__)]


@pytest.mark.parametrize("public", public_objects())
def test_every_public_name_has_an_example(public):
    assert ">>> " in (inspect.getdoc(public) or "")

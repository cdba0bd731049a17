"""What a type checker sees of the package from a user's script: one run of mypy for all tests of this module."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pci_bench

ROOT = Path(pci_bench.__file__).parents[1]

# Other packages, and what is said of our own code, are left out: that saves most of the time.
CONFIGURATION = """
[mypy]
strict = True
follow_imports = silent
[mypy-anndata.*,numba.*,numpy.*,pandas.*,pydantic.*,scipy.*,sklearn.*,torch.*]
follow_imports = skip
follow_imports_for_stubs = True
"""

PLUGIN = """
from pathlib import Path
import pci_bench
from pci_bench import Channel, Extractor, ExtractorMeta, register_extractor
from pci_bench.api.extractor import Compute
from typing_extensions import override

class Complete(Extractor):
    meta = ExtractorMeta("edges", "1")
    def names(self, output: str, channels: tuple[Channel, ...], weights: Path | None = None) -> list[str]:
        return [c.name for c in channels]
    def open(self, channels: tuple[Channel, ...], weights: Path | None, device: str) -> Compute:
        return lambda crops, outputs: {"": crops.mean(axis=(2, 3))}

"""

SCRIPTS = {
    "complete_plugin": PLUGIN + "register_extractor('edges')(Complete)",
    "misspelt_argument": "import pci_bench\npci_bench.run(benchmrk=3)",
    "misspelt_name": "import pci_bench\npci_bench.load_datasets('toy-yeast')",
    "signature": "import pci_bench\nreveal_type(pci_bench.run)",
    "other_signature": PLUGIN + "class Other(Complete):\n    def names(self) -> int:\n        return 3",
    "misspelt_required_method": PLUGIN
    + "class Misspelt(Extractor):\n"
    + "    def nams(self, output: str, channels: tuple[Channel, ...], weights: Path | None = None) -> list[str]:\n"
    + "        return []\n"
    + "    def open(self, channels: tuple[Channel, ...], weights: Path | None, device: str) -> Compute:\n"
    + "        raise NotImplementedError\n"
    + "Misspelt()",
    "misspelt_optional_method": PLUGIN
    + "class Misspelt(Complete):\n    @override\n    def default_weight(self) -> str:\n        return 'mine'",
    "no_base_class": PLUGIN + "@register_extractor('edges')\nclass Bare:\n    meta = ExtractorMeta('edges', '1')",
    "public_names": "import pci_bench\n"
    + "".join(f"import {module}\n" for module in sorted(set(pci_bench._PUBLIC.values())))
    + "".join(
        f"reveal_type(pci_bench.{name})\nreveal_type({module}.{name})\n" for name, module in pci_bench._PUBLIC.items()
    ),
}


@pytest.fixture(scope="module")
def messages(tmp_path_factory) -> dict[str, list[str]]:
    """The messages of mypy by script, each as ``error: …`` or ``note: …``."""
    pytest.importorskip("mypy", reason="mypy is not installed: pip install 'pci-bench[lint]'")
    folder = tmp_path_factory.mktemp("scripts")
    (folder / "mypy.ini").write_text(CONFIGURATION)
    for name, text in SCRIPTS.items():
        (folder / f"{name}.py").write_text(text + "\n")
    command = [sys.executable, "-m", "mypy", "--config-file", "mypy.ini", "--cache-dir", "cache", "--no-error-summary"]
    scripts = [f"{name}.py" for name in SCRIPTS]
    # Found by the path, because mypy does not know where an editable installation is.
    done = subprocess.run(
        [*command, *scripts],
        cwd=folder,
        env={**os.environ, "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert done.returncode == 1, done.stdout + done.stderr  # 1: errors were found
    found: dict[str, list[str]] = {name: [] for name in SCRIPTS}
    for line in done.stdout.splitlines():
        script, _, message = line.split(":", 2)
        found[Path(script).stem].append(message.strip())
    return found


def errors(messages: list[str]) -> list[str]:
    return re.findall(r"^error: .*\[([a-z-]+)\]$", "\n".join(messages), re.MULTILINE)


def revealed(messages: list[str]) -> list[str]:
    return re.findall(r'^note: Revealed type is "(.*)"$', "\n".join(messages), re.MULTILINE)


def test_a_misspelt_argument_is_an_error(messages):
    assert errors(messages["misspelt_argument"]) == ["call-arg"]


def test_a_misspelt_public_name_is_an_error(messages):
    assert errors(messages["misspelt_name"]) == ["attr-defined"]


def test_run_is_known_by_its_arguments_and_its_output(messages):
    (signature,) = revealed(messages["signature"])
    assert signature.startswith("def (benchmark: str,")
    assert signature.endswith("-> pci_bench.runs.runner.RunOutput")


def test_a_complete_plugin_has_no_error(messages):
    assert messages["complete_plugin"] == []


def test_a_method_with_another_signature_is_an_error(messages):
    assert set(errors(messages["other_signature"])) == {"override"}  # of both classes that it inherits from


def test_without_a_required_method_a_class_is_abstract(messages):
    assert errors(messages["misspelt_required_method"]) == ["abstract"]


def test_a_misspelt_optional_method_is_an_error_where_it_is_marked_as_an_override(messages):
    assert errors(messages["misspelt_optional_method"]) == ["misc"]


def test_registering_a_class_without_the_base_class_is_an_error(messages):
    assert errors(messages["no_base_class"]) == ["type-var"]


def test_every_public_name_is_known_and_is_that_of_its_module(messages):
    types = revealed(messages["public_names"])
    public, defined = types[::2], types[1::2]
    assert errors(messages["public_names"]) == []
    assert len(public) == len(pci_bench._PUBLIC)
    assert public == defined
    assert "Any" not in public


def test_names_for_type_checkers_are_those_of_the_lazy_imports():
    module = ast.parse(Path(pci_bench.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in module.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    names = {alias.asname: node.module for node in block.body for alias in node.names}
    assert names == pci_bench._PUBLIC | dict.fromkeys(pci_bench._MODULES, "pci_bench")


def test_completion_offers_public_names_only():
    assert dir(pci_bench) == sorted([*pci_bench.__all__, "__version__"])
    assert dir(pci_bench.plot) == sorted(pci_bench.plot.__all__)
    assert not [name for name in pci_bench.__all__ if name.startswith("_") or not hasattr(pci_bench, name)]

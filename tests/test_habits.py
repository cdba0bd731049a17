"""What the house says of itself: floors of dependencies, versions, the files and environments that CONTRIBUTING.md and CI name."""

from __future__ import annotations

import configparser
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

import pci_bench

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def pins(file: str) -> dict[str, Version]:
    """Return the pinned version of every package in a file of constraints."""
    lines = (line.partition("#")[0].strip() for line in (ROOT / file).read_text(encoding="utf-8").splitlines())
    found = {}
    for requirement in map(Requirement, filter(None, lines)):
        (specifier,) = requirement.specifier
        assert specifier.operator == "=="
        found[requirement.name.lower().replace("_", "-")] = Version(specifier.version)
    return found


def floors() -> dict[str, Version]:
    """Return the lowest allowed version of every dependency."""
    found = {}
    for requirement in map(Requirement, PROJECT["dependencies"]):
        (floor,) = (s for s in requirement.specifier if s.operator == ">=")
        found[requirement.name] = Version(floor.version)
    return found


def environments() -> set[str]:
    """Return the names of tox's environments; ``tests`` is the one that needs no section."""
    tox = configparser.ConfigParser()
    tox.read(ROOT / "tox.ini", encoding="utf-8")
    return {"tests"} | {name.removeprefix("testenv:") for name in tox.sections() if name.startswith("testenv:")}


def jobs(file: Path) -> dict[str, Any]:
    return yaml.safe_load(file.read_text(encoding="utf-8"))["jobs"]


def test_the_oldest_environment_has_the_lowest_versions_that_are_allowed():
    oldest = pins("constraints-oldest.txt")
    assert {name: oldest.get(name) for name in floors()} == floors()


def test_what_ci_pins_is_allowed():
    allowed = {r.name.lower(): r.specifier for r in map(Requirement, PROJECT["dependencies"])}
    for name, version in pins("constraints.txt").items():
        assert name not in allowed or version in allowed[name]


def test_one_version_is_declared():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert pci_bench.__version__ == PROJECT["version"] == citation["version"]


def test_every_python_that_is_declared_is_tested_on_every_system():
    declared = {c.rpartition(" ")[2] for c in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", c)}
    matrix = jobs(ROOT / ".github/workflows/ci.yml")["tests"]["strategy"]["matrix"]
    assert set(matrix["python"]) == declared
    assert {system.partition("-")[0] for system in matrix["os"]} == {"ubuntu", "macos", "windows"}


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_workflows_name_environments_and_actions_that_exist(file):
    named = set(re.findall(r"tox -e ([\w,]+)", file.read_text(encoding="utf-8")))
    for job in jobs(file).values():
        matrix = job.get("strategy", {}).get("matrix", {})
        named |= set(matrix.get("environment", ())) | {
            i["environment"] for i in matrix.get("include", ()) if "environment" in i
        }
        for step in job["steps"]:
            if (action := step.get("uses", "")).startswith("./"):
                assert (ROOT / action / "action.yml").is_file()
    assert {name for names in named for name in names.split(",")} <= environments()


def test_contributing_names_files_and_environments_that_exist():
    for environment in re.findall(r"tox -e ([\w,]+)", CONTRIBUTING):
        assert set(environment.split(",")) <= environments()
    for target in re.findall(r"\]\(([\w./-]+)\)", CONTRIBUTING):
        assert (ROOT / target).exists(), target
    for place, copied in re.findall(r"^\| [\w -]+ \| `([\w./]+/)[^|]*\| `([\w.-]+)`", CONTRIBUTING, re.MULTILINE):
        assert (ROOT / place).is_dir(), place
        assert (ROOT / place / copied).is_file(), place + copied


def test_forms_for_issues_can_be_read():
    for file in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"):
        form = yaml.safe_load(file.read_text(encoding="utf-8"))
        if file.name != "config.yml":
            assert {"name", "description", "body"} <= form.keys()
            assert len({part["id"] for part in form["body"]}) == len(form["body"])

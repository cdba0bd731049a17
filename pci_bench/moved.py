"""Module paths of versions before 0.2: an import of an old path gives the module in its present place.

Examples
--------
>>> import pci_bench.cells, pci_bench.data.cells
>>> pci_bench.cells is pci_bench.data.cells
True
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

MOVED = {
    "annotations": "data.annotations",
    "arguments": "system.arguments",
    "cells": "data.cells",
    "checksums": "system.checksums",
    "comparison": "runs.comparison",
    "compilation": "system.compilation",
    "contracts": "conformance",
    "contracts.base": "conformance.base",
    "contracts.datasets": "conformance.datasets",
    "contracts.evaluators": "conformance.evaluators",
    "contracts.feature_trial": "conformance.feature_trial",
    "contracts.features": "conformance.features",
    "contracts.planted": "conformance.planted",
    "contracts.read_features": "conformance.read_features",
    "contracts.segmenters": "conformance.segmenters",
    "datasets.base": "api.dataset",
    "datasets.counts": "data.counts",
    "datasets.crop_files": "acquisition.crop_files",
    "datasets.download": "acquisition.download",
    "datasets.human_anatomy": "simulation.human.anatomy",
    "datasets.human_compartments": "simulation.human.compartments",
    "datasets.human_ontology": "simulation.human.ontology",
    "datasets.human_optics": "simulation.human.optics",
    "datasets.yeast_anatomy": "simulation.yeast.anatomy",
    "datasets.yeast_optics": "simulation.yeast.optics",
    "datasets.yeast_proteins": "simulation.yeast.proteins",
    "describe": "reporting.describe",
    "drawing": "system.drawing",
    "evaluators.balanced": "statistics.balanced",
    "evaluators.base": "api.evaluator",
    "evaluators.chance": "statistics.chance",
    "evaluators.compiled": "statistics.compiled",
    "evaluators.compiled.distances": "statistics.compiled.distances",
    "evaluators.compiled.logistic": "statistics.compiled.logistic",
    "evaluators.compiled.neighbors": "statistics.compiled.neighbors",
    "evaluators.compiled.votes": "statistics.compiled.votes",
    "evaluators.enrichment": "statistics.enrichment",
    "evaluators.examples": "data.examples",
    "evaluators.intervals": "statistics.intervals",
    "evaluators.jackknife": "statistics.jackknife",
    "evaluators.metrics": "statistics.metrics",
    "evaluators.training_cells": "runs.training_cells",
    "external": "features.files",
    "extraction": "features.extraction",
    "files": "system.files",
    "foreign": "system.foreign",
    "gate": "runs.gate",
    "interruption": "system.interruption",
    "kept": "runs.kept",
    "leaderboard": "runs.leaderboard",
    "models": "api.model",
    "ontology": "data.ontology",
    "places": "system.places",
    "progress": "system.progress",
    "provenance": "system.machine",
    "registry": "api.registry",
    "reporting.enrichment": "reporting.tables.enrichment",
    "reporting.report": "reporting.html",
    "reporting.report.cells": "reporting.html.cells",
    "reporting.report.classes": "reporting.html.classes",
    "reporting.report.embedding": "reporting.html.embedding",
    "reporting.report.layers": "reporting.html.layers",
    "reporting.report.library": "reporting.html.library",
    "reporting.report.neighbours": "reporting.html.neighbours",
    "reporting.report.page": "reporting.html.page",
    "reporting.report.pictures": "reporting.html.pictures",
    "reporting.report.record": "reporting.html.record",
    "reporting.report.tables": "reporting.html.tables",
    "reporting.report.words": "reporting.html.words",
    "reporting.screens": "reporting.tables.screens",
    "results": "runs.results",
    "runner": "runs.runner",
    "segmentation.base": "api.segmenter",
    "shortages": "system.shortages",
    "store": "data.store",
    "tabular": "system.tabular",
    "text": "system.text",
    "threads": "system.threads",
    "timm_import": "system.timm_import",
    "training.classification": "training.objectives.classification",
    "training.reconstruction": "training.objectives.reconstruction",
}


class _Finder(MetaPathFinder, Loader):
    """Finds a module under its old path, as the very module of the new one."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, old = fullname.partition(".")
        return ModuleSpec(fullname, self) if package == __package__ and old in MOVED else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return the module of the new path; its own spec is kept, which the import system replaces."""
        module = importlib.import_module(f"{__package__}.{MOVED[spec.name.partition('.')[2]]}")
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Give the module, which ran under its own name, its own spec back."""
        assert module.__spec__ is not None
        module.__spec__ = module.__spec__.loader_state


def find_moved_modules() -> None:
    """Let imports find modules under their old paths, as well as under their present ones."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())  # before one that would find a moved package's modules twice

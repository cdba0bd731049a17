"""Benchmarks and reproductions for single-cell microscopy features."""

from __future__ import annotations

import importlib
from typing import Any

from pci_bench.places import give_places_to_libraries

__version__ = "0.1.0"

give_places_to_libraries()  # before anything imports numba or matplotlib

_PUBLIC = {
    "Cells": "pci_bench.cells",
    "Channel": "pci_bench.cells",
    "DatasetMeta": "pci_bench.cells",
    "EvaluatorMeta": "pci_bench.evaluators.base",
    "ExtractorMeta": "pci_bench.features",
    "ModelMeta": "pci_bench.models",
    "Outcome": "pci_bench.evaluators.base",
    "Result": "pci_bench.results",
    "SegmenterMeta": "pci_bench.segmentation.base",
    "UserError": "pci_bench.errors",
    "evaluate": "pci_bench.runner",
    "extract": "pci_bench.extraction",
    "import_timm": "pci_bench.timm_import",
    "load_dataset": "pci_bench.datasets",
    "register_dataset": "pci_bench.datasets",
    "register_evaluator": "pci_bench.evaluators.base",
    "register_extractor": "pci_bench.features",
    "register_features": "pci_bench.features",
    "register_fetcher": "pci_bench.weights",
    "register_importer": "pci_bench.weights",
    "register_model": "pci_bench.models",
    "register_segmenter": "pci_bench.segmentation",
    "run": "pci_bench.runner",
    "train": "pci_bench.training.loop",
}
__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'pci_bench' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])

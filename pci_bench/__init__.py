"""Benchmarks and reproductions for single-cell microscopy features."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from pci_bench.moved import find_moved_modules
from pci_bench.system.places import give_places_to_libraries

# What type checkers and editors see; Python imports a name on its first use (Scientific Python SPEC 1).
if TYPE_CHECKING:
    from pci_bench import plot as plot
    from pci_bench.api.dataset import Dataset as Dataset
    from pci_bench.api.dataset import load_dataset as load_dataset
    from pci_bench.api.dataset import register_dataset as register_dataset
    from pci_bench.api.evaluator import EvaluationContext as EvaluationContext
    from pci_bench.api.evaluator import Evaluator as Evaluator
    from pci_bench.api.evaluator import EvaluatorMeta as EvaluatorMeta
    from pci_bench.api.evaluator import EvaluatorOutput as EvaluatorOutput
    from pci_bench.api.evaluator import Metric as Metric
    from pci_bench.api.evaluator import Outcome as Outcome
    from pci_bench.api.evaluator import register_evaluator as register_evaluator
    from pci_bench.api.extractor import Compute as Compute
    from pci_bench.api.extractor import Extractor as Extractor
    from pci_bench.api.extractor import ExtractorMeta as ExtractorMeta
    from pci_bench.api.extractor import Precomputed as Precomputed
    from pci_bench.api.extractor import register_extractor as register_extractor
    from pci_bench.api.extractor import register_features as register_features
    from pci_bench.api.field_segmenter import FieldSegmenter as FieldSegmenter
    from pci_bench.api.field_segmenter import register_field_segmenter as register_field_segmenter
    from pci_bench.api.model import Model as Model
    from pci_bench.api.model import ModelMeta as ModelMeta
    from pci_bench.api.model import Objective as Objective
    from pci_bench.api.model import register_model as register_model
    from pci_bench.api.segmenter import Segmenter as Segmenter
    from pci_bench.api.segmenter import SegmenterMeta as SegmenterMeta
    from pci_bench.api.segmenter import register_segmenter as register_segmenter
    from pci_bench.api.skipped import Skipped as Skipped
    from pci_bench.data.cells import Cells as Cells
    from pci_bench.data.cells import Channel as Channel
    from pci_bench.data.cells import DatasetMeta as DatasetMeta
    from pci_bench.data.changes import CropChange as CropChange
    from pci_bench.data.changes import changed as changed
    from pci_bench.data.provenance import Provenance as Provenance
    from pci_bench.errors import UserError as UserError
    from pci_bench.features.extraction import extract as extract
    from pci_bench.reporting.figures.base import register_figures as register_figures
    from pci_bench.reporting.tables.declaration import register_table as register_table
    from pci_bench.runs.evaluation import evaluate as evaluate
    from pci_bench.runs.frame import results_frame as results_frame
    from pci_bench.runs.paired import PairedDifference as PairedDifference
    from pci_bench.runs.paired import paired_difference as paired_difference
    from pci_bench.runs.results import Result as Result
    from pci_bench.runs.runner import run as run
    from pci_bench.system.timm_import import import_timm as import_timm
    from pci_bench.training.loop import train as train
    from pci_bench.training.objectives.classification import ClassificationModel as ClassificationModel
    from pci_bench.training.objectives.reconstruction import ReconstructionModel as ReconstructionModel
    from pci_bench.weights import register_fetcher as register_fetcher
    from pci_bench.weights import register_importer as register_importer

__version__ = "0.1.0"

find_moved_modules()
give_places_to_libraries()  # before anything imports numba or matplotlib

_PUBLIC = {
    "Cells": "pci_bench.data.cells",
    "Channel": "pci_bench.data.cells",
    "Compute": "pci_bench.api.extractor",
    "ClassificationModel": "pci_bench.training.objectives.classification",
    "CropChange": "pci_bench.data.changes",
    "Dataset": "pci_bench.api.dataset",
    "DatasetMeta": "pci_bench.data.cells",
    "EvaluationContext": "pci_bench.api.evaluator",
    "Evaluator": "pci_bench.api.evaluator",
    "EvaluatorMeta": "pci_bench.api.evaluator",
    "EvaluatorOutput": "pci_bench.api.evaluator",
    "Extractor": "pci_bench.api.extractor",
    "ExtractorMeta": "pci_bench.api.extractor",
    "FieldSegmenter": "pci_bench.api.field_segmenter",
    "Metric": "pci_bench.api.evaluator",
    "Model": "pci_bench.api.model",
    "ModelMeta": "pci_bench.api.model",
    "Objective": "pci_bench.api.model",
    "Outcome": "pci_bench.api.evaluator",
    "PairedDifference": "pci_bench.runs.paired",
    "Precomputed": "pci_bench.api.extractor",
    "Provenance": "pci_bench.data.provenance",
    "ReconstructionModel": "pci_bench.training.objectives.reconstruction",
    "Result": "pci_bench.runs.results",
    "Segmenter": "pci_bench.api.segmenter",
    "SegmenterMeta": "pci_bench.api.segmenter",
    "Skipped": "pci_bench.api.skipped",
    "UserError": "pci_bench.errors",
    "changed": "pci_bench.data.changes",
    "evaluate": "pci_bench.runs.evaluation",
    "extract": "pci_bench.features.extraction",
    "import_timm": "pci_bench.system.timm_import",
    "load_dataset": "pci_bench.api.dataset",
    "paired_difference": "pci_bench.runs.paired",
    "register_dataset": "pci_bench.api.dataset",
    "register_evaluator": "pci_bench.api.evaluator",
    "register_extractor": "pci_bench.api.extractor",
    "register_features": "pci_bench.api.extractor",
    "register_fetcher": "pci_bench.weights",
    "register_field_segmenter": "pci_bench.api.field_segmenter",
    "register_figures": "pci_bench.reporting.figures.base",
    "register_importer": "pci_bench.weights",
    "register_model": "pci_bench.api.model",
    "register_segmenter": "pci_bench.api.segmenter",
    "register_table": "pci_bench.reporting.tables.declaration",
    "results_frame": "pci_bench.runs.frame",
    "run": "pci_bench.runs.runner",
    "train": "pci_bench.training.loop",
}
_MODULES = ("plot",)
__all__ = sorted([*_PUBLIC, *_MODULES])


if not TYPE_CHECKING:  # to a type checker, a misspelt name is an error

    def __getattr__(name: str) -> Any:
        if name in _PUBLIC:
            return getattr(importlib.import_module(_PUBLIC[name]), name)
        if name in _MODULES:
            return importlib.import_module(f"{__name__}.{name}")
        raise AttributeError(f"module 'pci_bench' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])

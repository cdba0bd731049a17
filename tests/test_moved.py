"""Module paths of version 0.1, which the first users' scripts import."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path

import pytest

import pci_bench
from pci_bench.moved import MOVED


@pytest.mark.parametrize("old", sorted(MOVED))
def test_an_old_path_is_the_module_of_the_new_one(old):
    module = importlib.import_module(f"pci_bench.{old}")
    assert module is importlib.import_module(f"pci_bench.{MOVED[old]}")
    assert module.__spec__.name == module.__name__ == f"pci_bench.{MOVED[old]}"


def test_no_old_path_hides_a_module():
    root = Path(pci_bench.__file__).parent
    for old in MOVED:
        place = root.joinpath(*old.split("."))
        assert not place.with_suffix(".py").exists()
        assert not (place / "__init__.py").exists()


def test_an_old_path_that_there_never_was_is_not_found():
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("pci_bench.cell")


def test_what_the_documentation_of_version_0_1_named_is_still_there():
    from pci_bench.cells import Cells, Channel
    from pci_bench.comparison import compare
    from pci_bench.contracts import checked
    from pci_bench.datasets.base import load_dataset, register_dataset
    from pci_bench.evaluators.base import EvaluatorMeta, Outcome, Run, register_evaluator
    from pci_bench.extraction import extract
    from pci_bench.reporting.report import write_report
    from pci_bench.results import Result, read_results
    from pci_bench.runner import evaluate, run, run_again
    from pci_bench.segmentation.base import SegmenterMeta, register_segmenter

    from pci_bench.features import Extractor, ExtractorMeta, register_extractor, register_features
    from pci_bench.inpainting import PairedCellInpainting, load_keras_weights
    from pci_bench.statistics.neighbors import loo_neighbors
    from pci_bench.training.loop import train

    assert all(
        map(
            callable,
            (
                *(Cells, Channel, compare, checked, load_dataset, register_dataset, EvaluatorMeta, Outcome),
                *(register_evaluator, loo_neighbors, extract, ExtractorMeta, register_extractor, register_features),
                *(PairedCellInpainting, load_keras_weights, write_report, Result, read_results, evaluate, run),
                *(run_again, SegmenterMeta, register_segmenter, train, Run, Extractor),
            ),
        )
    )

"""Evaluators, one module each; every module of this folder that registers one is imported on the first look."""

from pci_bench.evaluators import knn
from pci_bench.evaluators.base import EVALUATORS, register_evaluator

__all__ = ["EVALUATORS", "knn", "register_evaluator"]

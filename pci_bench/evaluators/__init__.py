"""Evaluators, one module each; every module of this folder is imported, so a new evaluator is one new file."""

import importlib
import pkgutil

from pci_bench.api.evaluator import EVALUATORS, register_evaluator

__all__ = ["EVALUATORS", "register_evaluator"]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

"""Figures, one module for a kind of evaluator; every module of this folder is imported, so a new figure is one new file."""

import importlib
import pkgutil

from pci_bench.reporting.figures.base import FIGURES, draw, register_figures

__all__ = ["FIGURES", "draw", "register_figures"]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

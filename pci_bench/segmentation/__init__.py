"""Segmenters, one module each; every module of this folder is imported, so a new segmenter is one new file."""

import importlib
import pkgutil

from pci_bench.api.segmenter import DEFAULT_SEGMENTER, SEGMENTERS, register_segmenter

__all__ = ["DEFAULT_SEGMENTER", "SEGMENTERS", "register_segmenter"]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

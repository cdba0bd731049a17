"""Segmenters of whole fields, one module each; every module of this folder is imported, so a new one is one new file."""

import importlib
import pkgutil

from pci_bench.api.field_segmenter import FIELD_SEGMENTERS, register_field_segmenter

__all__ = ["FIELD_SEGMENTERS", "register_field_segmenter"]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

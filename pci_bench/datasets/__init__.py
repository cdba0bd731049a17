"""Datasets, one module each; every module of this folder is imported, so a new dataset is one new file."""

import importlib
import pkgutil

from pci_bench.api.dataset import DATASETS, load_dataset, register_dataset

__all__ = ["DATASETS", "load_dataset", "register_dataset"]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

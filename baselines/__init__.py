"""Feature sets to compare with, each one file; every module of this folder is imported, so a new one is one new file."""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

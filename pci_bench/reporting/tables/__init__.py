"""Tables: what the paper prints, filled from results, as Markdown, CSV and LaTeX; every module of this folder is imported."""

import importlib
import pkgutil

from pci_bench.reporting.tables.declaration import TABLES, TableDeclaration, register_table
from pci_bench.reporting.tables.fill import fill
from pci_bench.reporting.tables.render import render
from pci_bench.reporting.tables.table import FilledTable, Table

__all__ = ["TABLES", "FilledTable", "Table", "TableDeclaration", "fill", "register_table", "render"]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

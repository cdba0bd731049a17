"""A report: the results of an output folder as one HTML file that works offline."""

from pci_bench.reporting.html.page import write_report

__all__ = ["write_report"]

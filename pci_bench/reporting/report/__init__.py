"""A report: the results of an output folder as one HTML file that asks the network for nothing."""

from pci_bench.reporting.report.page import write_report

__all__ = ["write_report"]

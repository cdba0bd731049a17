"""The command ``pci-bench``: signals are heard before anything else is imported."""

from __future__ import annotations

from pci_bench.interruption import ended_on_signals


@ended_on_signals(whole_process=True)
def main() -> None:
    """Run the command line."""
    from pci_bench.cli import main as command_line

    command_line()

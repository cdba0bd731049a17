"""The command ``pci-bench``: signals are heard before anything else is imported."""

from __future__ import annotations

import sys

from pci_bench.system.interruption import ended_on_signals


@ended_on_signals(whole_process=True)
def main() -> None:
    """Run the command line."""
    try:
        from pci_bench.cli import main as command_line
    except Exception as error:  # too little memory for the libraries, or an installation that is not whole
        from pci_bench.system.shortages import refusal

        shortage = refusal(error)
        sentence = shortage or (
            f"pci-bench cannot be started: {type(error).__name__}: {error}. Install it again, or tell whoever maintains it here."
        )
        sys.stderr.write(f"Error: {sentence}\n")
        sys.exit(2 if shortage else 70)
    command_line()

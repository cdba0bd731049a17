"""``python -m pci_bench``: the command line."""

from pci_bench.cli import main

main()

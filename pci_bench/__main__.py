"""``python -m pci_bench``: the command line."""

from pci_bench.entry import main

main()

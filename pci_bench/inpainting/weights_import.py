"""``pci-bench weights import``: other people's files into our format."""

from __future__ import annotations

from pathlib import Path

from pci_bench import weights
from pci_bench.inpainting.keras_import import read_keras_weights


@weights.register_importer("keras-pci")
def import_keras_pci(file: Path, name: str) -> tuple[str, tuple[str, ...]]:
    """Import the authors' Keras HDF5 as the weights ``pci@name``; return that name and the channel roles.

    Raises
    ------
    UserError
        For a file that does not fit, or a name that is declared for another file.
    """
    config, state = read_keras_weights(file)
    channels = ("protein",) * config["proteins"] + ("marker",) * config["markers"]
    weights.check_declared_channels("pci", name, channels)
    source = weights.source_of("pci", name, file)
    weights.save("pci", name, state, channels=channels, config=config, source=source)
    return f"pci@{name}", channels

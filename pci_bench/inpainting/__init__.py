"""Paired cell inpainting (Lu et al. 2019): the network, its features, and the import of the published weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pci_bench.inpainting.keras_import import load_keras_weights
    from pci_bench.inpainting.network import PairedCellInpainting

__all__ = ["PairedCellInpainting", "load_keras_weights"]


def __getattr__(name: str) -> Any:
    if name == "PairedCellInpainting":
        from pci_bench.inpainting.network import PairedCellInpainting

        return PairedCellInpainting
    if name == "load_keras_weights":
        from pci_bench.inpainting.keras_import import load_keras_weights

        return load_keras_weights
    raise AttributeError(f"module 'pci_bench.inpainting' has no attribute '{name}'")

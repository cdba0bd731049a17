"""Plug-ins for pci-bench: a feature set, a trainable model with a loss of its own, an evaluator, a benchmark, a table and a figure."""

from rings import contrastive, ring_means, silhouette

__all__ = ["contrastive", "ring_means", "silhouette"]

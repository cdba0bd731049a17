"""Cellpose-SAM as a segmenter: optional, ``pip install 'pci-bench[cellpose]'``."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from pci_bench.api.segmenter import Segment, Segmenter, SegmenterMeta, each_crop, register_segmenter
from pci_bench.errors import UserError
from pci_bench.segmentation.split import with_bud_split

if TYPE_CHECKING:
    from pci_bench.data.cells import Channel

MODEL = "cpsam"  # named, because Cellpose's default model changes with its version


@register_segmenter("cellpose")
class Cellpose(Segmenter):
    """Cellpose 4 (model cpsam) on the first marker, then our choice of the middle cell and our split of its bud.

    Cellpose downloads its weights (1.2 GB) on first use to ``~/.cellpose/models``, or to where CELLPOSE_LOCAL_MODELS_PATH
    points. Written against Cellpose 4.2.1. Where this was written the published weights could not be fetched: the code ran with
    random weights, so how good its masks are has not been measured here.
    """

    meta = SegmenterMeta("cellpose", "1", "Cellpose-SAM on the marker, bud split at the neck")

    def unavailable_reason(self) -> str | None:
        """Return that Cellpose is missing, without importing it, or None."""
        return missing_cellpose()

    def open(self, channels: tuple[Channel, ...], device: str) -> Segment:
        """Return a function of crops that gives their masks.

        Raises
        ------
        UserError
            Where the weights are not there and cannot be downloaded.
        """
        labels_of = cellpose_labels(device)
        return each_crop(channels, lambda image: with_bud_split(labels_of(image)))


def missing_cellpose() -> str | None:
    """Return that Cellpose is missing and the command that installs it, without importing it, or None."""
    if importlib.util.find_spec("cellpose") is None:
        return "cellpose is not installed: pip install 'pci-bench[cellpose]'"
    return None


def cellpose_labels(device: str, **options: float) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function of an image (rows, columns) that gives Cellpose's labels (rows, columns) int; options are those of ``eval``.

    Raises
    ------
    UserError
        Where the weights are not there and cannot be downloaded.
    """
    import torch

    from pci_bench.system.timm_import import import_timm

    import_timm()  # which mends a torchvision of CUDA beside a torch without; Cellpose imports it too
    from cellpose import models

    try:  # in float32: the default, bfloat16, is slow on most CPUs and rounds the flows
        model = models.CellposeModel(device=torch.device(device), pretrained_model=MODEL, use_bfloat16=False)
    except OSError as error:  # a failed download is one
        raise UserError(
            f"The Cellpose model '{MODEL}' could not be loaded ({error}). Download https://huggingface.co/mouseland/cellpose-sam "
            f"(file {MODEL}) into {models.MODEL_DIR}."
        ) from error

    def labels_of(image: np.ndarray) -> np.ndarray:
        # A cell may fill its crop: by default Cellpose drops what is larger than 0.4 of the image.
        labels, _, _ = model.eval(image, max_size_fraction=1.0, **options)
        return np.asarray(labels).astype(int)

    return labels_of

"""StarDist as a segmenter: optional, ``pip install 'pci-bench[stardist]'``."""

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

MODEL = "2D_versatile_fluo"
PERCENTILES = (1, 99.8)  # the normalisation of the model's own examples


@register_segmenter("stardist")
class StarDist(Segmenter):
    """StarDist (model 2D_versatile_fluo, trained on nuclei) on the first marker, then our middle cell and bud.

    StarDist downloads its weights on first use to ``~/.keras/models/StarDist2D``; it runs on TensorFlow, which chooses its
    device itself. Written against StarDist 0.9.2's source and documentation. Where this was written, the weights could not
    be fetched: only its calling convention is tested, with a stand-in.
    """

    meta = SegmenterMeta("stardist", "1", "StarDist 2D_versatile_fluo on the marker, bud split at the neck")

    def unavailable_reason(self) -> str | None:
        """Return what is missing, without importing it, or None."""
        return missing_stardist()

    def open(self, channels: tuple[Channel, ...], device: str) -> Segment:
        """Return a function of crops that gives their masks.

        Raises
        ------
        UserError
            Where the weights are not there and cannot be downloaded.
        """
        labels_of = stardist_labels()
        return each_crop(channels, lambda image: with_bud_split(labels_of(image)))


def missing_stardist() -> str | None:
    """Return what is missing of StarDist and the command that installs it, without importing it, or None."""
    missing = [name for name in ("stardist", "tensorflow") if importlib.util.find_spec(name) is None]
    if missing:
        return f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed: pip install 'pci-bench[stardist]'"
    return None


def stardist_labels() -> Callable[[np.ndarray], np.ndarray]:
    """Return a function of an image (rows, columns) that gives StarDist's labels (rows, columns) int.

    Raises
    ------
    UserError
        Where the weights are not there and cannot be downloaded.
    """
    from csbdeep.utils import normalize
    from stardist.models import StarDist2D

    try:
        model = StarDist2D.from_pretrained(MODEL)
    except Exception as error:  # Keras raises a bare Exception where a download fails
        raise UserError(
            f"The StarDist model '{MODEL}' could not be loaded ({error}). Go online once, or copy ~/.keras/models/StarDist2D "
            "from a machine that has it."
        ) from error

    def labels_of(image: np.ndarray) -> np.ndarray:
        labels, _ = model.predict_instances(normalize(image, *PERCENTILES))
        return np.asarray(labels).astype(int)

    return labels_of

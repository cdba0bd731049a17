"""Segmenters: the base class of what finds the cell in the middle of a crop and its bud, and the registry."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from pci_bench.api.registry import Registry, instance_of

if TYPE_CHECKING:
    import numpy as np

    from pci_bench.data.cells import Channel

T = TypeVar("T", bound="Segmenter")

DEFAULT_SEGMENTER = "otsu-watershed"
MOTHER, BUD, OTHERS = 1, 2, 3

Segment: TypeAlias = "Callable[[np.ndarray], np.ndarray]"


@dataclass(frozen=True)
class SegmenterMeta:
    """What is known about a segmenter: its name, a version that changes whenever its masks do, and one line about it.

    Examples
    --------
    >>> SegmenterMeta("whole-crop", "1", "Every pixel is the cell's").name
    'whole-crop'
    """

    name: str
    version: str
    title: str


class Segmenter(ABC):
    """Finds the centre cell. Cheap to construct: heavy imports are in ``open``.

    Examples
    --------
    >>> import numpy as np
    >>> class WholeCrop(Segmenter):
    ...     meta = SegmenterMeta("whole-crop", "1", "Every pixel is the cell's")
    ...
    ...     def open(self, channels, device):
    ...         return lambda crops: np.ones((len(crops), *crops.shape[2:]), np.uint16)
    >>> WholeCrop().open((), "cpu")(np.zeros((2, 1, 4, 4), np.float32)).shape
    (2, 4, 4)
    """

    meta: SegmenterMeta

    def unavailable_reason(self) -> str | None:
        """Return why it cannot be run here and the command that fixes it, or None; by default it can."""
        return None

    @abstractmethod
    def open(self, channels: tuple[Channel, ...], device: str) -> Segment:
        """Return a function of crops (b, channels, rows, columns), rescaled to [0, 1], that gives masks (b, rows, columns) uint16.

        In a mask 0 is background, 1 the cell in the middle (its mother, where it has a bud), 2 its bud, and 3, 4 … are other
        cells. A crop in which nothing is found is 0 everywhere.
        """


SEGMENTERS: Registry[Segmenter] = Registry("segmenter")

FORMER_METHODS = {"unavailable_reason": "skip"}  # as version 0.1 called them


def register_segmenter(name: str) -> Callable[[type[T]], type[T]]:
    """Return a class decorator that registers a :class:`Segmenter`.

    Examples
    --------
    >>> @register_segmenter("brightest-half")
    ... class BrightestHalf(Segmenter):
    ...     meta = SegmenterMeta("brightest-half", "1", "Pixels above a half")
    ...
    ...     def open(self, channels, device):
    ...         return lambda crops: (crops.max(axis=1) > 0.5).astype(np.uint16)
    """
    return SEGMENTERS.class_decorator(name, lambda cls: instance_of(Segmenter, cls, FORMER_METHODS))


def each_crop(channels: tuple[Channel, ...], mask_of: Callable[[np.ndarray], np.ndarray]) -> Segment:
    """Return a segmenter of batches, from a function that gives the mask of one image (rows, columns) in float32.

    The image is the first marker, or the sum of all channels where there is no marker. A constant image gets an empty mask
    and is not shown to the function.
    """
    import numpy as np  # every command imports this module, and `--help` needs no arrays

    marker = next((i for i, channel in enumerate(channels) if channel.role == "marker"), None)

    def segment(crops: np.ndarray) -> np.ndarray:
        images = crops.sum(axis=1) if marker is None else crops[:, marker]
        masks = np.zeros(images.shape, np.uint16)
        for mask, image in zip(masks, images, strict=True):
            if image.min() < image.max():
                mask[:] = mask_of(image)
        return masks

    return segment

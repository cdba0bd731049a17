"""Segmenters of whole fields of view: the base class of what finds all cells or nuclei of a field, and the registry."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from pci_bench.api.params import validated_params
from pci_bench.api.registry import Registry, instance_of
from pci_bench.api.segmenter import SegmenterMeta

if TYPE_CHECKING:
    import pydantic

T = TypeVar("T", bound="FieldSegmenter")

SegmentField = Callable[[np.ndarray], np.ndarray]


class FieldSegmenter(ABC):
    """Finds the objects of a field of view. Cheap to construct: heavy imports are in ``open``.

    ``Params`` are the options that a layout may set under ``[segment]``: a frozen pydantic model that forbids others, each with a
    default and a description.

    Examples
    --------
    >>> import pydantic
    >>> class BrightParams(pydantic.BaseModel, extra="forbid", frozen=True):
    ...     above: float = pydantic.Field(0.5, description="of the largest value")
    >>> class Bright(FieldSegmenter):
    ...     meta = SegmenterMeta("bright", "1", "Connected pixels brighter than a share of the maximum")
    ...     Params = BrightParams
    ...
    ...     def open(self, params, device):
    ...         from skimage.measure import label
    ...
    ...         return lambda image: label(image > params.above * image.max()).astype(np.int32)
    >>> Bright().open(BrightParams(), "cpu")(np.eye(3, dtype=np.float32)).max()
    np.int32(1)
    """

    meta: SegmenterMeta
    Params: type[pydantic.BaseModel]

    def unavailable_reason(self) -> str | None:
        """Return why it cannot be run here and the command that fixes it, or None; by default it can."""
        return None

    @abstractmethod
    def open(self, params: Any, device: str) -> SegmentField:
        """Return a function of one channel of a field (rows, columns) float32 that gives labels (rows, columns) int32.

        Values are raw: integers divided by their type's maximum, or floats as the file has them. In the labels 0 is background,
        and 1 … n are the objects in reading order of their first pixels (:func:`in_reading_order`). Objects that are small or touch
        the border are left in, unless the method itself is known by leaving them out: the pipeline filters.
        """


FIELD_SEGMENTERS: Registry[FieldSegmenter] = Registry("field segmenter")


def register_field_segmenter(name: str) -> Callable[[type[T]], type[T]]:
    """Return a class decorator that registers a :class:`FieldSegmenter`.

    Examples
    --------
    >>> import pydantic
    >>> @register_field_segmenter("one-object")
    ... class OneObject(FieldSegmenter):
    ...     meta = SegmenterMeta("one-object", "1", "All pixels above 0 are one object")
    ...     Params = pydantic.create_model("Params", __config__={"extra": "forbid", "frozen": True})
    ...
    ...     def open(self, params, device):
    ...         return lambda image: (image > 0).astype(np.int32)
    """
    return FIELD_SEGMENTERS.class_decorator(name, lambda cls: instance_of(FieldSegmenter, cls))


def segmenter_params(segmenter: FieldSegmenter, values: Mapping[str, Any]) -> pydantic.BaseModel:
    """Return a segmenter's options, defaults filled in.

    Raises
    ------
    UserError
        Naming the option, what was given and what is expected.
    """
    return validated_params(segmenter.meta.name, segmenter.Params, values)


def each_field(labels_of: Callable[[np.ndarray], np.ndarray]) -> SegmentField:
    """Return a segmenter of fields, from a function of a channel that gives objects numbered in any way.

    A constant channel has no object and is not shown to the function.

    Examples
    --------
    >>> each_field(lambda image: 7 * (image > 0.5).astype(int))(np.eye(2, dtype=np.float32))
    array([[1, 0],
           [0, 1]], dtype=int32)
    """

    def segment(image: np.ndarray) -> np.ndarray:
        empty = image.min() == image.max()
        return in_reading_order(np.zeros(image.shape, int) if empty else labels_of(image))

    return segment


def in_reading_order(labels: np.ndarray) -> np.ndarray:
    """Return labels 1 … n without gaps, in the order in which their first pixels are read: row by row, from the left.

    Parameters
    ----------
    labels
        (rows, columns) of integers, 0 background.

    Returns
    -------
    np.ndarray
        (rows, columns) int32.

    Examples
    --------
    >>> in_reading_order(np.array([[0, 7, 7], [3, 0, 7]]))
    array([[0, 1, 1],
           [2, 0, 1]], dtype=int32)
    """
    values, first, places = np.unique(labels, return_index=True, return_inverse=True)
    numbers = np.zeros(len(values), np.int32)
    objects = np.flatnonzero(values != 0)
    numbers[objects[np.argsort(first[objects])]] = np.arange(1, len(objects) + 1)
    return numbers[places].reshape(labels.shape)

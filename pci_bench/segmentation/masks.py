"""Masks of the cells of a dataset: its own, or those of a segmenter."""

from __future__ import annotations

import hashlib

import numpy as np

from pci_bench.api.segmenter import DEFAULT_SEGMENTER, SEGMENTERS
from pci_bench.data.cells import Cells

CHUNK = 512  # crops that are segmented at once


def with_masks(cells: Cells, segmenter: str = DEFAULT_SEGMENTER) -> Cells:
    """Return the cells with masks: as they are where the dataset brings masks, else with those that a segmenter finds.

    The hash then says which segmenter made them. A crop in which it finds nothing has a mask of zeros.

    Examples
    --------
    >>> import pandas as pd
    >>> from pci_bench.data.cells import Channel, DatasetMeta
    >>> crops = np.zeros((1, 1, 32, 32), np.float32)
    >>> crops[0, 0, 8:24, 8:24] = 1
    >>> obs = pd.DataFrame({"cell": ["a"], "image": ["1"]})
    >>> cells = Cells(obs, (Channel("RFP", "marker"),), DatasetMeta("one", "1", "One cell"), "any text", crops)
    >>> int(with_masks(cells).crops([0], masks=True)[0, -1, 16, 16])
    1
    """
    if cells.has_masks:
        return cells
    version = SEGMENTERS.get(segmenter).meta.version
    masks = np.zeros((len(cells), *cells.crop_shape), np.uint16)
    with SEGMENTERS.code(segmenter, f"on cells of {cells.meta.name}", [segmenter]):
        segment = SEGMENTERS.get(segmenter).open(cells.channels, "cpu")
        for start in range(0, len(cells), CHUNK):
            chunk = slice(start, start + CHUNK)
            masks[chunk] = segment(cells.crops(chunk))
    sha256 = hashlib.sha256(f"{cells.sha256} {segmenter} {version}".encode()).hexdigest()
    return cells.with_masks(masks, sha256)

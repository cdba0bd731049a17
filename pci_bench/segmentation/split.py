"""Which region of a label image is the cell in the middle, and which one is its bud: pure functions of masks.

The rules are ours. They were chosen on yeast, and hold for any roundish cells.
"""

from __future__ import annotations

import numpy as np

from pci_bench.api.segmenter import BUD, MOTHER, OTHERS
from pci_bench.segmentation.outlines import hull_area, inside, reaches, roundness, widths

LARGEST_BUD = 0.65  # of the mother's area: a bud is smaller than its mother until they part
SMALLEST_BUD = 20  # pixels: less cannot be told from noise of the outline
ROUND = 0.6  # of the area of a disc as wide as the region is at most: less is a sliver, or a corner between cells
CONTACT = 0.6  # pairs of touching pixels over √area: less is no neck
CUT_OFF = 0.7  # of its width: a region that meets the crop's edge along more is too little in sight to know its size
OPENING = 0.65  # of the mother's inner radius: what a disc of this size cannot reach stands out
LOBE_DEPTH = 2.5  # pixels that a lobe must stand out
LOBE_SLENDERNESS = 0.45  # depth over the length of the base; the corner where two cells were cut apart is flatter


def centre_label(labels: np.ndarray) -> int:
    """Return the label of the region that holds the crop's centre, or of the one nearest to it; 0 where there is none."""
    rows, columns = np.nonzero(labels)
    if len(rows) == 0:
        return 0
    row, column = (np.array(labels.shape) - 1) / 2
    nearest = np.argmin((rows - row) ** 2 + (columns - column) ** 2)
    return int(labels[rows[nearest], columns[nearest]])


def contacts(labels: np.ndarray) -> np.ndarray:
    """Return how many pairs of neighbouring pixels any two regions share: (n + 1, n + 1), symmetric, label 0 left out."""
    shared = np.zeros((int(labels.max()) + 1,) * 2, int)
    for a, b in ((labels[:-1], labels[1:]), (labels[:, :-1], labels[:, 1:])):
        between = (a != b) & (a > 0) & (b > 0)
        np.add.at(shared, (a[between], b[between]), 1)
    return shared + shared.T


def mother_and_bud(labels: np.ndarray, own: int | None = None) -> np.ndarray:
    """Return the mask of a crop: 1 the cell in the middle, 2 its bud, 3, 4 … the other regions.

    The bud is the region with the longest contact to the middle cell (a gap of up to two pixels is contact) among those that
    have at most 0.65 of its area, are roundish, lie mostly inside the crop, and touch no other region along a longer line.

    Parameters
    ----------
    labels
        (rows, columns), 0 background and 1 … n, one label per region.
    own
        The middle cell's label, where it is known.

    Returns
    -------
    np.ndarray
        (rows, columns) uint16.
    """
    from scipy import ndimage

    centre = centre_label(labels) if own is None else own
    if centre == 0:
        return np.zeros(labels.shape, np.uint16)
    grown = np.where(labels > 0, labels, ndimage.grey_dilation(labels, size=(3, 3)))
    shared, reach = contacts(grown), reaches(labels)
    areas, outlines, wide = np.bincount(labels.ravel()), hull_area(reach), widths(reach)
    cut = np.bincount(_edge(labels), minlength=len(areas)) > 0
    sizes = np.where(cut, np.pi / 4 * wide.max(axis=1) ** 2, outlines)  # a disc, where a part is out of sight
    possible = (
        (areas >= SMALLEST_BUD)
        & (sizes <= LARGEST_BUD * outlines[centre])
        & (roundness(reach) >= ROUND)
        & (shared[centre] >= np.maximum(shared.max(axis=1), CONTACT * np.sqrt(areas)))
        & _mostly_shown(labels, wide)
    )
    possible[[0, centre]] = False
    bud = int(np.argmax(possible * shared[centre]))  # 0 where none is possible
    others = [label for label in np.flatnonzero(areas) if label not in (0, centre, bud)]
    numbers = np.zeros(len(areas), np.uint16)
    numbers[others] = np.arange(OTHERS, OTHERS + len(others))
    numbers[bud], numbers[centre], numbers[0] = BUD, MOTHER, 0
    renumbered: np.ndarray = numbers[labels]
    return renumbered


def lobe(mask: np.ndarray) -> np.ndarray:
    """Return the largest lobe that stands out of a cell, (rows, columns) bool; all False where there is none.

    The cell's body is what a disc of 0.65 of its inner radius can sweep, out to its convex outline. A lobe is what is left,
    where it is deep and slender enough and does not touch the crop's edge.
    """
    from scipy import ndimage

    if not mask.any():
        return mask
    depth = ndimage.distance_transform_edt(mask)
    radius = OPENING * depth.max()
    swept = mask & (ndimage.distance_transform_edt(depth < radius) <= radius + 0.5)
    body = mask & inside(reaches(swept.astype(int))[1], mask.shape, slack=0.5)
    pieces, count = ndimage.label(mask & ~body)
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)
    on_edge = np.bincount(_edge(pieces), minlength=count + 1)
    large = [k for k in range(1, count + 1) if sizes[k] >= SMALLEST_BUD and not on_edge[k]]
    if not large:
        return np.zeros(mask.shape, bool)
    from_body = ndimage.distance_transform_edt(~body)
    for piece in sorted(large, key=lambda k: -sizes[k]):
        candidate: np.ndarray = pieces == piece
        base = (ndimage.binary_dilation(candidate) & body).sum()
        if from_body[candidate].max() >= max(LOBE_DEPTH, LOBE_SLENDERNESS * base):
            return candidate
    return np.zeros(mask.shape, bool)


def cut_off(labels: np.ndarray, body: np.ndarray, bud: np.ndarray) -> np.ndarray:
    """Return the regions, where what is nearer the bud than the body of the middle cell has the next free label."""
    from scipy import ndimage

    nearest = ndimage.distance_transform_edt(~(body | bud), return_distances=False, return_indices=True)
    return np.where((labels == centre_label(labels)) & bud[tuple(nearest)], labels.max() + 1, labels)


def with_bud_split(labels: np.ndarray) -> np.ndarray:
    """Return the mask of a crop (see :func:`mother_and_bud`) whose middle cell may be a mother and bud in one region."""
    cell = (labels > 0) & (labels == centre_label(labels))
    bud = lobe(cell)
    return mother_and_bud(cut_off(labels, cell & ~bud, bud) if bud.any() else labels)


def _mostly_shown(labels: np.ndarray, wide: np.ndarray) -> np.ndarray:
    """Return of each region (n + 1,) bool whether it is clearly wider inside the crop than along each of its edges."""
    across, down = wide[:, 0], wide[:, wide.shape[1] // 2]
    cuts = [np.bincount(line, minlength=len(wide)) for line in (labels[0], labels[-1], labels[:, 0], labels[:, -1])]
    return (np.maximum(cuts[0], cuts[1]) <= CUT_OFF * across) & (np.maximum(cuts[2], cuts[3]) <= CUT_OFF * down)


def _edge(labels: np.ndarray) -> np.ndarray:
    """Return the labels along the crop's edge."""
    return np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])

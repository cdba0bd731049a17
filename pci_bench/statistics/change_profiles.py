"""Which proteins changed between two screens, given what changes in all that look like them. Pure functions of arrays."""

from __future__ import annotations

import numpy as np

from pci_bench.errors import UserError

NORMAL = (
    0.6745  # median absolute deviation of a standard normal: scores are z where the neighbours' differences are normal
)


def change_profiles(reference: np.ndarray, condition: np.ndarray, neighbours: int = 50) -> np.ndarray:
    """Return how far each protein's difference of two screens departs from those of proteins that look alike in the reference.

    For every feature it is 0.6745 × (difference − median) / MAD, with the median and the median absolute deviation of the
    differences of the protein's nearest neighbours in the reference, by Euclidean distance, never itself: the protein change profiles
    of Lu et al. 2018 (doi 10.7554/eLife.31872). So an effect that a treatment has on all proteins of a localization cancels.

    Parameters
    ----------
    reference, condition
        (n, d) each, finite: the same proteins in the same order, in the two screens.
    neighbours
        How many, from 1 to n − 1.

    Returns
    -------
    ndarray
        (n, d) float64. As published, the difference is reference minus condition: positive where the reference's value is the larger
        one. NaN where the neighbours' differences have no spread.

    Raises
    ------
    UserError
        For NaN or infinite values, screens of other shapes, or too many neighbours.

    Notes
    -----
    Of the published scores of 3,893 proteins with rapamycin 3,890 are found again to 1e-3, and 3,764 of 3,765 with alpha factor.
    In the other four rows the 50th and the 51st neighbour are equally far to 1e-5 of their distance, which the authors computed in
    float32 as ‖a‖² + ‖b‖² − 2 a·b; there they took the 51st for the 50th. Here distances are exact.

    Examples
    --------
    >>> import numpy as np
    >>> reference = np.arange(5.0)[:, None]
    >>> condition = reference + np.array([[1.0], [2.0], [9.0], [4.0], [6.0]])
    >>> change_profiles(reference, condition, neighbours=4).ravel().round(2).tolist()
    [1.35, 0.81, -2.7, 0.0, -1.35]
    """
    from pci_bench.statistics.neighbors import loo_neighbors

    if reference.shape != condition.shape:
        raise UserError(
            f"The screens have the shapes {reference.shape} and {condition.shape}; their rows must be the same proteins."
        )
    difference = np.asarray(reference, np.float64) - np.asarray(condition, np.float64)
    nearest, _ = loo_neighbors(reference, neighbours)
    scores = np.empty_like(difference)
    for start in range(0, len(scores), 256):
        rows = slice(start, start + 256)
        of_neighbours = difference[nearest[rows]]  # (rows, neighbours, d)
        medians = np.median(of_neighbours, axis=1)
        spreads = np.median(np.abs(of_neighbours - medians[:, None]), axis=1)
        scores[rows] = np.where(
            spreads > 0, NORMAL * (difference[rows] - medians) / np.where(spreads > 0, spreads, 1), np.nan
        )
    return scores


def change_scores(profiles: np.ndarray) -> np.ndarray:
    """Return one number for each protein's change: the root mean square of its scores, of those that are defined; 0 without any.

    (n, d) -> (n,) float64.

    >>> import numpy as np
    >>> change_scores(np.array([[3.0, -4.0], [np.nan, 2.0], [np.nan, np.nan]])).round(3).tolist()
    [3.536, 2.0, 0.0]
    """
    defined = np.isfinite(profiles)
    squares = np.where(defined, profiles, 0) ** 2
    scores: np.ndarray = np.sqrt(squares.sum(axis=1) / np.maximum(defined.sum(axis=1), 1))
    return scores

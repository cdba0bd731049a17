"""Features as evaluators compare them: standardised, unless they were post-processed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pci_bench.data.provenance import Provenance
from pci_bench.statistics.scaling import standardized

if TYPE_CHECKING:
    from anndata import AnnData


def comparable(adata: AnnData, values: np.ndarray, reference: np.ndarray | None = None) -> np.ndarray:
    """Return values that were made of an AnnData's features, (n, d) float64, as they are compared.

    They are standardised; where the features were post-processed, which standardising would undo, they are as they are.

    Parameters
    ----------
    adata
        Says whether they were.
    values
        (n, d).
    reference
        (m, d) whose means and SDs are taken; those of the values by default.
    """
    if Provenance.of(adata).features.postprocess:
        return np.asarray(values, np.float64)
    return standardized(values, reference)

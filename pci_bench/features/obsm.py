"""Matrices that an AnnData carries in ``obsm``, as features of their own."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from pci_bench.data.cells import as_float32
from pci_bench.data.provenance import FeaturesProvenance, Provenance
from pci_bench.errors import UserError
from pci_bench.statistics.scaling import all_finite

if TYPE_CHECKING:
    from anndata import AnnData


def from_obsm(adata: AnnData, key: str) -> AnnData:
    """Return a matrix of ``obsm`` as features (n, d) float32 of the same cells, named by its key.

    Parameters
    ----------
    adata
        Cells in rows.
    key
        ``"X_pca"``, ``"X_scVI"``: a dense or sparse matrix, or a data frame of numbers.

    Raises
    ------
    UserError
        Where there is no such matrix, or it holds anything but finite numbers.

    Examples
    --------
    >>> import anndata
    >>> adata = anndata.AnnData(np.zeros((3, 5), np.float32), obsm={"X_pca": np.eye(3)})
    >>> features = from_obsm(adata, "X_pca")
    >>> features.shape, list(features.var_names), Provenance.of(features).features.name
    ((3, 3), ['X_pca_0', 'X_pca_1', 'X_pca_2'], 'X_pca')
    """
    import pandas as pd
    from anndata import AnnData

    if key not in adata.obsm:
        held = ", ".join(adata.obsm) or "nothing"
        raise UserError(f"There is no '{key}' in obsm, which holds {held}. Name one of its matrices.")
    matrix: Any = adata.obsm[key]
    names = [f"{key}_{i}" for i in range(matrix.shape[1])]
    if isinstance(matrix, pd.DataFrame):
        names = [str(column) for column in matrix.columns]
    dense = matrix.toarray() if hasattr(matrix, "toarray") else np.asarray(matrix)
    if dense.ndim != 2 or dense.dtype.kind not in "biuf":
        raise UserError(
            f"obsm['{key}'] is an array of {dense.dtype} with the shape {dense.shape}; expected numbers, a row for each cell."
        )
    values = as_float32(dense, f"obsm['{key}']")
    if not all_finite(values):
        row, column = np.argwhere(~np.isfinite(values))[0]
        raise UserError(
            f"obsm['{key}'] holds NaN or infinite values, first for cell '{adata.obs_names[row]}' in '{names[column]}'. "
            "Leave out such cells or columns."
        )
    features = AnnData(values, obs=adata.obs.copy(), var=pd.DataFrame(index=pd.Index(names, dtype=object)))
    if isinstance(known := adata.uns.get("pci_bench"), Mapping):
        features.uns["pci_bench"] = dict(known)
    digest = hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()
    origin = FeaturesProvenance(key, weights_sha256=digest, title=f"obsm['{key}']", precision="float32")
    return Provenance(Provenance.of(features).dataset, origin, key=digest[:20]).attach(features)

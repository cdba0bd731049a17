"""Shards: features of a dataset computed by several jobs that know nothing of each other, and joined when all are there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pci_bench.data.provenance import Provenance
from pci_bench.errors import UserError
from pci_bench.features.files import read_features
from pci_bench.system.text import enumerated

if TYPE_CHECKING:
    from anndata import AnnData

    from pci_bench.data.cells import Cells

KEY = "pci_bench_shard"  # of AnnData.uns


@dataclass(frozen=True)
class Shard:
    """One of several shares of a dataset's cells, in the dataset's order.

    Parameters
    ----------
    number, of
        Which of how many, from 1.

    Examples
    --------
    >>> Shard.parse("2/3").rows(10)
    slice(3, 6, None)
    """

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Return the shard of a text like ``2/8``.

        Raises
        ------
        UserError
            For any other text, and for numbers that no shard has.
        """
        match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip())
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise UserError(f"--shard {text} is not NUMBER/ALL. Write for example --shard 1/8 to --shard 8/8.")
        return cls(int(match[1]), int(match[2]))

    def rows(self, n: int) -> slice:
        """Return its share of n cells; shares differ by one cell at most."""
        return slice((self.number - 1) * n // self.of, self.number * n // self.of)

    def cells(self, cells: Cells) -> Cells:
        """Return its share of some cells.

        Raises
        ------
        UserError
            Where there are fewer cells than shards.
        """
        if len(cells) < self.of:
            raise UserError(
                f"{cells.meta.name} has {len(cells):,} cells, which cannot be shared out to {self.of:,} shards."
            )
        return cells[self.rows(len(cells))]

    def attach(self, adata: AnnData, cells: Cells) -> AnnData:
        """Return `adata`, which now says of which of these cells it is."""
        adata.uns[KEY] = {"number": self.number, "of": self.of, "n_cells": len(cells), "sha256": cells.sha256}
        return adata


def joined(files: Sequence[Path]) -> AnnData:
    """Return the features of all cells from the files of all shards, named in any order.

    They are what one job would have computed, row by row.

    Raises
    ------
    UserError
        Where a file is no shard, or of other features or cells than the first, or a shard is missing or there twice.
    """
    import anndata

    parts: dict[int, tuple[Path, AnnData]] = {}
    first: tuple[Path, AnnData] | None = None
    for file in files:
        adata = read_features(file)
        said = adata.uns.pop(KEY, None)
        if not isinstance(said, dict) or not {"number", "of", "n_cells", "sha256"} <= set(said):
            raise UserError(f"{file} is no shard. `pci-bench extract … --shard 1/8 --out F.h5ad` writes one.")
        adata.uns["whole"] = (int(said["of"]), int(said["n_cells"]), str(said["sha256"]))
        if first is None:
            first = file, adata
        elif difference := _difference(first[1], adata):
            raise UserError(f"{file} does not belong to {first[0]}: {difference}. Join shards of one extraction.")
        number = int(said["number"])
        if number in parts:
            raise UserError(f"{file} and {parts[number][0]} are both shard {number}. Name each shard once.")
        parts[number] = file, adata
    if first is None:
        raise UserError("No shard was named. Give the files of all shards.")
    of, n_cells, sha256 = first[1].uns["whole"]
    if missing := [number for number in range(1, of + 1) if number not in parts]:
        which = f"{'shards' if len(missing) > 1 else 'shard'} {enumerated([str(n) for n in missing[:8]])}"
        raise UserError(
            f"{len(missing):,} of {of:,} shards are missing: {which}. Run `pci-bench extract … --shard {missing[0]}/{of}` for each."
        )
    together = anndata.concat([parts[number][1] for number in sorted(parts)], merge="same")
    if together.n_obs != n_cells:
        raise UserError(
            f"The shards hold {together.n_obs:,} cells, and the dataset {n_cells:,}. One of the files was changed; make it again."
        )
    together.X = np.ascontiguousarray(together.X, np.float32)
    origin = Provenance.of(first[1])
    return replace(origin, dataset=replace(origin.dataset, sha256=sha256), key="").attach(together)


def _difference(one: AnnData, other: AnnData) -> str:
    """Return in what two shards differ that those of one extraction have in common, or ""."""
    a, b = Provenance.of(one), Provenance.of(other)
    if a.features != b.features:
        return (
            f"it holds {b.features.name}, and that {a.features.name}"
            if a.features.name != b.features.name
            else "it was computed by other weights or another version"
        )
    if a.dataset.name != b.dataset.name or one.uns["whole"] != other.uns["whole"]:
        return f"it is a share of other cells, or one of {other.uns['whole'][0]:,} shards and not of {one.uns['whole'][0]:,}"
    return "" if list(one.var_names) == list(other.var_names) else "it has other columns"

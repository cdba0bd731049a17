"""``profiles``: the measurements that a dataset brings in place of crops."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pci_bench.api.extractor import ExtractorMeta, Precomputed, register_extractor

if TYPE_CHECKING:
    import numpy as np

    from pci_bench.data.cells import Cells


@register_extractor("profiles")
class MeasuredProfiles(Precomputed):
    """Measurements of wells, treatments or proteins, as the dataset's authors published them or a user brings them.

    A dataset has either these or crops. It stores them with
    :meth:`StoreWriter.write_profiles <pci_bench.data.store.StoreWriter.write_profiles>`.
    """

    meta = ExtractorMeta("profiles", "1", "Measurements that the dataset brings", roles=())

    def unavailable_reason(self, cells: Cells) -> str | None:
        """Return that the cells have crops to measure, or None."""
        return f"{cells.meta.name} has crops and brings no measurements" if cells.has_crops else None

    def load(self, cells: Cells) -> tuple[np.ndarray, list[str]]:
        """Return the measurements of the cells in their order (n, d), and the columns' names."""
        values, names = cells.profiles()
        return values, list(names)

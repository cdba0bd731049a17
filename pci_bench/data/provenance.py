"""Where features come from: the dataset and the computation, carried by every AnnData."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from anndata import AnnData

    from pci_bench.data.cells import DatasetMeta

KEY = "pci_bench"  # of AnnData.uns

T = TypeVar("T", "DatasetProvenance", "FeaturesProvenance")


@dataclass(frozen=True)
class DatasetProvenance:
    """Which cells were measured: name, version and content hash, and what evaluators need to know of the dataset.

    Parameters
    ----------
    name, version, sha256
        As in :class:`pci_bench.data.cells.Cells`; empty where unknown.
    confounder
        The obs column that groups cells that look alike for other reasons than their label, or empty.
    label
        What the labels are: ``"localization"``.
    merged
        Classes of other vocabularies, and the class of this dataset that each is part of.
    ontology
        Where its ontology and annotations lie, ``"package:stem"`` or the name of a source, or empty.
    levels
        The obs columns by which a comparison is made stricter, the loosest first, as the dataset declares them.
    """

    name: str = ""
    version: str = ""
    sha256: str = ""
    confounder: str = ""
    label: str = ""
    merged: dict[str, str] = field(default_factory=dict)
    ontology: str = ""
    levels: tuple[str, ...] = ()

    @property
    def display_name(self) -> str:
        """The name, for sentences; ``"the table"`` where there is none."""
        return self.name or "the table"

    @classmethod
    def of(cls, meta: DatasetMeta, sha256: str = "") -> DatasetProvenance:
        """Return what is known of a dataset."""
        merged, levels = dict(meta.merged), meta.levels
        return cls(meta.name, meta.version, sha256, meta.confounder or "", meta.label, merged, meta.ontology, levels)


@dataclass(frozen=True)
class FeaturesProvenance:
    """How features were computed.

    Parameters
    ----------
    name, version, title
        Of the feature set, without weights.
    weights, weights_family, weights_sha256
        The weights' name, what kind of network they are of, and their file's hash; empty where there are none.
    precision
        ``"float32"``.
    missing
        Whether NaN stands for what is not defined for a cell.
    masks
        The segmenter whose masks were measured with, ``"of the dataset"``, or empty.
    trained_on
        What labels the network learned from: dataset and split; empty where it learned none.
    postprocess
        What was done to them before they are evaluated (``"pca64"``): no evaluator standardises them then. Empty for nothing.
    """

    name: str = ""
    weights: str = ""
    version: str = ""
    weights_sha256: str = ""
    weights_family: str = ""
    title: str = ""
    precision: str = ""
    missing: bool = False
    masks: str = ""
    trained_on: dict[str, str] = field(default_factory=dict)
    postprocess: str = ""


@dataclass(frozen=True)
class Provenance:
    """What is known of the origin of features.

    Examples
    --------
    >>> import numpy as np
    >>> from anndata import AnnData
    >>> adata = AnnData(np.zeros((2, 1), np.float32))
    >>> Provenance.of(adata).dataset.name
    ''
    >>> origin = Provenance(DatasetProvenance("mine", confounder="plate"))
    >>> Provenance.of(origin.attach(adata)) == origin
    True
    """

    dataset: DatasetProvenance = DatasetProvenance()
    features: FeaturesProvenance = FeaturesProvenance()
    device: str = ""
    key: str = ""

    @classmethod
    def of(cls, adata: AnnData) -> Provenance:
        """Return the provenance that an AnnData carries; unknown parts are empty."""
        known = adata.uns.get(KEY, {})
        return cls(
            _read(DatasetProvenance, known.get("dataset", {})),
            _read(FeaturesProvenance, known.get("features", {})),
            str(known.get("device", "")),
            str(known.get("key", "")),
        )

    def attach(self, adata: AnnData) -> AnnData:
        """Return `adata`, which now carries this provenance (``uns["pci_bench"]``, plain data)."""
        features = {
            k: v for k, v in asdict(self.features).items() if v or k not in ("masks", "trained_on", "postprocess")
        }
        dataset = {**asdict(self.dataset), "levels": ",".join(self.dataset.levels)}  # a text, which any file holds
        adata.uns[KEY] = {"dataset": dataset, "features": features, "device": self.device, "key": self.key}
        return adata

    def with_features(self, **changes: Any) -> Provenance:
        """Return a copy with other facts of the features."""
        return replace(self, features=replace(self.features, **changes))


def check_provenance(adata: AnnData) -> None:
    """Raise ValueError where what an AnnData that was read from a file says of its origin is not as :meth:`Provenance.attach` writes it."""
    import numpy as np

    known = adata.uns.get(KEY, {})
    if not isinstance(known, Mapping):
        raise ValueError(f"uns['{KEY}'] is a {type(known).__name__}, not a group")
    for part in ("dataset", "features"):
        if not isinstance(known.get(part, {}), Mapping):
            raise ValueError(f"uns['{KEY}']['{part}'] is a {type(known[part]).__name__}, not a group")
        for name, value in known.get(part, {}).items():
            if np.ndim(value) and name not in ("trained_on", "classes"):
                raise ValueError(f"uns['{KEY}']['{part}']['{name}'] is an array; expected one value")


def _read(kind: type[T], values: Mapping[str, Any]) -> T:
    """Return a part of a provenance from what an AnnData or an ``.h5ad`` holds, with plain types."""
    read: dict[str, Any] = {}
    for attribute in fields(kind):
        if attribute.name not in values:
            continue
        value = values[attribute.name]
        if attribute.name in ("merged", "trained_on"):
            read[attribute.name] = {str(k): str(v) for k, v in dict(value).items()}
        elif attribute.name == "levels":
            read[attribute.name] = tuple(filter(None, str(value).split(",")))
        else:
            read[attribute.name] = bool(value) if attribute.name == "missing" else str(value)
    return kind(**read)

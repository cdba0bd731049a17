"""Contract tests for anyone's feature sets, datasets, evaluators, models and segmenters, of crops and of fields: ``pci-bench test NAME``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from pci_bench.api.dataset import DATASETS, load_dataset
from pci_bench.api.evaluator import EVALUATORS
from pci_bench.api.extractor import EXTRACTORS, Precomputed
from pci_bench.api.field_segmenter import FIELD_SEGMENTERS
from pci_bench.api.model import MODELS
from pci_bench.api.registry import Registry
from pci_bench.conformance.base import Finding
from pci_bench.conformance.datasets import check_dataset
from pci_bench.conformance.evaluators import check_evaluator
from pci_bench.conformance.features import check_features
from pci_bench.conformance.field_segmenters import check_field_segmenter
from pci_bench.conformance.models import check_model
from pci_bench.conformance.read_features import check_read_features
from pci_bench.conformance.segmenters import check_segmenter
from pci_bench.errors import UserError
from pci_bench.features.names import FeatureSet, groups, known_feature_sets, select
from pci_bench.segmentation import SEGMENTERS
from pci_bench.system.files import cache_folder, make_folder
from pci_bench.system.threads import available_cores, set_threads

__all__ = [
    "Finding",
    "check_dataset",
    "check_evaluator",
    "check_features",
    "check_field_segmenter",
    "check_model",
    "check_read_features",
    "check_segmenter",
    "checked",
]

KINDS = ("features", "dataset", "evaluator", "model", "segmenter", "field-segmenter")

Check = Callable[[], Iterator[Finding]]


def checked(name: str, *, dataset: str | None = None, full: bool = False, device: str = "cpu") -> Iterator[Finding]:
    """Yield a finding for every contract of whatever has a name.

    Parameters
    ----------
    name
        A feature set (family, one output, with weights or argument, group or pattern), dataset, evaluator, model or segmenter;
        ``features:NAME``, ``dataset:NAME``, ``evaluator:NAME``, ``model:NAME``, ``segmenter:NAME`` or
        ``field-segmenter:NAME`` for one kind where two share a name.
    dataset
        For features that are read (``file:PATH``): whose cells to read them for.
    full
        Whether datasets of more than 5,000 cells are built too.
    device
        ``"cpu"`` or ``"cuda"``, for extractors and segmenters.

    Raises
    ------
    UserError
        For a name that nothing has, with the nearest known ones.
    """
    checks = _checks(name, dataset, full, device)
    make_folder(cache_folder())
    set_threads(available_cores())
    for check in checks:
        yield from check()


def _checks(name: str, dataset: str | None, full: bool, device: str) -> list[Check]:
    """Return the checks that a name stands for."""
    kind, colon, rest = name.partition(":")
    kinds = [kind] if colon and kind in KINDS else []
    wanted = rest if kinds else name
    checks: list[Check] = []
    if kinds in ([], ["dataset"]) and wanted in DATASETS:
        checks.append(partial(check_dataset, wanted, full=full))
    if kinds in ([], ["evaluator"]) and wanted in EVALUATORS:
        checks.append(partial(check_evaluator, wanted))
    if kinds in ([], ["model"]) and wanted in MODELS:
        checks.append(partial(check_model, wanted))
    if kinds in ([], ["segmenter"]) and wanted in SEGMENTERS:
        checks.append(partial(check_segmenter, wanted, device=device))
    if kinds in ([], ["field-segmenter"]) and wanted in FIELD_SEGMENTERS:
        checks.append(partial(check_field_segmenter, wanted, device=device))
    if kinds == ["features"] or (not kinds and (not checks or _names_features(wanted))):
        cells = None if dataset is None else load_dataset(dataset)
        for feature_sets in _passes(wanted):
            if isinstance(feature_sets[0].extractor(), Precomputed):
                checks.append(partial(check_read_features, feature_sets[0], cells))
            else:
                checks.append(partial(check_features, feature_sets, device=device))
    if not checks:
        registries: dict[str, Registry[Any]] = {
            "dataset": DATASETS,
            "evaluator": EVALUATORS,
            "model": MODELS,
            "segmenter": SEGMENTERS,
            "field-segmenter": FIELD_SEGMENTERS,
        }
        raise UserError(registries[kinds[0]].unknown(wanted))
    return checks


def _names_features(name: str) -> bool:
    """Return whether a name is also that of feature sets."""
    return name in known_feature_sets() or name in groups()


def _passes(name: str) -> list[list[FeatureSet]]:
    """Return the feature sets of a name, those of one extractor and one set of weights together.

    Raises
    ------
    UserError
        For a name that nothing has; the suggestions are of all kinds that have contracts.
    """
    try:
        selected = select([name])
    except UserError as error:
        base, colon, _ = name.partition(":")
        if name.partition("@")[0] in (*known_feature_sets(), *groups()) or (colon and base in EXTRACTORS.prefixes()):
            raise
        also = [*known_feature_sets(), *groups(), *DATASETS, *EVALUATORS, *MODELS, *SEGMENTERS, *FIELD_SEGMENTERS]
        raise UserError(
            EXTRACTORS.unknown(
                name, also=also, nothing="no feature set, dataset, evaluator, model or segmenter", listed=""
            )
        ) from error
    passes: dict[tuple[str, str | None], list[FeatureSet]] = {}
    for feature_set in selected:
        passes.setdefault((feature_set.extractor_name, feature_set.weights), []).append(feature_set)
    return list(passes.values())

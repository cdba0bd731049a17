"""The order of a table's rows as an answer: which column is the strictest, and which rows compete in it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from pci_bench.api.extractor import EXTRACTORS
from pci_bench.api.model import MODELS
from pci_bench.errors import UserError
from pci_bench.features.names import known_feature_sets
from pci_bench.reporting.candidates import Candidates

if TYPE_CHECKING:
    from pci_bench.reporting.tables.fill import Entry, Row


class Kind(StrEnum):
    """What a row of a table stands for; only features compete."""

    features = "features"
    supervised = "learned labels: upper bound"
    true_masks = "on a simulation's masks"
    control = "controls"
    chance = "chance"


def kind_of(row: str) -> Kind:
    """Return what a row stands for, by its feature set's name.

    Examples
    --------
    >>> [kind_of(row).name for row in ("pci-conv4@yeast-sim", "noise", "pci-random-conv1 (3 seeds)", "deeploc-fc2@yeast-sim")]
    ['features', 'control', 'control', 'supervised']
    """
    if row.startswith("chance ("):
        return Kind.chance
    name = re.sub(r" \(\d+ seeds\)$|, cells not trained on$", "", row).partition("@")[0]
    feature_set = known_feature_sets().get(name)
    try:
        meta = (feature_set.extractor() if feature_set else EXTRACTORS.get(name)).meta
    except UserError:  # of a plug-in that is not loaded, or a file's
        return Kind.features
    if CONTROL_GROUPS & set(meta.groups):
        return Kind.control
    if meta.weights is not None and meta.weights in MODELS and MODELS.get(meta.weights).meta.supervised:
        return Kind.supervised
    return Kind.true_masks if meta.simulated_masks else Kind.features


CONTROL_GROUPS = {"controls", "context-controls"}
MARKS = {Kind.supervised: "learned labels", Kind.true_masks: "simulation's masks", Kind.control: "control"}


def mark_of(features: str) -> str:
    """Return what is written beside a feature set that does not compete with others, by its name; "" for one that does.

    Examples
    --------
    >>> mark_of("noise"), mark_of("deeploc-fc2@yeast-sim"), mark_of("pci-conv4@yeast-sim")
    ('control', 'learned labels', '')
    """
    return MARKS.get(kind_of(features), "")


def strictest(headers: Sequence[tuple[str, Candidates]], params: Sequence[dict[str, Any]], k: int | None) -> int:
    """Return the index of the column that is to be believed first.

    It is the last of the strictest exclusions, with the number of neighbours that is the evaluator's default; the first where
    that decides nothing, as in tables that name the exclusion of every column, the strictest first.

    Parameters
    ----------
    headers
        Every column's header and candidates.
    params
        Every column's parameters.
    k
        The default number of neighbours.
    """
    excludes = list(dict.fromkeys(candidates for _, candidates in headers))
    wanted = max(excludes, key=lambda c: (c.strictness, excludes.index(c)))
    of_it = [i for i, (_, candidates) in enumerate(headers) if candidates == wanted]
    return next((i for i in of_it if k is not None and params[i].get("k") == k), of_it[0])


def ranked(rows: Sequence[Row], column: int, *, higher_is_better: bool) -> dict[Kind, list[Row]]:
    """Return rows that hold numbers by kind, each kind's best first in a column; rows without a number in it are its last."""

    def key(row: Row) -> tuple[bool, float]:
        entry: Entry | str | None = row[1][column]
        if entry is None or isinstance(entry, str):
            return True, 0.0
        return False, -entry.value if higher_is_better else entry.value

    with_numbers = [row for row in rows if not isinstance(row[1], str) and any(row[1])]
    by_kind: dict[Kind, list[Row]] = {kind: [] for kind in Kind}
    for row in sorted(with_numbers, key=key):
        by_kind[kind_of(row[0])].append(row)
    return {kind: of_kind for kind, of_kind in by_kind.items() if of_kind}

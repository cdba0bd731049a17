"""What a quality-control page shows of fields of view that were cut: groups, a choice of fields, counts, and outlines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count as counting
from typing import TYPE_CHECKING

import numpy as np

from pci_bench.acquisition.cutting import BORDER, EDGE, FEW, HIDDEN, LARGE, LAST, SMALL
from pci_bench.api.registry import natural_key
from pci_bench.data.observations import obs_strings

if TYPE_CHECKING:
    import pandas as pd

    from pci_bench.acquisition.prepare import Joined

KEPT = "kept"
OUTCOMES = (KEPT, BORDER, SMALL, LARGE, EDGE, LAST, FEW, HIDDEN)  # of an object
UNKNOWN = "not known"
MAX_GROUPS = 60
ONE_PER_FIELD = ("field", "image", "cell")  # columns that group no fields
SHARE_OF_WORST = 1 / 3  # of the chosen fields, those with the most dropped objects


@dataclass(frozen=True)
class Groups:
    """The groups of fields that a page compares: plates, or what else confounds.

    Parameters
    ----------
    column
        The obs column that they come from; None where all fields are one group.
    names
        In natural order.
    of_field
        The group of each field.
    """

    column: str | None
    names: tuple[str, ...]
    of_field: Mapping[str, str]


def groups_of(joined: Joined, columns: Sequence[str | None]) -> Groups:
    """Return the groups of the first of some columns that the fields have; all together where they have none.

    From the sixtieth group on, the others are one.
    """
    fields = joined.per_field["field"].tolist()
    for column in columns:
        if column is None or column in ONE_PER_FIELD:
            continue
        values = _of_fields(joined, column)
        if not any(values.values()):
            continue
        named = {field: values.get(field) or UNKNOWN for field in fields}
        names = sorted(set(named.values()), key=natural_key)
        if len(names) > MAX_GROUPS:
            rest = f"{len(names) - MAX_GROUPS + 1:,} others"
            shown = set(names[: MAX_GROUPS - 1])
            named = {field: name if name in shown else rest for field, name in named.items()}
            names = [*names[: MAX_GROUPS - 1], rest]
        return Groups(column, tuple(names), named)
    return Groups(None, ("all fields",), dict.fromkeys(fields, "all fields"))


def _of_fields(joined: Joined, column: str) -> dict[str, str]:
    """Return the value of a column of each field: of its name, or of the labels that were joined to its cells."""
    for table in (joined.per_field, joined.obs):
        if column in table and "field" in table:
            first = table.drop_duplicates("field")
            return dict(zip(first["field"].astype(str), obs_strings(first, column).tolist(), strict=True))
    return {}


def outcomes_of(joined: Joined, groups: Groups) -> dict[str, list[int]]:
    """Return how many objects of each group have each outcome that occurs: lists in the order of the groups' names."""
    group = joined.objects["field"].map(groups.of_field).to_numpy()
    reason = joined.objects["reason"].to_numpy()
    counts = {
        outcome: [
            int(((group == name) & (reason == ("" if outcome == KEPT else outcome))).sum()) for name in groups.names
        ]
        for outcome in OUTCOMES
    }
    return {outcome: numbers for outcome, numbers in counts.items() if outcome == KEPT or any(numbers)}


def chosen_fields(per_field: pd.DataFrame, groups: Groups, most: int) -> tuple[list[str], set[str]]:
    """Return the names of at most `most` fields, and which of them were chosen since the largest share of objects is dropped.

    A third of the fields are those with the largest shares (a field without any object is such a field), the others are spread
    evenly over the groups, and within each. The choice follows from the table alone.

    Examples
    --------
    >>> import pandas as pd
    >>> fields = pd.DataFrame({"field": list("abcdef"), "objects": 10, "kept": [9, 9, 9, 1, 9, 9]})
    >>> plates = Groups("plate", ("1", "2"), dict(zip("abcdef", "111222")))
    >>> chosen_fields(fields, plates, 3)
    (['b', 'd', 'f'], {'d'})
    """
    names = per_field["field"].astype(str).tolist()
    objects, kept = per_field["objects"].to_numpy(float), per_field["kept"].to_numpy(float)
    dropped = 1 - np.divide(kept, objects, out=np.zeros(len(objects)), where=objects > 0)
    order = np.argsort(-dropped, kind="stable")
    worst = {names[i] for i in order[: max(1, round(most * SHARE_OF_WORST))] if dropped[i] > 0}
    chosen = set(worst)
    left: dict[str, list[str]] = {}
    for name in names:
        if name not in worst:
            left.setdefault(groups.of_field[name], []).append(name)
    turns = [left[group] for group in groups.names if group in left]
    room = most - len(chosen)
    if len(turns) > room:
        turns = [turns[i] for i in evenly(len(turns), room)]
    takes = [0] * len(turns)
    while sum(takes) < min(room, sum(map(len, turns))):
        for i, fields in enumerate(turns):
            if sum(takes) < room and takes[i] < len(fields):
                takes[i] += 1
    for fields, count in zip(turns, takes, strict=True):
        chosen.update(fields[i] for i in evenly(len(fields), count))
    return [name for name in names if name in chosen], worst


def evenly(n: int, count: int) -> list[int]:
    """Return `count` positions of `n`, evenly spread.

    >>> evenly(10, 2), evenly(3, 3)
    ([2, 7], [0, 1, 2])
    """
    return [int((i + 0.5) * n / count) for i in range(count)]


@dataclass(frozen=True)
class Spread:
    """How the values of a group's fields are spread: their number, extremes with their fields, and quartiles."""

    group: str
    fields: int
    lowest: tuple[float, str]
    highest: tuple[float, str]
    quartiles: tuple[float, float, float]


def spreads(values: Mapping[str, float], groups: Groups) -> list[Spread]:
    """Return how the values of fields are spread in each group that has any."""
    result = []
    for group in groups.names:
        known = [(value, field) for field, value in values.items() if groups.of_field[field] == group]
        if known:
            first, median, last = np.quantile([value for value, _ in known], (0.25, 0.5, 0.75)).tolist()
            by_value = sorted(known, key=lambda pair: pair[0])
            result.append(Spread(group, len(known), by_value[0], by_value[-1], (first, median, last)))
    return result


def furthest(values: Mapping[str, float], groups: Groups, most: int) -> dict[str, float]:
    """Return at most about `most` of some fields' values: of every group those that are furthest from its median."""
    if len(values) <= most:
        return dict(values)
    per_group = max(2, most // len(groups.names))
    chosen = set()
    for spread in spreads(values, groups):
        of_group = [field for field in values if groups.of_field[field] == spread.group]
        of_group.sort(key=lambda field: -abs(values[field] - spread.quartiles[1]))
        chosen.update(of_group[:per_group])
    return {field: value for field, value in values.items() if field in chosen}


def bins(values: np.ndarray, most: int = 30, *, upper: float = 1.0) -> np.ndarray:
    """Return the edges of at most `most` bins for values, round numbers; what is beyond the quantile `upper` is in the last.

    >>> bins(np.array([3, 4, 4, 7])), bins(np.arange(60, 1040))
    (array([3, 4, 5, 6, 7, 8]), array([  50,  100,  150,  200,  250,  300,  350,  400,  450,  500,  550,
            600,  650,  700,  750,  800,  850,  900,  950, 1000, 1050]))
    """
    low, high = float(values.min()), float(np.quantile(values, upper, method="lower"))
    width = next(
        w for w in (step * 10**power for power in counting() for step in (1, 2, 5)) if high // w - low // w < most
    )
    edges: np.ndarray = np.arange(int(low // width), int(high // width) + 2) * width
    return edges


def binned(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return how many values are in each bin (bins,) int; the last one has no upper end."""
    position = np.searchsorted(edges, values, side="right") - 1
    return np.bincount(np.clip(position, 0, len(edges) - 2), minlength=len(edges) - 1)


def boundaries(labels: np.ndarray) -> np.ndarray:
    """Return which pixels of a label image (rows, columns) are their object's outermost: bool, the field's edge being none.

    >>> boundaries(np.array([[0, 0, 0, 0, 0], [0, 3, 3, 3, 0], [0, 3, 3, 3, 0], [0, 3, 3, 3, 0], [0, 0, 0, 0, 0]])).astype(int)
    array([[0, 0, 0, 0, 0],
           [0, 1, 1, 1, 0],
           [0, 1, 0, 1, 0],
           [0, 1, 1, 1, 0],
           [0, 0, 0, 0, 0]])
    """
    down, right = labels[1:] != labels[:-1], labels[:, 1:] != labels[:, :-1]
    edge = np.zeros(labels.shape, bool)
    edge[1:] |= down
    edge[:-1] |= down
    edge[:, 1:] |= right
    edge[:, :-1] |= right
    edge &= labels != 0
    return edge

"""Votes of found neighbours: predictions, and what every prediction becomes once a whole group of cells is deleted.

A row's neighbours come as a list that is longer than k. Some of the cells on it do not vote: those of the groups that are left
out of every class (see :mod:`pci_bench.statistics.balanced`), and those of a group that is deleted for the jackknife. The first
k of the others vote. A row whose list ends before k have voted, though more cells could follow, is reported as `short`.
"""

from __future__ import annotations

import numpy as np

from pci_bench.system.compilation import compiled


@compiled(nogil=True)
def _winner(counts: np.ndarray) -> int:
    """Return the smallest class of those with the most votes, −1 without any."""
    best = -1
    most = 0
    for label in range(len(counts)):
        if counts[label] > most:
            most = counts[label]
            best = label
    return best


@compiled(nogil=True)
def _vote(
    neighbors: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    left_out: np.ndarray,
    held: np.ndarray,
    counts: np.ndarray,
    voters: np.ndarray,
) -> tuple[int, int]:
    """Count the first of a row's neighbours that vote, as many as `voters` has room for, and return how many and where they end."""
    counts[:] = 0
    total = 0
    position = 0
    while position < len(neighbors) and total < len(voters):
        other = neighbors[position]
        if other < 0:
            break
        label = labels[other]
        if groups[other] != left_out[label] or held[label]:
            counts[label] += 1
            voters[total] = other
            total += 1
        position += 1
    return total, position


@compiled(nogil=True)
def shares(
    rows: np.ndarray,
    lists: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    k: int,
    n_classes: int,
    left_out: np.ndarray,
    holds: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return how often each class is predicted over the draws of left-out groups, and which rows' lists were too short.

    Parameters
    ----------
    rows
        The cells to predict (r,) int.
    lists
        Their neighbours (r, depth) int, nearest first; −1 where there are no more.
    labels, groups
        Class and group of every cell (n,) int.
    k, n_classes
        How many vote, and how many classes there are.
    left_out
        (draws, n_classes) int: of every class, the group that does not vote; −1 for none.
    holds
        (groups, n_classes) bool: which groups have cells of a class. A class that a row's own group holds has lost that group
        already, and loses no other.

    Returns
    -------
    (shares, short)
        (r, n_classes + 1) float, the last column for "no neighbour", and (r,) bool.
    """
    n_rows, depth = lists.shape
    found = np.zeros((n_rows, n_classes + 1))
    short = np.zeros(n_rows, np.bool_)
    counts = np.zeros(n_classes, np.int64)
    voters = np.empty(k, np.int64)
    for place in range(n_rows):
        own = groups[rows[place]]
        for draw in range(len(left_out)):
            total, position = _vote(lists[place], labels, groups, left_out[draw], holds[own], counts, voters)
            if total < k and position == depth < len(labels) - 1:
                short[place] = True
            best = _winner(counts)
            found[place, best if best >= 0 else n_classes] += 1 / len(left_out)
    return found, short


@compiled(nogil=True)
def _grown(array: np.ndarray) -> np.ndarray:
    larger = np.empty((2 * len(array), *array.shape[1:]), array.dtype)
    larger[: len(array)] = array
    return larger


@compiled(nogil=True)
def deletions(
    rows: np.ndarray,
    lists: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    units: np.ndarray,
    k: int,
    left_out: np.ndarray,
    instead: np.ndarray,
    unit_of_group: np.ndarray,
    holds: np.ndarray,
    worth: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what deleting every unit changes in the statistics, by the unit of the cells whose predictions change.

    Parameters
    ----------
    rows, lists, labels, groups, k, left_out, holds
        As in :func:`shares`.
    units
        What is deleted as a whole (n,) int.
    instead
        (draws, n_classes) int: the group that a class loses where the left-out one is deleted; −1 for none.
    unit_of_group
        (groups,) int: the unit that a group lies in, −1 where it lies in several.
    worth
        (n_classes, n_classes + 1, statistics) float: what a cell of a class adds to each statistic when predicted as another.

    Returns
    -------
    (pairs, changes, short)
        (p, 2) int, the unit of the changed cells and the deleted one, a row per changed cell and deleted unit; (p, statistics)
        float; and (r,) bool: rows whose lists were too short, of which nothing is returned.
    """
    n_rows, depth = lists.shape
    n_classes, _, n_statistics = worth.shape
    n_draws = len(left_out)
    pairs = np.empty((max(16, 4 * n_rows), 2), np.int64)
    changes = np.empty((len(pairs), n_statistics))
    n_pairs = 0
    short = np.zeros(n_rows, np.bool_)
    counts = np.zeros(n_classes, np.int64)
    remaining = np.zeros(n_classes, np.int64)
    voters = np.empty(k, np.int64)
    place_of = np.full(units.max() + 1, -1, np.int64)  # of a unit among those met in this row
    seen = np.full(units.max() + 1, -1, np.int64)  # the draw in which a unit was last deleted
    met = np.empty(k * n_draws + n_classes * n_draws + 1, np.int64)
    sums = np.zeros((len(met), n_statistics))
    for place in range(n_rows):
        row = rows[place]
        own, own_unit, true = groups[row], units[row], labels[row]
        n_met = 0
        for draw in range(n_draws):
            total, position = _vote(lists[place], labels, groups, left_out[draw], holds[own], counts, voters)
            if total < k and position == depth < len(labels) - 1:
                short[place] = True
                break
            best = _winner(counts)
            if best < 0:
                continue
            second = 0
            for label in range(n_classes):
                if label != best:
                    second = max(second, counts[label])
            for turn in range(total + n_classes):
                if turn < total:
                    deleted = units[voters[turn]]
                else:  # a left-out group that is deleted: its class loses another one
                    label = turn - total
                    group = left_out[draw, label]
                    if group < 0 or holds[own, label] or counts[label] == 0:
                        continue
                    deleted = unit_of_group[group]
                if deleted < 0 or deleted == own_unit or seen[deleted] == draw:
                    continue
                seen[deleted] = draw
                if place_of[deleted] < 0:
                    place_of[deleted] = n_met
                    met[n_met] = deleted
                    sums[n_met] = 0
                    n_met += 1
                remaining[:] = counts
                lost = 0
                for turned in range(total):
                    other = voters[turned]
                    label = labels[other]
                    gone = units[other] == deleted
                    if not gone and left_out[draw, label] >= 0 and not holds[own, label]:
                        gone = unit_of_group[left_out[draw, label]] == deleted and groups[other] == instead[draw, label]
                    if gone:
                        remaining[label] -= 1
                        lost += 1
                if lost == 0 or remaining[best] > second + lost:
                    continue
                after = position
                left = total - lost
                while after < depth and left < k:
                    other = lists[place, after]
                    if other < 0:
                        break
                    after += 1
                    label = labels[other]
                    if units[other] == deleted:
                        continue
                    if left_out[draw, label] >= 0 and not holds[own, label]:
                        if groups[other] == left_out[draw, label]:
                            continue
                        if unit_of_group[left_out[draw, label]] == deleted and groups[other] == instead[draw, label]:
                            continue
                    remaining[label] += 1
                    left += 1
                if left < k and after == depth < len(labels) - 1:
                    short[place] = True
                    break
                now = _winner(remaining)
                if now != best:
                    column = now if now >= 0 else n_classes
                    for statistic in range(n_statistics):
                        gain = worth[true, column, statistic] - worth[true, best, statistic]
                        sums[place_of[deleted], statistic] += gain / n_draws
            if short[place]:
                break
        for number in range(n_met):
            deleted = met[number]
            place_of[deleted] = -1
            seen[deleted] = -1
            if short[place] or not np.any(sums[number]):
                continue
            if n_pairs == len(pairs):
                pairs, changes = _grown(pairs), _grown(changes)
            pairs[n_pairs, 0] = own_unit
            pairs[n_pairs, 1] = deleted
            changes[n_pairs] = sums[number]
            n_pairs += 1
    return pairs[:n_pairs], changes[:n_pairs], short


@compiled(nogil=True)
def permuted_confusions(
    lists: np.ndarray,
    permuted: np.ndarray,
    groups: np.ndarray,
    k: int,
    n_classes: int,
    draws: np.ndarray,
    balanced: bool,
) -> np.ndarray:
    """Return the confusion matrix of every permutation of the labels.

    Parameters
    ----------
    lists
        Neighbours (n, depth) int of all cells.
    permuted
        (permutations, n) int: the labels.
    groups, k, n_classes
        As in :func:`shares`.
    draws
        (permutations, n_classes) in [0, 1): which cell's group a class loses, where `balanced`.
    balanced
        Whether classes lose a group.

    Returns
    -------
    ndarray
        (permutations, n_classes, n_classes + 1) int.
    """
    n, depth = lists.shape
    found = np.zeros((len(permuted), n_classes, n_classes + 1), np.int64)
    counts = np.zeros(n_classes, np.int64)
    left_out = np.full(n_classes, -1, np.int64)
    holds = np.zeros((groups.max() + 1 if balanced else 1, n_classes), np.bool_)
    sizes = np.zeros(n_classes, np.int64)
    for number in range(len(permuted)):
        labels = permuted[number]
        if balanced:
            holds[:] = False
            sizes[:] = 0
            for cell in range(n):
                holds[groups[cell], labels[cell]] = True
                sizes[labels[cell]] += 1
            for label in range(n_classes):
                counts[label] = np.int64(draws[number, label] * sizes[label])
            for cell in range(n):
                label = labels[cell]
                if counts[label] == 0:
                    left_out[label] = groups[cell]
                counts[label] -= 1
        for row in range(n):
            counts[:] = 0
            total = 0
            for position in range(depth):
                other = lists[row, position]
                if other < 0 or total == k:
                    break
                label = labels[other]
                if not balanced or groups[other] != left_out[label] or holds[groups[row], label]:
                    counts[label] += 1
                    total += 1
            best = _winner(counts)
            found[number, labels[row], best if best >= 0 else n_classes] += 1
    return found

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
        neighbor = neighbors[position]
        if neighbor < 0:
            break
        label = labels[neighbor]
        if groups[neighbor] != left_out[label] or held[label]:
            counts[label] += 1
            voters[total] = neighbor
            total += 1
        position += 1
    return total, position


@compiled(nogil=True)
def shares(
    rows: np.ndarray,
    lists: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    ks: np.ndarray,
    n_classes: int,
    left_out: np.ndarray,
    holds: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return how often each class is predicted over the draws of left-out groups, and which rows' lists were too short.

    All draws go down a row's list side by side, and every k is answered on the way.

    Parameters
    ----------
    rows
        The cells to predict (r,) int.
    lists
        Their neighbours (r, depth) int, nearest first; −1 where there are no more.
    labels, groups
        Class and group of every cell (n,) int.
    ks
        How many vote (s,) int, ascending.
    n_classes
        How many classes there are.
    left_out
        (draws, n_classes) int: of every class, the group that does not vote; −1 for none.
    holds
        (groups, n_classes) bool: which groups have cells of a class. A class that a row's own group holds has lost that group
        already, and loses no other.

    Returns
    -------
    (shares, short)
        (s, r, n_classes + 1) float, the last column for "no neighbour", and (r,) bool.
    """
    n_rows, depth = lists.shape
    n_draws = len(left_out)
    without = left_out.T.copy()
    counts = np.zeros((len(ks), n_rows, n_classes + 1))
    short = np.zeros(n_rows, np.bool_)
    scores = np.empty((n_classes, n_draws), np.int64)  # see _winner_of
    best = np.empty(n_draws, np.int64)
    voted = np.empty(n_draws, np.int64)
    leading = np.empty((len(ks), n_draws), np.int64)
    for place in range(n_rows):
        own = groups[rows[place]]
        for label in range(n_classes):
            scores[label] = n_classes - 1 - label
        best[:] = 0
        voted[:] = 0
        fewest = 0
        position = 0
        while position < depth and fewest < ks[-1] and lists[place, position] >= 0:
            neighbor = lists[place, position]
            position += 1
            label = labels[neighbor]
            group = -2 if holds[own, label] else groups[neighbor]  # −2: left out in no draw
            fewest = _voted(without[label], group, n_classes, scores[label], best, voted)
            for turn in range(len(ks)):
                if fewest <= ks[turn] <= position:
                    _keep(leading[turn], best, voted, ks[turn])
        short[place] = fewest < ks[-1] and position == depth < len(labels) - 1
        for turn in range(len(ks)):
            _keep(leading[turn], best, voted, ks[turn])
            for draw in range(n_draws):
                counts[turn, place, _winner_of(leading[turn, draw], n_classes)] += 1
    return counts / n_draws, short


@compiled(nogil=True)
def _winner_of(score: int, n_classes: int) -> int:
    """Return the class of the largest score, `n_classes` where nobody has voted.

    A score is a class's votes × n_classes, and more the smaller the class: so the largest is of the smallest class of several
    with the most votes, and following it takes no branch.
    """
    if score < n_classes:
        return n_classes
    return n_classes - 1 - score % n_classes


@compiled(nogil=True)
def _voted(
    without: np.ndarray, group: int, n_classes: int, scores: np.ndarray, best: np.ndarray, voted: np.ndarray
) -> int:
    """Let a cell vote in every draw that does not leave out its group, and return in how many votes the draw with fewest has.

    All arrays are (draws,) int: the groups left out of the cell's class, its class's scores, the best ones, the numbers of votes.
    """
    fewest: int = voted[0] + 1
    for draw in range(len(voted)):
        votes = np.int64(without[draw] != group)
        score = scores[draw] + votes * n_classes
        scores[draw] = score
        best[draw] = max(best[draw], score)
        voted[draw] += votes
        fewest = min(fewest, voted[draw])
    return fewest


@compiled(nogil=True)
def _keep(leading: np.ndarray, best: np.ndarray, voted: np.ndarray, k: int) -> None:
    """Note the best score of every draw in which no more than k have voted."""
    for draw in range(len(voted)):
        leading[draw] = best[draw] if voted[draw] <= k else leading[draw]


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
    influences: np.ndarray,
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
    influences
        (n_classes, n_classes + 1, statistics) float: what a cell of a class adds to each statistic when predicted as another.

    Returns
    -------
    (pairs, changes, short)
        (p, 2) int, the unit of the changed cells and the deleted one, a row per changed cell and deleted unit; (p, statistics)
        float; and (r,) bool: rows whose lists were too short, of which nothing is returned.
    """
    n_rows, depth = lists.shape
    n_classes, _, n_statistics = influences.shape
    n_draws = len(left_out)
    pairs = np.empty((max(16, 4 * n_rows), 2), np.int64)
    changes = np.empty((len(pairs), n_statistics))
    n_pairs = 0
    short = np.zeros(n_rows, np.bool_)
    counts = np.zeros(n_classes, np.int64)
    remaining = np.zeros(n_classes, np.int64)
    voters = np.empty(k, np.int64)
    met = np.empty(2 * k * n_draws + 1, np.int64)  # the units that are deleted in this row
    place_of = np.full(units.max() + 1, -1, np.int64)  # where they stand in it
    sums = np.zeros((len(met), n_statistics))
    lost = np.zeros(
        len(met), np.int64
    )  # in this draw: how many votes each takes, how many of the leading class, and a chain of them
    lost_best = np.zeros(len(met), np.int64)
    first = np.full(len(met), -1, np.int64)
    following = np.empty(2 * k, np.int64)
    vote_of = np.empty(2 * k, np.int64)
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
            n_votes = 0
            for turn in range(2 * total):
                neighbor = voters[turn % total]
                label = labels[neighbor]
                deleted = units[neighbor]
                if (
                    turn >= total
                ):  # where the group that its class has lost is deleted, the class loses another one instead
                    group = left_out[draw, label]
                    if group < 0 or holds[own, label] or groups[neighbor] != instead[draw, label]:
                        continue
                    if unit_of_group[group] == deleted:
                        continue
                    deleted = unit_of_group[group]
                if deleted < 0 or deleted == own_unit:
                    continue
                if place_of[deleted] < 0:
                    place_of[deleted] = n_met
                    met[n_met] = deleted
                    sums[n_met] = 0
                    n_met += 1
                at = place_of[deleted]
                vote_of[n_votes] = label
                following[n_votes] = first[at]
                first[at] = n_votes
                n_votes += 1
                lost[at] += 1
                lost_best[at] += label == best
            for at in range(n_met):
                last, removed, removed_best = first[at], lost[at], lost_best[at]
                first[at], lost[at], lost_best[at] = -1, 0, 0
                if removed == 0 or short[place] or counts[best] - removed_best > second + removed:
                    continue
                deleted = met[at]
                remaining[:] = counts
                while last >= 0:
                    remaining[vote_of[last]] -= 1
                    last = following[last]
                after = position
                left = total - removed
                while after < depth and left < k:
                    neighbor = lists[place, after]
                    if neighbor < 0:
                        break
                    after += 1
                    label = labels[neighbor]
                    if units[neighbor] == deleted:
                        continue
                    group = left_out[draw, label]
                    if group >= 0 and not holds[own, label]:
                        if groups[neighbor] == group:
                            continue
                        if unit_of_group[group] == deleted and groups[neighbor] == instead[draw, label]:
                            continue
                    remaining[label] += 1
                    left += 1
                if left < k and after == depth < len(labels) - 1:
                    short[place] = True
                    continue
                now = _winner(remaining)
                if now != best:
                    column = now if now >= 0 else n_classes
                    for statistic in range(n_statistics):
                        sums[at, statistic] += (
                            influences[true, column, statistic] - influences[true, best, statistic]
                        ) / n_draws
            if short[place]:
                break
        for at in range(n_met):
            place_of[met[at]] = -1
            if short[place] or not np.any(sums[at]):
                continue
            if n_pairs == len(pairs):
                pairs, changes = _grown(pairs), _grown(changes)
            pairs[n_pairs, 0] = own_unit
            pairs[n_pairs, 1] = met[at]
            changes[n_pairs] = sums[at]
            n_pairs += 1
    return pairs[:n_pairs], changes[:n_pairs], short


@compiled(nogil=True)
def permuted_confusions(
    lists: np.ndarray,
    permuted: np.ndarray,
    groups: np.ndarray,
    ks: np.ndarray,
    enough: np.ndarray,
    n_classes: int,
    draws: np.ndarray,
    balanced: bool,
) -> np.ndarray:
    """Return the confusion matrix of every permutation of the labels, for every k.

    Parameters
    ----------
    lists
        Neighbours (n, depth) int of all cells.
    permuted
        (permutations, n) int: the labels.
    groups, ks, n_classes
        As in :func:`shares`.
    enough
        (s,) int, descending: how many of the permutations each k is answered for.
    draws
        (permutations, n_classes) in [0, 1): which cell's group a class loses, where `balanced`.
    balanced
        Whether classes lose a group.

    Returns
    -------
    ndarray
        (s, permutations, n_classes, n_classes + 1) int; zeros for permutations beyond `enough`.
    """
    n, depth = lists.shape
    confusions = np.zeros((len(ks), len(permuted), n_classes, n_classes + 1), np.int64)
    none = np.arange(n_classes)[::-1].copy()
    scores = np.empty(n_classes, np.int64)  # see _winner_of
    lost = np.zeros(n, np.bool_)
    holds = np.zeros((groups.max() + 1 if balanced else 1, n_classes), np.bool_)
    for number in range(len(permuted)):
        labels = permuted[number]
        answered = 0
        while answered < len(ks) and enough[answered] > number:
            answered += 1
        if balanced:
            _lose_groups(labels, groups, draws[number], lost, holds)
        for row in range(n):
            scores[:] = none
            total, position, best = 0, 0, 0
            for turn in range(answered):
                while total < ks[turn] and position < depth and lists[row, position] >= 0:
                    neighbor = lists[row, position]
                    position += 1
                    label = labels[neighbor]
                    if not lost[neighbor] or holds[groups[row], label]:
                        scores[label] += n_classes
                        best = max(best, scores[label])
                        total += 1
                confusions[turn, number, labels[row], _winner_of(best, n_classes)] += 1
    return confusions


@compiled(nogil=True)
def _lose_groups(
    labels: np.ndarray, groups: np.ndarray, draws: np.ndarray, lost: np.ndarray, holds: np.ndarray
) -> None:
    """Let every class lose the group of one of its cells, which `draws` (n_classes,) in [0, 1) choose.

    Set which cells belong to a group that their class has lost (n,) bool, and which groups have cells of which class (groups,
    n_classes) bool: a class that a row's own group holds has lost that group already, and loses no other.
    """
    sizes = np.zeros(len(draws), np.int64)
    left_out = np.full(len(draws), -1, np.int64)
    holds[:] = False
    for cell in range(len(labels)):
        holds[groups[cell], labels[cell]] = True
        sizes[labels[cell]] += 1
    for label in range(len(draws)):
        sizes[label] = np.int64(draws[label] * sizes[label])
    for cell in range(len(labels)):
        label = labels[cell]
        if sizes[label] == 0:
            left_out[label] = groups[cell]
        sizes[label] -= 1
    for cell in range(len(labels)):
        lost[cell] = groups[cell] == left_out[labels[cell]]

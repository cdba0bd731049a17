"""L1-penalised logistic regression of one class against the rest, with a certificate: liblinear's objective, dense features.

Proximal Newton steps, as liblinear's own solver takes them (Yuan, Ho & Lin 2012, JMLR 13:1999), but arranged for dense
features and many more cells than features. The model's Hessian Xᵀ diag(h) X is formed by matrix products, so that a step
of coordinate descent within it costs one row of the Hessian and not a column of all cells. What is left to pay for is the
Hessian, and most of them are avoided: far from the solution it comes from a sample of the cells, drawn by curvature and
without random numbers; a step that pays is prolonged; near the solution a Hessian is kept as long as it serves; and
features that are 0 and want to stay so are left out of it. The gradient always comes from all cells and features in
float64, and the fit ends by its duality gap, so that none of these shortcuts can change the answer.
"""

from __future__ import annotations

import numpy as np

from pci_bench.system.compilation import compiled

TOLERANCE = 1e-6
STEPS = 200
SWEEPS = 200  # of coordinate descent, before a linear system is solved
ROUNDS = 20  # of both
RIDGE = 1e-11
BLOCK = 1024  # rows of a matrix product, so that their scaled copy stays in the cache
SCREENING_THRESHOLD = 0.8  # of the penalty: features at 0 whose gradient is below stay out of the model
MAX_ENTERING = 512  # that may enter the model at once, or as many as are in it
ROWS_PER_FEATURE = 10  # in a sampled Hessian
ROUNDING = 1e-13  # of the objective, below which a rise is none
MIN_STEP = 1e-3  # part of a step that is taken
DAMPING = 1e-6  # of the largest curvature, added where a step was too long


def l1_logistic_regression(
    features: np.ndarray, positive: np.ndarray, weight: float, c: float, tolerance: float = TOLERANCE
) -> tuple[np.ndarray, float]:
    """Return the coefficients of one class against the rest, the penalised intercept last, and the relative duality gap.

    Minimises P(w) = |w|₁ + C Σ sᵢ log(1 + exp(−yᵢ w·xᵢ)), where s is `weight` for the class and 1 for the rest, and x ends
    with a 1: what scikit-learn's liblinear did with several classes and ``class_weight="balanced"`` when the paper was
    written.

    Parameters
    ----------
    features
        (n, d) float, finite.
    positive
        (n,) bool.
    weight, c
        The class's weight, and C.
    tolerance
        Of the duality gap.

    Returns
    -------
    (coefficients, gap)
        (d + 1,) float64, and (P(w) − D) / P(w) for a dual feasible value D: w is at most that far above the minimum. It is
        larger than the tolerance where rounding hides every improvement, as among columns of means far from 0 or nearly the
        same. The same numbers however many fits run at once, as long as BLAS uses one thread.
    """
    x = np.ascontiguousarray(features, dtype=np.float64)
    n, d = x.shape
    signs = np.where(positive, 1.0, -1.0)
    costs = np.where(positive, c * weight, c)
    w, scores = np.zeros(d + 1), np.zeros(n)
    residuals, curvatures = np.empty(n), np.empty(n)
    members, hessian = np.empty(0, np.int64), np.empty((0, 0))
    steepest = np.append(np.einsum("i,ij,ij->j", costs, x, x), costs.sum()) / 4  # the curvature is nowhere larger
    steepest = np.minimum(steepest, 1e300)
    worst, sampling, idle, damping, gap = np.inf, True, False, 0.0, 1.0
    for _ in range(STEPS):
        loss = _derivatives(scores, signs, costs, residuals, curvatures)
        gradient = np.append(residuals @ x, residuals.sum())
        value = loss + np.abs(w).sum()
        gap = float((value - _dual_value(residuals, costs, 1 / max(1.0, np.abs(gradient).max()))) / value)
        if gap <= tolerance:
            break

        before, worst = worst, violations(w, gradient).max()
        sampling = sampling and worst > 1 and not worst > 0.75 * before
        wanted = _working_set(w, gradient)
        if worst > 0.1 * before or not np.isin(wanted, members).all():
            members = wanted
            hessian = _hessian(x, members, *_rows(curvatures, ROWS_PER_FEATURE * len(members) if sampling else n))

        start = w[members]
        end, solved = _minimise_model(hessian, damping * steepest[members], gradient[members], start, 0.01 * worst)
        promised = gradient[members] @ (end - start) + np.abs(end).sum() - np.abs(start).sum()
        idle_before, idle = idle, not promised < -1e-3 * ROUNDING * value
        if idle and sampling:  # a sample can miss what only a few cells show
            sampling, members, idle = False, members[:0], False
            continue
        if idle and idle_before and not worst < 0.5 * before:
            break

        whole = np.zeros(d + 1)
        whole[members] = end
        move = x @ whole[:-1] + whole[-1] - scores
        length, reached = 1.0, _value_along(1.0, scores, move, signs, costs, start, end)
        while not reached - value <= 0.01 * length * promised + ROUNDING * value and length > MIN_STEP:
            length /= 2
            reached = _value_along(length, scores, move, signs, costs, start, end)
        sampling = sampling and solved and length == 1
        damping = (0.01 * damping if damping > DAMPING else 0.0) if length == 1 else max(100 * damping, DAMPING)
        if length <= MIN_STEP:
            if damping > 1:
                break
            continue
        while length >= 1 and worst > 1:
            longer = _value_along(1.5 * length, scores, move, signs, costs, start, end)
            if not longer < reached - ROUNDING * value:
                break
            length, reached = 1.5 * length, longer
        w[members] = end if length == 1 else start + length * (end - start)
        scores += length * move
    return w, gap


def violations(w: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """Return how far each coefficient is from optimal: the size of the smallest subgradient of |w|₁ + loss. (d,) each."""
    subgradients: np.ndarray = np.where(w == 0, np.maximum(np.abs(gradient) - 1, 0), np.abs(gradient + np.sign(w)))
    return subgradients


def _working_set(w: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """Return the coefficients that the next model is about, in order: the intercept, those not 0, and those about to be."""
    inside = w != 0
    inside[-1] = True
    outside = np.flatnonzero(~inside & (np.abs(gradient) > SCREENING_THRESHOLD))
    limit = max(MAX_ENTERING, int(inside.sum()))
    outside = outside[np.argsort(-np.abs(gradient[outside]), kind="stable")[:limit]]
    return np.union1d(np.flatnonzero(inside), outside)


def _rows(curvatures: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return about `count` rows and what to multiply them with, so that Σ (multiplier · row)² is about Σ curvature · row².

    Rows of large curvature are all taken, and of the others every so manieth, counted in curvature: (m,) int, (m,) float.
    """
    n = len(curvatures)
    rising = np.sort(curvatures)
    threshold = rising[-1] * 2.0**-40
    if count < n:
        below = np.append(0, np.cumsum(rising))
        sample_sizes = np.arange(n, 0, -1) + np.divide(below[:-1], rising, out=np.zeros(n), where=rising > 0)
        smaller = int(np.argmax(np.append(sample_sizes, 0) <= count))  # how many rows stay below the threshold
        threshold = max(threshold, below[smaller] / max(count - (n - smaller), 1e-300))
    rows, multipliers = np.empty(len(curvatures), np.int64), np.empty(len(curvatures))
    n_sampled = _systematic_sample(curvatures, threshold, rows, multipliers)
    return rows[:n_sampled], multipliers[:n_sampled]


def _hessian(x: np.ndarray, members: np.ndarray, rows: np.ndarray, multipliers: np.ndarray) -> np.ndarray:
    """Return Σ (multiplier · row)(multiplier · row)ᵀ over some rows and members, the last of which is the intercept."""
    columns = members[:-1]
    total = np.zeros((len(members), len(members)))
    block = np.empty((BLOCK, len(members)))
    for start in range(0, len(rows), BLOCK):
        some, by = rows[start : start + BLOCK], multipliers[start : start + BLOCK]
        part = block[: len(some)]
        values = x.take(some, axis=0)
        if len(columns) < x.shape[1]:
            values = values.take(columns, axis=1)
        np.multiply(values, by[:, None], out=part[:, :-1])
        part[:, -1] = by
        with np.errstate(over="ignore", invalid="ignore"):  # then no step is possible, and the gap says so
            total += part.T @ part
    return total


def _minimise_model(
    hessian: np.ndarray, damping: np.ndarray, gradient: np.ndarray, start: np.ndarray, target: float
) -> tuple[np.ndarray, bool]:
    """Minimise g·(v − w) + ½ (v − w)ᵀ(H + diag(damping))(v − w) + |v|₁ from w until every violation is below a target.

    Returns v, and whether the target was reached.

    Coordinate descent finds what is not 0 and its signs; a linear system then solves for all of it at once, where features
    are so correlated that coordinates alone would take thousands of sweeps.
    """
    if damping.any():
        hessian = hessian + np.diag(damping)
    v, slope = start.copy(), gradient.copy()  # of the quadratic part, at v
    for _ in range(ROUNDS):
        if _descend(hessian, v, slope, target, SWEEPS):
            return v, True
        inside = np.flatnonzero(v)
        old = v[inside]
        system = hessian[np.ix_(inside, inside)]
        system[np.diag_indices(len(inside))] *= 1 + RIDGE
        try:
            new = old - np.linalg.solve(system, slope[inside] + np.sign(old))
        except np.linalg.LinAlgError:
            continue
        crossing = np.flatnonzero(np.sign(new) != np.sign(old))
        change = new - old
        if len(crossing):  # it goes down at least as far as all signs stay
            parts = old[crossing] / -change[crossing]
            change *= parts.min()
            first = crossing[parts.argmin()]
            change[first] = -old[first]
        moved = change @ hessian[inside]
        if change @ (slope[inside] + moved[inside] / 2) + np.abs(old + change).sum() < np.abs(old).sum():
            v[inside] += change
            slope += moved
    return v, False


@compiled(nogil=True)
def _derivatives(
    scores: np.ndarray, signs: np.ndarray, costs: np.ndarray, residuals: np.ndarray, curvatures: np.ndarray
) -> float:
    """Fill in each cell's first and second derivative of the loss by its score; return the loss."""
    total = 0.0
    for i in range(len(scores)):
        margin = signs[i] * scores[i]
        small = np.exp(-abs(margin))
        wrong = small / (1 + small) if margin > 0 else 1 / (1 + small)
        total += costs[i] * (np.log1p(small) + max(-margin, 0.0))
        residuals[i] = -signs[i] * costs[i] * wrong
        curvatures[i] = costs[i] * small / (1 + small) ** 2
    return total


@compiled(nogil=True)
def _value_along(
    length: float,
    scores: np.ndarray,
    move: np.ndarray,
    signs: np.ndarray,
    costs: np.ndarray,
    start: np.ndarray,
    end: np.ndarray,
) -> float:
    """Return the objective some way along a step."""
    total = 0.0
    for i in range(len(scores)):
        margin = signs[i] * (scores[i] + length * move[i])
        total += costs[i] * (np.log1p(np.exp(-abs(margin))) + max(-margin, 0.0))
    for j in range(len(start)):
        total += abs(start[j] + length * (end[j] - start[j]))
    return total


@compiled(nogil=True)
def _dual_value(residuals: np.ndarray, costs: np.ndarray, shrink: float) -> float:
    """Return the dual objective Σ cost · entropy(a), a = shrink · |residual| / cost, which is feasible for a right `shrink`."""
    total = 0.0
    for i in range(len(residuals)):
        if costs[i] > 0:
            share = shrink * abs(residuals[i]) / costs[i]
            if 0 < share < 1:
                total -= costs[i] * (share * np.log(share) + (1 - share) * np.log1p(-share))
    return total


@compiled(nogil=True)
def _systematic_sample(curvatures: np.ndarray, threshold: float, rows: np.ndarray, multipliers: np.ndarray) -> int:
    """Fill in the rows at or above a threshold, and of the others one for each threshold's worth; return how many."""
    n_sampled = 0
    passed = 0.5
    for i in range(len(curvatures)):
        if curvatures[i] >= threshold:
            rows[n_sampled], multipliers[n_sampled] = i, np.sqrt(curvatures[i])
            n_sampled += 1
        else:
            passed += curvatures[i] / threshold
            if passed >= 1:
                passed -= 1
                rows[n_sampled], multipliers[n_sampled] = i, np.sqrt(threshold)
                n_sampled += 1
    return n_sampled


@compiled(nogil=True)
def _descend(hessian: np.ndarray, v: np.ndarray, slope: np.ndarray, target: float, sweeps: int) -> bool:
    """Take sweeps of coordinate descent on v and its slope, in place; return whether every violation is below a target.

    The first and the last sweep visit everything, the others only what is not 0.
    """
    everything = True
    for sweep in range(sweeps):
        worst = 0.0
        for j in range(len(v)):
            old = v[j]
            if old == 0 and not everything:
                continue
            worst = max(worst, abs(slope[j] + np.sign(old)) if old != 0 else abs(slope[j]) - 1)
            curvature = hessian[j, j]
            if curvature > 0:
                aim = curvature * old - slope[j]
                new = np.sign(aim) * max(abs(aim) - 1, 0.0) / curvature
                if new != old:
                    v[j] = new
                    row, change = hessian[j], new - old
                    for i in range(len(slope)):
                        slope[i] += change * row[i]
        if worst <= target and everything:
            return True
        everything = worst <= target or sweep == sweeps - 2
    return False

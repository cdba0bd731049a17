"""Nearest neighbours: every answer against a float64 loop, exact integers, exact fractions or scikit-learn."""

from __future__ import annotations

from fractions import Fraction
from functools import cache, partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.neighbors import NearestNeighbors

from pci_bench.errors import UserError
from pci_bench.statistics.compiled import neighbors
from pci_bench.statistics.compiled.neighbors import nearest
from pci_bench.statistics.compiled.nominated import nominated_on
from pci_bench.statistics.folds import unreachable_classes
from pci_bench.statistics.neighbors import directionless, directions, loo_neighbors
from pci_bench.system.blocks import Blocks


def by_loop(features, k, groups=None):
    """Ten lines of float64: differences squared and summed, sorted by (distance, index)."""
    rows = np.asarray(features, dtype=np.float64)
    groups = np.arange(len(rows)) if groups is None else groups
    indices, distances = np.full((len(rows), k), -1), np.full((len(rows), k), np.inf)
    for row in range(len(rows)):
        squares = ((rows - rows[row]) ** 2).sum(axis=1)
        others = np.flatnonzero(groups != groups[row])
        found = others[np.argsort(squares[others], kind="stable")][:k]
        indices[row, : len(found)], distances[row, : len(found)] = found, np.sqrt(squares[found])
    return indices, distances


def assert_same(features, k, groups=None, *, order=True):
    """Compare with the loop; `order=False` where near-ties may be rounded either way: then only distances must agree."""
    indices, distances = loo_neighbors(features, k, groups)
    expected_indices, expected = by_loop(features, k, groups)
    assert indices.shape == distances.shape == (len(features), k)
    assert indices.dtype == np.int64
    assert distances.dtype == np.float64
    np.testing.assert_allclose(distances, expected, rtol=1e-12, atol=0)
    if order:
        np.testing.assert_array_equal(indices, expected_indices)
        return
    np.testing.assert_array_equal(indices < 0, expected_indices < 0)
    rows = np.asarray(features, np.float64)
    groups = np.arange(len(rows)) if groups is None else groups
    for row, found in enumerate(indices):
        some = found[found >= 0]
        assert len(set(some)) == len(some)
        assert (groups[some] != groups[row]).all()
        own = np.sqrt(((rows[some] - rows[row]) ** 2).sum(axis=1))
        np.testing.assert_allclose(distances[row, : len(some)], own, rtol=1e-12, atol=0)


@pytest.fixture(params=[7, 64, 1024, "torch"], ids="block={}".format)
def block(request, monkeypatch):
    """Several sizes of block, so that diagonal, mirrored and ragged ones are all met; and torch's nomination, as for a GPU."""
    if request.param == "torch":
        monkeypatch.setattr("pci_bench.statistics.compiled.nominated.VALUES_AT_ONCE", 1000)
        monkeypatch.setattr(neighbors, "_nominated", partial(nominated_on, "cpu"))
        return 64
    monkeypatch.setattr(neighbors, "BLOCK", request.param)
    return request.param


@pytest.fixture
def searched_again(monkeypatch):
    """Rows that were searched a second time, as they come."""
    rows = []
    search_again = neighbors._search_again

    def spy(product, some, *others):
        rows.extend(some)
        return search_again(product, some, *others)

    monkeypatch.setattr(neighbors, "_search_again", spy)
    return rows


@pytest.mark.parametrize(("n", "d", "k"), [(2, 1, 1), (2, 5, 1), (3, 1, 2), (63, 4, 5), (64, 4, 5), (65, 4, 11), (200, 30, 25), (129, 1, 3)])  # fmt: skip
def test_random_data_gives_the_neighbours_of_a_float64_loop(block, n, d, k):
    assert_same(np.random.default_rng(n).normal(size=(n, d)), k)


def test_random_data_gives_the_neighbours_of_scikit_learn_over_several_real_blocks():
    features = np.random.default_rng(0).normal(size=(2 * neighbors.BLOCK + 77, 20))
    indices, distances = loo_neighbors(features, 11)
    expected, expected_indices = NearestNeighbors(n_neighbors=11, algorithm="brute").fit(features).kneighbors()
    np.testing.assert_array_equal(indices, expected_indices)
    np.testing.assert_allclose(distances, expected, rtol=1e-7)


@pytest.mark.parametrize("k", [1, 3, 4, 10, 19])
def test_a_cell_is_never_its_own_neighbour_even_among_duplicates(block, k):
    features = np.repeat(np.random.default_rng(0).normal(size=(25, 8)), 4, axis=0)
    indices, distances = loo_neighbors(features, k)
    assert not (indices == np.arange(len(features))[:, None]).any()
    assert (distances[:, : min(k, 3)] == 0).all()
    np.testing.assert_array_equal(indices, by_loop(features, k)[0])


@pytest.mark.parametrize("value", [0.0, 0.1, -7.3, 1e25, 1e-25])
@pytest.mark.parametrize("k", [1, 20, 99])
def test_equal_rows_are_neighbours_in_index_order_at_distance_0(block, value, k):
    indices, distances = loo_neighbors(np.full((100, 3), value), k)
    assert (distances == 0).all()
    for row in range(100):
        assert indices[row].tolist() == [other for other in range(100) if other != row][:k]


def lexicographic(grid, k, groups):
    """Exact integers: sort (squared distance, index)."""
    grid = grid.astype(object)
    rows = []
    for row in range(len(grid)):
        pairs = sorted(
            (sum((grid[row] - grid[o]) ** 2), o) for o in range(len(grid)) if groups[o] != groups[row]
        )  # fmt: skip
        rows.append([o for _, o in pairs[:k]] + [-1] * (k - len(pairs)))
    return np.array(rows)


@cache
def integer_grid(side, d):
    """Return rows of integers and the 40 nearest of each, exactly."""
    grid = np.random.default_rng(side).integers(0, side, size=(130, d))
    return grid, lexicographic(grid, 40, np.arange(130))


@pytest.mark.parametrize("offset", [0, 100, 1_000_000])
@pytest.mark.parametrize(("side", "d"), [(2, 5), (4, 2), (30, 1), (1000, 3)])
def test_ties_on_an_integer_grid_are_in_index_order_exactly(block, side, d, offset):
    grid, expected = integer_grid(side, d)
    for k in (1, 6, 40):
        indices, _ = loo_neighbors(grid + offset, k)  # which moves no distance between integers
        np.testing.assert_array_equal(indices, expected[:, :k])


@settings(max_examples=150, deadline=None)
@given(data=st.data(), n=st.integers(2, 40), d=st.integers(1, 4), block_size=st.integers(1, 50))
def test_any_integers_and_any_groups_give_the_exact_lexicographic_order(data, n, d, block_size):
    grid = data.draw(hnp.arrays(np.int32, (n, d), elements=st.integers(-3, 3) | st.integers(-20_000, 20_000)))
    groups = data.draw(hnp.arrays(np.int64, n, elements=st.integers(-2, 3)))
    k = data.draw(st.integers(1, n - 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbors, "BLOCK", block_size)
        patch.setattr(neighbors, "EXTRA_CANDIDATES", data.draw(st.sampled_from([0, 1, 14])))
        indices, _ = loo_neighbors(grid, k, groups)
    np.testing.assert_array_equal(indices, lexicographic(grid, k, groups))


@settings(max_examples=150, deadline=None)
@given(data=st.data(), n=st.integers(2, 30), d=st.integers(1, 5), k=st.integers(1, 5))
def test_any_float32_features_give_the_distances_of_a_float64_loop(data, n, d, k):
    element = st.floats(-10, 10, width=32) | st.floats(width=32, allow_nan=False, allow_infinity=False)
    features = data.draw(hnp.arrays(np.float32, (n, d), elements=element))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbors, "BLOCK", 8)
        patch.setattr(neighbors, "EXTRA_CANDIDATES", 2)
        assert_same(features, min(k, n - 1), order=False)


@pytest.mark.parametrize("offset", [100, 1_000, 1e6, 1e12])
def test_an_offset_does_not_change_who_is_near(block, offset):
    features = np.random.default_rng(0).normal(size=(150, 12)) + offset
    assert_same(features, 11)


SCALES = {
    "a few rows far out": 10.0 ** np.where(np.arange(150) % 17 == 0, np.arange(150) % 5 + 4, 0)[:, None],
    "every row of its own scale": 10.0 ** np.linspace(-12, 12, 150)[:, None],
    "every column of its own scale": 10.0 ** np.linspace(-9, 9, 6)[None],
    "tiny": 1e-25,
    "large": 1e25,
    "as small as float64 allows squared": 1e-140,
    "as large as float64 allows squared": 1e140,
    "float32's subnormals": 1e-42,
}


@pytest.mark.parametrize("factor", SCALES.values(), ids=SCALES)
@pytest.mark.parametrize("offset", [0, 1])
def test_wild_scales_give_the_neighbours_of_a_float64_loop(block, factor, offset):
    assert_same((np.random.default_rng(0).normal(size=(150, 6)) + offset) * factor, 7)


def test_outliers_far_from_the_mean_leave_everybody_elses_neighbours_exact(searched_again):
    features = np.random.default_rng(0).normal(size=(300, 5))
    features[[3, 150, 299]] = np.array([[1e8], [-1e7], [1e4]])
    assert_same(features, 11)
    assert len(searched_again) > 100


def test_distances_that_cancellation_would_ruin_are_right_to_float64():
    rng = np.random.default_rng(0)
    features = np.repeat(rng.normal(size=(30, 10)) * 1e3, 5, axis=0) + rng.normal(size=(150, 10)) * 1e-9
    assert_same(features, 4)
    _, distances = loo_neighbors(features, 4)
    assert distances.max() < 1e-7


def test_tiny_differences_beside_a_huge_value_stay_ordered():
    column = np.r_[1e25, np.arange(39, 0, -1) * 1e-145][:, None]
    assert_same(column, 3)


def test_rows_whose_neighbours_the_first_search_cannot_tell_apart_are_searched_again(monkeypatch, searched_again):
    rng = np.random.default_rng(0)
    features = np.repeat(rng.normal(size=(3, 6)), 60, axis=0) + rng.normal(size=(180, 6)) * 1e-8
    assert_same(features, 5)
    assert set(searched_again) == set(range(180))
    monkeypatch.setattr(neighbors, "_search_again", lambda *_: None)
    indices, _ = loo_neighbors(features, 5)
    assert (indices != by_loop(features, 5)[0]).any(axis=1).mean() > 0.5  # the second search is what makes them right


def test_more_rows_than_one_batch_of_the_second_search_are_right(searched_again):
    grid = np.random.default_rng(0).integers(0, 3, size=(1000, 3))
    indices, _ = loo_neighbors(grid, 9)
    assert len(searched_again) > 512
    expected, _ = by_loop(grid, 9)
    np.testing.assert_array_equal(indices, expected)


def test_without_spare_nominations_the_answer_is_the_same(monkeypatch, searched_again):
    monkeypatch.setattr(neighbors, "EXTRA_CANDIDATES", 0)
    assert_same(np.random.default_rng(0).normal(size=(300, 8)), 3)
    assert searched_again


def test_ordinary_data_need_no_second_search(searched_again):
    loo_neighbors(np.random.default_rng(0).normal(size=(1500, 50)), 11)
    assert len(searched_again) < 15


ADVERSE = {
    "normal": lambda rng, d: rng.normal(size=(24, d)),
    "duplicates": lambda rng, d: np.repeat(rng.normal(size=(6, d)), 4, axis=0),
    "near-duplicates": lambda rng, d: np.repeat(rng.normal(size=(6, d)), 4, axis=0) + rng.normal(size=(24, d)) * 1e-7,
    "opposite": lambda rng, d: np.repeat(rng.random((12, d)), 2, axis=0) * np.tile([[1], [-1]], (12, 1)),
    "offset": lambda rng, d: rng.normal(size=(24, d)) + 1e6,
    "an outlier": lambda rng, d: np.r_[rng.normal(size=(23, d)), np.full((1, d), 1e7)],
    "two clusters": lambda rng, d: rng.normal(size=(24, d)) * 1e-6 + np.tile([[1], [-1]], (12, 1)),
    "rows of all scales": lambda rng, d: rng.normal(size=(24, d)) * 10.0 ** np.linspace(-30, 0, 24)[:, None],
    "symmetric about 0, down to float32's underflow": lambda rng, d: np.kron(
        rng.normal(size=(6, d)) * 10.0 ** np.linspace(-23, 0, 6)[:, None], np.array([[1], [-1], [1], [-1]])
    ),
    "columns of all scales": lambda rng, d: rng.normal(size=(24, d)) * 10.0 ** np.linspace(-30, 0, d)[None],
}


@pytest.mark.parametrize("d", [1, 7, 60])
@pytest.mark.parametrize("make", ADVERSE.values(), ids=ADVERSE)
def test_the_lower_bound_never_exceeds_the_exact_or_the_measured_distance(monkeypatch, make, d):
    features = make(np.random.default_rng(d), d)
    seen = {}
    measure = neighbors._measure

    def spy(rows, start, scale_squared, bounds, nominated, *others):
        seen.update(factor=scale_squared, bounds=bounds.copy(), nominated=nominated.copy())
        return measure(rows, start, scale_squared, bounds, nominated, *others)

    monkeypatch.setattr(neighbors, "_measure", spy)
    monkeypatch.setattr(neighbors, "BLOCK", 16)
    indices, distances = nearest(features, 23, [np.arange(24)])[0]
    exact = [[Fraction(value) for value in row] for row in features.tolist()]
    factor = Fraction(float(seen["factor"]))
    for row in range(24):
        assert sorted(seen["nominated"][row]) == [other for other in range(24) if other != row]
        measured = dict(zip(indices[row].tolist(), distances[row].tolist(), strict=True))
        for other, bound in zip(seen["nominated"][row].tolist(), seen["bounds"][row].tolist(), strict=True):
            square = sum((a - b) ** 2 for a, b in zip(exact[row], exact[other], strict=True)) * factor
            assert Fraction(bound) <= square
            assert bound <= measured[other] ** 2 * float(factor) * (1 + 1e-12)


def test_the_lower_bound_holds_where_every_rounding_of_a_long_product_is_the_same_way(monkeypatch):
    seen = []
    measure = neighbors._measure
    monkeypatch.setattr(neighbors, "_measure", lambda *given: (seen.append(given), measure(*given))[1])
    for value in 1 + np.random.default_rng(0).random(40):
        loo_neighbors(np.full((8, 1000), value) * np.tile([[1], [-1]], (4, 1)), 7)
    for rows, _, factor, bounds, nominated, *_ in seen:
        for row in range(8):
            exact = 1000 * (rows[row, 0] - rows[nominated[row], 0]) ** 2 * factor  # 0, or 4000 times the value's square
            assert (bounds[row] <= exact * (1 + 1e-12)).all()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0, 10, width=32), min_size=1, max_size=80), st.integers(1, 30))
def test_the_heap_keeps_the_smallest_bounds_with_the_largest_of_them_at_the_root(values, size):
    bounds, nominated = np.full(size, np.inf, np.float32), np.full(size, -1, np.int32)
    for index, value in enumerate(values):
        if value < bounds[0]:
            neighbors._push(bounds, nominated, np.float32(value), index)
        kept = np.sort(np.float32([*values[: index + 1], *[np.inf] * size]))[:size]
        assert np.sort(bounds).tolist() == kept.tolist()
        assert bounds[0] == bounds.max()
    assert all(
        bound == (np.inf if index < 0 else values[index]) for bound, index in zip(bounds, nominated, strict=True)
    )
    assert len(set(nominated[nominated >= 0])) == min(len(values), size)


@pytest.mark.parametrize("n", [2, 5, 40])
def test_all_other_rows_can_be_neighbours(block, n):
    features = np.random.default_rng(n).normal(size=(n, 3))
    assert_same(features, n - 1)
    indices, _ = loo_neighbors(features, n - 1)
    assert [sorted(found) for found in indices.tolist()] == [[o for o in range(n) if o != row] for row in range(n)]


def test_constant_features_change_nothing():
    features = np.random.default_rng(0).normal(size=(80, 5))
    with_constants = np.column_stack([np.full(80, 0.1), features, np.full(80, 1e9)])
    for found, expected in zip(loo_neighbors(with_constants, 6), loo_neighbors(features, 6), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int64, np.uint8, bool])
def test_every_numeric_type_is_measured_in_float64(dtype):
    features = (np.random.default_rng(0).random((90, 9)) * 100).astype(dtype)
    assert_same(features, 5, order=dtype != np.float16)


def test_the_memory_layout_does_not_matter_and_the_features_are_left_alone():
    wide = np.random.default_rng(0).normal(size=(180, 24))
    views = {"strided": wide[::2, ::3], "transposed": wide.T[:, ::2], "fortran": np.asfortranarray(wide), "backwards": wide[::-1]}  # fmt: skip
    before = wide.copy()
    for name, view in views.items():
        found, expected = loo_neighbors(view, 4), loo_neighbors(view.copy("C"), 4)
        np.testing.assert_array_equal(found[0], expected[0], err_msg=name)
        np.testing.assert_array_equal(found[1], expected[1], err_msg=name)
        np.testing.assert_array_equal(found[0], by_loop(view, 4)[0], err_msg=name)
    read_only = wide.copy()
    read_only.flags.writeable = False
    loo_neighbors(read_only, 4)
    np.testing.assert_array_equal(wide, before)


@pytest.mark.parametrize("n_groups", [2, 5, 40])
def test_neighbours_never_share_the_group(block, n_groups):
    rng = np.random.default_rng(n_groups)
    features, groups = rng.normal(size=(150, 4)), rng.integers(0, n_groups, 150) * 1000 - 7
    indices, _ = loo_neighbors(features, 9, groups)
    assert (groups[indices] != groups[:, None]).all()
    assert_same(features, 9, groups)


def test_several_groupings_in_one_search_are_as_separate_searches(block):
    rng = np.random.default_rng(0)
    features = np.repeat(rng.normal(size=(50, 4)), 3, axis=0)
    features[::2] += rng.normal(size=(75, 4)) * 0.1
    groupings = [np.arange(150), rng.integers(0, 4, 150), np.arange(150) // 3, rng.integers(0, 60, 150)]
    together = nearest(features, 8, groupings)
    assert len(together) == 4
    for groups, (indices, distances) in zip(groupings, together, strict=True):
        alone = loo_neighbors(features, 8, groups)
        np.testing.assert_array_equal(indices, alone[0])
        np.testing.assert_array_equal(distances, alone[1])
        np.testing.assert_array_equal(indices, by_loop(features, 8, groups)[0])


def test_a_grouping_that_rules_out_all_that_is_near_is_searched_as_far_as_it_needs(block):
    rng = np.random.default_rng(0)
    groups = np.arange(200) // 40
    features = rng.normal(size=(5, 3))[groups] * 10 + rng.normal(size=(200, 3))
    shuffled = rng.permutation(200)
    features, groups = features[shuffled], groups[shuffled]
    for order in (1, -1):
        for grouping, (indices, _) in zip([np.arange(200), groups][::order], nearest(features, 6, [np.arange(200), groups][::order]), strict=True):  # fmt: skip
            np.testing.assert_array_equal(indices, by_loop(features, 6, grouping)[0])


def test_groups_of_all_different_values_are_plain_leave_one_out():
    features = np.random.default_rng(0).normal(size=(60, 4))
    plain, grouped = loo_neighbors(features, 5), loo_neighbors(features, 5, np.arange(60)[::-1] * 3)
    np.testing.assert_array_equal(plain[0], grouped[0])
    np.testing.assert_array_equal(plain[1], grouped[1])


def test_rows_with_too_few_possible_neighbours_are_padded_with_minus_1_and_infinity(block):
    rng = np.random.default_rng(0)
    features, groups = rng.normal(size=(100, 3)), np.repeat([0, 1], [96, 4])
    indices, distances = loo_neighbors(features, 10, groups)
    assert (indices[:96, 4:] == -1).all()
    assert np.isinf(distances[:96, 4:]).all()
    assert np.sort(indices[:96, :4], axis=1).tolist() == [[96, 97, 98, 99]] * 96
    assert (indices[96:] >= 0).all()
    assert_same(features, 10, groups)


def test_a_group_of_all_rows_leaves_no_neighbour():
    for features in (np.random.default_rng(0).normal(size=(70, 3)), np.zeros((70, 3))):
        indices, distances = loo_neighbors(features, 3, np.full(70, 5))
        assert (indices == -1).all()
        assert np.isinf(distances).all()


def test_ties_of_a_second_search_respect_the_groups(block, searched_again):
    grid = np.random.default_rng(0).integers(0, 2, size=(140, 3))
    groups = np.random.default_rng(1).integers(0, 7, 140)
    np.testing.assert_array_equal(loo_neighbors(grid, 8, groups)[0], lexicographic(grid, 8, groups))
    assert searched_again


@pytest.mark.parametrize("k", [0, -1])
def test_k_below_1_is_refused(k):
    with pytest.raises(UserError, match=rf"^k is {k}; it must be at least 1\.$"):
        loo_neighbors(np.zeros((5, 2)), k)


@pytest.mark.parametrize(("n", "k"), [(5, 5), (5, 6), (2, 2), (1, 1), (0, 1)])
def test_k_of_all_cells_or_more_is_refused(n, k):
    with pytest.raises(UserError, match=rf"^k = {k} needs at least {k + 1} cells, and there are {n}\.$"):
        loo_neighbors(np.zeros((n, 2)), k)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nan_and_infinity_are_refused(bad, dtype):
    features = np.ones((10, 3), dtype)
    features[4, 1] = bad
    with pytest.raises(UserError, match="NaN or infinite"):
        loo_neighbors(features, 2)


@pytest.mark.parametrize("factor", [1e-300, 1e-170, 1e160, 1e305])
@pytest.mark.filterwarnings("error")
def test_values_whose_squares_float64_cannot_hold_are_refused_rather_than_answered_wrongly(factor):
    with pytest.raises(UserError, match="range of float64"):
        loo_neighbors(np.random.default_rng(0).normal(size=(30, 3)) * factor, 2)


@pytest.mark.parametrize("shape", [(10, 0), (10,), (10, 2, 2)])
def test_features_that_are_no_table_are_refused(shape):
    with pytest.raises(UserError, match="shape"):
        loo_neighbors(np.zeros(shape), 2)


# ---- several kinds of groups, and other metrics


def by_numpy(features, k, metric="euclidean", kinds=()):
    """Sort every row's distances to all rows that share no group with it, in float64."""
    rows = np.asarray(features, np.float64)
    if metric == "correlation":
        distances = 1 - np.corrcoef(rows)
    elif metric == "cosine":
        lengths = np.linalg.norm(rows, axis=1)
        distances = 1 - rows @ rows.T / np.outer(lengths, lengths)
    else:
        distances = np.linalg.norm(rows[:, None] - rows, axis=2)
    distances[np.eye(len(rows), dtype=bool)] = np.inf
    for groups in kinds:
        distances[groups[:, None] == groups] = np.inf
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.where(np.isinf(np.take_along_axis(distances, order, axis=1)), -1, order)


@pytest.mark.parametrize("kinds", [1, 2, 3])
@pytest.mark.parametrize("k", [1, 5, 30])
def test_neighbours_share_no_group_of_any_kind(block, k, kinds):
    rng = np.random.default_rng(kinds)
    features = rng.normal(size=(90, 6))
    groups = rng.integers(0, 8, size=(kinds, 90))
    indices, distances = loo_neighbors(features, k, groups)
    np.testing.assert_array_equal(indices, by_numpy(features, k, kinds=groups))
    assert (np.isinf(distances) == (indices < 0)).all()


def test_one_search_serves_groupings_of_one_kind_and_of_several(block):
    rng = np.random.default_rng(0)
    features, groups = rng.normal(size=(70, 4)), rng.integers(0, 6, size=(2, 70))
    searched = neighbors.nearest(features, 4, [np.arange(70), groups, groups[1]])
    for (indices, _), kinds in zip(searched, ((), groups, groups[1:]), strict=True):
        np.testing.assert_array_equal(indices, by_numpy(features, 4, kinds=kinds))
    wanted = np.array([3, 68, 0])
    some = neighbors.nearest_of(features, wanted, 9, groups)
    np.testing.assert_array_equal(some, by_numpy(features, 9, kinds=groups)[wanted])


@pytest.mark.parametrize("metric", ["correlation", "cosine"])
@pytest.mark.parametrize("k", [1, 7])
def test_nearest_is_the_highest_correlation_or_cosine(block, metric, k):
    rng = np.random.default_rng(5)
    features = rng.normal(size=(150, 9)) * rng.lognormal(size=(150, 1)) + 3 * rng.normal(size=(150, 1))
    kinds = rng.integers(0, 20, size=(2, 150))
    indices, distances = loo_neighbors(directions(features, metric), k, kinds)
    np.testing.assert_array_equal(indices, by_numpy(features, k, metric, kinds))
    if metric == "correlation":
        rows, places = np.nonzero(indices >= 0)
        found = np.corrcoef(features)[rows, indices[rows, places]]
        np.testing.assert_allclose(1 - distances[rows, places] ** 2 / 2, found, atol=1e-12)


def test_a_masked_negative_correlation_never_wins():
    """Multiplying masked correlations by −∞ makes negative ones +∞: another dose of the compound, the least alike, would win."""
    features = np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0], [1.0, 2.0, 2.5], [0.0, 1.0, 0.5]])
    compound = np.array([0, 0, 1, 2])
    with np.errstate(invalid="ignore"):
        trap = (np.corrcoef(features) * np.where(compound[:, None] == compound, -np.inf, 1)).argmax(axis=1)
    assert trap[:2].tolist() == [1, 0]  # of the same compound, at correlation −1
    indices, _ = loo_neighbors(directions(features, "correlation"), 1, compound)
    assert indices[:2].ravel().tolist() == [2, 3]


def test_rows_of_the_same_direction_are_at_distance_0_in_index_order(block):
    rng = np.random.default_rng(2)
    pattern = rng.normal(size=(4, 6))
    features = np.repeat(pattern, 5, axis=0) * np.tile([1.0, 2.0, 0.5, 1024.0, 2.0**-30], 4)[:, None]
    for metric in ("correlation", "cosine"):
        indices, distances = loo_neighbors(directions(features, metric), 4)
        assert (distances == 0).all()
        for row in range(20):
            assert indices[row].tolist() == [r for r in range(row // 5 * 5, row // 5 * 5 + 5) if r != row]


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_directions_do_not_leave_the_range_of_float64(scale):
    features = np.random.default_rng(0).normal(size=(20, 5))
    np.testing.assert_allclose(directions(features * scale, "correlation"), directions(features, "correlation"))


def test_rows_without_a_direction_are_told():
    features = np.array([[0.1] * 3, [0.0] * 3, [1.0, 2.0, 3.0]])
    assert directionless(features, "correlation").tolist() == [True, True, False]
    assert directionless(features, "cosine").tolist() == [False, True, False]
    assert not directionless(features, "euclidean").any()
    assert (directions(features, "correlation")[:2] == 0).all()


@settings(max_examples=60, deadline=None)
@given(data=st.data(), n=st.integers(1, 12), kinds=st.integers(2, 3))
def test_a_class_is_unreachable_where_every_two_cells_share_a_group(data, n, kinds):
    labels = data.draw(hnp.arrays(np.int64, n, elements=st.integers(0, 2)))
    groups = data.draw(hnp.arrays(np.int64, (kinds, n), elements=st.integers(0, 3)))
    expected = [
        label
        for label in np.unique(labels)
        if all(
            (groups[:, a] == groups[:, b]).any() for a in range(n) for b in range(n) if labels[a] == labels[b] == label
        )
    ]
    assert unreachable_classes(labels, groups).tolist() == expected


def test_only_a_long_search_asks_for_the_gpu(monkeypatch):
    asked = []
    monkeypatch.setattr("pci_bench.system.blocks.resolve_device", lambda device: asked.append(device) or "cpu")
    nearest(np.random.default_rng(0).normal(size=(50, 3)), 5, [np.arange(50)], Blocks("cuda:1"))
    assert asked == []
    monkeypatch.setattr("pci_bench.system.blocks.SECONDS_WORTH_A_GPU", 0.0)
    nearest(np.random.default_rng(0).normal(size=(50, 3)), 5, [np.arange(50)], Blocks("cuda:1"))
    assert asked == ["cuda:1"]

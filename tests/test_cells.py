"""Crops on their way in: rescaling, slices, subsets, and the table beside them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from factories import with_pixels
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pci_bench.data.cells import Cells, Channel, DatasetMeta, halved, rescaled, subsample, validated_obs
from pci_bench.errors import UserError

PROTEIN, MARKER = Channel("GFP", "protein"), Channel("RFP", "marker")
FLOORED = Channel("nucleus", "marker", floor=0.05)
CHANNELS = (PROTEIN, FLOORED)

pixels = st.floats(-1e6, 1e6, width=32)
batches = hnp.arrays(np.float32, hnp.array_shapes(min_dims=4, max_dims=4, max_side=6).map(lambda s: (s[0], 2, *s[2:])), elements=pixels)  # fmt: skip


def by_hand(crop: np.ndarray, floor: float) -> np.ndarray:
    """One channel of one crop, pixel by pixel in double precision (as the authors' code)."""
    low, high = float(crop.min()), float(crop.max())
    out = np.zeros(crop.shape)
    if high == low:
        return out
    for row, column in np.ndindex(crop.shape):
        value = float(crop[row, column])
        out[row, column] = min(max((value - floor) / (1 - floor), 0.0), 1.0) if floor else (value - low) / (high - low)
    return out


@settings(max_examples=60, deadline=None)
@given(batches)
def test_minmax_takes_each_crop_and_channel_to_0_and_1_and_never_to_nan(crops):
    out = rescaled(crops, CHANNELS, "minmax")
    assert out.dtype == np.float32
    assert out.shape == crops.shape
    for cell, channel in np.ndindex(crops.shape[:2]):
        expected = by_hand(crops[cell, channel], CHANNELS[channel].floor)
        np.testing.assert_allclose(out[cell, channel], expected, atol=2e-6)
        assert 0 <= out[cell, channel].min() <= out[cell, channel].max() <= 1 + 1e-6
        if crops[cell, channel].max() > crops[cell, channel].min() and not CHANNELS[channel].floor:
            assert out[cell, channel].min() == 0
            assert out[cell, channel].max() == pytest.approx(1, abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(hnp.arrays(np.uint8, (2, 2, 4, 4)), st.integers(1, 200), st.integers(0, 50))
def test_minmax_does_not_depend_on_gain_and_offset(crops, gain, offset):
    other = crops.astype(np.uint16) * gain + offset
    np.testing.assert_allclose(
        rescaled(other, (PROTEIN, MARKER), "minmax"), rescaled(crops, (PROTEIN, MARKER), "minmax"), rtol=0, atol=3e-6
    )


@pytest.mark.parametrize("dtype", ["float32", "uint16"])
def test_a_channel_with_a_floor_is_stretched_from_it_to_one_whatever_its_own_range(dtype):
    """The authors' code for human markers; its output for real cells is checked in test_inpainting."""
    ramp = np.linspace(0, 1, 101)
    crops = (ramp if dtype == "float32" else np.rint(ramp * 65535)).astype(dtype).reshape(1, 1, 1, 101)
    floored = rescaled(crops, (FLOORED,), "minmax").ravel()
    assert (floored[:5] == 0).all()  # 0 … 0.04
    np.testing.assert_allclose(floored[5:], np.linspace(0, 1, 96), atol=2e-5)
    np.testing.assert_allclose(rescaled(crops[..., :41], (FLOORED,), "minmax").ravel(), floored[:41], atol=1e-7)
    assert rescaled(crops[..., :41], (MARKER,), "minmax").max() == 1


@pytest.mark.parametrize(("dtype", "top"), [("uint8", 255), ("uint16", 65535)])
def test_raw_integers_are_divided_by_the_maximum_of_their_type(dtype, top):
    crops = np.array([0, 1, top // 3, top], dtype).reshape(1, 1, 2, 2)
    raw = rescaled(crops, (PROTEIN,), "raw")
    assert raw.dtype == np.float32
    np.testing.assert_allclose(raw.ravel(), [0, 1 / top, (top // 3) / top, 1], rtol=1e-6)


def test_raw_floats_stay_as_they_are_whatever_the_floor():
    crops = np.array([-3, 0.01, 0.5, 70], np.float32).reshape(1, 1, 2, 2)
    np.testing.assert_array_equal(rescaled(crops, (FLOORED,), "raw"), crops)


@pytest.mark.parametrize("value", [0, 7, 255])
def test_a_constant_crop_becomes_zeros(value):
    crops = np.full((2, 2, 4, 4), value, np.uint8)
    crops[1, 0, 0, 0] ^= 1  # the other cell's protein is not constant
    out = rescaled(crops, CHANNELS, "minmax")
    assert not out[0].any()
    assert not out[1, 1].any()
    assert out[1, 0].max() == 1


def test_rescaling_leaves_the_crops_that_it_was_given_alone():
    crops = np.random.default_rng(0).random((3, 2, 4, 4), dtype=np.float32)
    before = crops.copy()
    rescaled(crops, CHANNELS, "minmax")
    np.testing.assert_array_equal(crops, before)


def test_an_unknown_rescaling_is_a_sentence():
    with pytest.raises(UserError, match="'zscore'"):
        rescaled(np.zeros((1, 1, 2, 2), np.float32), (PROTEIN,), "zscore")


@settings(max_examples=30, deadline=None)
@given(hnp.arrays(np.uint16, (2, 3, 8, 6)))
def test_halving_is_the_mean_of_2_by_2_pixels(crops):
    expected = [
        [[[c[2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean() for j in range(3)] for i in range(4)] for c in cell]
        for cell in crops
    ]
    np.testing.assert_allclose(halved(crops), expected, rtol=1e-6)


# ---- slices


@pytest.mark.parametrize(
    "index",
    [
        slice(3, 11),
        slice(None, None, -1),
        [5, 2, 9, 0],
        np.array([7, 7, 1]),
        np.arange(20) % 3 == 0,
        np.array([], int),
        slice(15, 99),
    ],
    ids=["slice", "reversed", "list", "repeated", "mask", "empty", "past-the-end"],
)
@pytest.mark.parametrize("rescale", ["raw", "minmax"])
def test_slicing_then_reading_equals_reading_at_those_positions(make_cells, index, rescale):
    cells = make_cells(20)
    everything = cells.crops(slice(None), rescale=rescale)
    chosen = cells[index]
    assert isinstance(chosen, Cells)
    np.testing.assert_array_equal(chosen.crops(slice(None), rescale=rescale), everything[index])
    np.testing.assert_array_equal(cells.crops(index, rescale=rescale), everything[index])
    assert list(chosen.obs["cell"]) == list(cells.obs["cell"].to_numpy()[index])
    assert len(chosen) == len(everything[index])


def test_a_slice_of_a_slice_reads_the_same_cells(make_cells):
    cells = make_cells(20)
    twice = cells[10:][[3, 0]]
    assert list(twice.obs["cell"]) == ["cell13", "cell10"]
    np.testing.assert_array_equal(twice.crops(slice(None)), cells.crops([13, 10]))


def test_the_hash_follows_the_selection_and_its_order_but_not_a_full_slice(make_cells):
    cells = make_cells(6)
    same = [cells[:], cells[[0, 1, 2, 3, 4, 5]], cells[np.ones(6, bool)], cells[-99:99]]
    assert {c.sha256 for c in same} == {cells.sha256}
    assert cells[2:4].sha256 == cells[[2, 3]].sha256
    different = [cells, cells[1:], cells[:-1], cells[::-1], cells[[0, 0, 1, 2, 3, 4]], cells[[3, 2]], cells[[2, 3]]]
    assert len({c.sha256 for c in different}) == len(different)


def test_cells_are_not_indexed_by_one_number(make_cells):
    with pytest.raises(TypeError, match="slice"):
        make_cells(4)[2]


def test_masks_come_as_the_last_channel_unscaled_and_in_the_order_asked_for(make_cells):
    cells = make_cells(5, (4, 4))
    with pytest.raises(UserError, match="'planted' has no segmentation masks"):
        cells.crops(slice(None), masks=True)
    labels = np.arange(5 * 16, dtype=np.uint16).reshape(5, 4, 4)
    masked = with_pixels(cells, "x", masks=labels)
    assert masked.has_masks
    out = masked[[4, 1, 2]].crops([2, 0], masks=True)
    assert out.shape == (2, 3, 4, 4)
    np.testing.assert_array_equal(out[:, 2], labels[[2, 4]])
    np.testing.assert_array_equal(out[:, :2], cells.crops([2, 4]))


# ---- subsets


def labelled(make_cells, counts: dict[str | None, int]) -> Cells:
    labels = [label for label, count in counts.items() for _ in range(count)]
    return make_cells(len(labels), (2, 2), label=np.random.default_rng(1).permutation(np.array(labels, object)))


def test_a_limit_keeps_each_label_in_proportion_and_at_least_two_of_each(make_cells):
    cells = labelled(make_cells, {"A": 600, "B": 300, "C": 96, "rare": 4})
    counts = subsample(cells, 100, 0).obs["label"].value_counts()
    assert counts.to_dict() == {"A": 60, "B": 30, "C": 10, "rare": 2}


def test_a_limit_keeps_the_cells_order_and_names_cells_of_the_whole(make_cells):
    cells = labelled(make_cells, {"A": 50, "B": 50})
    chosen = subsample(cells, 20, 3)
    positions = [int(name.removeprefix("cell")) for name in chosen.obs["cell"]]
    assert positions == sorted(set(positions))
    np.testing.assert_array_equal(chosen.crops(slice(None)), cells.crops(positions))


def test_a_limit_depends_on_the_seed_alone(make_cells):
    cells = labelled(make_cells, {"A": 50, "B": 50})
    assert subsample(cells, 20, 3).sha256 == subsample(cells, 20, 3).sha256
    assert len({subsample(cells, 20, seed).sha256 for seed in range(5)}) == 5


def test_unlabelled_cells_are_limited_in_proportion_too(make_cells):
    cells = labelled(make_cells, {"A": 50, None: 50})
    chosen = subsample(cells, 20, 0)
    assert len(chosen) == 20
    assert int(chosen.obs["label"].isna().sum()) == 10
    assert len(subsample(make_cells(50, (2, 2)), 20, 0)) == 20  # no label column at all


def test_a_limit_of_all_cells_or_more_changes_nothing(make_cells):
    cells = make_cells(10, (2, 2))
    assert subsample(cells, 10, 0) is cells
    assert subsample(cells, 11, 0) is cells


# ---- the table


def table(**columns) -> pd.DataFrame:
    return pd.DataFrame({"cell": ["a", "b", "c"], "image": ["i", "i", "j"], **columns})


def test_the_table_of_cells_has_its_standard_columns_first_and_keeps_the_others():
    obs = validated_obs(table(extra=[1, 2, 3], x=[0, 0, 0], label=["B", None, "A"], protein=["P", "P", "Q"]), "d")
    assert list(obs.columns) == ["cell", "image", "protein", "label", "x", "extra"]
    assert list(obs["label"].cat.categories) == ["A", "B"]
    assert obs["label"].isna().tolist() == [False, True, False]


def test_numbers_as_names_and_labels_become_text():
    obs = validated_obs(pd.DataFrame({"cell": [3, 1], "image": [0, 0], "label": [2, 1]}, index=[8, 9]), "d")
    assert obs["cell"].tolist() == ["3", "1"]
    assert obs["label"].tolist() == ["2", "1"]
    assert obs.index.tolist() == [0, 1]


@pytest.mark.parametrize("column", ["cell", "image"])
def test_a_table_without_cell_or_image_is_refused(column):
    with pytest.raises(UserError, match=f"'d' has no column '{column}'"):
        validated_obs(table().drop(columns=column), "d")


def test_a_cell_named_twice_is_refused_and_named():
    with pytest.raises(UserError, match="named twice, for example 'b'"):
        validated_obs(table().assign(cell=["a", "b", "b"]), "d")


@pytest.mark.parametrize("column", ["protein", "cell_line", "plate"])
@pytest.mark.parametrize("values", [["P", "Q", "R"], ["P", None, "R"]])
def test_a_column_that_belongs_to_the_image_must_be_one_value_within_it(column, values):
    with pytest.raises(UserError, match=f"'{column}' of 'd' .* image 'i'"):
        validated_obs(table(**{column: values}), "d")
    kept = validated_obs(table(**{column: ["P", "P", "R"]}), "d")
    assert kept[column].tolist() == ["P", "P", "R"]


def test_a_field_may_vary_within_an_image():
    assert validated_obs(table(field=["f1", "f2", "f3"]), "d")["field"].tolist() == ["f1", "f2", "f3"]


def test_channels_and_cells_say_what_they_are(make_cells):
    cells = make_cells(3, (8, 4), channels=CHANNELS)
    assert cells.crop_shape == (8, 4)
    for part in ("planted", "3 cells", "8×4", "GFP (protein)", "nucleus (marker)"):
        assert part in repr(cells)
    assert DatasetMeta("d", "1", "t").confounder is None

"""CellProfiler's features: against CellProfiler's own measurements, against cp-measure, and read from the files of chong2015."""

import os
import subprocess
import sys
import warnings
from collections import defaultdict
from itertools import permutations

import h5py
import numpy as np
import pandas as pd
import pytest
from factories import YEAST, make_cells
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pci_bench_baselines import cellprofiler

import pci_bench
from pci_bench import Channel, UserError
from pci_bench.data.provenance import Provenance
from pci_bench.features.availability import unavailable_reason
from pci_bench.features.extraction import annotated
from pci_bench.features.names import parse
from pci_bench.statistics.scaling import impute_nan

HUMAN = (Channel("nucleus", "marker"), Channel("antibody", "protein"), Channel("microtubules", "marker"))
DIFFERENT: dict[str, str] = {}  # columns that are not CellProfiler's own, and why: none


def table(crops, masks, channels=YEAST):
    """The feature set's values, straight from the extractor."""
    extractor = cellprofiler.CellProfiler()
    batch = np.concatenate([crops, masks[:, None]], axis=1).astype(np.float32)
    return pd.DataFrame(extractor.open(channels, None, "cpu")(batch, {""})[""], columns=extractor.names("", channels))


@pytest.fixture(scope="module")
def oracle(test_data):
    """24 cells: crops, masks, and what CellProfiler 4.2.8.1 measured."""
    with np.load(test_data / "cellprofiler-oracle" / "crops.npz") as arrays:
        crops, masks, names = np.stack([arrays["gfp"], arrays["rfp"]], axis=1), arrays["mask"], list(arrays["cell"])
    measured = pd.read_csv(test_data / "cellprofiler-oracle" / "measurements.csv", index_col="cell")
    assert list(measured.index) == names
    return crops, masks, measured


@pytest.fixture(scope="module")
def ours(oracle):
    crops, masks, _ = oracle
    return table(crops, masks)


@pytest.fixture
def disc():
    """A mask of a round cell in a crop of 32×32, and a crop of two channels."""
    rows, columns = np.mgrid[:32, :32]
    return np.hypot(rows - 15, columns - 16) < 9, np.random.default_rng(3).random((2, 32, 32), dtype=np.float32)


# ---- agreement with CellProfiler


def test_every_column_of_the_oracle_is_what_cellprofiler_measured(oracle, ours):
    _, _, theirs = oracle
    assert theirs.shape == (24, 166)
    groups, different = defaultdict(list), []
    for column in theirs:
        a, b = ours[column].to_numpy(np.float64), theirs[column].to_numpy(np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            largest = np.where(a == b, 0, np.abs(a - b) / np.abs(b)).max()
        group = "AreaShape_Zernike" if column.startswith("AreaShape_Zernike") else column.partition("_")[0]
        groups[group].append(largest)
        if not largest <= 1e-5:
            different.append(column)
    print("\n| group | columns | largest relative difference |\n|---|---|---|")
    for group, largest in sorted(groups.items()):
        print(f"| {group} | {len(largest)} | {max(largest):.1e} |")
    assert different == sorted(DIFFERENT)


def test_the_oracle_has_cells_whose_middle_and_brightest_pixel_are_not_unique(oracle):
    from centrosome.cpmorphology import distance_to_edge

    crops, masks, theirs = oracle
    several_middles, taken = 0, []
    for crop, mask, (_, row) in zip(crops, masks, theirs.iterrows(), strict=True):
        to_edge = distance_to_edge(mask.astype(int))
        several_middles += (to_edge == to_edge.max()).sum() > 1
        brightest = np.argwhere((mask > 0) & (crop[0] == crop[0][mask > 0].max())).tolist()
        if len(brightest) > 1:
            at = [int(row["Location_MaxIntensity_Y_GFP"]), int(row["Location_MaxIntensity_X_GFP"])]
            taken.append((brightest.index(at), len(brightest)))
    assert several_middles == 8
    assert taken == [(1, 2), (1, 2), (0, 2), (2, 3)]  # so CellProfiler takes neither the first nor the last


def test_ties_are_broken_alike_on_processors_that_sort_differently():
    dispatched = pytest.importorskip("numpy._core._multiarray_umath").__cpu_dispatch__
    features = pytest.importorskip("numpy._core._multiarray_umath").__cpu_features__
    code = (
        "import numpy as np; from pci_bench_baselines.cellprofiler import position_of_maximum as of;"
        "rng = np.random.default_rng(0); print([int(of(rng.integers(0, 9, (40, 50)) / 7)) for _ in range(50)])"
    )
    environment = {**os.environ, "NPY_DISABLE_CPU_FEATURES": " ".join(f for f in dispatched if features[f])}
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env).stdout
        for env in (dict(os.environ), environment)
    ]
    assert runs[0] == runs[1]


# ---- agreement with cp-measure, where the oracle has no column


def test_zernike_moments_shared_by_shape_and_images_are_those_of_cp_measure(oracle, ours):
    from cp_measure.core.measureobjectintensitydistribution import get_radial_zernikes
    from cp_measure.core.measureobjectsizeshape import get_zernike

    crops, masks, _ = oracle
    for row, (crop, mask) in enumerate(zip(crops, masks.astype(int), strict=True)):
        expected = {f"AreaShape_{name}": value[0] for name, value in get_zernike(mask, None).items()}
        for channel, image in zip(("GFP", "RFP"), crop, strict=True):
            for name, value in get_radial_zernikes(mask, image).items():
                if "Magnitude" in name:
                    expected[name.replace("Magnitude_", f"Magnitude_{channel}_")] = value[0]
        assert len(expected) == 90
        np.testing.assert_allclose(ours.loc[row, list(expected)], list(expected.values()), rtol=1e-5, atol=1e-9)


def test_textures_at_all_scales_raw_and_rescaled_are_those_of_mahotas(oracle, ours):
    from cp_measure.core.measuretexture import get_texture  # which calls mahotas

    crops, masks, _ = oracle
    for row in range(0, 24, 4):
        image = crops[row, 1]
        versions = {"RFP": image, "RFPRescaled": (image - image.min()) / (image.max() - image.min())}
        for name, version in versions.items():
            for scale in (3, 5, 10):
                for key, value in get_texture(masks[row].astype(int), version, scale).items():
                    measurement, where = key.split("_", 1)
                    mine = ours.loc[row, f"Texture_{measurement}_{name}_{where}"]
                    np.testing.assert_allclose(mine, value[0], rtol=1e-5, atol=1e-7 if "InfoMeas2" in key else 0)


def test_everything_that_cp_measure_gives_is_a_column_but_for_what_is_left_out_by_declaration(oracle):
    crops, masks, _ = oracle
    found = cellprofiler.measured({"GFP": crops[0, 0], "RFP": crops[0, 1]}, masks[0] == 1)
    names = cellprofiler.CellProfiler().names("", YEAST)
    assert len(set(names)) == len(names) == 895
    assert set(names) <= set(found)
    left_out = {name: found[name] for name in set(found) - set(names)}
    never_finite = {f"AreaShape_NormalizedMoment_{p}_{q}" for p, q in ((0, 0), (0, 1), (1, 0))}
    always_zero = {"AreaShape_CentralMoment_0_1", "AreaShape_CentralMoment_1_0"}
    assert set(left_out) == never_finite | always_zero
    assert not np.isfinite([left_out[name] for name in never_finite]).any()
    assert np.abs([left_out[name] for name in always_zero]).max() < 1e-8


# ---- channels, masks and ranges


def test_every_two_channels_are_measured_whatever_their_order(disc):
    mask, crop = disc
    images = dict(zip(("nucleus", "antibody", "microtubules"), [*crop, crop[0] * crop[1]], strict=True))
    by_name = {c.name: c for c in HUMAN}
    tables = [
        table(np.array([[images[name] for name in order]]), mask[None].astype(np.uint16), [by_name[n] for n in order])
        for order in permutations(images)
    ]
    for other in tables[1:]:
        pd.testing.assert_frame_equal(tables[0], other)
    pairs = [c.removeprefix("Correlation_RWC_") for c in tables[0] if c.startswith("Correlation_RWC_")]
    assert sorted(pairs) == sorted(f"{a}_{b}" for a, b in permutations(images, 2))
    once = [c for c in tables[0] if c.startswith("Correlation_Correlation_")]
    assert once == [
        f"Correlation_Correlation_{p}" for p in ("antibody_microtubules", "antibody_nucleus", "microtubules_nucleus")
    ]


def test_mother_and_bud_are_measured_together_and_other_cells_are_not(disc):
    mask, crop = disc
    parts = np.where(mask & (np.arange(32) > 18), 2, mask)
    parts[:4] = 3
    one, split = table(crop[None], mask[None]), table(crop[None], parts[None])
    pd.testing.assert_frame_equal(one, split)
    assert one["AreaShape_Area"][0] == mask.sum()
    np.testing.assert_allclose(one["Intensity_MeanIntensity_RFP"][0], crop[1][mask].mean(), rtol=1e-6)
    np.testing.assert_allclose(
        one["Correlation_Correlation_GFP_RFP"][0], np.corrcoef(crop[0][mask], crop[1][mask])[0, 1], rtol=1e-5
    )


def test_a_cell_that_was_not_found_is_missing_everywhere_and_no_crop_warns(disc):
    mask, crop = disc
    masks = np.zeros((8, 32, 32), np.uint16)
    masks[1, 15, 15] = 1
    masks[2, 15, 15:17] = 1
    masks[3, 4:28, 9] = 1
    masks[4] = 1
    masks[5], masks[6], masks[7] = mask, mask, np.where(mask, 3, 0)
    crops = np.stack([crop] * 8)
    crops[6] = 0.25
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = table(crops, masks)
        padding = table(np.zeros_like(crops), np.zeros_like(masks))
    assert padding.isna().all(axis=None)
    assert values.loc[[0, 7]].isna().all(axis=None)
    assert not np.isinf(values.to_numpy()).any()
    pd.testing.assert_frame_equal(values.loc[[5]].reset_index(drop=True), table(crop[None], mask[None]))
    assert (values["AreaShape_Area"][1:5] == [1, 2, 24, 1024]).all()
    assert values.loc[6, "Correlation_Costes_GFP_RFP":"Correlation_Costes_RFP_GFP"].isna().all()


def test_crops_that_are_no_images_of_0_to_1_are_refused_with_a_sentence(disc):
    mask, crop = disc
    extractor = cellprofiler.CellProfiler()
    counts = make_cells(crops=crop[None] * 900, masks=mask[None].astype(np.uint16))
    assert "hold floats from 1.034 to 899.8. Store counts as uint8 or uint16" in extractor.unavailable_reason(counts)
    assert extractor.unavailable_reason(make_cells(crops=crop[None], masks=mask[None])) is None
    assert (
        extractor.unavailable_reason(make_cells(crops=(crop[None] * 65535).astype(np.uint16), masks=mask[None])) is None
    )
    with pytest.raises(UserError, match=r"0 to 1, and these crops hold floats from -0\.5 to 1\. .*divide"):
        table(np.stack([crop, np.where(mask, -0.5, 1)[None].repeat(2, 0)]), np.stack([mask, mask]))


def test_extraction_declares_what_is_missing_and_evaluation_counts_it(oracle, tmp_path, monkeypatch):
    monkeypatch.setenv("PCI_BENCH_CACHE", str(tmp_path))
    crops, masks = oracle[0][:9], oracle[1][:9].copy()
    masks[5] = 0
    adata = pci_bench.extract("cellprofiler", make_cells(crops=crops, masks=masks, label=list("ababababa")), workers=1)
    missing = np.isnan(adata.X)
    assert missing[5].all()
    assert not missing.all(axis=1)[np.arange(9) != 5].any()
    (result,) = pci_bench.evaluate("loo-knn", adata, k=3)
    assert result.details["missing"]["values"] == missing.sum()
    assert result.details["missing"]["columns"] == 895
    assert "mean over the other cells" in result.details["missing"]["rule"]
    assert np.isnan(adata.X).sum() == missing.sum()  # the user's features are left as they are
    whole = adata[np.arange(9) != 5, ~missing[np.arange(9) != 5].any(axis=0)].copy()
    (result,) = pci_bench.evaluate("loo-knn", whole, k=3)
    assert "missing" not in result.details


# ---- the rule for missing values


@settings(max_examples=50, deadline=None)
@given(
    arrays(np.float32, (7, 4), elements=st.floats(-1e3, 1e3, width=32) | st.just(float("nan"))),
    st.permutations(range(7)),
)
def test_a_missing_value_is_its_columns_mean_whatever_the_order_of_the_cells(values, order):
    filled, note = impute_nan(values)
    expected = pd.DataFrame(values.astype(np.float64)).pipe(lambda t: t.fillna(t.mean())).fillna(0)
    np.testing.assert_allclose(filled, expected, rtol=1e-6, atol=1e-4)
    np.testing.assert_array_equal(filled[~np.isnan(values)], values[~np.isnan(values)])
    np.testing.assert_array_equal(impute_nan(values[order])[0], filled[order])
    assert filled.dtype == np.float32
    count = int(np.isnan(values).sum())
    assert note.get("values", 0) == count
    assert note.get("columns", 0) == np.isnan(values).any(axis=0).sum()


def test_missing_values_that_no_extractor_declares_are_still_refused(make_cells):
    cells = make_cells(12, label=["a", "b"] * 6)
    values = np.random.default_rng(0).random((12, 3))
    values[2, 1] = np.nan
    with pytest.raises(UserError, match="NaN"):
        pci_bench.evaluate("loo-knn", annotated(values, ["a", "b", "c"], cells, Provenance()), k=3)


# ---- the features that were published with chong2015

CLASSES = pci_bench.datasets.chong2015_copies.DECLARATION["classes"]
FILES = {"train": "Chong_train_set.hdf5", "valid": "Chong_valid_set.hdf5", "test": "Chong_test_set.hdf5"}
COLUMNS = [
    "ImageNumber",
    "Cells_AreaShape_Area",
    "Cells_AreaShape_EulerNumber",
    "Cells_Location_Center_X",
    "Cells_Texture_Contrast_GFP",
]
FEATURES = ["Cells_AreaShape_Area", "Cells_AreaShape_EulerNumber", "Cells_Texture_Contrast_GFP"]
PIXELS = np.random.default_rng(7).random((19, 8192), dtype=np.float32)
INFO = {split: np.random.default_rng(i).random((19, 5)).astype(np.float32) for i, split in enumerate(FILES)}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    made = tmp_path / "data" / "chong2015"
    made.mkdir(parents=True)
    monkeypatch.setenv("PCI_BENCH_DATA", str(made.parent))
    monkeypatch.setenv("PCI_BENCH_CACHE", str(tmp_path / "cache"))
    return made


def write(path, info, *, sizes=(19,), columns=COLUMNS):
    """Write a file with one cell of each class, in parts; each part names its columns."""
    with h5py.File(path, "w") as file:
        start = 0
        file.attrs["Index1_columns"] = np.array(CLASSES, "S")
        for number, size in enumerate(sizes, start=1):
            rows = slice(start, start + size)
            file[f"data{number}"] = PIXELS[rows]
            file[f"Index{number}"] = np.eye(19, dtype=np.float32)[rows]
            if info is not None:
                names = columns if number % 2 else columns[::-1]
                file[f"Info{number}"] = info[rows] if number % 2 else info[rows, ::-1]
                file.attrs[f"Info{number}_columns"] = np.array(names, "S")
            start += size


@pytest.mark.parametrize("sizes", [(19,), (7, 12), (4, 4, 11)])
@pytest.mark.parametrize("dataset", ["chong2015", "chong2015:merge-and-drop"])
def test_published_columns_go_to_the_cells_that_have_their_names(folder, sizes, dataset):
    for split, name in FILES.items():
        write(folder / name, INFO[split], sizes=sizes)
    cells = pci_bench.load_dataset(dataset)
    order = np.random.default_rng(1).permutation(len(cells))[:20]
    adata = pci_bench.extract("cellprofiler-chong2015", cells[order])
    assert list(adata.var_names) == FEATURES
    assert adata.X.dtype == np.float32
    for cell, values in zip(adata.obs_names, adata.X, strict=True):
        split, row = cell.split("-")
        np.testing.assert_array_equal(values, INFO[split][int(row) - 1][[1, 2, 4]])
    assert "Info names 5 columns; 3 are CellProfiler's features of a cell, and the other 2" in " ".join(cells.notes)


@pytest.mark.parametrize(
    ("column", "kept"),
    {
        "Cells_AreaShape_Area": True,
        "Cells_AreaShape_EulerNumber": True,
        "Cells_Neighbors_NumberOfNeighbors_Adjacent": True,
        "Cells_Intensity_MeanIntensity_GFP": True,
        "Cells_Texture_Correlation_RFP_3_0": True,
        "Cells_RadialDistribution_FracAtD_GFP_1of4": True,
        "Cells_Number_Object_Number": False,
        "ObjectNumber": False,
        "Cells_Neighbors_FirstClosestObjectNumber_Adjacent": False,
        "Image_Count_Cells": False,
        "IMAGENUMBER": False,
        "Metadata_Plate": False,
        "Gene": False,
        "Cells_Location_CenterMassIntensity_X_GFP": False,
        "Cells_AreaShape_Center_Y": False,
        "Cells_AreaShape_BoundingBoxMinimum_X": False,
        "Label": False,
        "": False,
    }.items(),
)
def test_a_number_name_place_or_label_is_no_feature(column, kept):
    assert pci_bench.acquisition.deeploc_hdf5.is_feature(column) == kept


def test_missing_published_values_are_completed_and_counted(folder):
    info = {split: values.copy() for split, values in INFO.items()}
    info["valid"][3, 1], info["test"][:, 4], info["test"][5, 2] = np.nan, np.inf, -np.inf
    for split, name in FILES.items():
        write(folder / name, info[split])
    adata = pci_bench.extract("cellprofiler-chong2015", pci_bench.load_dataset("chong2015"))
    assert np.isnan(adata.X).sum() == 21
    assert not np.isinf(adata.X).any()
    (result,) = pci_bench.evaluate("loo-knn", adata, k=3)
    assert (result.details["missing"]["values"], result.details["missing"]["columns"]) == (21, 3)


def test_published_values_that_are_text_are_read_as_numbers(folder):
    for split, name in FILES.items():
        text = INFO[split].astype("S32")
        text[4, 1] = b"nan"
        text[5, 2] = b"unknown"
        write(folder / name, text)
    adata = pci_bench.extract("cellprofiler-chong2015", pci_bench.load_dataset("chong2015"))
    np.testing.assert_allclose(adata.X[:4], INFO["train"][:4, [1, 2, 4]], rtol=1e-6)
    assert list(zip(*np.where(np.isnan(adata.X[:19])), strict=True)) == [(4, 0), (5, 1)]


def test_without_named_columns_the_published_features_are_not_run(folder):
    for split, name in FILES.items():
        write(folder / name, None if split == "test" else INFO[split])
    cells = pci_bench.load_dataset("chong2015")
    reason = unavailable_reason(parse("cellprofiler-chong2015"), cells)
    assert "Chong_test_set.hdf5 holds no named CellProfiler columns" in reason
    assert "The feature set cellprofiler measures the crops instead" in reason
    assert any("Not all files hold named CellProfiler columns" in note for note in cells.notes)
    write(folder / FILES["test"], INFO["test"][:, [3]], columns=COLUMNS[3:4])
    assert "holds no named CellProfiler columns" in unavailable_reason(parse("cellprofiler-chong2015"), cells)
    (folder / FILES["valid"]).unlink()
    assert "Chong_valid_set.hdf5 is missing" in unavailable_reason(parse("cellprofiler-chong2015"), cells)


def test_other_cells_have_no_published_features(make_cells):
    reason = unavailable_reason(parse("cellprofiler-chong2015"), make_cells())
    assert reason == "it was published for chong2015 only; the feature set cellprofiler measures the crops of planted"


def test_files_that_do_not_fit_each_other_or_the_cells_are_met_with_a_sentence(folder):
    for split, name in FILES.items():
        write(folder / name, INFO[split])
    cells = pci_bench.load_dataset("chong2015")
    write(folder / FILES["valid"], INFO["valid"][:, :4], columns=COLUMNS[:4])
    with pytest.raises(UserError, match=r"lacks 1 of the 3 CellProfiler columns of .*'Cells_Texture_Contrast_GFP'"):
        pci_bench.extract("cellprofiler-chong2015", cells)
    write(folder / FILES["valid"], INFO["valid"][:7], sizes=(7,))
    with pytest.raises(UserError, match="have no cell 'valid-000008'"):
        pci_bench.extract("cellprofiler-chong2015", cells)
    for split, name in FILES.items():
        write(folder / name, INFO[split], columns=[COLUMNS[1], *COLUMNS[1:]])
    assert len(pci_bench.load_dataset("chong2015")) == 57  # whose pixels and labels do not depend on Info
    with pytest.raises(UserError, match="more than one column of Info1 Cells_AreaShape_Area"):
        pci_bench.extract("cellprofiler-chong2015", cells)

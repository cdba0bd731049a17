"""Features go to and come from the tools that people use: AnnData and scanpy, pycytominer, CytoTable and copairs."""

from __future__ import annotations

import json
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from command_line import call
from factories import make_cells, make_features

import pci_bench
from pci_bench import Channel, UserError
from pci_bench.features.columns import COLUMNS, described_columns
from pci_bench.features.files import read_features, write_features
from pci_bench.statistics.postprocessing import robust_z_scores, sphering

OPTIONAL = "not installed: pip install 'pci-bench[ecosystem]'"


def planted(n: int = 60, d: int = 5) -> anndata.AnnData:
    """Return features of three classes that lie apart, with labels and plates."""
    rng = np.random.default_rng(0)
    classes = np.arange(n) % 3
    values = rng.normal(size=(n, d)) + 4 * np.eye(3, d)[classes]
    return make_features(values, label=[f"class{c}" for c in classes], plate=[f"p{i // 3 % 2}" for i in range(n)])


# ---- AnnData as the scverse and Cell Painting communities agreed on it


def check_contract(adata: anndata.AnnData) -> None:
    assert adata.X.dtype == np.float32
    not_defined = bool(adata.uns["pci_bench"]["features"]["missing"])  # for a cell, which is then NaN
    assert (np.isfinite(adata.X) | (np.isnan(adata.X) & not_defined)).all()
    assert adata.obs_names.is_unique
    assert adata.var_names.is_unique
    assert adata.obs_names.tolist() == adata.obs["cell"].astype(str).tolist()
    assert list(adata.var.columns) == list(COLUMNS)
    for column in COLUMNS:
        assert all(isinstance(value, str) for value in adata.var[column])
    assert (adata.var[["object", "family", "measurement"]] != "").all(axis=None)
    known = adata.uns["pci_bench"]
    assert known["dataset"]["name"]
    assert known["features"]["name"]
    json.dumps(known)


@pytest.mark.parametrize(
    "features", ["intensity", "designed", "classic-haralick", "cellprofiler", "pci-random-conv1@seed0"]
)
def test_what_extract_returns_and_writes_is_as_agreed_on(features, tmp_path):
    y, x = np.mgrid[:64, :64] - 32
    disks = np.repeat((y**2 + x**2 < 400).astype(np.uint16)[None], 6, axis=0)
    cells = make_cells(6, shape=(64, 64), masks=disks, label=list("aabbcc"), plate=["1"] * 6)
    adata = pci_bench.extract(features, cells)
    check_contract(adata)
    assert set(adata.var["channel"]) <= {"GFP", "RFP", "GFP;RFP", "RFP;GFP", ""}
    write_features(adata, tmp_path / "features.h5ad")
    read = anndata.read_h5ad(tmp_path / "features.h5ad")
    pd.testing.assert_frame_equal(read.var.astype(object), adata.var, check_names=False)
    assert np.array_equal(read.X, adata.X, equal_nan=True)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("GFP_mean", ("Cells", "mine", "mean", "GFP")),
        ("GFP_bud_mean", ("bud", "mine", "mean", "GFP")),
        ("GFP_correlation_RFP", ("Cells", "mine", "correlation", "GFP;RFP")),
        ("conv4_17", ("Cells", "mine", "conv4_17", "")),
        ("GFP", ("Cells", "mine", "GFP", "GFP")),
        ("bud_to_mother_area", ("Cells", "mine", "bud_to_mother_area", "")),
        ("AreaShape_Zernike_2_0", ("Cells", "AreaShape", "Zernike_2_0", "")),
        ("Texture_Contrast_GFPRescaled_3_00_256", ("Cells", "Texture", "Contrast_Rescaled_3_00_256", "GFP")),
        ("Nuclei_Intensity_MeanIntensity_DNA", ("Nuclei", "Intensity", "MeanIntensity", "DNA")),
        ("Cells_Texture_Contrast_ER_3_00_256", ("Cells", "Texture", "Contrast_3_00_256", "ER")),
        ("Cytoplasm_Correlation_K_AGP_Mito", ("Cytoplasm", "Correlation", "K", "AGP;Mito")),
        ("Cells_RadialDistribution_FracAtD_RNA_2of4", ("Cells", "RadialDistribution", "FracAtD_2of4", "RNA")),
        ("Nuclei_Granularity_5_DNA", ("Nuclei", "Granularity", "5", "DNA")),
        ("Nuclei_Location_CenterMassIntensity_X_DNA", ("Nuclei", "Location", "CenterMassIntensity_X", "DNA")),
        ("Nuclei_AreaShape_Area", ("Nuclei", "AreaShape", "Area", "")),
    ],
)
def test_a_name_says_what_was_measured_of_what_in_which_channel(name, said):
    assert tuple(described_columns([name], ["GFP", "RFP"], "mine").iloc[0]) == said


def test_a_channel_that_is_called_by_a_number_is_not_seen_where_names_count():
    assert described_columns(["conv4_2"], ["2", "GFP"], "mine")["channel"].tolist() == [""]


def test_names_of_channels_are_taken_as_they_are():
    channels = (Channel("a.b", "protein"), Channel("a", "marker"))
    frame = described_columns(["a.b_mean", "a_mean", "axb_mean"], [c.name for c in channels], "mine")
    assert frame["channel"].tolist() == ["a.b", "a", ""]


# ---- embeddings in obsm


def scores(results) -> list[dict[str, float]]:
    return [r.metrics for r in results]


@pytest.mark.parametrize("form", [np.asarray, scipy.sparse.csr_matrix, pd.DataFrame])
def test_a_matrix_of_obsm_is_evaluated_as_if_it_were_x(form):
    adata = make_features(np.zeros((60, 2)), label=planted().obs["label"].to_numpy())
    values = form(planted().X)
    adata.obsm["X_scvi"] = values.set_axis(adata.obs_names) if isinstance(values, pd.DataFrame) else values
    (result,) = pci_bench.evaluate("loo-knn", adata, obsm="X_scvi", k=5)
    expected = pci_bench.evaluate("loo-knn", planted(), k=5)
    assert scores([result]) == scores(expected)
    assert (result.features.name, result.features.dim) == ("X_scvi", 5)


def test_several_matrices_are_feature_sets_of_their_own_on_the_same_dataset():
    adata = planted()
    adata.uns["pci_bench"] = {"dataset": {"name": "mine", "confounder": "plate"}}
    adata.obsm.update({"good": adata.X.copy(), "flat": np.zeros((60, 3)) + np.arange(60)[:, None]})
    results = pci_bench.evaluate("loo-knn", adata, obsm="good,flat", k=5, exclude="confounder")
    assert [(r.dataset.name, r.features.name, r.evaluator.params["exclude"]) for r in results] == [
        ("mine", "good", "plate"),
        ("mine", "flat", "plate"),
    ]
    assert results[0].metrics["accuracy"] > results[1].metrics["accuracy"]
    assert scores(results) == scores(pci_bench.evaluate("loo-knn", adata, obsm=["good", "flat"], k=5, exclude="plate"))


@pytest.mark.parametrize(
    ("obsm", "said"),
    [
        ({}, "There is no 'X_scvi' in obsm, which holds nothing"),
        ({"X_scvi": np.full((60, 2), np.nan)}, "NaN or infinite values, first for cell 'cell0' in 'X_scvi_0'"),
        ({"X_scvi": np.full((60, 2), "text")}, "expected numbers"),
    ],
)
def test_a_matrix_that_cannot_be_evaluated_is_said(obsm, said):
    adata = planted()
    adata.obsm.update(obsm)
    with pytest.raises(UserError, match=said):
        pci_bench.evaluate("loo-knn", adata, obsm="X_scvi")


def test_the_command_line_takes_matrices_of_a_file_without_x_and_labels_by_any_name(tmp_path, capsys, monkeypatch):
    adata = anndata.AnnData(obs=planted().obs.rename(columns={"label": "cell type"}), obsm={"X_scvi": planted().X})
    adata.write_h5ad(tmp_path / "f.h5ad")
    command = ["evaluate", tmp_path / "f.h5ad", "--with", "loo-knn", "--k", "5", "--label", "cell type", "--json"]
    done = call(capsys, monkeypatch, *command, "--obsm", "X_scvi")
    assert done.code == 0, done.err
    (found,) = json.loads(done.out)
    (expected,) = pci_bench.evaluate("loo-knn", planted(), k=5)
    assert found["metrics"] == expected.metrics
    assert found["features"]["name"] == "X_scvi"
    for more, said in (([], "has no X. It holds in obsm: X_scvi"), (["--label", "type"], "has no column 'type'")):
        refused = call(capsys, monkeypatch, *command, *more)
        assert refused.code == 2
        assert said in " ".join(refused.err.split())


# ---- CytoTable and pycytominer


def measured() -> pd.DataFrame:
    """Return measurements of four cells in two images."""
    return pd.DataFrame(
        {
            "Cells_AreaShape_Area": [10.0, 20, 30, 40],
            "Nuclei_Intensity_MeanIntensity_DNA": [0.1, 0.2, 0.3, 0.4],
            "Cytoplasm_Texture_Contrast_ER_3_00_256": [1.0, 2, 3, 4],
        }
    )


FEATURES = list(measured())
CYTOTABLE_CSV = {
    "Metadata_ImageNumber": [1, 1, 2, 2],
    "Image_Metadata_Plate": ["P1"] * 4,
    "Image_Metadata_Well": ["A01", "A01", "A02", "A02"],
    "Metadata_ObjectNumber": [1, 2, 1, 2],
    "Metadata_Cytoplasm_Parent_Cells": [1, 2, 1, 2],
    "Metadata_Cytoplasm_Parent_Nuclei": [1, 2, 1, 2],
    "Image_FileName_DNA": ["a.tif", "a.tif", "b.tif", "b.tif"],
}
CYTOTABLE_SQLITE = {
    "Metadata_ImageNumber": [1, 1, 2, 2],
    "Image_Metadata_Plate": ["P1"] * 4,
    "Image_Metadata_Well": ["A01", "A01", "A02", "A02"],
    "Metadata_Cytoplasm_Parent_Cells": [1, 2, 1, 2],
    "Metadata_Cytoplasm_Parent_Nuclei": [1, 2, 1, 2],
    "Metadata_Cells_Number_Object_Number": [1, 2, 1, 2],
    "Metadata_Nuclei_Number_Object_Number": [1, 2, 1, 2],
    "Nuclei_Parent_Cells": [1.0, 2, 1, 2],  # which older versions leave without the prefix
}
PYCYTOMINER_CELLS = {
    "Metadata_Plate": ["P1"] * 4,
    "Metadata_Well": ["A01", "A01", "A02", "A02"],
    "Metadata_Site": [1, 1, 2, 2],
    "Metadata_ImageNumber": [1.0, 1, 2, 2],  # a left join makes numbers of whole ones
    "Metadata_Cells_Number_Object_Number": [1, 2, 1, 2],
    "Metadata_gene": ["x", "x", "y", "y"],
}


@pytest.mark.parametrize("columns", [CYTOTABLE_CSV, CYTOTABLE_SQLITE, PYCYTOMINER_CELLS])
@pytest.mark.parametrize("kind", [".parquet", ".csv"])
def test_tables_of_single_cells_name_cells_by_plate_image_and_object(columns, kind, tmp_path):
    table, file = pd.DataFrame(columns).join(measured()), tmp_path / f"cells{kind}"
    table.to_parquet(file) if kind == ".parquet" else table.to_csv(file, index=False)
    adata = read_features(file)
    assert adata.obs_names.tolist() == ["P1-1-1", "P1-1-2", "P1-2-1", "P1-2-2"]
    assert adata.obs["image"].tolist() == ["P1-1", "P1-1", "P1-2", "P1-2"]
    assert adata.obs["plate"].tolist() == ["P1"] * 4
    assert adata.obs["well"].tolist() == ["A01", "A01", "A02", "A02"]
    assert adata.var_names.tolist() == FEATURES
    assert np.allclose(adata.X, measured())
    assert adata.var["object"].tolist() == ["Cells", "Nuclei", "Cytoplasm"]
    assert adata.var["channel"].tolist() == ["", "DNA", "ER"]


def test_profiles_of_wells_are_named_by_plate_and_well(tmp_path):
    wells = {
        "Metadata_Plate": ["P1", "P1", "P2", "P2"],
        "Metadata_Well": ["A01", "A02"] * 2,
        "Metadata_Object_Count": [9] * 4,
    }
    pd.DataFrame(wells).join(measured()).to_parquet(tmp_path / "wells.parquet")
    adata = read_features(tmp_path / "wells.parquet")
    assert adata.obs_names.tolist() == ["P1-A01", "P1-A02", "P2-A01", "P2-A02"]
    assert adata.var_names.tolist() == FEATURES


def test_a_name_of_our_own_is_kept_beside_the_columns_of_others(tmp_path):
    table = pd.DataFrame(CYTOTABLE_CSV).join(measured()).assign(Metadata_cell=list("wxyz"))
    table.to_parquet(tmp_path / "cells.parquet")
    assert read_features(tmp_path / "cells.parquet").obs_names.tolist() == list("wxyz")


def test_what_names_a_cell_must_be_there_and_once(tmp_path):
    table = pd.DataFrame(CYTOTABLE_CSV).join(measured())
    table.assign(Metadata_ObjectNumber=1).to_parquet(tmp_path / "twice.parquet")
    with pytest.raises(UserError, match="names a cell twice, for example 'P1-1-1'"):
        read_features(tmp_path / "twice.parquet")
    table.assign(Metadata_ObjectNumber=[1, None, 1, 2]).to_parquet(tmp_path / "gap.parquet")
    with pytest.raises(UserError, match="names no cell in 1 rows, first in row 2"):
        read_features(tmp_path / "gap.parquet")
    measured().to_parquet(tmp_path / "nameless.parquet")
    with pytest.raises(UserError, match="nor Metadata_ImageNumber and the number of an object"):
        read_features(tmp_path / "nameless.parquet")


def test_what_we_write_is_read_by_pycytominers_rules(tmp_path):
    """Columns that begin with Metadata_ are metadata; everything else is a feature."""
    adata = pci_bench.extract("intensity", make_cells(4, label=list("aabb")))
    write_features(adata, tmp_path / "features.parquet")
    table = pd.read_parquet(tmp_path / "features.parquet")
    features = [c for c in table if not c.startswith("Metadata_")]
    assert features == adata.var_names.tolist()
    assert table["Metadata_label"].astype(str).tolist() == list("aabb")


# ---- scanpy and copairs


def test_scanpy_finds_neighbours_and_a_umap_of_our_features(tmp_path):
    scanpy = pytest.importorskip("scanpy", reason=f"scanpy is {OPTIONAL}")
    file: Path = tmp_path / "features.h5ad"
    write_features(planted(90), file)
    adata = anndata.read_h5ad(file)
    scanpy.pp.scale(adata)
    scanpy.pp.neighbors(adata, n_neighbors=10, use_rep="X")
    scanpy.tl.umap(adata, random_state=0)
    (inside,) = pci_bench.evaluate("loo-knn", adata, obsm="X_umap", k=5)
    assert inside.features.name == "X_umap"
    assert inside.metrics["accuracy"] > 0.9  # the planted classes stay apart
    assert len(pci_bench.plot.umap(adata).get_legend().get_texts()) == 3


def test_copairs_scores_our_features_by_their_labels(tmp_path):
    average_precision = pytest.importorskip("copairs.map", reason=f"copairs is {OPTIONAL}").average_precision
    from sklearn.metrics import average_precision_score
    from sklearn.metrics.pairwise import cosine_similarity

    write_features(planted(30), tmp_path / "features.parquet")
    table = pd.read_parquet(tmp_path / "features.parquet")
    meta = table.filter(regex="^Metadata_").astype(str)
    values = table.filter(regex="^(?!Metadata_)").to_numpy()
    scored = average_precision(meta, values, ["Metadata_label"], [], [], ["Metadata_label"])
    similarity, label = cosine_similarity(values), meta["Metadata_label"].to_numpy()
    for row in range(len(label)):
        others = np.arange(len(label)) != row
        expected = average_precision_score(label[others] == label[row], similarity[row, others])
        assert np.isclose(scored["average_precision"].iloc[row], expected, atol=1e-5)


def test_sphering_and_robust_z_scores_are_pycytominers():
    transform = pytest.importorskip("pycytominer.operations.transform", reason=OPTIONAL)
    rng = np.random.default_rng(0)
    values = rng.normal(size=(500, 20)) @ rng.normal(size=(20, 20)) + 3
    frame = pd.DataFrame(values)
    sphered = transform.Spherize(method="ZCA-cor", return_numpy=True).fit(frame).transform(frame)
    assert np.allclose(sphering(values).apply(values), sphered, atol=1e-10)
    robust = transform.RobustMAD().fit(frame).transform(frame).to_numpy()
    assert np.allclose(robust_z_scores(values).apply(values), robust, atol=1e-10)

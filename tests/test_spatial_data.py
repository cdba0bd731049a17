"""SpatialData stores: images and label images of a store are proposed as a layout and cut, without the library that wrote them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import zarr
from command_line import call
from skimage.measure import regionprops

from pci_bench import UserError
from pci_bench.acquisition.images import describe_image
from pci_bench.acquisition.proposal import propose_layout, write_proposal
from pci_bench.datasets.prepared import prepare_dataset

SIZE, CENTRES = 160, [(y, x) for y in (48, 112) for x in (48, 112)]


def labels_of(seed: int) -> np.ndarray:
    """Four discs (160, 160), whose centres each field has a little elsewhere."""
    y, x = np.mgrid[:SIZE, :SIZE]
    labels = np.zeros((SIZE, SIZE), np.int16)
    for number, (row, column) in enumerate(CENTRES, 1):
        labels[np.hypot(y - row - seed, x - column + seed) <= 8] = number
    return labels


def pixels_of(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 4000, (2, SIZE, SIZE)).astype(np.uint16)


def element(store: Path, kind: str, name: str, pixels: np.ndarray, axes: str, names=(), zarr_format=3) -> None:
    """Write an element as SpatialData 0.5 does (Zarr 3, OME-Zarr 0.5), or as 0.2 did (Zarr 2, OME-Zarr 0.4)."""
    group = zarr.open_group(store / kind / name, mode="w", zarr_format=zarr_format)
    multiscales = {
        "axes": [{"name": a, "type": "channel" if a == "c" else "space"} for a in axes],
        "coordinateTransformations": [{"type": "identity", "input": {}, "output": {"name": "global"}}],
        "datasets": [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1.0] * len(axes)}]}],
        "name": f"/{kind}/{name}",
    }
    omero = {"channels": [{"label": name} for name in names]}
    if zarr_format == 3:
        ome = {"version": "0.5-dev-spatialdata", "multiscales": [multiscales]} | ({"omero": omero} if names else {})
        group.attrs.update({"ome": ome, "spatialdata_attrs": {"version": "0.3"}})
    else:
        group.attrs.update(
            {"multiscales": [multiscales | {"version": "0.4-dev"}], "spatialdata_attrs": {"version": "0.1"}}
            | ({"omero": omero} if names else {})
        )
    array = group.create_array("0", shape=pixels.shape, chunks=pixels.shape, dtype=pixels.dtype)
    array[:] = pixels


def store_of(folder: Path, fields=("a", "b"), zarr_format=3) -> Path:
    root = zarr.open_group(folder, mode="w", zarr_format=zarr_format)
    root.attrs["spatialdata_attrs"] = {"version": "0.2", "spatialdata_software_version": "0.5.0"}
    for kind in ("images", "labels", "tables"):
        root.create_group(kind)
    table = root["tables"].create_group("table")  # an AnnData, which is no image
    table.create_array("X", shape=(3, 2), chunks=(3, 2), dtype="float32")
    for seed, field in enumerate(fields):
        element(folder, "images", f"{field}_image", pixels_of(seed), "cyx", ("GFP", "DAPI"), zarr_format)
        element(folder, "labels", f"{field}_labels", labels_of(seed), "yx", zarr_format=zarr_format)
    return folder


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("given", ["the store", "a folder of stores"])
def test_cells_are_cut_around_the_labels_of_a_store(tmp_path, given, zarr_format, monkeypatch):
    monkeypatch.setenv("PCI_BENCH_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "screen"
    store_of(folder if given == "the store" else folder / "one.zarr", zarr_format=zarr_format)
    proposal = write_proposal(folder, tmp_path / "layout.toml")
    assert proposal.convention == "SpatialData"
    assert list(proposal.layout.channels) == ["GFP", "DAPI"]
    assert proposal.layout.segment.masks is not None
    cells, _ = prepare_dataset(tmp_path / "layout.toml", "stored", workers=1)
    expected = []
    for seed in (0, 1):
        for region in regionprops(labels_of(seed)):
            row, column = (int(np.floor(c + 0.5)) - 32 for c in region.centroid)
            expected.append(pixels_of(seed)[:, row : row + 64, column : column + 64])
    np.testing.assert_array_equal(cells.stored(slice(None)), expected)
    assert cells.has_masks


def test_labels_that_are_not_one_for_each_image_are_left_to_the_user(tmp_path):
    store = store_of(tmp_path / "one.zarr", fields=("a",))
    element(store, "labels", "nuclei", labels_of(0), "yx")
    proposal = propose_layout(store)
    assert proposal.layout.segment.masks is None
    assert proposal.layout.segment.segmenter == "nuclei"
    assert any("label image" in note for note in proposal.notes)


def test_a_folder_called_labels_elsewhere_holds_images(tmp_path):
    for field in ("a", "b"):
        element(tmp_path / "plain", "labels", field, pixels_of(0), "cyx", ("GFP", "DAPI"))
    assert [f.name for f in propose_layout(tmp_path / "plain").found.fields] == ["a", "b"]


def test_a_store_without_images_is_a_sentence(tmp_path):
    store = store_of(tmp_path / "one.zarr", fields=())
    element(store, "labels", "cells", labels_of(0), "yx")
    with pytest.raises(UserError, match="label images, and no image of a field"):
        propose_layout(store)


def test_an_element_is_described_as_ome_zarr(tmp_path):
    store = store_of(tmp_path / "one.zarr")
    described = describe_image(store / "images" / "a_image")
    assert (described.shape, described.channels, described.channel_names) == ((SIZE, SIZE), 2, ("GFP", "DAPI"))


def test_the_command_shows_what_it_would_read(tmp_path, capsys, monkeypatch):
    store = store_of(tmp_path / "one.zarr")
    said = call(capsys, monkeypatch, "data", "layout", store, "--out", tmp_path / "layout.toml")
    assert said.code == 0, said.err
    assert "SpatialData" in said.out
    assert json.dumps("labels/{sample}_labels") in (tmp_path / "layout.toml").read_text()

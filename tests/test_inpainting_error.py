"""Errors of inpainting: pairs as declared, errors as NumPy computes them, and networks of known behaviour."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from factories import make_cells, make_features

from pci_bench import UserError, evaluate
from pci_bench.api.evaluator import EVALUATORS, EvaluationContext
from pci_bench.data.examples import as_table, from_table
from pci_bench.evaluators import inpainting_error
from pci_bench.evaluators.inpainting_error import InpaintingParams, draw_pairs, squared_errors


class Copies(torch.nn.Module):
    """Predicts the source's protein."""

    config = {"proteins": 1}  # noqa: RUF012 - as networks have it

    def forward(self, source, markers):
        return source[:, :1]


def planted(n_images=6, per=8, seed=0):
    """Images whose proteins look alike within and different between; labels by image."""
    rng = np.random.default_rng(seed)
    patterns = rng.random((n_images, 16, 16))
    crops = np.empty((n_images * per, 2, 16, 16), np.float32)
    for i in range(n_images):
        for j in range(per):
            crops[i * per + j, 0] = patterns[i] + 0.05 * rng.random((16, 16))
            crops[i * per + j, 1] = rng.random((16, 16))
    images = [f"i{i}" for i in range(n_images) for _ in range(per)]
    columns = {"cell": [f"c{k:03d}" for k in range(len(crops))], "image": images, "label": images}
    of = {"features": {"name": "pci-conv4", "weights_family": "pci"}}
    return make_cells(crops=crops, **columns), make_features(np.zeros((len(crops), 1)), of, **columns)


@pytest.fixture
def outcome(monkeypatch, tmp_path):
    monkeypatch.setattr("pci_bench.inpainting.network.load_network", lambda file: Copies())
    cells, adata = planted()
    run = EvaluationContext(seed=0, cells=cells, weights=tmp_path / "any")
    (found,) = EVALUATORS.get("inpainting-error")(adata, [InpaintingParams(pairs=200)], run)
    return cells, found


def test_a_network_that_copies_its_source_has_the_error_of_copying(outcome):
    _, found = outcome
    assert found.metrics["matched"] == pytest.approx(found.metrics["copy_source"])
    assert found.metrics["mismatched"] > 5 * found.metrics["matched"]


def test_the_mean_of_the_image_does_not_hold_the_target(outcome):
    cells, found = outcome
    crops = cells.crops(slice(None))[:, 0].astype(float)
    errors = []
    for image in range(6):
        members = crops[image * 8 : image * 8 + 8]
        errors += [((np.delete(members, j, axis=0).mean(axis=0) - members[j]) ** 2).mean() for j in range(8)]
    low, high = found.intervals["image_mean"]
    assert low <= np.mean(errors) <= high
    assert min(errors) <= found.metrics["image_mean"] <= max(errors)


def test_pairs_are_of_one_image_and_strangers_of_another_kind():
    images = np.repeat(np.arange(10), 5)
    kinds = images % 3
    names = np.array([f"c{i:02d}" for i in range(50)])
    pairs = draw_pairs(images, kinds, names, 3000, seed=1)
    assert (images[pairs.targets] == images[pairs.sources]).all()
    assert (pairs.targets != pairs.sources).all()
    assert (kinds[pairs.targets] != kinds[pairs.mismatched]).all()
    counts = np.bincount(images[pairs.targets], minlength=10)
    assert ((counts - 300) ** 2 / 300).sum() < 27.9  # chi-square, 9 degrees of freedom, p = 0.001


def test_pairs_do_not_depend_on_the_order_of_the_cells():
    images = np.repeat(np.arange(6), 4)
    names = np.array([f"c{i:02d}" for i in range(24)])
    first = draw_pairs(images, images, names, 50, seed=2)
    order = np.random.default_rng(0).permutation(24)
    other = draw_pairs(images[order], images[order], names[order], 50, seed=2)
    assert names[first.targets].tolist() == names[order][other.targets].tolist()
    assert names[first.mismatched].tolist() == names[order][other.mismatched].tolist()


def test_an_error_is_the_mean_of_squares():
    rng = np.random.default_rng(0)
    a, b = rng.random((3, 2, 4, 5)), rng.random((3, 2, 4, 5))
    expected = [
        sum((x - y) ** 2 for x, y in zip(p.ravel(), q.ravel(), strict=True)) / 40 for p, q in zip(a, b, strict=True)
    ]
    assert squared_errors(a, b) == pytest.approx(expected)


def test_examples_show_the_task_first_and_then_sources_of_every_label_for_targets_of_others(outcome):
    cells, found = outcome
    table = found.tables["examples"]
    assert table["pair"].drop_duplicates().tolist() == ["matched", "mismatched"]
    for pair, of_pair in table.groupby("pair"):
        assert set(of_pair["label"]) == set(cells.obs["label"])
        assert ((of_pair["label"] == of_pair["target_label"]) == (pair == "matched")).all()
    images = dict(zip(cells.obs["cell"], cells.obs["image"], strict=True))
    matched = table[table["pair"] == "matched"]
    assert matched["source"].map(images).equals(matched["target"].map(images))
    assert (matched["source"] != matched["target"]).all()
    planes = from_table(table, ["pair", "label", "example", "panel"])
    first = table[(table["pair"] == "mismatched") & (table["label"] == "i0") & (table["example"] == 0)].iloc[0]
    position = cells.obs.index[cells.obs["cell"] == first["source"]][0]
    np.testing.assert_allclose(
        planes["mismatched", "i0", 0, "source GFP"], cells.crops([position])[0, 0], atol=0.5 / 255 + 1e-6
    )


def test_the_error_of_an_example_is_that_of_its_pictures(outcome):
    _, found = outcome
    table = found.tables["examples"]
    planes = from_table(table, ["pair", "label", "example", "panel"])
    for row in table.drop_duplicates(["pair", "label", "example"]).itertuples():
        key = (row.pair, row.label, row.example)
        difference = planes[*key, "predicted GFP"] - planes[*key, "real GFP"]
        assert row.mse == pytest.approx((difference**2).mean(), abs=2e-3)


def test_planes_survive_the_table():
    rng = np.random.default_rng(0)
    planes = [rng.random((4, 6)), rng.random((4, 6))]
    back = from_table(as_table(planes, [{"a": 1, "b": "x"}, {"a": 1, "b": "y"}]), ["a", "b"])
    for key, plane in zip([(1, "x"), (1, "y")], planes, strict=True):
        np.testing.assert_allclose(back[key], plane, atol=0.5 / 255 + 1e-9)


def test_features_of_no_inpainting_network_and_missing_crops_are_sentences():
    _, adata = planted()
    with pytest.raises(UserError, match="crops and the network's weights"):
        evaluate("inpainting-error", adata)
    adata.uns["pci_bench"]["features"] = {"name": "intensity", "weights_family": ""}
    with pytest.raises(UserError, match="intensity is not computed by a network"):
        evaluate("inpainting-error", adata)


def test_images_of_one_cell_are_a_sentence():
    _, adata = planted()
    adata.obs["image"] = adata.obs["cell"]
    with pytest.raises(UserError, match="no image has two cells"):
        evaluate("inpainting-error", adata)


def test_predictions_are_those_of_the_network_on_the_targets_markers():
    from pci_bench.inpainting import PairedCellInpainting

    network = PairedCellInpainting(width=0.05).eval()
    rng = np.random.default_rng(0)
    source, target = rng.random((2, 3, 2, 16, 16), dtype=np.float32)
    changed = target.copy()
    changed[:, 0] = 0
    first = inpainting_error.predicted(network, source, target)
    np.testing.assert_array_equal(first, inpainting_error.predicted(network, source, changed))
    assert first.shape == (3, 1, 16, 16)

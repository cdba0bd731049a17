"""Supplementary Figure 1: what paired cell inpainting predicts; and what follows from its construction."""

import numpy as np
import torch

from pci_bench import weights
from pci_bench.inpainting.network import load_network
from pci_bench.training.pairs import draw_epoch

FEATURES = "pci-conv4@lu2019-human"


def test_the_published_network_is_pictured_on_the_atlas(paper):
    (result,) = paper.results("inpainting", "hpa-v18", [FEATURES])
    assert result.details["n_pairs"] > 0
    panels = set(result.tables["examples"]["panel"])
    assert any(panel.startswith("predicted") for panel in panels)
    assert any(panel.startswith("real") for panel in panels)


def test_no_number_moved(bundled):
    bundled.assert_nothing_moved("inpainting")


def test_a_source_of_the_image_helps_more_than_a_stranger_or_a_copy(bundled):
    (result,) = bundled.results("inpainting")
    m = result.metrics
    assert m["matched"] < min(m["mismatched"], m["copy_source"], m["image_mean"])


def shipped(channels):
    network = load_network(weights.find("pci", "human-sim"))
    rng = np.random.default_rng(0)
    return network, torch.from_numpy(rng.random((2, channels, 64, 64), dtype=np.float32))


def test_features_are_the_sources_alone():
    """The encoder of the target's markers and the decoder may hold anything."""
    network, crops = shipped(3)
    before = network.source_encoder.features(crops)
    with torch.no_grad():
        for part in (network.marker_encoder, network.decoder):
            for parameter in part.parameters():
                parameter.fill_(1e3)
    after = network.source_encoder.features(crops)
    assert all(torch.equal(before[layer], after[layer]) for layer in before)


def test_the_prediction_depends_on_the_targets_markers():
    network, crops = shipped(3)
    source, target = crops[:1], crops[1:]
    with torch.no_grad():
        predicted = network(source, target[:, 1:])
        assert predicted.shape == (1, 1, 64, 64)
        assert not torch.equal(network(source, target[:, 1:].flip(-1)), predicted)


def test_a_target_is_another_cell_of_the_image_each_as_often_as_any():
    images = np.array([3, 1, 3, 1, 3, 1, 1])
    epochs = 3000
    counts = np.zeros((len(images), len(images)))
    for number in range(epochs):
        epoch = draw_epoch(images, seed=0, epoch=number)
        assert sorted(epoch.sources) == list(range(len(images)))  # every cell once
        counts[epoch.sources, epoch.targets] += 1
    same = (images[:, None] == images[None]) & ~np.eye(len(images), dtype=bool)
    assert not counts[~same].any()
    for row, possible in zip(counts, same, strict=True):
        expected = epochs / possible.sum()
        assert (
            abs(row[possible] - expected) < 5 * np.sqrt(expected)
        ).all()  # 5 standard deviations of a binomial, at least

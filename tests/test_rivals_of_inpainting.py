"""Rivals of paired cell inpainting, and its variants: what each is trained on, its loss, and that training is as for the others."""

import itertools
import json

import numpy as np
import pytest
import torch
from factories import YEAST, make_cells
from scipy import ndimage, stats

import pci_bench
from pci_bench import UserError
from pci_bench.api.model import MODELS
from pci_bench.system.progress import Progress
from pci_bench.training.loop import Recipe, train
from pci_bench.training.objectives.hard_pairs import hard_targets, morphology
from pci_bench.training.objectives.identity import held_out_cells
from pci_bench.training.objectives.several_sources import draw_groups
from pci_bench.training.pairs import draw_targets

MODELS_HERE = (
    "image-identity",
    "image-in-plate",
    "protein-identity",
    "cross-channel",
    "pci-several-sources",
    "pci-hard-pairs",
    "pci-residual",
    "pci-adversarial",
)
SMALL = Recipe(epochs=2, width=1 / 24, batch=8, learning_rate=2e-3, held_out=0.2)


def screen(n_images=8, cells_per_image=8, size=16, seed=0):
    """Two images of each protein, two proteins on each plate; a protein's texture is its own, rough or smooth."""
    rng = np.random.default_rng(seed)
    image = np.repeat(np.arange(n_images), cells_per_image)
    protein = image // 2
    crops = rng.random((len(image), 2, size, size))
    smooth = np.stack([ndimage.gaussian_filter(crop, 2.0, mode="wrap") for crop in crops[:, 0]])
    crops[:, 0] = np.where((protein % 2 == 0)[:, None, None], crops[:, 0], smooth)
    return make_cells(
        crops=crops.astype(np.float32),
        channels=YEAST,
        cell=[f"c{i}" for i in range(len(image))],
        image=[f"image {i}" for i in image],
        protein=[f"protein {i}" for i in protein],
        plate=[f"plate {i}" for i in image // 4],
        label=[("rough", "smooth")[i % 2] for i in protein],
    )


def objective_of(model, cells, recipe=SMALL):
    return MODELS.get(model).objective(cells, recipe, Progress())


def weights_of(trained):
    from safetensors.numpy import load_file

    return load_file(trained.file)


def output_of(model):
    return "pooled" if model == "pci-residual" else "conv5"


# ---- every one of them


@pytest.mark.parametrize("model", MODELS_HERE)
def test_two_epochs_resumed_after_the_first_give_the_network_of_two_at_once_whatever_the_labels(model, monkeypatch):
    from pci_bench.training import loop

    cells, relabelled = screen(), screen()
    relabelled.obs["label"] = relabelled.obs["label"].to_numpy()[::-1]
    whole = weights_of(train(model, cells, SMALL, name="whole"))
    original = loop._train_epoch

    def interrupted(*args):
        if args[1] == 1:
            raise KeyboardInterrupt
        return original(*args)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "_train_epoch", interrupted)
        train(model, relabelled, SMALL, name="parts")
    trained = train(model, relabelled, SMALL, name="parts", resume=True)
    for key, value in weights_of(trained).items():
        np.testing.assert_array_equal(whole[key], value, err_msg=key)
    facts = json.loads(trained.file.with_suffix(".json").read_text())
    assert facts["dataset"]["trained_on"] + round(0.2 * len(cells)) in range(len(cells) - 3, len(cells) + 5)
    features = pci_bench.extract(f"{model}-{output_of(model)}@parts", cells)
    assert len(features) == len(cells)
    assert np.isfinite(features.X).all()


@pytest.mark.parametrize("model", MODELS_HERE)
def test_an_order_for_supervised_models_is_met_with_a_sentence(model):
    with pytest.raises(UserError, match="--order stored is for supervised models"):
        objective_of(model, screen(), SMALL.model_copy(update={"order": "stored"}))


# ---- identity


def test_a_share_of_every_group_is_held_out_and_never_all_of_one():
    groups = np.array([0] * 10 + [1] * 30 + [2] + [-1] * 5)
    held_out = held_out_cells(groups, 0.2, seed=3)
    np.testing.assert_array_equal(np.bincount(groups[held_out], minlength=3), [2, 6, 0])
    np.testing.assert_array_equal(held_out, held_out_cells(groups, 0.2, seed=3))
    assert len(held_out_cells(groups, 0.0, seed=3)) == 0
    assert np.bincount(groups[held_out_cells(groups, 0.99, seed=3)], minlength=3)[0] == 9


@pytest.mark.parametrize("model", ["image-identity", "image-in-plate", "protein-identity"])
def test_identity_loss_is_the_mean_log_share_of_the_group_among_those_that_compete(model):
    cells = screen()
    objective = objective_of(model, cells)
    crops = cells.crops(np.arange(len(cells)))
    network = objective.build().eval()
    chosen = objective.training[::7]
    groups = torch.from_numpy(objective.of_cells[chosen])
    with torch.inference_mode():
        loss = float(objective.loss(network, (torch.from_numpy(crops[chosen]), groups)))
        logits = network(torch.from_numpy(crops[chosen])).double().numpy()
    column = "protein" if model == "protein-identity" else "image"
    expected = []
    for cell, scores in zip(chosen, logits, strict=True):
        on_plate = cells.obs["plate"] == cells.obs["plate"].iloc[cell]
        rivals = cells.obs[column][on_plate] if model == "image-in-plate" else cells.obs[column]
        names = [str(name).partition("\n")[2] for name in objective.groups]
        compete = [np.exp(s) for s, name in zip(scores, names, strict=True) if name in set(rivals)]
        expected.append(-np.log(np.exp(scores[names.index(cells.obs[column].iloc[cell])]) / sum(compete)))
    assert loss == pytest.approx(np.mean(expected), rel=1e-4)
    assert len({len(objective.groups)} - {4 if column == "protein" else 8}) == 0


def test_proteins_that_differ_in_texture_are_told_apart_by_features_of_their_images_identity():
    cells, others = screen(cells_per_image=24), screen(cells_per_image=8, seed=1)
    recipe = SMALL.model_copy(update={"epochs": 12, "width": 1 / 12, "batch": 16, "learning_rate": 5e-3})
    trained = train("image-identity", cells, recipe, name="texture")
    assert (
        trained.history[-1]["loss"] < trained.references["the candidates' frequencies"] - 0.4
    )  # ln 2: rough or smooth
    known, new = (pci_bench.extract("image-identity-conv5@texture", c).X for c in (cells, others))
    spread = known.std(axis=0) + 1e-6
    nearest = np.linalg.norm((new[:, None] - known) / spread, axis=2).argmin(axis=1)
    of_known, of_new = cells.obs["label"].to_numpy(), others.obs["label"].to_numpy()
    assert (of_known[nearest] == of_new).mean() > 0.9


@pytest.mark.parametrize(
    ("model", "changed", "sentence"),
    [
        ("image-in-plate", {"plate": ""}, "its cells name no plate"),
        ("image-in-plate", {"plate": [f"plate {i // 8}" for i in range(64)]}, "two values of image on one plate"),
        ("protein-identity", {"protein": "one"}, "at least two values of protein"),
        ("image-identity", {"image": "one"}, "at least two values of image"),
    ],
)
def test_cells_without_groups_to_tell_apart_are_met_with_a_sentence(model, changed, sentence):
    cells = screen()
    for column, value in changed.items():
        cells.obs[column] = value
    with pytest.raises(UserError, match=sentence):
        objective_of(model, cells)


def test_images_alone_on_their_plate_are_left_out_and_counted():
    cells = screen()
    cells.obs["plate"] = ["alone" if image == "image 0" else "others" for image in cells.obs["image"]]
    heard: list[str] = []
    progress = Progress()
    progress.say = heard.append
    objective = MODELS.get("image-in-plate").objective(cells, SMALL, progress)
    assert not set(objective.training) & set(range(8))
    assert any("8 cells" in sentence and "left out" in sentence for sentence in heard)


# ---- more than one source cell


@pytest.mark.parametrize("sources", [2, 3])
def test_a_group_is_of_one_image_without_its_target_and_every_cell_is_a_source(sources):
    images = np.repeat([4, 1, 7], [7, 4, 9])
    groups, targets = draw_groups(images, sources, np.random.default_rng(0))
    assert len(groups) == sum(-(-n // sources) for n in (7, 4, 9))
    assert set(groups.ravel()) == set(range(len(images)))
    for group, target in zip(groups, targets, strict=True):
        assert len({*group, target}) == sources + 1
        assert len({*images[group], images[target]}) == 1


def test_targets_of_groups_are_equally_likely():
    drawn = [draw_groups(np.zeros(5, int), 2, np.random.default_rng(seed)) for seed in range(2000)]
    counts = np.bincount(np.concatenate([targets for _, targets in drawn]), minlength=5)
    assert stats.chisquare(counts).pvalue > 1e-3


def test_a_prediction_from_several_sources_is_the_decoders_of_the_mean_code():
    cells = screen()
    network = objective_of("pci-several-sources", cells).build().eval()
    crops = torch.from_numpy(cells.crops(np.arange(9)))
    with torch.inference_mode():
        predicted = network(crops[:6], crops[6:, 1:])
        for i in range(3):
            code = (
                network.source_encoder(crops[2 * i : 2 * i + 1]) + network.source_encoder(crops[2 * i + 1 : 2 * i + 2])
            ) / 2
            marker = network.marker_encoder(crops[6 + i : 7 + i, 1:])
            torch.testing.assert_close(
                predicted[i : i + 1], network.decoder(torch.cat([code, marker], dim=1)), rtol=1e-4, atol=1e-5
            )


def test_a_batch_of_source_cells_has_half_as_many_targets_and_an_epoch_sees_every_cell():
    cells = screen(cells_per_image=9)
    objective = objective_of("pci-several-sources", cells)
    batches = list(objective.batches(cells.crops(np.arange(len(cells))), 0))
    assert {(len(source), len(target)) for source, target in batches} == {(8, 4)}
    assert len(batches) == 6 * 10 // 8  # six images trained on; nine cells are five groups
    with pytest.raises(UserError, match="not divisible"):
        objective_of("pci-several-sources", cells, SMALL.model_copy(update={"batch": 7}))


# ---- hard pairs


def test_morphology_is_that_of_scipy_and_scikit_image():
    from skimage.measure import inertia_tensor_eigvals

    crops = ndimage.gaussian_filter(np.random.default_rng(0).random((4, 2, 12, 10)), (0, 0, 1, 1))
    measured = morphology(crops).reshape(4, 2, 5)
    for cell, marker in itertools.product(range(4), range(2)):
        image = crops[cell, marker]
        along = np.sqrt(inertia_tensor_eigvals(image))
        down, across = np.gradient(image)
        expected = [image.mean(), image.std(), *along, np.sqrt(down**2 + across**2).mean()]
        np.testing.assert_allclose(measured[cell, marker], expected, rtol=1e-8)


def test_morphology_does_not_change_by_flips_and_quarter_turns():
    crops = np.random.default_rng(0).random((3, 1, 8, 8))
    for turned in (crops[..., ::-1], crops[:, :, ::-1], np.rot90(crops, axes=(2, 3))):
        np.testing.assert_allclose(morphology(turned), morphology(crops), rtol=1e-10)


def test_hard_pairs_are_the_farthest_of_so_many_and_harder_than_pairs_at_random():
    rng = np.random.default_rng(0)
    images, measured = np.repeat(np.arange(20), 15), rng.normal(size=(300, 5))
    targets = hard_targets(images, measured, 4, np.random.default_rng(1))
    assert (images[targets] == images).all()
    assert (targets != np.arange(300)).all()
    again, expected = np.random.default_rng(1), np.zeros((4, 300), int)
    for number in range(4):
        expected[number] = draw_targets(images, again.random(300))
    distances = np.linalg.norm(measured[expected] - measured, axis=2)
    np.testing.assert_array_equal(targets, expected[distances.argmax(axis=0), np.arange(300)])
    hard = np.linalg.norm(measured[targets] - measured, axis=1)
    plain = np.linalg.norm(measured[expected[0]] - measured, axis=1)
    assert (hard >= plain).all()
    assert hard.mean() > 1.2 * plain.mean()


def test_one_partner_is_paired_cell_inpainting():
    images = np.repeat(np.arange(5), 6)
    hard = hard_targets(images, np.zeros((30, 1)), 1, np.random.default_rng(2))
    np.testing.assert_array_equal(hard, draw_targets(images, np.random.default_rng(2).random(30)))


def test_a_training_on_hard_pairs_reads_the_markers_alone_and_the_pairs_are_harder_by_them():
    cells = screen()
    crops = cells.crops(np.arange(len(cells)))
    hard, plain = (objective_of(model, cells).draw(crops, 0) for model in ("pci-hard-pairs", "pci"))
    np.testing.assert_array_equal(hard.sources, plain.sources)
    training = objective_of("pci", cells).training
    measured = stats.zscore(morphology(crops[training][:, 1:]), axis=0)
    far, near = (np.linalg.norm(measured[e.sources] - measured[e.targets], axis=1).mean() for e in (hard, plain))
    assert far > 1.1 * near
    other_protein = crops.copy()
    other_protein[:, 0] = 0.5
    np.testing.assert_array_equal(objective_of("pci-hard-pairs", cells).draw(other_protein, 0).targets, hard.targets)


# ---- a residual network


def test_the_residual_networks_decoder_reads_one_vector_of_the_source_which_is_the_pooled_feature():
    cells = screen()
    trained = train("pci-residual", cells, SMALL.model_copy(update={"epochs": 1}), name="vector")
    from pci_bench_baselines.networks.residual import ResidualInpainting

    from pci_bench.weights import network_in, read_header

    network = network_in(trained.file, lambda: ResidualInpainting(**read_header(trained.file).config))
    crops = torch.from_numpy(cells.crops(np.arange(4)))
    with torch.inference_mode():
        vector = network.source_encoder(crops)
    assert vector.shape == (4, 16)
    features = pci_bench.extract("pci-residual-pooled@vector", cells).X[:4]
    np.testing.assert_allclose(features, vector.numpy(), rtol=1e-4, atol=1e-5)


def test_a_residual_block_is_its_input_and_two_convolutions_of_it():
    from pci_bench_baselines.networks.residual import ResidualBlock
    from torch.nn import functional

    block, x = ResidualBlock(3, 3, 1).eval(), torch.randn(2, 3, 6, 6)
    scale = 1 / np.sqrt(1 + 1e-3)  # batch norm at its start
    inner = functional.relu(scale * functional.conv2d(x, block.first.weight, padding=1))
    expected = functional.relu(x + scale * functional.conv2d(inner, block.second.weight, padding=1))
    torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-5)


# ---- predictions across channels


def test_cross_channel_predictions_depend_on_the_other_channel_alone():
    cells = screen()
    network = objective_of("cross-channel", cells).build().eval()
    crops = torch.from_numpy(cells.crops(np.arange(4)))
    for channel in (0, 1):
        changed = crops.clone()
        changed[:, channel] = torch.rand_like(changed[:, channel])
        with torch.inference_mode():
            before, after = network(crops), network(changed)
        torch.testing.assert_close(before[:, channel], after[:, channel])
        assert not torch.allclose(before[:, 1 - channel], after[:, 1 - channel])


# ---- an adversarial loss


def test_the_adversarial_loss_is_its_three_terms_and_their_gradients_do_not_mix():
    cells = screen()
    objective = objective_of("pci-adversarial", cells)
    network = objective.build().eval()
    crops = torch.from_numpy(cells.crops(np.arange(16)))
    source, target = crops[:8], crops[8:]
    loss = objective.loss(network, (source, target))
    predicted = network(source, target[:, 1:])
    of_prediction = network.critic(torch.cat([predicted, target[:, 1:]], dim=1))
    error, fooled = ((predicted - target[:, :1]) ** 2).mean(), ((of_prediction - 1) ** 2).mean()
    of_critic = ((network.critic(target) - 1) ** 2).mean() + (of_prediction**2).mean()
    assert float(loss.detach()) == pytest.approx(float((error + 0.01 * fooled + of_critic).detach()), rel=1e-5)
    loss.backward()
    critics, others = list(network.critic.parameters()), list(network.decoder.parameters())
    detached = (network.critic(target) - 1).square().mean() + network.critic(
        torch.cat([predicted.detach(), target[:, 1:]], dim=1)
    ).square().mean()
    for parameter, expected in zip(critics, torch.autograd.grad(detached, critics), strict=True):
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-3, atol=1e-6)
    for parameter, expected in zip(others, torch.autograd.grad(error + 0.01 * fooled, others), strict=True):
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-3, atol=1e-6)

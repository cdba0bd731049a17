"""Rivals of paired cell inpainting that learn without labels: they train, resume, keep their encoder, and learn what is planted."""

import json

import factories
import numpy as np
import pytest
from scipy import ndimage

from pci_bench import UserError
from pci_bench.api.extractor import EXTRACTORS
from pci_bench.api.model import MODELS
from pci_bench.system.progress import Progress
from pci_bench.training.loop import recipe_of, train

RIVALS = (
    "contrastive",
    "paired-contrastive",
    "plate-contrastive",
    "self-distillation",
    "masked-autoencoder",
    "rotation",
)
SMALL = {"epochs": 2, "width": 1 / 24, "batch": 8, "learning_rate": 2e-3, "held_out": 0.2}


def make_cells(n_images=10, cells_per_image=5, side=32, seed=0, name="planted", **columns):
    """Two textures of the same brightness and contrast, an image of one each, under a blob of a cell's own size and strength."""
    rng = np.random.default_rng(seed)
    image = np.repeat(np.arange(n_images), cells_per_image)
    distance = np.hypot(*(np.mgrid[:side, :side] - side / 2))
    crops = np.empty((len(image), 2, side, side))
    for crop, of in zip(crops, image, strict=True):
        for channel in crop:
            channel[:] = rng.uniform(0.3, 1) * np.exp(-((distance / rng.uniform(4, 14)) ** 2))
        texture = ndimage.gaussian_filter(rng.normal(size=(side, side)), (0.8, 2.0)[of % 2])
        crop[0] += 0.25 * texture / texture.std()
    return factories.make_cells(
        crops=crops.astype(np.float32),
        seed=seed,
        name=name,
        cell=[f"c{i}" for i in range(len(image))],
        image=[f"image {i:02}" for i in image],
        label=[f"texture {i % 2}" for i in image],
        plate=[f"plate {i // 2 % 2}" for i in image],
        **columns,
    )


def recipe(model, **changed):
    return recipe_of(model, **{**SMALL, **changed})


def features(model, file, cells, output):
    compute = EXTRACTORS.get(model).open(cells.channels, file, "cpu")
    return compute(cells.crops(slice(None), rescale="minmax"), {output})[output]


def weights_in(file):
    from safetensors.numpy import load_file

    return load_file(file)


def accuracy(values, cells):
    """Return the share of cells whose nearest neighbour of another image has their label, by scikit-learn's distances."""
    from sklearn.metrics import pairwise_distances

    distances = pairwise_distances(values)
    image, label = (cells.obs[c].to_numpy(str) for c in ("image", "label"))
    distances[image[:, None] == image] = np.inf
    return float((label[distances.argmin(axis=1)] == label).mean())


@pytest.mark.parametrize("model", RIVALS)
def test_a_training_that_was_interrupted_and_resumed_equals_one_that_was_not(model, monkeypatch):
    from pci_bench.training import loop

    whole = train(model, make_cells(), recipe(model), name="whole")
    assert len(whole.history) == 2
    assert set(whole.references) == {"telling nothing apart", "the trained network, weights rounded to float16"}
    validate = loop._train_epoch

    def once(run, number):
        if number == 1:
            raise KeyboardInterrupt
        return validate(run, number)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(loop, "_train_epoch", once)
        train(model, make_cells(), recipe(model), name="parts")
    resumed = train(model, make_cells(), recipe(model), name="parts", resume=True)
    for key, value in weights_in(whole.file).items():
        np.testing.assert_array_equal(weights_in(resumed.file)[key], value, err_msg=key)


@pytest.mark.parametrize("model", RIVALS)
def test_labels_are_never_read_only_the_encoder_is_kept_and_the_card_counts_every_view(model):
    cells, unlabelled = make_cells(), make_cells()
    unlabelled.obs["label"] = "same"
    done, other = (train(model, c, recipe(model, epochs=1), name=n) for c, n in ((cells, "one"), (unlabelled, "two")))
    held, again = weights_in(done.file), weights_in(other.file)
    for key, value in held.items():
        np.testing.assert_array_equal(again[key], value, err_msg=key)
    assert not any(part in key for key in held for part in ("head", "student", "decoder", "directions"))
    views = MODELS.get(model).views
    seen = done.card.read_text(encoding="utf-8").split(" cells seen in all")
    assert seen[1].startswith(f" (2 crops each: {2 * int(seen[0].split()[-1])})" if views == 2 else ", ")
    assert json.loads(done.file.with_suffix(".json").read_text(encoding="utf-8"))["crops_each"] == views


def test_two_cells_of_an_image_teach_a_planted_texture_that_random_weights_hardly_tell():
    import torch
    from pci_bench_baselines.networks.projected import Projected, embedding_of

    fresh = make_cells(12, 12, seed=9)
    crops = torch.from_numpy(fresh.crops(slice(None), rescale="minmax"))
    before = []
    for seed in range(3):
        torch.manual_seed(seed)
        with torch.inference_mode():
            before.append(accuracy(embedding_of(Projected(2, 1 / 12, 64).eval().encoder(crops)).numpy(), fresh))
    assert np.mean(before) < 0.75  # chance is a half
    numbers = {"epochs": 20, "width": 1 / 12, "batch": 32, "learning_rate": 3e-3, "schedule": "cosine", "held_out": 0.0}
    wanted = recipe("paired-contrastive", **numbers)
    file = train("paired-contrastive", make_cells(20, 16), wanted, name="planted").file
    assert accuracy(features("paired-contrastive", file, fresh, "embedding"), fresh) > 0.9


def test_partners_are_other_cells_of_the_image_and_their_image_is_not_compared():
    import torch

    cells = make_cells()
    model = MODELS.get("paired-contrastive")
    objective = model.objective(cells, recipe("paired-contrastive"), Progress())
    flat = np.zeros((len(cells), 2, 32, 32), np.float32)
    flat[:, :, 16:] = (
        np.arange(len(cells))[:, None, None, None] % 5 / 4
    )  # the minmax of every crop but the first of an image is 1
    first, second, images, groups = next(iter(objective.batches(flat, 0)))
    assert first.shape == second.shape == (8, 2, 24, 24)
    assert (groups == 0).all()
    apart = model.not_compared(torch.from_numpy(images), torch.from_numpy(groups)).numpy()
    np.testing.assert_array_equal(apart, images[:, None] == images)


def test_within_a_plate_only_cells_of_that_plate_are_compared():
    import torch

    cells = make_cells()
    model = MODELS.get("plate-contrastive")
    objective = model.objective(cells, recipe("plate-contrastive"), Progress())
    plate = cells.obs["plate"].to_numpy(str)
    images, groups = (torch.from_numpy(array[[0, 5, 10, 15]]) for array in (objective.images, objective.groups))
    apart = model.not_compared(images, groups).numpy()
    np.testing.assert_array_equal(apart, np.eye(4, dtype=bool) | (plate[[0, 5, 10, 15], None] != plate[[0, 5, 10, 15]]))


def test_rotated_views_carry_the_number_of_quarters_they_were_turned_by():
    crops = np.random.default_rng(0).random((40, 2, 12, 12), np.float32)
    turned, quarters = MODELS.get("rotation").prepared((crops,), np.random.default_rng(1))
    assert set(quarters) == {0, 1, 2, 3}
    for crop, view, quarter in zip(crops, turned, quarters, strict=True):
        np.testing.assert_array_equal(np.rot90(view, -quarter, (1, 2)), crop)


def test_the_teacher_is_the_moving_mean_of_the_student():
    import torch
    from pci_bench_baselines.networks.distilled import CENTRE_MOMENTUM, TEACHER_MOMENTUM, Distilled

    torch.manual_seed(0)
    network = Distilled(2, 1 / 24, 8).train()
    before = network.teacher[0].encoder.convs[0].weight.clone()
    with torch.no_grad():
        network.student[0].encoder.convs[0].weight += 1
    network.loss(torch.rand(6, 2, 16, 16), torch.rand(6, 2, 16, 16)).backward()
    torch.testing.assert_close(network.teacher[0].encoder.convs[0].weight, before + 1 - TEACHER_MOMENTUM)
    assert all(p.grad is None for p in network.teacher.parameters())
    assert 0 < float(network.centre.abs().max()) <= 1 - CENTRE_MOMENTUM


def test_hidden_patches_are_never_seen_by_the_masked_autoencoder():
    import torch
    from pci_bench_baselines.networks.masked import MaskedAutoencoder, patches

    torch.manual_seed(0)
    network = MaskedAutoencoder(2, 8, 32).eval()
    crops = torch.rand(3, 2, 32, 32)
    order = torch.stack([torch.randperm(16) for _ in range(3)])
    changed = crops.clone()
    for i in range(3):
        for p in order[i, 4:].tolist():
            row, column = divmod(p, 4)
            changed[i, :, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = torch.rand(2, 8, 8)
    shown = order[:, :4]
    with torch.inference_mode():
        torch.testing.assert_close(network.encoder(crops, shown), network.encoder(changed, shown))
        assert not torch.allclose(network.encoder(crops), network.encoder(changed))
    row, column = 1, 2
    expected = crops[0, :, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8].reshape(-1)
    torch.testing.assert_close(patches(crops, 8)[0, 4 * row + column], expected)


@pytest.mark.parametrize("model", RIVALS)
def test_what_cannot_be_trained_on_is_met_with_a_sentence(model):
    oblong = factories.make_cells(shape=(32, 40))
    with pytest.raises(UserError, match=r"crops of 32×40 px do not fit"):
        train(model, oblong, recipe(model), name="oblong")
    with pytest.raises(UserError, match=r"one image"):
        train(model, make_cells(1, 20), recipe(model), name="one-image")
    with pytest.raises(UserError, match=r"name no image"):
        train(model, factories.make_cells(shape=(32, 32), image=None), recipe(model), name="no-image")

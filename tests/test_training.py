"""Training: pairs, the loop, resuming, cards."""

import json

import factories
import numpy as np
import pytest
from factories import YEAST
from scipy import stats

from pci_bench import UserError
from pci_bench.data.cells import Channel
from pci_bench.system.progress import Progress
from pci_bench.training.loop import Recipe, train
from pci_bench.training.objectives.reconstruction import Reconstruction, validation_pairs
from pci_bench.training.pairs import draw_epoch, draw_targets, flipped, held_out_images

SMALL = Recipe(epochs=3, width=1 / 24, batch=8, learning_rate=2e-3, held_out=0.2)


def make_cells(n_images=10, cells_per_image=6, size=16, seed=0, channels=YEAST, images=None):
    """Each image has a pattern of its own, which its cells share, shifted by the marker."""
    rng = np.random.default_rng(seed)
    image = np.repeat(np.arange(n_images), cells_per_image) if images is None else np.asarray(images)
    patterns = rng.random((image.max() + 1, size, size))
    crops = 0.1 * rng.random((len(image), len(channels), size, size))
    crops[:, 0] += patterns[image]
    columns = {"cell": [f"c{i}" for i in range(len(image))], "image": [f"image {i}" for i in image]}
    return factories.make_cells(crops=crops.astype(np.float32), channels=channels, seed=seed, **columns)


def test_a_target_is_another_cell_of_the_same_image_each_equally_likely():
    images = np.array([3, 1, 1, 3, 2, 1, 2, 3, 1, 2])
    drawn = np.stack([draw_targets(images, np.random.default_rng(s).random(len(images))) for s in range(6000)])
    for cell in range(len(images)):
        partners = np.setdiff1d(np.flatnonzero(images == images[cell]), [cell])
        values, counts = np.unique(drawn[:, cell], return_counts=True)
        np.testing.assert_array_equal(values, partners)
        assert stats.chisquare(counts).pvalue > 1e-4


def test_an_epoch_visits_every_cell_once_and_depends_on_nothing_but_seed_and_epoch():
    images = np.repeat(np.arange(7), 5)
    first, again, other = draw_epoch(images, 1, 4), draw_epoch(images, 1, 4), draw_epoch(images, 1, 5)
    assert sorted(first.sources) == list(range(35))
    assert (images[first.sources] == images[first.targets]).all()
    assert (first.sources != first.targets).all()
    np.testing.assert_array_equal(first.targets, again.targets)
    assert (first.targets != other.targets).any()
    assert (first.source_flips != first.target_flips).any()


def test_flips_of_rows_and_columns_are_fair_and_independent_of_each_other_and_of_the_target():
    drawn = draw_epoch(np.zeros(8000, np.int64), 0, 0)
    codes = drawn.source_flips @ [1, 2] + drawn.target_flips @ [4, 8]
    assert stats.chisquare(np.bincount(codes, minlength=16)).pvalue > 1e-4


def test_all_channels_of_a_cell_flip_together():
    crops = np.random.default_rng(0).random((4, 2, 4, 6))
    flips = np.array([[0, 0], [1, 0], [0, 1], [1, 1]], bool)
    result = flipped(crops, flips)
    for crop, flip, got in zip(crops, flips, result, strict=True):
        expected = np.stack([np.flipud(c) if flip[0] else c for c in crop])
        expected = np.stack([np.fliplr(c) if flip[1] else c for c in expected])
        np.testing.assert_array_equal(got, expected)


def test_held_out_images_are_whole_seeded_and_never_all():
    images = np.repeat(np.arange(20), 3)
    held = held_out_images(images, 0.25, 0)
    assert len(held) == 5
    np.testing.assert_array_equal(held, held_out_images(images, 0.25, 0))
    assert len(held_out_images(np.array([4, 4, 9, 9]), 0.99, 0)) == 1


def test_validation_pairs_lie_in_held_out_images_and_pair_different_cells_of_one():
    images = np.repeat(np.arange(6), 4)
    sources, targets = validation_pairs(images, np.flatnonzero(images >= 4), seed=0)
    assert (images[sources] >= 4).all()
    assert (images[sources] == images[targets]).all()
    assert (sources != targets).all()


@pytest.mark.parametrize("model", ["pci", "autoencoder"])
def test_training_lowers_the_loss_and_saves_weights_that_extract(model):
    import pci_bench

    cells = make_cells()
    done = train(model, cells, SMALL.model_copy(update={"epochs": 6}), name="small")
    losses = [h["loss"] for h in done.history]
    assert losses[-1] < 0.7 * losses[0]
    assert done.name == f"{model}@small"
    adata = pci_bench.extract(f"{model}-conv4@small", cells)
    assert adata.shape == (60, 16)
    card = done.card.read_text()
    assert "10 of 60 cells" not in card
    assert "48 of 60 cells" in card
    facts = json.loads(done.file.with_suffix(".json").read_text())
    assert facts["recipe"]["beta1"] == 0.5
    assert facts["dataset"]["sha256"] == cells.sha256
    assert done.file.with_suffix(".png").stat().st_size > 1000


def test_reported_loss_of_the_rounded_network_is_that_of_the_saved_weights():
    import torch

    from pci_bench.inpainting.network import load_network
    from pci_bench.training.pairs import held_out_images as held_out

    cells = make_cells()
    done = train("pci", cells, SMALL, name="rounded")
    network = load_network(done.file)
    images = np.repeat(np.arange(10), 6)
    order = np.argsort(np.unique(cells.obs["image"]))  # images are numbered in the order of their names
    held = np.flatnonzero(np.isin(images, order[held_out(images, SMALL.held_out, 0)]))
    sources, targets = validation_pairs(images, held, 0)
    crops = torch.from_numpy(cells.crops(np.arange(60)))
    with torch.inference_mode():
        predicted = network(crops[sources], crops[targets][:, 1:])
    expected = float(((predicted - crops[targets][:, :1]) ** 2).mean())
    assert done.references["the trained network, weights rounded to float16"] == pytest.approx(expected, rel=1e-4)


def test_references_are_copying_the_source_and_the_mean_crop_of_the_image():
    cells = make_cells()
    done = train("pci", cells, SMALL, name="references")
    images = np.repeat(np.arange(10), 6)
    held = np.flatnonzero(np.isin(images, held_out_images(images, SMALL.held_out, 0)))
    sources, targets = validation_pairs(images, held, 0)
    protein = cells.crops(np.arange(60))[:, 0]
    means = np.stack([protein[images == i].mean(axis=0) for i in range(10)])
    assert done.references["copying the source"] == pytest.approx(
        ((protein[sources] - protein[targets]) ** 2).mean(), rel=1e-5
    )
    assert done.references["the mean crop of the target's image"] == pytest.approx(
        ((means[images[targets]] - protein[targets]) ** 2).mean(), rel=1e-5
    )


class StopHereError(Exception):
    pass


def test_resuming_equals_a_training_that_was_never_interrupted(monkeypatch):
    from safetensors.numpy import load_file

    from pci_bench.training import loop

    cells = make_cells()
    whole = load_file(train("pci", cells, SMALL, name="whole").file)
    original = loop._train_epoch

    def interrupted(*args):
        if args[1] == 2:
            raise StopHereError
        return original(*args)

    monkeypatch.setattr(loop, "_train_epoch", interrupted)
    with pytest.raises(StopHereError):
        train("pci", cells, SMALL, name="parts")
    monkeypatch.setattr(loop, "_train_epoch", original)
    with pytest.raises(UserError, match="--resume continues it"):
        train("pci", cells, SMALL, name="parts")
    with pytest.raises(UserError, match="learning_rate"):
        train("pci", cells, SMALL.model_copy(update={"learning_rate": 1e-3}), name="parts", resume=True)
    with pytest.raises(UserError, match="dataset"):
        train("pci", make_cells(seed=1), SMALL, name="parts", resume=True)
    parts = load_file(train("pci", cells, SMALL, name="parts", resume=True).file)
    for key, value in whole.items():
        np.testing.assert_array_equal(parts[key], value, err_msg=key)


def test_resuming_within_an_epoch_equals_a_training_that_was_never_interrupted(monkeypatch):
    from safetensors.numpy import load_file

    from pci_bench.training import loop

    cells, steps = make_cells(), []
    whole = train("pci", cells, SMALL, name="whole")
    original = Reconstruction.loss

    def counted(self, network, batch):
        steps.append(len(batch[0]))
        if len(steps) == stop:
            raise StopHereError
        return original(self, network, batch)

    monkeypatch.setattr(loop, "SECONDS_PER_CHECKPOINT", -1.0)
    per_epoch = 48 // SMALL.batch  # of 60 cells, those of two of ten images are held out
    with monkeypatch.context() as patch:
        patch.setattr(Reconstruction, "loss", counted)
        stop = per_epoch + 3  # in the second epoch
        with pytest.raises(StopHereError):
            train("pci", cells, SMALL, name="parts")
        steps.clear()
        stop = 2  # one step further
        with pytest.raises(StopHereError):
            train("pci", cells, SMALL, name="parts", resume=True)
        steps.clear()
        stop = -1
        parts = train("pci", cells, SMALL, name="parts", resume=True)
    assert len([n for n in steps if n == SMALL.batch]) >= 2 * per_epoch - 3
    assert [h["loss"] for h in parts.history] == [h["loss"] for h in whole.history]
    for key, value in load_file(whole.file).items():
        np.testing.assert_array_equal(load_file(parts.file)[key], value, err_msg=key)


def test_a_checkpoint_from_before_an_option_existed_is_resumed_as_if_it_had_the_default(monkeypatch):
    import torch
    from safetensors.numpy import load_file

    from pci_bench.system.files import cache_folder
    from pci_bench.training import loop

    cells = make_cells()
    whole = load_file(train("pci", cells, SMALL, name="whole").file)

    def stopped(*args):
        raise StopHereError

    with monkeypatch.context() as patch, pytest.raises(StopHereError):
        patch.setattr(loop, "save_trained", stopped)
        train("pci", cells, SMALL, name="older")
    file = cache_folder() / "training" / "pci@older" / "checkpoint.pt"
    state = torch.load(file, weights_only=True)
    identity = json.loads(state["identity"])
    del identity["recipe"]["order"]
    torch.save({**state, "identity": json.dumps(identity)}, file)
    resumed = load_file(train("pci", cells, SMALL, name="older", resume=True).file)
    for key, value in whole.items():
        np.testing.assert_array_equal(resumed[key], value, err_msg=key)


@pytest.mark.parametrize("model", ["pci", "autoencoder"])
def test_training_without_labels_gives_the_same_network_whatever_the_labels_are(model):
    from safetensors.numpy import load_file

    plain, labelled = make_cells(), make_cells()
    labelled.obs["label"] = [f"class {i % 3}" for i in range(len(labelled))]
    recipe = SMALL.model_copy(update={"epochs": 1})
    first, second = (train(model, c, recipe, name=n).file for n, c in (("plain", plain), ("labelled", labelled)))
    for key, value in load_file(first).items():
        np.testing.assert_array_equal(load_file(second)[key], value, err_msg=key)


def test_pairs_have_no_stored_order():
    with pytest.raises(UserError, match="--order stored is for supervised models"):
        train("pci", make_cells(), SMALL.model_copy(update={"order": "stored"}), name="ordered")


def test_a_damaged_checkpoint_is_named_and_can_be_replaced(monkeypatch):
    from pci_bench.system.files import cache_folder

    file = cache_folder() / "training" / "pci@damaged" / "checkpoint.pt"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"not a checkpoint")
    with pytest.raises(UserError, match="damaged or of another origin"):
        train("pci", make_cells(), SMALL, name="damaged", resume=True)
    assert train("pci", make_cells(), SMALL, name="damaged", restart=True).file.exists()


@pytest.mark.parametrize("where", [0.1, 0.5, 0.9])
def test_a_checkpoint_in_which_a_bit_flipped_is_not_resumed(tmp_path, where):
    import torch

    from pci_bench.system.checksums import seal
    from pci_bench.training.checkpoint import read_checkpoint

    identity = {"schema": 1, "recipe": SMALL.model_dump()}
    file = tmp_path / "checkpoint.pt"
    state = {"identity": json.dumps(identity), "network": {"w": torch.rand(99)}, "optimizer": {}, "history": []}
    torch.save(state, file)
    seal(file)
    whole = file.read_bytes()
    assert torch.equal(read_checkpoint(file, identity, True, False)["network"]["w"], state["network"]["w"])
    position = int(len(whole) * where)
    file.write_bytes(whole[:position] + bytes([whole[position] ^ 4]) + whole[position + 1 :])
    with pytest.raises(UserError, match="damaged or of another origin"):
        read_checkpoint(file, identity, True, False)


@pytest.mark.parametrize(
    ("cells", "sentence"),
    [
        (lambda: make_cells(images=[0, 1, 2, 3]), "no image has two cells"),
        (lambda: make_cells(images=[0, 0, 0, 0]), "one image with at least two cells"),
        (lambda: make_cells(n_images=2, cells_per_image=3), "fewer than a batch of 8"),
        (lambda: make_cells(channels=(Channel("GFP", "protein"),)), "at least one marker channel"),
        (lambda: make_cells(size=18), "divisible by 4"),
    ],
)
def test_data_that_cannot_be_trained_on_is_met_with_a_sentence(cells, sentence):
    with pytest.raises(UserError, match=sentence):
        train("pci", cells(), SMALL)


def test_nothing_to_resume_and_a_loss_that_explodes_are_met_with_a_sentence():
    with pytest.raises(UserError, match="no unfinished training"):
        train("pci", make_cells(), SMALL, name="none", resume=True)
    with pytest.raises(UserError, match="loss is not finite"):
        train("pci", make_cells(), SMALL.model_copy(update={"learning_rate": 1e30}), name="explodes")


def test_images_with_one_cell_are_left_out_of_pairs():
    images = [*np.repeat(np.arange(8), 4), 8]
    assert train("pci", make_cells(images=images), SMALL, name="lonely").file.exists()


def test_upsampling_on_the_small_grid_equals_upsampling_then_convolving():
    import torch
    from torch.nn import functional

    from pci_bench.inpainting.network import upsampled_convolution

    generator = torch.Generator().manual_seed(0)
    for rows, columns in ((1, 1), (2, 5), (8, 8)):
        x = torch.randn(2, 3, rows, columns, generator=generator, dtype=torch.float64)
        weight = torch.randn(4, 3, 3, 3, generator=generator, dtype=torch.float64)
        bias = torch.randn(4, generator=generator, dtype=torch.float64)
        large = functional.interpolate(x, scale_factor=2.0, mode="nearest")
        expected = functional.conv2d(large, weight, bias, padding=1)
        torch.testing.assert_close(upsampled_convolution(x, weight, bias), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("model", ["pci", "autoencoder"])
def test_with_nothing_held_out_every_cell_is_trained_on_and_the_card_says_so(model):
    cells = make_cells()
    heard: list[str] = []
    progress = Progress()
    progress.say = heard.append
    done = train(model, cells, SMALL.model_copy(update={"held_out": 0.0}), name="all", progress=progress)
    assert done.references == {}
    assert not any("validation" in record for line in done.history for record in line)
    assert not any("validation" in sentence for sentence in heard)
    facts = json.loads(done.file.with_suffix(".json").read_text())
    assert facts["dataset"]["trained_on"] == facts["dataset"]["n_cells"] == len(cells)
    card = done.card.read_text()
    assert f"{len(cells)} of {len(cells)} cells, nothing held out: " in card
    assert "held-out" not in card
    held_out = train(model, cells, SMALL, name="some")
    assert not np.array_equal(weights_in(done.file), weights_in(held_out.file))


def test_one_image_is_enough_where_nothing_is_held_out():
    cells = make_cells()[:6]  # of one image
    assert cells.obs["image"].nunique() == 1
    recipe = SMALL.model_copy(update={"held_out": 0.0, "batch": 4, "epochs": 1})
    assert len(train("pci", cells, recipe, name="one").history) == 1
    with pytest.raises(UserError, match=r"one image.*--held-out 0"):
        train("pci", cells, recipe.model_copy(update={"held_out": 0.1}), name="another")


def weights_in(file) -> np.ndarray:
    from safetensors.numpy import load_file

    return np.concatenate([array.ravel() for _, array in sorted(load_file(file).items())])


def test_weights_kept_after_an_epoch_are_those_of_a_training_of_so_many_epochs():
    from safetensors.numpy import load_file

    from pci_bench import weights

    train("pci", make_cells(), SMALL, name="long", keep=[1, 2])
    for epochs in (1, 2):
        short = train("pci", make_cells(), SMALL.model_copy(update={"epochs": epochs}), name=f"short{epochs}")
        kept, alone = load_file(weights.find("pci", f"long-epoch{epochs}")), load_file(short.file)
        assert kept.keys() == alone.keys()
        for name in kept:
            np.testing.assert_array_equal(kept[name], alone[name])


@pytest.mark.parametrize("epoch", [0, 3, -1])
def test_an_epoch_that_there_is_not_or_the_last_cannot_be_kept(epoch):
    with pytest.raises(UserError, match=f"Epoch {epoch} cannot be kept: name epochs from 1 to 2"):
        train("pci", make_cells(), SMALL, keep=[1, epoch])

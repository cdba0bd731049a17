"""DeepLoc: its crops, its network, its weights' import, its training, and which cells a supervised network has seen."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from factories import YEAST
from pci_bench_baselines.networks import deeploc
from scipy import stats
from sklearn.metrics import balanced_accuracy_score

import pci_bench
from pci_bench import UserError, weights
from pci_bench.api.extractor import EXTRACTORS
from pci_bench.api.model import MODELS
from pci_bench.data.cells import Channel
from pci_bench.reporting.tables.declaration import TABLES
from pci_bench.reporting.tables.fill import fill
from pci_bench.runs.training_cells import training_cells, without_training_cells
from pci_bench.training.loop import recipe_of, train
from pci_bench.weights import IMPORTERS

WIDTH = 1 / 16
CLASSES = EXTRACTORS.get("deeploc").names("predictions", YEAST)
FILTERS = (64, 64, 128, 128, 256, 256, 256, 256)


# ---- crops


@pytest.mark.parametrize("smallest_range", [1.0, 1 / 65535])
def test_channels_are_stretched_by_their_percentiles_as_published(smallest_range):
    rng = np.random.default_rng(0)
    crops = rng.normal(size=(3, 2, 64, 64)).astype(np.float32) * np.array([2000, 0.05, 3]).reshape(3, 1, 1, 1)
    crops = crops.astype(np.float32)
    for crop, result in zip(crops, deeploc.stretched(crops, smallest_range), strict=True):
        for channel, got in zip(crop, result, strict=True):
            vector = np.sort(channel.ravel().astype(np.float64))
            low, high = (np.interp(q / 100 * 4095, np.arange(4096), vector) for q in (0.1, 99.9))
            expected = np.where(channel > high, high, channel) - low
            if high - low > smallest_range:
                expected /= high - low
            np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
            assert got.min() < 0


def test_a_constant_channel_becomes_zeros():
    np.testing.assert_array_equal(deeploc.stretched(np.full((1, 2, 64, 64), 700, np.float32), 1.0), 0)


def test_training_parts_are_cut_at_0_to_3_flipped_half_of_the_time_and_turned_by_0_90_or_180():
    crops = np.arange(2 * 64 * 64, dtype=np.float32).reshape(1, 2, 64, 64).repeat(1200, axis=0)
    parts = deeploc.augmented(crops, np.random.default_rng(0))
    orientations = {}  # of the group of the square, by where four pixels go: how likely each is
    for rows, columns, turn in itertools.product((False, True), (False, True), range(3)):
        image = np.arange(3600).reshape(60, 60)
        image = np.flipud(image) if rows else image
        image = np.rot90(np.fliplr(image) if columns else image, turn)
        orientations.setdefault(image.tobytes(), []).append(1)
    seen, offsets = dict.fromkeys(orientations, 0), []
    for part in parts:
        first = int(part[0].min())
        offsets.append((first // 64, first % 64))
        row, column = offsets[-1]
        whole = np.arange(4096).reshape(64, 64)[row : row + 60, column : column + 60]
        place = np.searchsorted(whole.ravel(), part[0].astype(int))
        np.testing.assert_array_equal(part[1], part[0] + 4096)
        seen[place.astype(np.int64).tobytes()] += 1
    expected = np.array([len(v) for v in orientations.values()]) / 12 * len(parts)
    assert stats.chisquare(list(seen.values()), expected).pvalue > 1e-3
    counts = np.unique(offsets, axis=0, return_counts=True)[1]
    assert np.max(offsets) == 3
    assert len(counts) == 16
    assert stats.chisquare(counts).pvalue > 1e-3


# ---- network and import


def variables(width=WIDTH, channels=2, classes=19, moments=("moments/moments_1/mean", "moments/moments_1/variance")):
    """Random variables by the names that DeepLoc's code gives them in a checkpoint."""
    rng = np.random.default_rng(1)
    found = {"Variable": np.array(5000), "beta1_power": np.array(0.5, np.float32)}
    inputs = channels
    layers = [(f"conv_{i}", (3, 3), max(1, round(width * w))) for i, w in enumerate(FILTERS, 1)]
    layers += [("fc_1", (), round(512 * width)), ("fc_2", (), round(512 * width)), ("final_layer", (), classes)]
    for name, size, outputs in layers:
        inputs = inputs * 64 if name == "fc_1" else inputs
        norm = f"{name}/batch_norm/{name}_batch_norm"
        spread = 1.4 / np.sqrt(np.prod(size) * inputs)
        found[f"{name}/weights/Variable"] = rng.normal(0, spread, (*size, inputs, outputs)).astype(np.float32)
        found[f"{name}/weights/Variable/Adam"] = np.zeros((*size, inputs, outputs), np.float32)
        found[f"{name}/biases/Variable"] = rng.normal(0.1, 0.1, outputs).astype(np.float32)
        found[f"{norm}/gamma"] = rng.uniform(0.7, 1.3, outputs).astype(np.float32)
        found[f"{norm}/beta"] = rng.normal(0.1, 0.2, outputs).astype(np.float32)
        found[f"{name}_batch_norm/{norm}/{moments[0]}/ExponentialMovingAverage"] = rng.normal(0, 0.2, outputs).astype(
            "f4"
        )
        found[f"{name}_batch_norm/{norm}/{moments[1]}/ExponentialMovingAverage"] = rng.uniform(0.5, 2, outputs).astype(
            "f4"
        )
        inputs = outputs
    return found


def written(folder, arrays):
    np.savez(folder / "deeploc.npz", **arrays)
    return folder / "deeploc.npz"


def reference(arrays, parts):
    """fc 2 and probabilities of parts (n, 60, 60, channels), in NumPy with channels last, as TensorFlow computes them."""

    def normed(x, name):
        get = {key.rpartition("/")[2]: value for key, value in arrays.items() if f"/{name}_batch_norm/" in key}
        moving = [v for k, v in arrays.items() if k.startswith(f"{name}_batch_norm/")]
        return (x - moving[0]) / np.sqrt(moving[1] + 1e-3) * get["gamma"] + get["beta"]

    x = parts.astype(np.float64)
    for i in range(1, 9):
        w, padded = arrays[f"conv_{i}/weights/Variable"], np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        rows, columns = x.shape[1:3]
        x = sum(padded[:, r : r + rows, c : c + columns] @ w[r, c] for r in range(3) for c in range(3))
        x = np.maximum(normed(x + arrays[f"conv_{i}/biases/Variable"], f"conv_{i}"), 0)
        if i in (2, 4, 8):  # SAME: an odd side is filled up by one row or column, at the end
            x = np.pad(x, ((0, 0), (0, rows % 2), (0, columns % 2), (0, 0)), constant_values=-np.inf)
            x = x.reshape(len(x), x.shape[1] // 2, 2, x.shape[2] // 2, 2, -1).max(axis=(2, 4))
    assert x.shape[1:3] == (8, 8)
    x = x.reshape(len(x), -1)
    for name in ("fc_1", "fc_2"):
        x = np.maximum(normed(x @ arrays[f"{name}/weights/Variable"] + arrays[f"{name}/biases/Variable"], name), 0)
    last = x @ arrays["final_layer/weights/Variable"] + arrays["final_layer/biases/Variable"]
    e = np.exp(normed(last, "final_layer"))
    return x, e / e.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(
    "moments", [("moments/moments_1/mean", "moments/moments_1/variance"), ("moments/Squeeze", "moments/Squeeze_1")]
)
def test_imported_weights_give_the_mean_over_five_parts_of_what_an_independent_network_gives(
    tmp_path, make_cells, moments
):
    arrays = variables(moments=moments)
    assert IMPORTERS.get("deeploc-npz")(written(tmp_path, arrays), "mine") == ("deeploc@mine", ("protein", "marker"))
    raw = np.random.default_rng(2).gamma(2, 300, (5, 2, 64, 64)).astype(np.float32)
    low, high = np.percentile(raw, (0.1, 99.9), axis=(2, 3), keepdims=True)
    channels_last = ((np.minimum(raw, high) - low) / (high - low)).transpose(0, 2, 3, 1)
    starts = [(2, 2), (0, 0), (0, 4), (4, 0), (4, 4)]
    given = [reference(arrays, channels_last[:, r : r + 60, c : c + 60]) for r, c in starts]
    expected = {
        "fc2": np.mean([fc2 for fc2, _ in given], axis=0),
        "fc2-centre": given[0][0],
        "predictions": np.mean([p for _, p in given], axis=0),
    }
    cells = make_cells(crops=raw)
    for output, values in expected.items():
        adata = pci_bench.extract(f"deeploc-{output}@mine", cells)
        np.testing.assert_allclose(adata.X, values, rtol=1e-4, atol=1e-5)
    assert (expected["fc2"] > 0).mean() > 0.2  # the comparison is of numbers, not of dead units
    assert list(adata.var_names) == CLASSES
    assert list(pci_bench.extract("deeploc-fc2@mine", cells).var_names) == [f"fc2_{i}" for i in range(32)]


def test_predictions_are_named_by_the_classes_of_the_weights(tmp_path, make_cells):
    arrays = variables(classes=3, channels=3) | {"classes": np.array(["B", "A", "C"])}
    channels = (*YEAST, Channel("DAPI", "marker"))
    assert IMPORTERS.get("deeploc-npz")(written(tmp_path, arrays), "abc")[1] == ("protein", "marker", "marker")
    adata = pci_bench.extract("deeploc-predictions@abc", make_cells(4, (64, 64), channels))
    assert list(adata.var_names) == ["B", "A", "C"]
    np.testing.assert_allclose(np.asarray(adata.X).sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda a: a.pop("fc_1/biases/Variable"), "has no biases of the layer fc_1"),
        (lambda a: a.update({"conv_9/weights": np.zeros(3, "f4")}), "'conv_9/weights', which is of no layer"),
        (lambda a: a.update({"fc_2/biases": np.zeros(32, "f4")}), "has the biases of fc_2 twice"),
        (lambda a: a.update({"fc_2/biases/Variable": np.zeros(31, "f4")}), r"shape \(31,\); expected \(32,\)"),
        (lambda a: a.update({"conv_1/weights/Variable": np.zeros((3, 3, 1, 4), "f4")}), "at least 2 channels"),
        (lambda a: a["conv_3/biases/Variable"].fill(np.nan), "biases of conv_3 .* not all finite"),
        (lambda a: a.update({"classes": np.array(["A", "B"])}), "has 19 outputs, but names 2 classes"),
        (
            lambda a: a.update({"fc_1/weights/Variable": np.array([{}], object)}),
            "cannot be read as a .npz of plain arrays",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_named(tmp_path, change, sentence):
    arrays = variables()
    change(arrays)
    with pytest.raises(UserError, match=sentence):
        IMPORTERS.get("deeploc-npz")(written(tmp_path, arrays), "mine")
    assert weights.find("deeploc", "mine") is None


def test_files_that_are_no_npz_and_channels_that_the_name_does_not_have_are_met_with_a_sentence(tmp_path):
    bring_in = IMPORTERS.get("deeploc-npz")
    with pytest.raises(UserError, match="There is no file"):
        bring_in(tmp_path / "none.npz", "mine")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(UserError, match="cannot be read as a"):
        bring_in(tmp_path / "text.npz", "mine")
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(UserError, match="cannot be read as a"):
        bring_in(tmp_path / "one.npy", "mine")
    whole = written(tmp_path, variables())
    (tmp_path / "cut.npz").write_bytes(whole.read_bytes()[:5000])
    with pytest.raises(UserError, match="cannot be read as a"):
        bring_in(tmp_path / "cut.npz", "mine")
    with pytest.raises(UserError, match="stands for weights with the channels protein \\+ marker"):
        bring_in(written(tmp_path, variables(channels=3)), "kraus2017")


def test_the_published_width_has_the_layers_of_the_paper():
    import torch

    with torch.device("meta"):
        network = deeploc.DeepLoc(2, CLASSES)
    sizes = [tuple(layer.weight.shape) for layer in network.affine.values()]
    assert [s[0] for s in sizes] == [64, 64, 128, 128, 256, 256, 256, 256, 512, 512, 19]
    assert sizes[8] == (512, 8 * 8 * 256)
    assert {n.eps for n in network.norms.values()} == {1e-3}
    assert {n.momentum for n in network.norms.values()} == {0.5}


def test_weights_start_as_truncated_normal_numbers_and_biases_at_a_tenth():
    network = deeploc.DeepLoc(2, CLASSES, 0.25)
    values = network.affine["fc_1"].weight.detach().numpy().ravel()
    assert np.abs(values).max() <= 0.2
    assert stats.kstest(values[:5000], stats.truncnorm(-2, 2, scale=0.1).cdf).pvalue > 1e-4
    assert all((layer.bias == 0.1).all() for layer in network.affine.values())


def test_crops_of_another_size_are_not_run(make_cells):
    for shape in ((32, 32), (128, 128), (60, 60)):
        with pytest.raises(UserError, match="crops of 64×64 px, and these have"):
            pci_bench.extract("deeploc-fc2@mine", make_cells(4, shape))


def test_the_published_weights_are_chong2015s_default_and_come_with_the_command_that_gets_them():
    assert "`pci-bench weights get deeploc@kraus2017`" in weights.how_to_get("deeploc", "kraus2017")
    assert weights.default_name("deeploc", "chong2015:drop") == "kraus2017"


# ---- training


@pytest.fixture
def labelled(make_cells):
    """A function that returns cells whose classes are spots in different corners, of 16 images."""

    def make(n=80, classes=4, **columns):
        rng = np.random.default_rng(3)
        label = np.arange(n) % classes
        crops = rng.normal(100, 10, (n, 2, 64, 64)).astype(np.float32)
        for i, one in enumerate(label):
            row, column = 20 + 20 * (one // 2), 20 + 20 * (one % 2)
            crops[i, 0, row - 4 : row + 4, column - 4 : column + 4] += 150 * (1 + (one == 3))
            crops[i, 1, 28:36, 28 + 4 * one : 40] += 100
        given = {"image": [f"image{i // 5}" for i in range(n)], "label": [f"class{i}" for i in label]}
        return make_cells(crops=crops, **{**given, **columns})

    return make


SMALL = {"width": WIDTH, "batch": 16, "held_out": 0.2}


def test_two_hundred_steps_learn_the_training_cells_by_heart(labelled):
    cells = labelled()
    said = []

    class Listener(pci_bench.system.progress.Progress):
        def say(self, text):
            said.append(text)

    done = train(
        "deeploc",
        cells,
        recipe_of("deeploc", epochs=50, learning_rate=0.02, **SMALL),
        name="small",
        progress=Listener(),
    )
    adata = pci_bench.extract("deeploc-predictions@small", cells)
    guessed = adata.var_names.to_numpy()[np.asarray(adata.X).argmax(axis=1)]
    assert (guessed == adata.obs["label"].astype(str)).mean() > 0.95
    assert list(adata.var_names) == ["class0", "class1", "class2", "class3"]
    assert done.history[-1]["loss"] < 0.3 * done.history[0]["loss"]
    assert done.references["the classes' frequencies"] == pytest.approx(np.log(4), rel=0.01)
    assert any("balanced accuracy" in line and "cells/s" in line for line in said)
    card = done.card.read_text()
    assert "held-out loss (cross-entropy)" in card
    assert "Held-out balanced accuracy: " in card
    assert weights.read_header(done.file).trained_on == {"dataset": "planted"}


def test_what_is_reported_of_held_out_cells_is_what_the_saved_weights_give(labelled):
    cells = labelled()
    done = train("deeploc", cells, recipe_of("deeploc", epochs=2, **SMALL), name="reported")
    images = cells.obs["image"].astype(str).to_numpy()
    adata = pci_bench.extract("deeploc-predictions@reported", cells)
    # which images were held out: those for which the reported numbers come out, of all 3 of 16
    truth = np.searchsorted(adata.var_names, cells.obs["label"].astype(str))
    of_label = -np.log(np.asarray(adata.X, np.float64)[np.arange(len(truth)), truth])
    by_image = {name: of_label[images == name] for name in np.unique(images)}
    reported = done.references["the trained network, weights rounded to float16"]
    means = [np.mean(np.concatenate(c)) for c in itertools.combinations(by_image.values(), 3)]
    assert np.min(np.abs(np.array(means) - reported)) < 1e-6


def test_resuming_a_supervised_training_equals_one_that_was_never_interrupted(labelled, monkeypatch):
    from safetensors.numpy import load_file

    from pci_bench.training import loop

    cells, recipe = labelled(), recipe_of("deeploc", epochs=3, **SMALL)
    whole = load_file(train("deeploc", cells, recipe, name="whole").file)
    original = loop._train_epoch

    def interrupted(*arguments):
        if arguments[1] == 2:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(loop, "_train_epoch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train("deeploc", cells, recipe, name="parts")
    monkeypatch.setattr(loop, "_train_epoch", original)
    parts = load_file(train("deeploc", cells, recipe, name="parts", resume=True).file)
    for key, value in whole.items():
        np.testing.assert_array_equal(parts[key], value, err_msg=key)


def test_a_declared_split_decides_what_is_trained_on_and_cells_without_a_label_are_left_out(labelled):
    from pci_bench.system.progress import Progress
    from pci_bench.training.objectives.classification import Classification

    split = np.repeat(["train", "valid", "test"], [50, 20, 10])
    label = [None if i % 10 == 0 else f"class{i % 3}" for i in range(80)]
    cells = labelled(split=split, label=label, image=[None] * 80)
    objective = Classification(MODELS.get("deeploc"), cells, recipe_of("deeploc"), Progress())
    rows = np.arange(80)
    named = rows % 10 > 0
    np.testing.assert_array_equal(objective.training, rows[named & (split == "train")])
    np.testing.assert_array_equal(objective.validation, rows[named & (split == "valid")])
    assert objective.trained_on == {"dataset": "planted", "split": "train"}
    objective = Classification(MODELS.get("deeploc"), cells, recipe_of("deeploc", held_out=0), Progress())
    np.testing.assert_array_equal(objective.training, rows[named])
    assert (len(objective.validation), objective.held_out) == (0, "nothing held out")
    assert objective.trained_on == {"dataset": "planted"}
    assert objective.references(cells.stored(slice(None))) == {}


def test_an_epoch_is_shuffled_by_seed_and_number_or_left_as_stored(labelled):
    from pci_bench.system.progress import Progress
    from pci_bench.training.objectives.classification import Classification

    def epoch(number, **changes):
        recipe = recipe_of("deeploc", **SMALL, **changes)
        objective = Classification(MODELS.get("deeploc"), labelled(image=[None] * 80), recipe, Progress())
        crops = labelled().stored(slice(None))
        return objective, list(objective.batches(crops, number))

    objective, first = epoch(0)
    for (inputs, labels), (again, _), (other, _) in zip(first, epoch(0)[1], epoch(1)[1], strict=True):
        assert inputs.shape == (16, 2, 60, 60)
        np.testing.assert_array_equal(inputs, again)
        assert (inputs != other).any()
        assert len(np.unique(labels)) > 1
    stored = np.concatenate([labels for _, labels in epoch(0, order="stored")[1]])
    np.testing.assert_array_equal(stored, objective.labels[objective.training][:64])


def test_the_default_recipe_is_the_published_one():
    recipe = recipe_of("deeploc")
    assert (recipe.batch, recipe.learning_rate, recipe.beta1, recipe.beta2, recipe.epsilon) == (
        128,
        0.1,
        0.9,
        0.999,
        1e-8,
    )
    for step in (0, 24, 25, 4999):
        assert recipe.rate(step, 10) == pytest.approx(0.1 * 0.96 ** (step // 25))
    assert recipe_of("deeploc", batch=8).schedule == "exponential"
    assert recipe_of("pci").model_dump() == pci_bench.training.loop.Recipe().model_dump()


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"label": [None] * 80}, "learns from labels, and planted has none"),
        ({"label": ["one"] * 80}, "needs at least two"),
        ({"image": ["one"] * 80}, "its labelled cells are of one image"),
    ],
)
def test_labels_that_cannot_be_learned_are_met_with_a_sentence(labelled, columns, sentence):
    with pytest.raises(UserError, match=sentence):
        train("deeploc", labelled(**columns), recipe_of("deeploc", **SMALL))


# ---- cells that a supervised network has seen


def test_training_cells_are_those_of_the_split_of_the_same_dataset(make_cells):
    obs = make_cells(6, split=["train", "valid", "train", "test", None, "train"]).obs
    expected = [True, False, True, False, False, True]
    trained_on = {"dataset": "chong2015", "split": "train"}
    np.testing.assert_array_equal(training_cells(obs, "chong2015", trained_on), expected)
    np.testing.assert_array_equal(training_cells(obs, "chong2015:drop", trained_on), expected)
    assert training_cells(obs, "yeast-sim", trained_on) is None
    assert training_cells(obs, "chong2015", {"dataset": "chong2015"}).all()
    assert training_cells(obs.drop(columns="split"), "chong2015", trained_on).all()


def test_a_second_row_counts_only_cells_that_were_not_training_cells(tmp_path, make_cells):
    IMPORTERS.get("deeploc-npz")(written(tmp_path, variables()), "kraus2017")
    rng = np.random.default_rng(5)
    label = rng.choice(["ER", "GOLGI", "NUCLEI"], 60)
    split = rng.choice(["train", "valid", "test"], 60, p=[0.7, 0.15, 0.15])
    crops = rng.gamma(2, 300, (60, 2, 64, 64)).astype(np.float32)
    crops += 400 * (label == "ER").reshape(-1, 1, 1, 1) * np.linspace(0, 1, 64, dtype=np.float32)
    cells = make_cells(crops=crops, name="chong2015", label=label, split=split)
    seen, unseen = (
        pci_bench.evaluate("loo-knn", pci_bench.extract(name, cells), k=[11])[0]
        for name in ("deeploc-fc2", "intensity")
    )
    assert "training_cells" not in unseen.details
    predictions = seen.predictions.set_index("cell").loc[cells.obs["cell"]]
    others = predictions[split != "train"]
    expected = balanced_accuracy_score(others["label"].astype(str), others["predicted"].astype(str))
    counted = seen.details["training_cells"]
    assert counted["n"] == (split == "train").sum()
    assert counted["others"]["n"] == len(others)
    assert counted["others"]["metrics"]["balanced_accuracy"] == pytest.approx(expected)
    low, high = counted["others"]["intervals"]["balanced_accuracy"]
    assert low <= expected <= high
    table = fill(TABLES.get("supplementary-table1"), [seen, unseen], {}, "chong2015")
    rows = dict(table.rows)
    assert rows["deeploc-fc2@kraus2017"][2].paper == 92.44
    assert rows["deeploc-fc2@kraus2017, cells not trained on"][2].value == pytest.approx(100 * expected)
    assert rows["deeploc-fc2@kraus2017, cells not trained on"][2].paper is None
    assert "intensity, cells not trained on" not in rows
    assert any(f"{counted['n']} of the 60 evaluated cells" in note for note in table.notes)


def test_where_all_cells_were_training_cells_the_table_says_so_and_has_no_second_row(tmp_path, make_cells, labelled):
    cells = labelled()
    train("deeploc", cells, recipe_of("deeploc", epochs=1, **SMALL), name="same")
    result = pci_bench.evaluate("loo-knn", pci_bench.extract("deeploc-fc2@same", cells), k=[11])[0]
    assert result.details["training_cells"] == {"n": 80, "others": {"n": 0, "metrics": {}, "intervals": {}}}
    table = fill(TABLES.get("supplementary-table1"), [result], {}, "planted")
    assert [name for name, _ in table.rows if name.startswith("deeploc")] == ["deeploc-fc2@same"]
    assert any("learned the labels of all 80 evaluated cells" in note for note in table.notes)


def test_a_cell_without_a_prediction_counts_as_wrong_among_the_others():
    import pandas as pd

    table = pd.DataFrame({"label": ["a", "a", "b", "b"], "predicted": ["a", None, "b", "a"]})
    counted = without_training_cells(table, np.array([False, False, False, True]), "image")
    assert counted["others"]["metrics"]["balanced_accuracy"] == pytest.approx((0.5 + 1) / 2)


@pytest.mark.parametrize("cells", [128, 8, 3])
def test_the_number_of_threads_changes_no_bit(cells):
    network = deeploc.load(weights.find("deeploc", "yeast-sim"))
    crops = np.random.default_rng(0).random((cells, 2, 64, 64), dtype=np.float32)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(network.of_cells(crops, ["fc2", "predictions"], "cpu"))
    finally:
        torch.set_num_threads(before)
    for others in found[1:]:
        for output, values in found[0].items():
            np.testing.assert_array_equal(others[output], values)

"""Training in two real processes (gloo), and in slices of batches: the same training as one process with whole batches."""

import json
import os
import re
import socket
import subprocess
import sys

import numpy as np
import parallel_worker
import pytest
from parallel_worker import BRIEF, ONE_STEP, STOPS_AT, UNEVEN, in_float64, interrupted_after
from test_training import SMALL, StopHereError, make_cells, weights_in

from pci_bench import ModelMeta, ReconstructionModel, UserError, register_model
from pci_bench.api.model import MODELS
from pci_bench.system.progress import Progress
from pci_bench.training import loop
from pci_bench.training.loop import train
from pci_bench.training.parallel import Processes, piece, started

ROUNDING = 1e-11  # of float64, after ten steps


def stop_here():
    raise StopHereError


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """What two processes found, what was said as they ended, what one process finds, and the cache that all have used."""
    if sys.platform != "linux":
        pytest.skip("the two processes are made by a fork, which was seen on Linux only")
    folder = tmp_path_factory.mktemp("pair")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PCI_BENCH_CACHE", str(folder / "cache"))
        with in_float64(), interrupted_after(STOPS_AT, stop_here), pytest.raises(StopHereError):
            train("pci", make_cells(), UNEVEN, name="begun")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        both = subprocess.run(
            [sys.executable, parallel_worker.__file__, str(folder), str(port)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
        found = [folder / f"{rank}.json" for rank in range(2)]
        assert all(file.exists() for file in found), both.stderr
        with in_float64():
            whole = train("pci", make_cells(), UNEVEN, name="whole")
    return {
        "found": [json.loads(file.read_text()) for file in found],
        "said": both.stderr,
        "code": both.returncode,
        "whole": losses(whole.history),
        "cache": folder / "cache",
    }


@pytest.fixture
def used_cache(pair, monkeypatch):
    """The cache that the two processes have used."""
    monkeypatch.setenv("PCI_BENCH_CACHE", str(pair["cache"]))
    return pair["cache"]


def losses(history: list[dict[str, float]]) -> list[tuple[float, float]]:
    return [(epoch["loss"], epoch["validation_loss"]) for epoch in history]


def test_batch_norm_over_two_processes_is_that_of_the_whole_batch_gradients_too(pair):
    expected = parallel_worker.normalised(*parallel_worker.crops_and_weights())
    both = [found["norm"] for found in pair["found"]]
    for name in ("out", "gradient"):  # of two and three cells
        np.testing.assert_allclose(np.concatenate([one[name] for one in both]), expected[name], rtol=1e-10, atol=1e-12)
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        for one in both:
            np.testing.assert_allclose(one[name], expected[name], rtol=1e-12)
    for name in ("weight gradient", "bias gradient"):  # which DistributedDataParallel averages
        np.testing.assert_allclose(np.sum([one[name] for one in both], axis=0), expected[name], rtol=1e-10)


@pytest.mark.parametrize("model", ONE_STEP)
def test_a_step_of_two_processes_changes_a_network_as_that_of_one(pair, model):
    expected = parallel_worker.one_step(model)
    assert any(np.any(change) for name, change in expected.items() if name.endswith("weight"))
    for found in pair["found"]:
        assert found["steps"][model].keys() == expected.keys()
        for name, change in expected.items():
            size = np.abs(change).max(initial=1e-2)
            np.testing.assert_allclose(found["steps"][model][name], change, rtol=0, atol=1e-4 * size, err_msg=name)


def test_two_processes_have_the_loss_curve_of_one_with_the_same_batch(pair):
    for found in pair["found"]:
        np.testing.assert_allclose(losses(found["history"]), pair["whole"], rtol=ROUNDING)


def test_the_card_counts_the_processes_and_no_checkpoint_is_left(pair, used_cache):
    facts = json.loads((used_cache / "weights" / "pci@two.json").read_text())
    assert facts["device"].startswith("2 × ")
    assert not (used_cache / "training" / "pci@two" / "checkpoint.pt").exists()
    assert facts["history"] == pair["found"][0]["history"]


def test_two_processes_continue_within_an_epoch_what_one_began(pair):
    for found in pair["found"]:
        np.testing.assert_allclose(losses(found["resumed"]), pair["whole"], rtol=ROUNDING)


def test_when_a_process_is_killed_the_other_ends_with_a_sentence_and_one_continues_what_two_began(pair, used_cache):
    assert pair["code"] == 1
    assert "Process 1 of 2 ends because another one has ended" in pair["said"]
    assert "Traceback" not in pair["said"]
    heard: list[str] = []
    progress = Progress()
    progress.say = heard.append
    with in_float64():
        resumed = train("pci", make_cells(), UNEVEN, name="parts", resume=True, progress=progress)
    assert any(re.search(r"after epoch 1 of 2 and 1 steps", sentence) for sentence in heard), heard
    np.testing.assert_allclose(losses(resumed.history), pair["whole"], rtol=ROUNDING)


def test_bfloat16_in_two_processes_is_that_of_one_within_its_precision(pair):
    alone = train("pci", make_cells(), BRIEF, name="one-bfloat16")
    np.testing.assert_allclose(losses(pair["found"][0]["bfloat16"]), losses(alone.history), rtol=2**-8)


def test_what_two_processes_cannot_share_is_refused_with_a_sentence(pair):
    for found in pair["found"]:
        assert (
            "compares the cells of a batch with each other, and does not gather those of 2 processes" in found["alone"]
        )
        assert "has parameters that its loss does not use" in found["idle"]


def test_losses_that_compare_cells_are_refused_in_slices():
    with pytest.raises(UserError, match=r"cannot pass in slices \(--accumulate 2\)"):
        train("contrastive", make_cells(), SMALL.model_copy(update={"accumulate": 2}), name="coupled")


@pytest.mark.parametrize("model", ["pci", "pci-several-sources", "autoencoder", "rotation", "deeploc", "contrastive"])
def test_the_loss_of_a_batch_is_the_mean_of_its_parts_unless_its_objective_says_otherwise(model):
    import torch

    size = 64 if model == "deeploc" else 16
    cells = make_cells(n_images=6, cells_per_image=8, size=size)
    cells.obs["label"] = [f"class {i % 3}" for i in range(len(cells))]
    recipe = loop.recipe_of(model, width=1 / 24, batch=8, held_out=0.2)
    objective = MODELS.get(model).objective(cells, recipe, Progress())
    network = objective.build().eval()  # without statistics of batches
    whole = objective.batches(cells.stored(slice(None)), 0)._prepared_batch(0)

    def loss(arrays):
        with torch.no_grad():
            return float(objective.loss(network, tuple(torch.from_numpy(array) for array in arrays)))

    parts = np.mean([loss(piece(whole, number, 2)) for number in range(2)])
    assert objective.couples_cells == (model == "contrastive")
    assert (parts == pytest.approx(loss(whole), rel=1e-5)) != objective.couples_cells


def test_parts_of_a_batch_are_the_whole_batch_and_nearly_equal():
    arrays = np.arange(9), np.arange(27).reshape(27, 1)
    parts = [piece(arrays, number, 4) for number in range(4)]
    for whole, of_parts in zip(arrays, zip(*parts, strict=True), strict=True):
        np.testing.assert_array_equal(np.concatenate(of_parts), whole)
    assert {len(first) for first, _ in parts} == {2, 3}
    assert all(len(second) == 3 * len(first) for first, second in parts)
    with pytest.raises(UserError, match="batch of 9 cannot be divided among 10"):
        piece(arrays, 0, 10)


@pytest.fixture
def plain(own_registries):
    @register_model("plain")
    class Plain(ReconstructionModel):
        meta = ModelMeta("plain", "1", "Two convolutions, no batch norm", pairs=False)

        def build(self, channels, width, classes=()):
            import torch

            layers = torch.nn.Conv2d(len(channels), 4, 3, padding=1), torch.nn.Conv2d(4, len(channels), 3, padding=1)
            network = torch.nn.Sequential(layers[0], torch.nn.ReLU(), layers[1])
            network.config = {}
            return network

        def predict(self, network, source, target):
            return network(source), source


def test_slices_of_a_batch_have_the_loss_curve_of_whole_batches(plain):
    with in_float64():
        whole = train("plain", make_cells(), UNEVEN, name="whole")
        sliced = train("plain", make_cells(), UNEVEN.model_copy(update={"accumulate": 4}), name="sliced")
    np.testing.assert_allclose(losses(sliced.history), losses(whole.history), rtol=ROUNDING)
    np.testing.assert_allclose(weights_in(sliced.file), weights_in(whole.file), rtol=ROUNDING)


def test_slices_under_batch_norm_are_another_training_which_is_said():
    heard: list[str] = []
    progress = Progress()
    progress.say = heard.append
    recipe = SMALL.model_copy(update={"accumulate": 2, "epochs": 1})
    train("pci", make_cells(), recipe, name="slices", overwrite=True, progress=progress)
    assert any("statistics of each of the 2 slices" in sentence for sentence in heard)
    with pytest.raises(UserError, match="batch of 8 cannot be divided among 9"):
        train("pci", make_cells(), SMALL.model_copy(update={"accumulate": 9}), name="thin")


def test_processes_are_those_of_torchrun_and_each_takes_a_gpu_of_its_own(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    assert started() == Processes()
    torchrun = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
    for name, value in torchrun.items():
        monkeypatch.setenv(name, value)
    assert started() == Processes(rank=1, count=2, local=1)
    with pytest.raises(UserError, match="names one GPU for 2 processes"):
        started().device("cuda:0")
    assert started().device("cpu") == "cpu"


@pytest.mark.slow
def test_torchrun_trains_by_the_command_line_and_says_everything_once(tmp_path, monkeypatch):
    monkeypatch.setenv("PCI_BENCH_CACHE", str(tmp_path))
    command = [
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "pci_bench",
        "train",
        "pci",
    ]
    options = [
        "--dataset",
        "yeast-sim",
        "--limit",
        "60",
        "--width",
        "0.04",
        "--batch",
        "8",
        "--epochs",
        "1",
        "--name",
        "two",
    ]
    done = subprocess.run(
        [sys.executable, *command, *options], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("2 processes share each batch of 8") == 1
    assert done.stderr.count("epoch 1/1: loss") == 1
    assert done.stdout.count("Made pci@two") == 1

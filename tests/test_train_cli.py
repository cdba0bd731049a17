"""``pci-bench train`` as a user meets it: what it prints, how it stops, how it goes on."""

import functools
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from command_line import call

from pci_bench import Model, ModelMeta, register_model
from pci_bench.api.model import MODELS

PROGRAM = str(Path(sys.executable).with_name("pci-bench"))
SMALL = ["--width", "0.04", "--batch", "8", "--learning-rate", "2e-3", "--held-out", "0.2"]


@pytest.fixture
def planted(tmp_path) -> Path:
    """Six images of eight small cells, each image with a pattern of its own."""
    rng = np.random.default_rng(0)
    for image in range(6):
        folder = tmp_path / "crops" / f"image{image}"
        folder.mkdir(parents=True)
        pattern = rng.random((16, 16))
        for cell in range(8):
            for suffix, crop in (("gfp", pattern + 0.1 * rng.random((16, 16))), ("rfp", rng.random((16, 16)))):
                tifffile.imwrite(folder / f"{cell}_{suffix}.tif", crop.astype(np.float32))
    return tmp_path / "crops"


def train(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([PROGRAM, "train", *arguments], capture_output=True, text=True, timeout=120, check=False)


def test_training_shows_losses_and_rates_and_names_what_it_made(planted, cache, capsys, monkeypatch):
    done = train("pci", "--dataset", f"folder:{planted}", "--epochs", "2", "--name", "mine", *SMALL)
    assert done.returncode == 0, done.stderr
    assert re.search(r"epoch 2/2: loss 0\.\d+, validation 0\.\d+, \d+ pairs/s \(loader alone \d+, waited", done.stderr)
    assert "validation loss of copying the source: 0." in done.stderr
    assert "Made pci@mine" in done.stdout
    assert "pci-conv4@mine" in done.stdout
    assert (cache / "weights" / "pci@mine.md").is_file()
    assert "pci@mine" in call(capsys, monkeypatch, "list", "weights").out


def test_ctrl_c_keeps_whole_epochs_and_resume_continues_after_them(planted, capsys, monkeypatch):
    command = ["pci", "--dataset", f"folder:{planted}", "--epochs", "40000", "--name", "stopped", *SMALL]
    heard = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs ignore it
    process = subprocess.Popen(
        [PROGRAM, "train", *command], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=heard
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "epoch 2/40000" in line:
            break
    os.kill(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in said
    again = call(capsys, monkeypatch, "train", *command)
    assert again.code == 2
    assert "--resume continues it" in again.err
    other = call(capsys, monkeypatch, "train", *command[:3], "--epochs", "40001", *command[5:], "--resume")
    assert other.code == 2
    assert "epochs = 40000, not 40001" in other.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["pic", "--dataset", "{crops}"], "no model named 'pic'. Did you mean pci"),
        (["pci", "--dataset", "{crops}", "--epochs", "0"], "--epochs 0"),
        (["pci", "--dataset", "{crops}", "--schedule", "linear"], "--schedule linear"),
        (["pci", "--dataset", "{crops}", "--resume"], "no unfinished training to resume"),
        (["pci", "--dataset", "{crops}", "--batch", "500"], "fewer than a batch of 500"),
        (["pci", "--dataset", "{crops}?protein=_gfp"], "at least one marker channel"),
    ],
)
def test_a_training_that_cannot_be_is_met_with_a_sentence(planted, capsys, monkeypatch, arguments, words):
    said = call(capsys, monkeypatch, "train", *(a.replace("{crops}", f"folder:{planted}") for a in arguments))
    assert said.code == 2, said.err
    assert words in said.err
    assert "Traceback" not in said.err


def test_the_help_shows_every_models_own_defaults_also_a_plug_ins(own_registries, capsys, monkeypatch):
    @register_model("mine")
    class Mine(Model):
        meta = ModelMeta("mine", "1", "A model that learns slowly", recipe={"learning_rate": 3e-6, "epochs": 30})

        def build(self, channels, width, classes=()):
            raise NotImplementedError

        def objective(self, cells, recipe, progress):
            raise NotImplementedError

    monkeypatch.setenv("COLUMNS", "240")
    said = call(capsys, monkeypatch, "train", "--help")
    assert said.code == 0
    shown = dict(re.findall(r"--([\w-]+) .*\[default: \(?(.*?)\)?\]", said.out))
    assert shown["epochs"] == "30"  # where the same is said again, it is not repeated
    assert shown["learning-rate"].split("; ") == ["0.0001", "deeploc 0.1", "mine 3e-06"]
    for name in MODELS:
        for field, value in MODELS.get(name).meta.recipe.items():
            defaults = shown[field.replace("_", "-")].split("; ")
            assert f"{name} {value}" in defaults or str(value) == defaults[0], (name, field)
    assert shown["seed"] == "0"

"""How long work takes is said before it begins, where it is more than a minute; what is in the cache is not counted."""

from __future__ import annotations

import re

import numpy as np
import painted
import pytest

from pci_bench import Extractor, ExtractorMeta, UserError, load_dataset, register_extractor, run
from pci_bench.api import loading
from pci_bench.features import estimate
from pci_bench.features.availability import resolve_weights
from pci_bench.features.estimate import Work, extraction, rates, sentence, training
from pci_bench.features.extraction import compute_features
from pci_bench.features.jobs import job_of
from pci_bench.features.names import select
from pci_bench.segmentation import SEGMENTERS
from pci_bench.system.progress import Progress


class Heard(Progress):
    """Progress that remembers what was said, and when stages began."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, sentence: str) -> None:
        self.lines.append(sentence)

    def stage(self, title: str, total: int | None = None):
        self.lines.append(f"stage {title}")
        return super().stage(title, total)


@pytest.fixture
def painted_cells(own_registries, tmp_path, monkeypatch):
    painted.register()
    monkeypatch.setenv("PCI_BENCH_CACHE", str(tmp_path / "cache"))
    return load_dataset("painted")


@pytest.fixture
def slow(monkeypatch):
    """Make cells take a million times as long as they do, and evaluations, so that a run of sixty cells takes more than a minute."""
    known = rates()
    slower = {name: 1e6 * seconds for name, seconds in known["seconds_per_cell"].items()}
    evaluators = {name: {**rate, "seconds": 1e6} for name, rate in known["evaluators"].items()}
    monkeypatch.setattr(estimate, "rates", lambda: known | {"seconds_per_cell": slower, "evaluators": evaluators})


def jobs(cells, *names):
    segmenter = sorted(SEGMENTERS)[0]
    return [job_of(resolve_weights(f, cells), cells, segmenter) for f in select(names)]


def test_less_than_a_minute_is_not_worth_a_sentence():
    assert sentence([Work("designed", 10.0), Work("evaluation", 1.0)], "cpu") is None
    assert sentence([Work("mine", None)], "cpu") is None


def test_the_sentence_names_the_longest_part_first_and_its_sum_is_that_of_the_parts(monkeypatch):
    monkeypatch.setattr(estimate, "matmul_gflops", lambda seconds: rates()["gflops"])  # as the machine of the rates
    monkeypatch.setattr(estimate, "available_cores", lambda: 2)
    work = [Work("a", 2 * 600.0), Work("b", 2 * 1800.0), Work("c", 1.0), Work("mine", None)]
    assert (
        sentence(work, "cpu")
        == "About 40 minutes on 2 cores: b (30 minutes), a (10 minutes). How long mine takes is not known."
    )


def test_parts_of_a_minute_are_not_said_to_take_one_each(monkeypatch):
    monkeypatch.setattr(estimate, "matmul_gflops", lambda seconds: rates()["gflops"])
    monkeypatch.setattr(estimate, "available_cores", lambda: 1)
    parts = [Work(name, 20.0) for name in "abcd"]
    assert sentence(parts, "cpu") == "About a minute on 1 core: d, c, b, a."
    assert sentence([*parts, Work("long", 100.0)], "cpu").startswith(
        "About 3 minutes on 1 core: long (2 minutes), d (under a minute)"
    )


def test_a_faster_machine_is_sooner_done(monkeypatch):
    monkeypatch.setattr(estimate, "available_cores", lambda: 1)
    for factor, said in ((1, "20 minutes"), (4, "5 minutes")):
        monkeypatch.setattr(estimate, "matmul_gflops", lambda seconds, factor=factor: factor * rates()["gflops"])
        assert sentence([Work("a", 1200.0)], "cpu") == f"About {said} on 1 core: a."


def test_networks_are_not_timed_where_there_is_a_gpu(monkeypatch):
    monkeypatch.setattr(estimate, "resolve_device", lambda device: "cuda")
    said = sentence([Work("designed", 1e5), Work("pci", 1e5, network=True)])
    assert said.endswith("designed. How long pci on a GPU takes is not known.")


def test_outputs_of_a_network_are_one_pass_and_time_grows_with_its_crop_and_width(painted_cells):
    (whole,) = extraction(jobs(painted_cells, "pci@yeast-sim"), painted_cells)
    (one,) = extraction(jobs(painted_cells, "pci-conv4@yeast-sim"), painted_cells)
    assert whole.seconds == one.seconds
    crop = painted.SIZE**2 / 64**2
    published = rates()["seconds_per_cell"]["pci"] * len(painted_cells) * crop
    assert one.seconds == pytest.approx(
        published * 0.25 ** rates()["width_power"]
    )  # shipped networks have a quarter of the width
    (twice,) = extraction(jobs(painted_cells, "designed"), painted_cells)
    (half,) = extraction(jobs(painted_cells[:30], "designed"), painted_cells[:30])
    assert twice.seconds == pytest.approx(2 * half.seconds)


def test_the_time_of_a_plug_in_is_not_guessed_from_its_name(painted_cells, tmp_path):
    from pci_bench.api import plugins

    file = tmp_path / "mine.py"
    file.write_text(
        "from pci_bench import register_features\n\n\n"
        '@register_features("pci-mine", version="1", names=lambda channels: ["one"])\n'
        'def mine(crops):\n    """Return the first pixel."""\n    return crops[:, :1, 0, 0]\n'
    )
    plugins.load_plugin(file)
    (work,) = extraction(jobs(painted_cells, "pci-mine"), painted_cells)
    assert work.seconds is None


def test_a_run_says_it_before_it_begins_and_not_of_what_is_in_the_cache(painted_cells, slow):
    heard = Heard()
    run("knn", dataset="painted", features="intensity", progress=heard)
    said = next(i for i, line in enumerate(heard.lines) if line.startswith("About "))
    assert "extraction of intensity" in heard.lines[said] or "evaluation" in heard.lines[said]
    assert said < next(i for i, line in enumerate(heard.lines) if line.startswith("stage extracting"))
    again = Heard()
    run("knn", dataset="painted", features="intensity", progress=again)
    assert not [line for line in again.lines if line.startswith("About ")]
    anew = Heard()
    run("knn", dataset="painted", features="intensity", refresh="always", progress=anew)
    assert [line for line in anew.lines if line.startswith("About ")]


def test_parts_that_are_there_are_not_counted(painted_cells):
    (before,) = extraction(jobs(painted_cells, "raw-pixels"), painted_cells)
    (job,) = jobs(painted_cells, "raw-pixels")
    job.parts.mkdir(parents=True)
    job.part(0, len(painted_cells)).write_bytes(b"a part")
    (after,) = extraction([job], painted_cells)
    assert before.seconds > 0
    assert after.seconds == 0


def test_extraction_alone_says_it_too(painted_cells, slow):
    heard = Heard()
    compute_features(select(["raw-pixels"]), painted_cells, progress=heard)
    (said,) = [line for line in heard.lines if line.startswith("About ")]
    assert re.fullmatch(r"About .+ on \d+ cores?: extraction of raw-pixels\.", said)


def test_a_training_takes_as_long_as_it_has_epochs_and_an_unknown_one_is_not_guessed():
    of_one = training("pci", 1, 1000, (64, 64), 0.25, bfloat16=False).seconds
    assert training("pci", 10, 1000, (64, 64), 0.25, bfloat16=False).seconds == pytest.approx(10 * of_one)
    assert training("pci", 1, 1000, (64, 64), 0.25, bfloat16=True).seconds < of_one
    assert training("mine", 1, 1000, (64, 64), 0.25, bfloat16=False).seconds is None


def test_every_rate_is_of_something_that_is_registered():
    from pci_bench.api.evaluator import EVALUATORS
    from pci_bench.api.model import MODELS
    from pci_bench.features.names import known_feature_sets

    for key in rates()["seconds_per_cell"]:
        assert any(name == key or name.startswith(f"{key}-") for name in known_feature_sets()), key
    assert all(name in EVALUATORS for name in rates()["evaluators"])
    assert all(name in MODELS for name in rates()["training"])


class Named(Extractor):
    """An extractor of a test, registered without a plug-in's file."""

    meta = ExtractorMeta("unmeasured", "1", "Nobody measured it")

    def names(self, output, channels, weights=None):
        return ["one"]

    def open(self, channels, weights, device):
        return lambda crops, outputs: {output: np.zeros((len(crops), 1), np.float32) for output in outputs}


def test_features_that_nobody_measured_are_said_to_be_unknown(painted_cells):
    register_extractor("unmeasured")(Named)
    (work,) = extraction(jobs(painted_cells, "unmeasured"), painted_cells)
    assert work == Work("extraction of unmeasured", None, network=False)


def test_which_cells_a_run_takes_is_said_before_they_are_drawn(monkeypatch, tmp_path):
    def load(*_, **__):
        raise UserError("not drawn yet")

    monkeypatch.delenv("PCI_BENCH_DATA", raising=False)
    monkeypatch.setenv("PCI_BENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(loading, "load", load)
    heard = Heard()
    with pytest.raises(UserError, match="not drawn yet"):
        run("yeast-knn", progress=heard)
    assert heard.lines == ["yeast-sim, 2,563 cells that pci-bench draws; the paper's: pci-bench data get chong2015"]

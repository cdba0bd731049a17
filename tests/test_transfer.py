"""Networks of one screen on another: planted results, whose own network is known by the dataset's training screen."""

import numpy as np
import pytest
from factories import make_features

from pci_bench import evaluate
from pci_bench.benchmarks import BENCHMARKS
from pci_bench.reporting.figures.transfer import transfer_figures
from pci_bench.reporting.tables.transfer import strictest, transfer_tables
from pci_bench.runs.paired import paired_interval
from pci_bench.runs.transfer import UNTRAINED, Transfer, trained_on


def result(dataset, features, weights, noise, **params):
    """A result of cells that are the same for every network of a dataset; features with more noise know less."""
    image = np.repeat(np.arange(8), 8)
    label = image % 2
    values = np.random.default_rng(0).normal(size=(64, 3)) * noise + label[:, None]
    columns = {
        "cell": [f"c{i}" for i in range(64)],
        "label": np.array(["a", "b"])[label],
        "image": [f"i{i}" for i in image],
    }
    of = {"dataset": {"name": dataset, "confounder": "image"}, "features": {"name": features, "weights": weights}}
    return evaluate("loo-knn", make_features(values.astype(np.float32), of, **columns), k=3, **params)


@pytest.fixture(scope="module")
def results():
    made = []
    for dataset, own, other in (("yeast-sim", "yeast-sim", "rxrx1"), ("rxrx1-organelles", "rxrx1", "yeast-sim")):
        made += result(dataset, "pci-conv4", own, 0.3, exclude=["cell", "image"])
        made += result(dataset, "pci-conv4", other, 2.0, exclude=["cell", "image"])
        made += result(dataset, "pci-random-conv4", "seed0", 9.0, exclude="image")
    return made


def test_a_network_is_of_the_screen_that_its_weights_say_and_random_ones_of_none(results):
    assert {trained_on(r) for r in results} == {"yeast-sim-train", "rxrx1-organelles-train", UNTRAINED}
    (transfer,) = Transfer.of(strictest(results))
    assert transfer.features == "pci-conv4"
    assert transfer.networks == ["yeast-sim-train", "rxrx1-organelles-train", UNTRAINED]
    assert (transfer.own("yeast-sim"), transfer.own("rxrx1-organelles")) == (
        "yeast-sim-train",
        "rxrx1-organelles-train",
    )
    assert transfer.own("toy-yeast") is None


def test_a_change_is_the_difference_to_the_own_network_with_the_interval_of_pairs(results):
    (transfer,) = Transfer.of(strictest(results))
    home = transfer.results["yeast-sim-train", "yeast-sim"]
    away = transfer.results["rxrx1-organelles-train", "yeast-sim"]
    value, interval = transfer.change("rxrx1-organelles-train", "yeast-sim")
    assert value == pytest.approx(away.metrics["balanced_accuracy"] - home.metrics["balanced_accuracy"])
    assert interval == paired_interval(home, away)
    assert value < 0
    assert interval[1] < 0
    assert transfer.change("yeast-sim-train", "yeast-sim") is None


def test_the_matrix_has_the_strictest_column_and_marks_the_own_network(results):
    ((stem, texts, pages),) = transfer_tables(results)
    home = Transfer.of(strictest(results))[0].results["yeast-sim-train", "yeast-sim"]
    assert home.evaluator.params["exclude"] == "image"
    row = next(line for line in texts["md"].splitlines() if line.startswith("| yeast-sim-train"))
    assert f"| {100 * home.metrics['balanced_accuracy']:.1f} [" in row
    assert row.count(r"\*") == 1
    assert stem == "transfer"
    assert pages[0].columns == ["trained on", "yeast-sim", "rxrx1-organelles"]


def test_the_figure_frames_the_own_networks(results):
    ((stem, figure),) = transfer_figures(results)
    assert stem == "transfer"
    frames = {(round(p.get_x() + 0.48), round(p.get_y() + 0.46)) for p in figure.axes[0].patches}
    assert frames == {(0, 0), (1, 1)}
    assert list(transfer_figures([r for r in results if r.dataset.name == "yeast-sim"])) == []


def test_the_benchmark_takes_every_dataset_with_networks_of_all_screens_and_an_untrained_one():
    declared = BENCHMARKS.get("transfer")
    assert declared.all_datasets
    assert {name.partition("@")[2] for name in declared.features} == {"rxrx1", "yeast-sim", "human-sim", "seed0"}

"""Studies: the plan, the parts that go on without each other, and sentences that follow from the numbers."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from command_line import call
from factories import make_result

import pci_bench
from pci_bench.benchmarks import BENCHMARKS
from pci_bench.runs.results import Result, read_results
from pci_bench.study import declared
from pci_bench.study.conclusions import by_evaluator, conclusions
from pci_bench.study.declared import Part, Study, studies, study_of
from pci_bench.study.study import Plan, study


@pytest.fixture
def two_parts(monkeypatch, toy_cache, without_figures) -> Study:
    """A study of two benchmarks, of which the second has nothing to run on."""
    parts = (
        Part(name="ladder", question="Which?", benchmark="knn", parameters={"k": [3]}, minutes=2),
        Part(name="impossible", question="And why?", benchmark="knn", parameters={"k": [5000]}),
    )
    made = Study(name="any", features=("intensity", "noise"), quick_features=("noise",), quick_limit=100, parts=parts)
    monkeypatch.setattr(declared, "studies", lambda: {"any": made})
    return made


def classified(name: str, right: dict[str, float], seed: int = 0, n: int = 200) -> Result:
    """A result in which a planted share of the cells of each of ten images is right."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(["a", "b"], n)
    correct = np.concatenate([rng.permutation(np.arange(n) < round(right[x] * n)) for x in "ab"])
    predicted = np.where(correct, labels, np.where(labels == "a", "b", "a"))
    table = pd.DataFrame(
        {
            "cell": [f"c{i}" for i in range(2 * n)],
            "label": labels,
            "predicted": predicted,
            "image": np.tile(np.arange(10), n // 5),
        }
    )
    value = float(np.mean(list(right.values())))
    return make_result(
        table,
        dataset={"confounder": "image", "classes": {"a": n, "b": n}},
        features={"name": name},
        evaluator={
            "params": {"k": 11, "exclude": "image"},
            "headline": "balanced_accuracy",
            "metrics": {"balanced_accuracy": {"unit": "percent"}},
        },
        metrics={"balanced_accuracy": value},
        intervals={"balanced_accuracy": [value - 0.03, value + 0.03]},
    )


def texts(results: list[Result]) -> str:
    return "\n".join(c.text for c in conclusions("ladder", results))


def test_every_declared_study_names_benchmarks_and_features_that_exist():
    for made in studies().values():
        for part in made.parts:
            assert part.benchmark in BENCHMARKS
            Plan(made, "yeast-sim").features_of(part)
    assert study_of("folder:somewhere") is studies()["any"]


def test_it_is_said_who_is_ahead_and_by_how_much():
    said = texts(
        [classified("pci-conv4", {"a": 0.9, "b": 0.9}, 1), classified("autoencoder-conv3", {"a": 0.7, "b": 0.7}, 2)]
    )
    assert "pci-conv4) is ahead of the best other feature set without labels, autoencoder-conv3, by 20.0 [" in said
    said = texts(
        [classified("pci-conv4", {"a": 0.6, "b": 0.6}, 1), classified("autoencoder-conv3", {"a": 0.9, "b": 0.9}, 2)]
    )
    assert "pci-conv4) loses to the best other feature set without labels, autoencoder-conv3, by 30.0 [" in said


def test_what_cannot_be_told_apart_is_said_so():
    said = texts(
        [classified("pci-conv4", {"a": 0.8, "b": 0.8}, 1), classified("autoencoder-conv3", {"a": 0.8, "b": 0.81}, 2)]
    )
    assert "cannot be told apart: autoencoder-conv3 is ahead by" in said


def test_the_share_of_the_gap_to_the_supervised_row_follows_from_the_three_numbers():
    rows = [("pci-conv4", 0.6, 1), ("contrastive", 0.75, 2), ("deeploc-fc2", 0.9, 3)]
    said = texts([classified(name, {"a": share, "b": share}, seed) for name, share, seed in rows])
    assert re.search(
        r"deeploc-fc2, which learned from labels, is ahead of pci-conv4 by 30\.0 \[.*\] points; contrastive closes 50 % of that\.",
        said,
    )


def measured(name: str, evaluator: str, params: dict[str, object], metrics: dict[str, float], **units: str) -> Result:
    """A result of another evaluator, with intervals of 0.01 about every number."""
    return make_result(
        features={"name": name},
        evaluator={
            "name": evaluator,
            "title": evaluator,
            "params": params,
            "headline": next(iter(metrics)),
            "metrics": {
                m: {"unit": unit.removesuffix("-less"), "higher_is_better": not unit.endswith("-less")}
                for m, unit in units.items()
            },
        },
        metrics=metrics,
        intervals={m: [v - 0.01, v + 0.01] for m, v in metrics.items()},
    )


def test_of_each_nuisance_it_is_said_who_knows_most_and_least_of_it():
    rows = {
        ("pci-conv4", "plate"): 0.3,
        ("designed", "plate"): 0.1,
        ("pci-conv4", "image"): 0.05,
        ("designed", "image"): 0.2,
    }
    results = [
        measured(name, "nuisance-probe", {"target": target}, {"excess": value}, excess="percent-less")
        for (name, target), value in rows.items()
    ]
    plate, image = (c.text for c in conclusions("confounders", results))
    assert plate.startswith("The plate is told best by pci-conv4, 30.0 [29.0, 31.0] points above")
    assert plate.endswith("least by designed, 10.0 [9.0, 11.0].")
    assert image.startswith("The image is told best by designed")


def test_a_bare_agreement_of_clusters_that_names_another_winner_is_said_so():
    def clustered(name: str, nmi: float, null: float) -> Result:
        metrics = {"nmi_excess": nmi - null, "nmi": nmi, "nmi_null": null}
        return measured(name, "clustering-agreement", {"resolution": 1.0}, metrics)

    said = texts([clustered("designed", 0.5, 0.05), clustered("raw-pixels-of-mine", 0.55, 0.2)])
    assert "beyond" not in said
    assert said.startswith(
        "Clusters agree best with labels for designed: normalised mutual information 0.500, of which 0.050 is what shuffled"
    )
    assert said.endswith("The bare value would have named raw-pixels-of-mine.")


def test_clusters_are_ranked_beside_labels_that_whole_images_exchange_where_these_were_tried():
    def clustered(name: str, nmi: float, null: str, score: float) -> Result:
        metrics = {"nmi_excess": nmi - score, "nmi": nmi, "nmi_null": score}
        return measured(name, "clustering-agreement", {"resolution": 1.0, "null": null}, metrics)

    said = texts(
        [
            clustered("designed", 0.5, "cells", 0.01),
            clustered("raw-pixels-of-mine", 0.55, "cells", 0.01),
            clustered("designed", 0.5, "images", 0.1),
            clustered("raw-pixels-of-mine", 0.55, "images", 0.3),
        ]
    )
    assert said == (
        "Clusters agree best with labels for designed: normalised mutual information 0.500, of which 0.010 is what shuffled labels score, "
        "and 0.100 what labels score that whole images exchange. The bare value would have named raw-pixels-of-mine."
    )


def test_sets_that_do_not_hold_the_truth_as_often_as_promised_are_counted_where_groups_are_new():
    def calibrated(exclude: str, coverage: float) -> Result:
        metrics = {
            "brier": 0.4,
            "ece": 0.12,
            "ece_null": 0.02,
            "coverage": coverage,
            "lowest_class_coverage": coverage - 0.2,
        }
        params = {"classifier": "knn", "exclude": exclude, "error": 0.1}
        return measured(
            "designed",
            "calibration",
            params,
            metrics,
            ece="percent",
            coverage="percent",
            lowest_class_coverage="percent",
        )

    said = texts([calibrated("cell", 0.9), calibrated("plate", 0.71)])
    assert "By knn, other plates only: designed has the best Brier score" in said
    assert "Its calibration error is 12.0 %, where 2.0 % is chance alone" in said
    assert "for 90 % of cells hold it for 71.0 [70.0, 72.0] %, and for 51.0 % of the worst class" in said


def test_a_gain_by_fusion_that_may_be_none_is_said_to_be_none():
    def with_gain(name: str, gain: float) -> Result:
        return measured(
            name, "complementarity", {"beside": "intensity", "exclude": "plate"}, {"gain": gain}, gain="percent"
        )

    assert "designed gains most from intensity at its side, 3.0 [2.0, 4.0] points" in texts(
        [with_gain("designed", 0.03), with_gain("pci-conv4", 0.01)]
    )
    assert "cannot be told from nothing" in texts([with_gain("designed", 0.005)])


def test_a_turned_copy_that_is_farther_than_another_cell_is_counted():
    def moved(name: str, median: float, farther: float) -> Result:
        metrics = {"median": median, "farther": farther}
        return measured(name, "rotation-sensitivity", {}, metrics, median="number-less", farther="percent-less")

    said = texts([moved("pci-conv4", 0.9, 0.4), moved("designed", 0.2, 0.0)])
    assert "0.200 [0.190, 0.210] of the way" in said
    assert said.index("designed") < said.index("pci-conv4")
    assert said.endswith("there, 40.0 [39.0, 41.0] % of the copies are farther than another cell.")


def test_of_each_known_measure_it_is_said_who_tells_most_of_it():
    rows = {"pci-conv4": {"area": 0.5, "others": 0.1}, "designed": {"area": 0.9, "others": 0.095}}
    said = [c.text for c in conclusions("x", [measured(n, "known-measures", {}, m) for n, m in rows.items()])]
    assert said[0] == (
        "Area: R² is 0.90 [0.89, 0.91] for designed, which tells most of it, and 0.50 [0.49, 0.51] for pci-conv4."
    )
    assert said[1].startswith("The number of other cells in the crop: R² is 0.10 [0.09, 0.11] for pci-conv4")
    assert said[1].endswith("for designed; their intervals overlap.")


def test_few_and_many_labels_are_said_of_the_feature_set_that_needs_fewest():
    def curve(name: str, few: float, many: float) -> Result:
        metrics = {"area": (few + many) / 2, "balanced_accuracy_at_1": few, "balanced_accuracy_at_100": many}
        units = dict.fromkeys(metrics, "percent")
        return measured(name, "label-efficiency", {"classifier": "logistic", "exclude": "image"}, metrics, **units)

    said = texts([curve("pci-conv4", 0.5, 0.8), curve("designed", 0.3, 0.9)])
    assert said.startswith("By a linear probe, other images only: pci-conv4 needs fewest labels; 50.0 [49.0, 51.0] %")
    assert said.endswith("with 1 of a class, 80.0 [79.0, 81.0] % with 100.")


def test_sentences_of_several_evaluators_stand_under_what_each_evaluates():
    results = [
        measured(name, evaluator, {"exclude": "image", "target": "plate"}, {metric: value}, **{metric: "percent"})
        for name, value in {"pci-conv4": 0.4, "designed": 0.3}.items()
        for evaluator, metric in {"nuisance-probe": "excess", "map": "normalized_map"}.items()
    ]
    grouped = by_evaluator(conclusions("metrics", results))
    assert list(grouped) == ["nuisance-probe", "map"]
    assert [len(said) for said in grouped.values()] == [1, 1]
    assert list(by_evaluator(conclusions("metrics", results[::2]))) == [""]


def test_a_part_that_cannot_be_run_is_said_and_the_others_go_on(two_parts, tmp_path):
    made = study("toy-yeast", quick=True, out=tmp_path)
    assert [bool(p.output) for p in made.parts] == [True, False]
    assert "k = 5000 needs at least" in made.parts[1].reason
    for file in (made.report, made.page):
        assert "k = 5000 needs at least" in file.read_text(encoding="utf-8")


def test_a_quick_study_takes_few_cells_and_features_and_says_so(two_parts, tmp_path):
    made = study("toy-yeast", quick=True, out=tmp_path)
    results = read_results(tmp_path / "01-ladder")
    assert {r.features.name for r in results} == {"noise"}
    assert {r.dataset.limit for r in results} == {100}
    assert "A quick look: about 100 cells" in made.page.read_text(encoding="utf-8")


def test_a_study_that_is_run_again_gives_the_same_page_from_what_was_kept(two_parts, tmp_path):
    def page() -> str:
        made = study("toy-yeast", quick=True, features="intensity,noise", out=tmp_path)
        return re.sub(r"[\d.]+ CPU minutes", "", made.page.read_text(encoding="utf-8"))

    assert page() == page()


def test_the_plan_is_scaled_to_the_machine_and_says_what_nobody_measured(two_parts, monkeypatch):
    from pci_bench.study import study as module

    monkeypatch.setattr(module, "_slowness", lambda: 3.0)
    monkeypatch.setattr(module, "available_cores", lambda: 2)
    assert (
        Plan(two_parts, "toy-yeast").text()
        == "About 3 minutes on 2 cores where nothing is kept from earlier runs; 1 of 2 parts was not measured."
    )
    assert "was not measured" in Plan(two_parts, "toy-yeast", features=("intensity",)).text()


def test_the_command_prints_the_plan_and_then_what_follows(two_parts, capsys, monkeypatch, tmp_path):
    arguments = ["study", "toy-yeast", "--quick", "--out", tmp_path / "made"]
    plan = call(capsys, monkeypatch, *arguments, "--dry-run")
    assert plan.code == 0
    assert "And why?" in plan.out
    assert not (tmp_path / "made").exists()
    made = call(capsys, monkeypatch, *arguments)
    assert made.code == 0, made.err
    assert "What follows" in made.out
    assert "Not run: " in made.out
    assert str(tmp_path / "made" / "study.html") in made.out


def test_nothing_that_can_be_run_is_a_sentence(two_parts, monkeypatch, tmp_path):
    only = two_parts.model_copy(update={"parts": two_parts.parts[1:]})
    monkeypatch.setattr(declared, "studies", lambda: {"any": only})
    with pytest.raises(pci_bench.UserError, match="No part of the study of toy-yeast could be run"):
        study("toy-yeast", out=tmp_path)

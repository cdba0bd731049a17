"""What features know of a nuisance: found where it is planted, at chance where it is not, also where it goes with the class."""

from __future__ import annotations

import numpy as np
import pytest
from factories import make_features

from pci_bench import UserError, evaluate
from pci_bench.statistics.nuisance import nested_groups, redrawn_neighbors


def features(knows: str, seed: int = 0, n: int = 480):
    """Return features of 4 classes on 8 plates that know the plate, the class, the field or nothing; a class's plates are 2 of 8 mostly."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 4, n)
    plate = np.where(rng.random(n) < 0.8, 2 * label + rng.integers(0, 2, n), rng.integers(0, 8, n))
    field = 4 * plate + rng.integers(0, 4, n)
    values = rng.normal(size=(n, 4))
    known = {"plate": plate, "class": label, "field": field, "nothing": 0 * plate}[knows]
    values += rng.normal(0, 4, (known.max() + 1, 4))[known] if knows != "nothing" else 0
    columns = {"cell": [f"c{i:03d}" for i in range(n)], "image": [f"{f:02d}" for f in field]}
    return make_features(values, label=[str(i) for i in label], plate=[f"p{p}" for p in plate], **columns)


def probed(knows: str, target: str = "plate", **params):
    (result,) = evaluate("nuisance-probe", features(knows), target=target, **params)
    return result


def test_a_planted_plate_is_found_and_balanced_accuracy_is_scikit_learns():
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.model_selection import LeaveOneOut, cross_val_predict
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    adata = features("plate")
    (result,) = evaluate("nuisance-probe", adata, target="plate", k=5)
    scaled = make_pipeline(StandardScaler()).fit_transform(adata.X.astype(float))
    predicted = cross_val_predict(KNeighborsClassifier(5), scaled, adata.obs["plate"], cv=LeaveOneOut())
    assert result.metrics["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(adata.obs["plate"], predicted))
    assert result.metrics["excess"] > 0.4
    assert result.intervals["excess"][0] > 0.3


def test_features_that_know_nothing_have_no_excess():
    low, high = probed("nothing").intervals["excess"]
    assert low < 0 < high
    assert abs(probed("nothing").metrics["excess"]) < 0.05


def test_features_that_know_the_class_have_no_excess_though_plates_go_with_classes():
    result = probed("class")
    assert result.metrics["balanced_accuracy"] > 0.25  # twice one in eight
    assert abs(result.metrics["excess"]) < 0.05


def test_features_that_know_the_field_know_its_plate_but_not_that_of_other_fields():
    outputs = [evaluate("nuisance-probe", features("field", seed), target="plate")[0] for seed in range(6)]
    assert {o.details["grouped_by"] for o in outputs} == {"image"}
    assert min(o.metrics["excess"] for o in outputs) > 0.3
    assert (
        abs(np.mean([o.metrics["grouped_excess"] for o in outputs])) < 0.06
    )  # few fields: single draws vary by as much
    assert probed("plate").metrics["grouped_excess"] > 0.4


def test_what_nothing_is_nested_in_has_no_grouped_score():
    result = probed("field", "image")
    assert "grouped_excess" not in result.metrics
    assert result.metrics["excess"] > 0.2


def test_noise_is_at_chance_where_plates_differ_in_size_also_with_neighbours_of_other_groups():
    rng = np.random.default_rng(0)
    field = np.repeat(np.arange(8), [300, 20, 20, 30, 200, 25, 40, 15])
    columns = {"image": [f"f{f}" for f in field], "plate": [f"p{f // 2}" for f in field]}
    label = rng.choice(["a", "b"], len(field))
    adata = make_features(rng.normal(size=(len(field), 6)), label=label, **columns)
    (result,) = evaluate("nuisance-probe", adata, target="plate")
    assert result.details["grouped_by"] == "image"
    for name in ("excess", "grouped_excess"):
        assert abs(result.metrics[name]) < 0.03, name


def test_redrawn_neighbours_keep_the_classes_and_are_all_of_the_others_equally_often():
    rng = np.random.default_rng(0)
    classes, groups = rng.integers(0, 3, 40), rng.integers(0, 6, 40)
    lists = np.array([[rng.choice(np.flatnonzero(groups != g)) for _ in range(2)] + [-1] for g in groups])
    counts = np.zeros((40, 2, 40))
    for _ in range(4000):
        drawn = redrawn_neighbors(lists, classes, groups, rng)
        assert (drawn[:, 2] == -1).all()
        np.add.at(counts, (np.arange(40)[:, None], np.arange(2), drawn[:, :2]), 1)
    for cell, place in np.ndindex(40, 2):
        may = (classes == classes[lists[cell, place]]) & (groups != groups[cell])
        assert (counts[cell, place, ~may] == 0).all()
        np.testing.assert_allclose(counts[cell, place, may], 4000 / may.sum(), rtol=0.4)


def test_groups_are_nested_where_each_lies_in_one_value_and_each_value_has_several():
    plate = np.repeat(np.arange(3), 4)
    crossing, single, nested = np.tile(np.arange(4), 3), plate.copy(), np.repeat(np.arange(6), 2)
    assert nested_groups(plate, {"crossing": crossing, "single": single, "nested": nested}) == "nested"
    assert nested_groups(plate, {"crossing": crossing, "single": single}) is None


@pytest.mark.parametrize(
    ("target", "words"),
    [("batch", "no column 'batch' to predict"), ("cell", "is of one cell"), ("one", "fewer than two values")],
)
def test_what_cannot_be_predicted_is_said(target, words):
    adata = features("nothing")
    adata.obs["one"] = "same"
    with pytest.raises(UserError, match=words):
        evaluate("nuisance-probe", adata, target=target)

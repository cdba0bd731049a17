"""What can be reproduced, what of it is judged, and what comes of it."""

import pytest
from command_line import call

from pci_bench import UserError
from pci_bench.benchmarks import BENCHMARKS
from pci_bench.datasets import DATASETS
from pci_bench.features.estimate import rates
from pci_bench.features.names import parse
from pci_bench.reporting.tables.declaration import TABLES, TableDeclaration
from pci_bench.reproduction import written
from pci_bench.reproduction.claims import CLAIMS, Claim, claims_of
from pci_bench.reproduction.estimate import Estimate, estimated, passes_of
from pci_bench.reproduction.items import Item, ItemRun, chosen, items
from pci_bench.reproduction.needs import Need, State, get_for, lacking, needs_of, weights_need
from pci_bench.reproduction.outcome import Number, Outcome, Verdict, code_of
from pci_bench.reproduction.reproduce import plan, reproduce
from pci_bench.system.progress import Progress

NAMES = list(items())
TABLE1 = items()["table1"]


@pytest.mark.parametrize("name", NAMES)
def test_what_an_item_names_there_is(name):
    item = items()[name]
    for run in item.runs:
        assert run.benchmark in BENCHMARKS
        assert run.dataset in DATASETS
        assert [str(parse(f)) for f in run.features] == list(run.features)
    features = {f for run in item.runs for f in run.features}
    assert set(item.judged) <= features
    printed = {f for t in item.tables if isinstance(table := TABLES.get(t), TableDeclaration) for f in table.printed}
    assert printed <= features, "a printed row that the item does not run"
    assert set(item.judged) <= printed


def test_every_printed_table_is_of_one_item():
    printed = {n for n in TABLES if isinstance(t := TABLES.get(n), TableDeclaration) and t.printed}
    named = [t for item in items().values() for t in item.tables]
    assert sorted(named) == sorted(printed)


def test_claims_are_of_items():
    assert set(CLAIMS) <= set(NAMES)


@pytest.mark.parametrize(
    ("name", "found"), [("figure2a", "supplementary-table1"), ("table3", "figure4"), ("table1", "table1")]
)
def test_an_item_has_other_names(name, found):
    assert [item.name for item in chosen(name)] == [found]


def test_another_name_is_a_sentence_with_the_nearest():
    with pytest.raises(UserError, match=r"nothing called 'tabel1' to reproduce\. Did you mean table1"):
        chosen("tabel1")


def number(ours, tolerance=0.5):
    return Number("table1", TABLE1.judged[0], "k = 11", ours, 43.09, tolerance=tolerance)


HOLDS, FAILS = Claim("a", True, "1"), Claim("b", False, "2")


@pytest.mark.parametrize(
    ("outcome", "verdict", "code"),
    [
        (Outcome(TABLE1, [number(43.5)], [HOLDS]), Verdict.as_printed, 0),
        (Outcome(TABLE1, [number(43.5), number(48.1)], [HOLDS]), Verdict.not_as_printed, 1),
        (Outcome(TABLE1, [number(43.5)], [FAILS]), Verdict.not_as_printed, 1),
        (Outcome(TABLE1, [number(48.1, None)], [HOLDS]), Verdict.claims_hold, 0),
        (Outcome(TABLE1, [number(48.1, None)]), Verdict.ran, 0),
        (Outcome(TABLE1, [number(43.1, None)], variant="other cells"), Verdict.not_the_papers, 2),
        (Outcome(TABLE1, missing={"chong2015": "no host"}), Verdict.cannot_be_had, 2),
    ],
)
def test_the_verdict_and_the_exit_code(outcome, verdict, code):
    assert (outcome.verdict, outcome.code) == (verdict, code)


def test_a_run_that_fails_does_not_keep_others_from_running(cache, tmp_path, monkeypatch):
    item = Item(
        name="both",
        title="Two runs",
        runs=[
            {"benchmark": "yeast-knn", "dataset": "yeast-sim", "needed": ["intensity"]},
            {"benchmark": "yeast-knn", "dataset": "toy-yeast", "needed": ["intensity"]},
        ],
    )
    ran = []

    def run(benchmark, dataset, **more):
        ran.append(dataset)
        raise UserError("There are 6 cells. Name more.")

    monkeypatch.setattr("pci_bench.reproduction.reproduce.runner.run", run)
    monkeypatch.setattr("pci_bench.reproduction.reproduce.lacking", lambda *of: {})
    outcome = reproduce(item, tmp_path)
    assert ran == ["yeast-sim", "toy-yeast"]
    assert (outcome.verdict, outcome.code) == (Verdict.could_not_run, 2)
    page = (tmp_path / "both" / "reproduction.md").read_text(encoding="utf-8")
    for dataset in ran:
        assert f"Failed: yeast-knn on {dataset}: There are 6 cells. Name more. " in page


def test_nan_is_never_within_a_tolerance():
    assert number(float("nan")).within is False


def test_a_wrong_number_outranks_what_cannot_be_had():
    wrong, gone = Outcome(TABLE1, [number(50)]), Outcome(TABLE1, missing={"x": "y"})
    assert code_of([gone, wrong]) == 1
    assert code_of([gone, Outcome(TABLE1, [number(43)])]) == 2


def test_a_difference_that_rounds_to_nothing_has_no_minus():
    assert "+0.00" in written.row_of(number(43.088))


def test_on_another_copy_of_the_cells_no_difference_is_shown():
    outcome = Outcome(
        TABLE1, [number(43.1, None)], variant="chong2015:images is another copy of the cells of chong2015"
    )
    text = written.as_markdown(outcome)
    assert "Not a reproduction: chong2015:images is another copy" in text
    assert "+0.01" not in text
    assert "within" not in text
    assert written.as_json(outcome)["numbers"][0]["difference"] is None


def test_weights_that_were_not_published_are_told_from_those_to_fetch(cache):
    assert weights_need("pci-conv4@lu2019-yeast").state is State.to_fetch
    assert weights_need("pci-conv4@lu2019-nop1pr").state is State.not_published
    assert weights_need("pci-conv4@yeast-sim").state is State.here
    assert weights_need("intensity") is None


def test_a_need_is_named_once_with_its_source_size_and_licence(cache):
    needs = {need.name: need for need in needs_of(items()["supplementary-table1"].runs)}
    assert set(needs) == {
        "chong2015", "pci@lu2019-yeast", "deeploc@kraus2017", "vgg16@oxford", "autoencoder@lu2019-yeast",
    }  # fmt: skip
    (file,) = needs["pci@lu2019-yeast"].files
    assert file.digest == "git-blob:21029d9a1187f7199b0a89df95093f9656c01240"
    assert "GPL-2" in needs["pci@lu2019-yeast"].licence


def test_another_copy_that_would_be_fetched_is_named_beside_the_papers(cache, capsys, monkeypatch):
    (need, *_) = needs_of(TABLE1.runs)
    assert [file.urls[0] for file in need.others] == [
        "https://www.kaggle.com/api/v1/datasets/download/stanleyhua/cyclops-protein-loc"
    ]
    said = call(capsys, monkeypatch, "reproduce", "table1", "--dry-run")
    assert "else https://www.kaggle.com/" in said.out


def test_why_something_is_not_here_is_said_once():
    first = Outcome(TABLE1, wanting={"chong2015": "the server is down", "pci@lu2019-yeast": "not fetched"})
    assert "Not here: chong2015: the server is down." in written.sentences(first)
    said = written.sentences(first, {"chong2015"})
    assert "Not here: pci@lu2019-yeast: not fetched." in said
    assert "Not here, as said above: chong2015." in said


def test_no_claim_is_made_of_nothing():
    for name in NAMES:
        assert claims_of(name, []) == []


def test_a_pass_over_the_cells_is_estimated_once():
    assert passes_of(TABLE1.runs[0].features) == {"pci"}
    once = estimated(TABLE1.runs)
    twice = estimated([*TABLE1.runs, *TABLE1.runs])
    evaluation = rates()["evaluators"]["loo-knn"]
    again = 5 * evaluation["seconds"] * (30_889 / evaluation["cells"]) ** evaluation["power"]
    assert (
        once.seconds > 30_889 * rates()["seconds_per_cell"]["pci"] * rates()["gflops"] / once.gflops / once.cores * 0.9
    )
    assert twice.seconds - again * rates()["gflops"] / twice.gflops / twice.cores == pytest.approx(
        once.seconds * once.gflops / twice.gflops, rel=0.01
    )


def test_what_is_fetched_in_part_is_not_fetched_before_a_part_is_named(cache):
    (unnamed,) = needs_of(items()["figure3"].runs[:1])[:1]
    assert (unnamed.state, unnamed.option) == (State.in_part, "plates")
    assert "--plates says which part" in unnamed.reason
    (named,) = needs_of(items()["figure3"].runs[:1], {"plates"})[:1]
    assert (named.state, named.bytes) == (State.to_fetch, None)  # so it is asked about


def test_a_dataset_that_is_here_lacks_where_what_was_asked_of_it_failed(cache):
    run = ItemRun(benchmark="yeast-knn", dataset="yeast-sim", needed=["intensity"])
    assert not lacking(run)
    assert lacking(run, {"yeast-sim": "there is no such list of genes"})["intensity"].name == "yeast-sim"


def test_an_option_that_nothing_takes_is_refused():
    with pytest.raises(UserError, match="Nothing that table1 needs is fetched by --genes"):
        plan([TABLE1], choices=["genes"])


def test_where_the_number_of_cells_is_not_known_only_the_rest_is_timed():
    assert estimated(items()["figure2b"].runs).text() == "not known before the cells of hpa-v18 are read"
    assert "about" in Estimate(100.0, (), 2, 75.0).text()
    assert Estimate(100.0, ("a",), 2, 75.0).text().endswith("; and what a needs, whose cells are not read yet")
    assert estimated(items()["bbbc021-moa"].runs).text().startswith("about a minute")


def test_weights_are_not_fetched_for_a_run_whose_dataset_cannot_be_had(cache, monkeypatch):
    asked = []

    def get(need, progress, choices):
        asked.append(need.name)
        raise UserError("no server")

    monkeypatch.setattr(Need, "get", get)
    reasons = get_for(items()["table1"].runs, Progress())
    assert asked == ["chong2015"]
    assert reasons == {"chong2015": "no server"}

"""What goes wrong in a plug-in's code: its file and line, the cells it was working on, and never a silent success."""

from __future__ import annotations

import json

import pytest
from command_line import call
from faults import RUN, Fault, refused, with_crops, write

from pci_bench.api import plugins
from pci_bench.api.extractor import EXTRACTORS

FEATURES = """import sys
import numpy as np
from pci_bench import register_features

@register_features("mine", version="1", names=lambda channels: {names})
def mine(crops):
    {body}
"""
EXTRACTOR = """import sys
import numpy as np
from pci_bench import ExtractorMeta, register_extractor

@register_extractor("mine")
class Mine:
    meta = ExtractorMeta("mine", "1")
    def unavailable_reason(self, cells):
        {skip}
    def names(self, output, channels):
        return ["a"]
    def open(self, channels, weights, device):
        {open}
"""
EVALUATOR = """import sys
import pydantic
from pci_bench import EvaluatorMeta, Outcome, register_evaluator

@register_evaluator("mine")
class Mine:
    meta = EvaluatorMeta("mine", "1", "Mine", "score")
    Params = type("Params", (pydantic.BaseModel,), {{}})
    def unavailable_reason(self, adata, params):
        {skip}
    def __call__(self, adata, grid, run):
        {body}
"""
DATASET = """import sys
import numpy as np, pandas as pd
from pci_bench import Channel, DatasetMeta, register_dataset

@register_dataset("mine")
class Mine:
    meta = DatasetMeta("mine", "1", "Mine")
    def unavailable_reason(self):
        {skip}
    def source_fingerprint(self):
        {source}
    def build(self, store):
        obs = pd.DataFrame({{"cell": list("abcd"), "image": list("aabb"), "label": list("xxyy")}})
        store.begin(obs, (Channel("GFP", "protein"),), crop_shape={shape}, dtype="uint8")
        {build}
"""
SEGMENTER = """import sys
import numpy as np
from pci_bench import SegmenterMeta, register_features, register_segmenter

@register_features("masked", version="1", masks=True, names=lambda channels: ["a"])
def masked(crops):
    return crops[:, -1, :1, 0]

@register_segmenter("mine")
class Mine:
    meta = SegmenterMeta("mine", "1", "Mine")
    def unavailable_reason(self):
        {skip}
    def open(self, channels, device):
        {open}
"""
ON_CROPS = (*RUN, "--dataset", "folder:crops", "--k", "1", "--out", "out", "--plugin", "mine.py")
CELLS = "'w0/0' to 'w3/2'"


def plugin(template: str, **parts: str):
    """Return an `arrange` that writes crops and the file ``mine.py``."""

    def arrange(folder):
        with_crops()(folder)
        write(folder, {"mine.py": template.format(**parts)})

    return arrange


def features(what: str, body: str, *words: str, names: str = '["a"]', own: bool = False) -> Fault:
    code = plugin(FEATURES, body=body, names=names)
    return Fault(f"features that {what}", (*ON_CROPS, "--features", "mine"), words, code, own=own)


def extractor(what: str, *words: str, skip: str = "return None", open: str = "return None") -> Fault:
    code = plugin(EXTRACTOR, skip=skip, open=open)
    return Fault(f"an extractor that {what}", (*ON_CROPS, "--features", "mine"), words, code)


def evaluator(what: str, body: str, *words: str, skip: str = "return None") -> Fault:
    arguments = ("evaluate", "f.csv", "--with", "mine", "--plugin", "mine.py", "--out", "out")

    def arrange(folder):
        write(folder, {"mine.py": EVALUATOR.format(body=body, skip=skip), "f.csv": "cell,a\na,1\nb,2\n"})

    return Fault(f"an evaluator that {what}", arguments, words, arrange)


def dataset(what: str, *words: str, **parts: str) -> Fault:
    parts = {"skip": "return None", "source": "return ''", "build": "pass", "shape": "(8, 8)", **parts}
    arguments = (*RUN, "--dataset", "mine", "--features", "intensity", "--plugin", "mine.py", "--out", "out")
    return Fault(f"a dataset that {what}", arguments, words, plugin(DATASET, **parts))


def segmenter(what: str, *words: str, skip: str = "return None", open: str = "return None") -> Fault:
    arguments = (*ON_CROPS, "--features", "masked", "--segmenter", "mine")
    return Fault(f"a segmenter that {what}", arguments, words, plugin(SEGMENTER, skip=skip, open=open))


FAILS = "1 / 0"
EXITS = "sys.exit(0)"
ZERO = "ZeroDivisionError: division by zero"
SHAPE = "expected one row per crop"
FAULTS = [
    features("raise", FAILS, "The feature set mine failed on the cells", CELLS, ZERO, "mine.py:7", "--debug"),
    features("exit", EXITS, CELLS, "it called sys.exit(0)", "mine.py:7", "Correct the plug-in", own=True),
    features("exit with 1", "sys.exit(1)", CELLS, "it called sys.exit(1)", "mine.py:7"),
    features("give nothing", "return None", "mine gave nothing", CELLS, SHAPE),
    features("give text", "return np.full((len(crops), 1), '1.5')", "mine gave values of the type text", "'w0/0'"),
    features(
        "give text for one cell",
        "return np.array([[1.0], ['x'], *[[0.0]] * (len(crops) - 2)], dtype=object)",
        "mine gave values of the type object",
        "First seen for the cell 'w0/1'",
    ),
    features("give objects", "return np.array([[crops]] * 1 + [[None]] * 255, dtype=object)", "mine gave"),
    features("give complex numbers", "return crops[:, 0, :1, 0] * 1j", "values of the type complex64", "'w0/0'"),
    features("give ragged rows", "return [[1.0], [1.0, 2.0]]", "rows of different lengths", CELLS),
    features("give masked values", "return np.ma.masked_less(crops[:, 0, :1, 0], 2)", "masked values", CELLS),
    features("give one row too few", "return crops[1:, 0, :1, 0]", "the shape (255, 1) for 256 crops", SHAPE, CELLS),
    features("give a vector", "return crops[:, 0, 0, 0]", "the shape (256,)", SHAPE),
    features("give more axes", "return crops", "the shape (256, 2, 8, 8)", SHAPE),
    features("give dates", "return np.zeros((len(crops), 1), 'M8[s]')", "values of the type datetime64[s]"),
    features(
        "give what float32 cannot hold",
        "return crops[:, 0, :1, 0] * 0 + np.float64(1e300)",
        "NaN or infinite",
        "'w0/0'",
    ),
    features(
        "give fewer columns than named",
        "return crops[:, 0, :1, 0]",
        "declares 2 columns but computed 1",
        names="[1, 2]",
    ),
    features("name columns by numbers", "return crops[:, 0, :1, 0]", "names a column 1, which is no text", names="[1]"),
    features("fail to name columns", "return crops[:, 0, :1, 0]", "in names()", ZERO, "mine.py:5", names="1 / 0"),
    extractor("fails to open", "The feature set mine failed in open()", ZERO, "mine.py:13", open=FAILS),
    extractor("exits when it opens", "in open()", "it called sys.exit(0)", "mine.py:13", open=EXITS),
    extractor("opens as nothing", "on the cells", CELLS, "TypeError", "mine.py"),
    extractor("gives no dict", "it returned ndarray; expected a dict", open="return lambda crops, outputs: crops"),
    extractor("lacks its output", "mine gave nothing", open="return lambda crops, outputs: {'b': crops}"),
    extractor("fails to skip", "The feature set mine failed in unavailable_reason()", ZERO, "mine.py:9", skip=FAILS),
    extractor("exits in skip", "in unavailable_reason()", "it called sys.exit(0)", skip=EXITS),
    extractor(
        "skips with True", "unavailable_reason() returned True; expected None, or a sentence", skip="return True"
    ),
    evaluator("raises", FAILS, "The evaluator mine failed on file:f.csv", ZERO, "mine.py:12"),
    evaluator("exits", EXITS, "it called sys.exit(0)", "mine.py:12"),
    evaluator("gives text", "yield Outcome({}, {'score': '0.5'})", "mine gave score = '0.5'", "finite numbers only"),
    evaluator("gives a complex number", "yield Outcome({}, {'score': 1j})", "mine gave score = 1j"),
    evaluator("gives anything", "yield 1", "The evaluator mine failed on file:f.csv", "AttributeError"),
    evaluator("gives too little", "yield from ()", "mine gave 0 outcomes for 1 sets of parameters"),
    evaluator("gives too much", "yield from [Outcome({}, {'score': 1.0})] * 2", "mine gave 2 outcomes for 1 sets"),
    evaluator(
        "fails to skip", "yield", "The evaluator mine failed in unavailable_reason()", ZERO, "mine.py:10", skip=FAILS
    ),
    evaluator("skips with a number", "yield", "unavailable_reason() returned 5", skip="return 5"),
    dataset("raises", "The dataset mine failed after 0 cells", ZERO, "mine.py:15", build=FAILS),
    dataset("raises before it begins", "The dataset mine failed after 0 cells", ZERO, "mine.py:14", shape="1 / 0"),
    dataset("exits", "it called sys.exit(0)", "mine.py:15", build=EXITS),
    dataset(
        "raises after some crops",
        "The dataset mine failed after 2 cells",
        build="store.add(np.arange(128, dtype=np.uint8).reshape(2, 1, 8, 8)); 1 / 0",
    ),
    dataset("fails to skip", "The dataset mine failed in unavailable_reason()", ZERO, "mine.py:9", skip=FAILS),
    dataset("skips with True", "unavailable_reason() returned True", skip="return True"),
    dataset("fails in its source", "when it was asked for its source_fingerprint()", ZERO, "mine.py:11", source=FAILS),
    segmenter("raises", "The segmenter mine failed on the cells", CELLS, ZERO, open="return lambda crops: 1 / 0"),
    segmenter("exits", "it called sys.exit(0)", CELLS, open="return lambda crops: sys.exit(0)"),
    segmenter("fails to open", "The segmenter mine failed in open()", ZERO, "mine.py:15", open=FAILS),
    segmenter("fails to skip", "The segmenter mine failed in unavailable_reason()", ZERO, "mine.py:13", skip=FAILS),
    segmenter(
        "gives one mask", "gave masks of the shape (8, 8)", CELLS, open="return lambda crops: np.zeros((8, 8), int)"
    ),
    segmenter("gives shares", "the type float32", CELLS, open="return lambda crops: crops[:, 0]"),
    *(
        Fault(
            f"a plug-in that {what} when it is imported",
            (*ON_CROPS, "--features", "intensity"),
            (f"The plug-in mine.py:2 failed: {words}",),
            plugin("import sys\n" + code),
            own=code == EXITS,
        )
        for what, code, words in (
            ("exits", EXITS, "it called sys.exit(0)"),
            ("exits with a sentence", "sys.exit('no licence')", "it called sys.exit('no licence')"),
            ("raises", FAILS, ZERO),
            ("raises two lines", "raise RuntimeError('one\\n\\ntwo')", "RuntimeError: one two"),
        )
    ),
]


@pytest.fixture(autouse=True)
def registries(own_registries, monkeypatch):
    monkeypatch.setattr(plugins, "_sources", dict(plugins._sources))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.what)
def test_fault(fault, meet):
    meet(fault)


def test_each_kind_of_plug_in_has_faults():
    for kind in ("features", "an extractor", "an evaluator", "a dataset", "a segmenter", "a plug-in"):
        assert sum(fault.what.startswith(kind) for fault in FAULTS) >= 4


def test_code_of_a_plug_in_that_runs_in_an_unforeseen_place_is_the_plug_ins_fault(say, here):
    title = "class Title(str):\n    def __len__(self):\n        1 / 0\n\n"
    code = FEATURES.format(body="return crops", names='["a"]').replace("names=", "title=Title('mine'), names=")
    write(here, {"mine.py": code.replace("@register", f"{title}@register")})
    refused(say("list", "features", "--plugin", "mine.py", own=False), "The plug-in", "mine.py:", ZERO)


BOTH = FEATURES.format(body="1 / 0", names='["a"]') + (
    '\n@register_features("good", version="1", names=lambda channels: ["a"])\n'
    "def good(crops):\n    return crops[:, 0, :1, 0]\n"
)


def test_a_feature_set_that_fails_does_not_take_the_others_with_it(say, here):
    with_crops()(here)
    write(here, {"mine.py": BOTH})
    said = say(*ON_CROPS, "--features", "mine,good,intensity", own=False)
    assert said.code == 2
    assert said.err.splitlines()[-1].startswith(
        "Error: Not everything could be run. One failed, first: The feature set mine"
    )
    assert "Not run: mine: The feature set mine failed on the cells" in said.out
    assert {p.name for p in (here / "out" / "results").glob("*/*")} == {"good", "intensity"}
    record = json.loads((here / "out" / "run.json").read_text())
    assert [entry["features"] for entry in record["not_run"]] == ["mine"]
    assert "mine.py:7" in record["not_run"][0]["reason"]


def test_the_others_are_computed_where_one_fails_in_a_later_part(say, here, monkeypatch):
    from pci_bench.features import jobs

    monkeypatch.setattr(jobs, "CELLS_PER_BLOCK", 4)
    later = "calls.append(1)\n    if len(calls) > 1: 1 / 0\n    return crops[:, 0, :1, 0]"
    with_crops()(here)
    write(here, {"mine.py": "calls = []\n" + BOTH.replace("1 / 0", later)})
    said = say(*ON_CROPS, "--features", "mine,good", own=False)
    assert said.code == 2
    assert "failed on the cells 'w1/1' to 'w2/1'" in said.err
    assert {p.name for p in (here / "out" / "results").glob("*/*")} == {"good"}


@pytest.mark.usefixtures("with_figures")
def test_an_evaluator_and_a_figure_that_fail_leave_the_results_of_others(say, here):
    from pci_bench.benchmarks import BENCHMARKS

    figure = (
        "\nfrom pci_bench.reporting.figures import register_figures\n"
        '@register_figures("fine")\ndef draw(results):\n    1 / 0\n    yield\n'
    )
    fine = EVALUATOR.format(body="yield Outcome({}, {'score': 1.0})", skip="return None").replace('"mine"', '"fine"')
    with_crops()(here)
    write(here, {"mine.py": EVALUATOR.format(body="1 / 0", skip="return None") + fine + figure})
    declared = BENCHMARKS.get("yeast-knn")
    changed = declared.model_copy(
        update={"evaluate": tuple(type(declared.evaluate[0])(name=n) for n in ("mine", "fine"))}
    )
    BENCHMARKS.register("yeast-knn", changed, origin=BENCHMARKS.origin("yeast-knn"))
    told = ("--dataset", "folder:crops", "--features", "intensity", "--out", "out", "--plugin", "mine.py")
    said = say(*RUN, *told, own=False)
    assert said.code == 2
    assert "2 failed, first: The evaluator mine failed on intensity" in said.err
    assert "Not run: figures of fine: The figure of fine failed on 1 results: ZeroDivisionError" in said.out
    assert [p.parent.name for p in (here / "out").rglob("default.json")] == ["fine"]
    assert (here / "out" / "run.json").is_file()


def brightness(factor: str) -> str:
    return FEATURES.format(body=f"return crops[:, 0, :1, 0] * {factor}", names='["a"]')


def test_an_edited_plug_in_of_the_same_version_is_measured_again(say, here, cache):
    with_crops()(here)
    extract = ("extract", "mine", "--dataset", "folder:crops", "--plugin", "mine.py", "--out")
    values = []
    for factor in ("1", "2", "1"):
        write(here, {"mine.py": brightness(factor)})
        said = say(*extract, f"{len(values)}.csv", own=False)
        assert said.code == 0, said.err
        values.append((here / f"{len(values)}.csv").read_text())
        assert ("extracting mine" in said.err) == (len(values) < 3)
    assert values[0] == values[2] != values[1]
    assert len(list(cache.glob("features/*/mine-*.h5ad"))) == 2


def test_a_file_that_is_edited_after_it_was_loaded_does_not_name_the_numbers(here, cache):
    from pci_bench import extract, load_dataset

    with_crops()(here)
    write(here, {"mine.py": brightness("1")})
    plugins.load_plugin(here / "mine.py")
    write(here, {"mine.py": brightness("2")})
    cells = load_dataset("folder:crops")
    key = extract("mine", cells).uns["pci_bench"]["key"]
    plugins.load_plugin(here / "mine.py")
    assert extract("mine", cells).uns["pci_bench"]["key"] != key


def test_an_edited_dataset_and_segmenter_are_built_and_run_again(say, here, cache):
    build = "store.add(np.arange(256, dtype=np.uint8).reshape(4, 1, 8, 8) {})"
    for change in ("", "// 2"):
        code = DATASET.format(skip="return None", source="return ''", shape="(8, 8)", build=build.format(change))
        write(here, {"mine.py": code})
        assert say("data", "get", "mine", "--plugin", "mine.py", own=False).code == 0
    assert len(list(cache.glob("datasets/mine/*/store.json"))) == 2
    with_crops()(here)
    for level in ("1", "2"):
        code = SEGMENTER.format(skip="return None", open=f"return lambda crops: np.full(crops[:, 0].shape, {level})")
        write(here, {"mine.py": code})
        extract = ("extract", "masked", "--dataset", "folder:crops", "--segmenter", "mine", "--plugin", "mine.py")
        assert say(*extract, "--out", f"{level}.csv", own=False).code == 0
    assert (here / "1.csv").read_text() != (here / "2.csv").read_text()


def test_keys_of_our_own_feature_sets_hold_no_source(make_cells):
    from pci_bench.features.names import known_feature_sets

    for name in known_feature_sets():
        origin = EXTRACTORS.origin(known_feature_sets()[name].extractor_name)
        assert plugins.is_own(origin.file), name
        assert plugins.source_of(origin.file) == ""


@pytest.mark.parametrize("debug", [("--debug",), (), "PCI_BENCH_DEBUG"], ids=["option", "nothing", "environment"])
def test_the_traceback_of_a_plug_in_is_shown_when_asked_for(here, capsys, monkeypatch, debug):
    plugin(FEATURES, body=FAILS, names='["a"]')(here)
    shown = bool(debug)
    if isinstance(debug, str):
        monkeypatch.setenv(debug, "1")
        debug = ()
    for arguments in ((*debug, *ON_CROPS, "--features", "mine"), (*ON_CROPS, "--features", "mine", *debug)):
        said = call(capsys, monkeypatch, *arguments)
        assert said.code == 2
        assert ("Traceback" in said.err) == shown
        assert said.err.splitlines()[-1].startswith("Error: Nothing could be run")


@pytest.mark.parametrize("error", [RuntimeError("broken"), SystemExit(1), SystemExit(0)], ids=repr)
def test_a_crash_of_ours_is_one_sentence_and_never_status_1(say, here, monkeypatch, error):
    from pci_bench.runs import runner

    def broken(*_, **__):
        raise error

    monkeypatch.setattr(runner, "select", broken)
    said = say(*ON_CROPS[:-2], "--features", "intensity", own=False)
    assert said.code == 70
    assert "Traceback" not in said.err
    assert said.err.startswith("Error: pci-bench crashed: ")
    assert "runner.py:" in said.err
    assert "please report it" in said.err
    assert "Traceback" in say(*ON_CROPS[:-2], "--debug", own=False).err


def test_an_installed_plug_in_that_exits_is_left_out_with_a_warning(here, monkeypatch, recwarn):
    write(here, {"leaving.py": "import sys\nsys.exit(0)\n"})
    monkeypatch.syspath_prepend(here)
    point = plugins.entry_points.__globals__["EntryPoint"]("leaving", "leaving", plugins.ENTRY_POINT_GROUP)
    monkeypatch.setattr(plugins, "entry_points", lambda group: [point])
    monkeypatch.setitem(plugins._state, "loaded", False)
    plugins.load_plugins()
    assert "The plug-in 'leaving' (leaving) could not be imported and is left out: it called sys.exit(0)" in str(
        recwarn[0].message
    )

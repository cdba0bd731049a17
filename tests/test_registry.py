"""Names: how they are registered, found, suggested, and brought in by plug-ins."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from pci_bench.api.dataset import DATASETS
from pci_bench.api.evaluator import EVALUATORS
from pci_bench.api.extractor import EXTRACTORS
from pci_bench.api.field_segmenter import FIELD_SEGMENTERS
from pci_bench.api.model import MODELS
from pci_bench.api.plugins import load_plugin, plugin_files
from pci_bench.api.registry import Origin, Registry, natural_key
from pci_bench.api.segmenter import SEGMENTERS
from pci_bench.errors import UserError
from pci_bench.features.names import FeatureSet, groups, known_feature_sets, parse, select


@pytest.fixture
def fruit() -> Registry[str]:
    registry: Registry[str] = Registry("fruit", autoload=False)
    for number, name in enumerate(["pear-10", "pear-2", "apple", "cherry"], start=1):
        registry.register(name, name.upper(), origin=Origin("fruit.py", number))
    return registry


def run_python(code: str, *, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(path) if path else ""}
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], env=env, capture_output=True, text=True, timeout=120
    )


def test_a_name_registered_by_two_files_is_refused_and_both_places_are_named(fruit):
    with pytest.raises(UserError, match="'apple'") as error:
        fruit.register("apple", "again", origin=Origin("stranger.py", 7))
    assert "fruit.py:3" in str(error.value)
    assert "stranger.py:7" in str(error.value)
    assert fruit.get("apple") == "APPLE"


def test_two_files_of_one_package_may_give_a_name_alone_and_with_an_argument_but_not_twice_alone(fruit, tmp_path):
    for name in ("__init__.py", "one.py", "two.py"):
        (tmp_path / name).touch()
    places = [Origin(str(tmp_path / name), 1) for name in ("one.py", "two.py")]
    fruit.register("fig", "FIG", origin=places[0])
    fruit.register("fig", lambda size: f"fig of {size}", argument="SIZE", origin=places[1])
    assert (fruit.get("fig"), fruit.get("fig:3")) == ("FIG", "fig of 3")
    assert fruit.origin("fig:3") == places[1]
    with pytest.raises(UserError, match="'fig'"):
        fruit.register("fig", "another", origin=places[1])
    with pytest.raises(UserError, match="'fig'"):
        fruit.register("fig", lambda size: size, argument="SIZE", origin=Origin("stranger.py", 7))


def test_the_same_file_may_register_a_name_again(fruit):
    fruit.register("apple", "reloaded", origin=Origin("fruit.py", 30))
    assert fruit.get("apple") == "reloaded"
    assert str(fruit.origin("apple")) == "fruit.py:30"


@pytest.mark.parametrize(("typed", "meant"), [("aple", "apple"), ("cherries", "cherry"), ("pear-3", "pear-2")])
def test_an_unknown_name_is_met_with_the_nearest_known_one_and_the_listing(fruit, typed, meant):
    assert typed not in fruit
    with pytest.raises(UserError, match=f"no fruit named '{typed}'") as error:
        fruit.get(typed)
    assert "Did you mean" in str(error.value)
    assert meant in str(error.value)
    assert "`pci-bench list fruits`" in str(error.value)


def test_a_name_like_no_other_gets_no_suggestion(fruit):
    with pytest.raises(UserError) as error:
        fruit.get("zzzzzzzz")
    assert "Did you mean" not in str(error.value)


def test_names_come_in_reading_order_and_without_those_that_need_an_argument(fruit):
    fruit.register("basket", lambda argument: f"basket of {argument}", argument="SIZE")
    assert fruit.names() == list(fruit) == ["apple", "cherry", "pear-2", "pear-10"]
    assert fruit.prefixes() == {"basket": "SIZE"}


def test_a_prefix_makes_an_object_of_whatever_follows_the_first_colon(fruit):
    fruit.register("basket", lambda argument: f"basket of {argument}", argument="SIZE")
    assert fruit.get("basket:a:b c/d@e") == "basket of a:b c/d@e"
    assert "basket:x" in fruit
    for wrong in ("basket", "basket:", "apple:x"):
        assert wrong not in fruit
        with pytest.raises(UserError):
            fruit.get(wrong)


def test_patterns_match_names_in_reading_order(fruit):
    assert fruit.match("pear-*") == ["pear-2", "pear-10"]
    assert fruit.match("PEAR-*") == []


def test_natural_order_reads_numbers_as_numbers_from_any_starting_order():
    ordered = ["1", "2", "10", "conv", "conv1", "conv2_1", "conv2_10", "conv10", "x"]
    shuffled = random.Random(0).sample(ordered, len(ordered))
    assert sorted(shuffled, key=natural_key) == ordered


def test_the_origin_of_a_feature_set_is_the_line_that_defines_it():
    origin = EXTRACTORS.origin("intensity")
    lines = Path(origin.file).read_text().splitlines()
    # a decorated function starts at its decorator
    assert any("def intensity(" in line for line in lines[origin.line - 1 : origin.line + 10])
    cls = EXTRACTORS.origin("pci-random")
    assert any("class RandomEncoder" in line for line in Path(cls.file).read_text().splitlines()[cls.line - 1 :][:3])


def test_feature_sets_are_found_by_name_group_pattern_and_weights_each_once_in_the_order_asked_for():
    assert [str(f) for f in select(["pci-conv5", "pci-conv*", "pci-conv5"])] == [
        "pci-conv5",
        *(f"pci-conv{i}" for i in range(1, 5)),
    ]
    assert [str(f) for f in select(["pci@mine"])] == [f"pci-conv{i}@mine" for i in range(1, 6)]
    assert {f.base for f in select(["controls"])} >= {"intensity", "raw-pixels", "noise", "marker-only"}
    assert parse("file:/a/b@c.csv") == FeatureSet("file", "/a/b@c.csv")
    assert parse("pci-conv4@lu2019-yeast") == FeatureSet("pci", None, "conv4", "lu2019-yeast")


@pytest.mark.parametrize(
    ("tokens", "sentence"),
    [
        (["pci-conv44"], "Did you mean .*pci-conv4"),
        (["intensity@mine"], "intensity uses none"),
        (["zz*"], "no feature set named 'zz\\*'"),
        (["file:"], "Write file:PATH"),
        ([], "No feature set was named"),
    ],
)
def test_a_wrong_choice_of_feature_sets_is_a_sentence(tokens, sentence):
    with pytest.raises(UserError, match=sentence):
        select(tokens)


def test_every_group_holds_known_feature_sets_and_each_family_has_one_headline_in_all():
    known = known_feature_sets()
    for members in groups().values():
        assert {f.base for f in members} <= set(known)
    families = [f.family for f in groups()["all"]]
    assert sorted(families) == sorted(set(families))
    metas = {f.family: f.extractor().meta for f in known.values()}
    assert set(families) == {family for family, meta in metas.items() if meta.headline or len(meta.outputs) == 1}


PLUGIN = """
from pci_bench import register_features


@register_features("brightest", version="1", rescale="raw", names=lambda channels: [c.name for c in channels])
def brightest(crops):
    '''Brightest pixel of every channel.'''
    return crops.max(axis=(2, 3))
"""


def test_a_plugin_file_adds_a_feature_set_and_may_be_loaded_twice(tmp_path, own_registries):
    file = tmp_path / "mine.py"
    file.write_text(PLUGIN)
    load_plugin(file)
    load_plugin(file)
    assert "brightest" in known_feature_sets()
    assert EXTRACTORS.get("brightest").meta.title == "Brightest pixel of every channel."
    assert EXTRACTORS.origin("brightest").file == str(file)
    assert file.resolve() in plugin_files()


NAMED_OUTPUT = """
from pci_bench.api.extractor import Extractor, ExtractorMeta, register_extractor


@register_extractor("shiny")
class Shiny(Extractor):
    meta = ExtractorMeta("shiny", "1", "The mean of each channel", outputs={"features": "means"}, rescale="raw")

    def names(self, output, channels, weights=None):
        return [channel.name for channel in channels]

    def open(self, channels, weights, device):
        return lambda crops, outputs: {"features": crops.mean(axis=(2, 3))}
"""


def test_a_family_of_one_output_with_a_name_is_found_by_its_own_name_too(tmp_path, own_registries):
    file = tmp_path / "shiny.py"
    file.write_text(NAMED_OUTPUT)
    load_plugin(str(file))
    assert [str(f) for f in select(["shiny"])] == [str(f) for f in select(["shiny-features"])] == ["shiny-features"]
    with pytest.raises(UserError) as caught:
        parse("shiny-feature")
    suggested = str(caught.value).partition("Did you mean ")[2].partition("?")[0].split(" or ")
    assert suggested == ["shiny-features", "shiny"]
    assert {str(parse(name)) for name in suggested} == {"shiny-features"}  # what is suggested is known


def test_a_plugin_file_that_takes_one_of_our_names_is_refused_with_both_places(tmp_path, own_registries):
    file = tmp_path / "clash.py"
    file.write_text(PLUGIN.replace('"brightest"', '"intensity"'))
    with pytest.raises(UserError, match="Two plug-ins register the feature set 'intensity'") as error:
        load_plugin(file)
    assert f"{file}:5" in str(error.value)
    assert "intensity.py:" in str(error.value)


@pytest.mark.parametrize(
    ("code", "where", "what"),
    [
        ("import os\n\nx = 1 / 0\n", ":3 ", "ZeroDivisionError"),
        ("def f():\n    raise KeyError('lost')\n\nf()\n", ":2 ", "KeyError"),
        ("import numpy as np\nfrom absent_module import x\n", ":2 ", "absent_module"),
        ("a = 1\nif a\n", "line 2", "SyntaxError"),
    ],
)
def test_a_plugin_file_that_fails_is_named_with_its_line(tmp_path, own_registries, code, where, what):
    file = tmp_path / "broken.py"
    file.write_text(code)
    with pytest.raises(UserError, match=what) as error:
        load_plugin(file)
    assert str(file) in str(error.value)
    assert where in str(error.value)
    assert file.resolve() not in plugin_files()


@pytest.mark.parametrize("name", ["absent.py", "notes.txt"])
def test_a_plugin_that_is_no_python_file_is_a_sentence(tmp_path, own_registries, name):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(UserError, match=name):
        load_plugin(tmp_path / name)


def install(folder: Path, package: str, code: str) -> None:
    """Lay out an installed distribution whose one entry point is our plug-in group."""
    folder.mkdir(exist_ok=True)
    (folder / f"{package}.py").write_text(code)
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[pci_bench.plugins]\n{package} = {package}\n")


def test_a_strangers_installed_package_registers_and_a_broken_one_is_left_out_with_a_warning(tmp_path):
    site = tmp_path / "site"
    install(site, "stranger", PLUGIN)
    install(site, "wreck", "import a_library_that_nobody_has\n")
    done = run_python(
        """
        from pci_bench.features.names import known_feature_sets
        names = list(known_feature_sets())
        assert "brightest" in names and "intensity" in names and "pci-conv4" in names, names
        """,
        path=site,
    )
    assert done.returncode == 0, done.stderr
    warnings = [line for line in done.stderr.splitlines() if "Warning" in line]
    assert len(warnings) == 1
    assert "'wreck'" in warnings[0]
    assert "a_library_that_nobody_has" in warnings[0]


def test_listing_everything_imports_no_heavy_library():
    done = run_python(
        """
        import json, sys
        import pci_bench
        from pci_bench.datasets import DATASETS
        from pci_bench.api.extractor import EXTRACTORS
        from pci_bench.features.names import groups, known_feature_sets
        listed = [EXTRACTORS.names(), list(known_feature_sets()), list(groups()), DATASETS.names()]
        assert all(listed)
        titles = [DATASETS.get(n).meta.title for n in DATASETS.names()]
        heavy = {"torch", "timm", "umap", "sklearn", "numba", "matplotlib", "anndata", "h5py"} & set(sys.modules)
        print(json.dumps(sorted(heavy)))
        """
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


@pytest.mark.parametrize(
    "registry", [DATASETS, EVALUATORS, EXTRACTORS, FIELD_SEGMENTERS, MODELS, SEGMENTERS], ids=lambda r: r.kind
)
def test_no_class_of_ours_has_a_method_by_a_former_name_which_nothing_would_call(registry):
    for name, entry in registry._loaded().items():
        kind = entry.value if isinstance(entry.value, type) else type(entry.value)
        assert not {"skip", "unfit", "source", "names_with"} & set(dir(kind)), name

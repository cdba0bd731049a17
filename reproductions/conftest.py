"""What all reproductions share: the paper's own runs where its data and weights are available, and the same code on bundled simulated data.

A test that takes the fixture ``paper`` has ``[paper]`` in its id, one that takes ``published`` has ``[published]``; every other
one says ``[bundled]``.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if "PYTEST_XDIST_WORKER" in os.environ:  # a core for each process; set before numpy starts its threads
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from availability import TO_COMPARE_WITH, Paper

import pci_bench
from pci_bench.reporting import comparison as comparison_text
from pci_bench.runs import comparison, gate
from pci_bench.runs.results import Result
from pci_bench.system.files import cache_folder
from pci_bench.system.progress import Progress

LACKS = "pci-bench lacks"  # the property of a test's report that holds one lacking thing
BESIDE = "pci-bench beside"  # and one sentence of ours beside what the paper states


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--fetch",
        action="store_true",
        help="reproductions: download and import what [paper] lacks, where it can be had",
    )


@pytest.fixture
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Say in every test's id where its numbers come from."""
    metafunc.fixturenames.insert(0, "kind")
    kind = next((k for k in ("paper", "published") if k in metafunc.fixturenames), "bundled")
    metafunc.parametrize("kind", [kind], indirect=True)


@pytest.fixture(scope="session")
def _paper_runs() -> dict[Any, list[Result]]:
    return {}


@pytest.fixture
def paper(request: pytest.FixtureRequest, _paper_runs: dict[Any, list[Result]]) -> Paper:
    def lacks(sentences: list[str]) -> None:
        request.node.user_properties.extend((LACKS, sentence) for sentence in sentences)

    def beside(sentence: str) -> None:
        request.node.user_properties.append((BESIDE, sentence))

    return Paper(request.config.getoption("--fetch"), lacks, beside, _paper_runs)


@dataclass
class Bundled:
    """The gate's quick runs on data that the package generates, in a cache that starts empty and that all modules share."""

    cache: Path
    ran: dict[str, list[Result]] = field(default_factory=dict)

    def results(self, benchmark: str) -> list[Result]:
        """Return the results of the gate's run of a benchmark with its quick features."""
        if benchmark not in self.ran:
            (declared,) = [r for r in gate.declared_runs() if r.benchmark == benchmark]
            quick = declared.model_copy(update={"features": declared.quick})
            self.ran[benchmark] = gate.gated_results([quick], cache=self.cache)
        return self.ran[benchmark]

    def run(self, benchmark: str, **arguments: Any) -> pci_bench.runs.runner.RunOutput:
        """Return a run that the gate does not hold still."""
        with self.in_use():
            return pci_bench.run(benchmark, device="cpu", progress=Progress(), **arguments)

    def in_use(self) -> AbstractContextManager[None]:
        """Return a context in which features and datasets come from the shared cache, and nothing from the user's."""
        return _environment(PCI_BENCH_CACHE=str(self.cache), PCI_BENCH_DATA=None)

    def assert_nothing_moved(self, benchmark: str) -> None:
        """Fail, with the table of changes and what to do, where a number is not that of ``tables/expected``."""
        results = self.results(benchmark)
        asked = {comparison.key_of(r) for r in results}
        expected = [r for r in gate.expected(results[0].dataset.name) if comparison.key_of(r) in asked]
        outcome = gate.compared(expected, results)
        assert outcome.same, f"{comparison_text.markdown(outcome)}\n{gate.HOW_TO_ACCEPT}"
        assert not outcome.new
        assert outcome.compared == len(asked)


@pytest.fixture(scope="session")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> Bundled:
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base  # stores and features are made under locks
    return Bundled(shared / "reproductions-cache")


@dataclass
class Published:
    """Real data that others published, at pinned commits, and runs on them."""

    folder: Path
    cache: Path
    ran: dict[Any, list[Result]] = field(default_factory=dict)

    def results(self, benchmark: str, **arguments: Any) -> list[Result]:
        """Return the results of a benchmark with the features ``profiles``."""
        key = (benchmark, str(arguments))
        if key not in self.ran:
            with self.in_use():
                run = pci_bench.run(benchmark, features=["profiles"], device="cpu", progress=Progress(), **arguments)
            self.ran[key] = run.results
        return self.ran[key]

    def in_use(self) -> AbstractContextManager[None]:
        """Return a context in which datasets are made from these files."""
        return _environment(PCI_BENCH_CACHE=str(self.cache), PCI_BENCH_DATA=str(self.folder))


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    """The folder with ``bbbc021`` and ``yeast-proteome``: of PCI_BENCH_DATA, of PCI_BENCH_TEST_DATA, or fetched by ``data get``."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    named = [os.environ.get(name) for name in ("PCI_BENCH_DATA", "PCI_BENCH_TEST_DATA")]
    folders = [*(Path(folder) for folder in named if folder), beside, cache_folder() / "downloads"]
    for folder in folders:
        if (folder / "bbbc021").is_dir() and (folder / "yeast-proteome").is_dir():
            return Published(folder, tmp_path_factory.mktemp("published"))
    reason = "no bbbc021 and yeast-proteome: `pci-bench data get bbbc021`, `pci-bench data get yeast-proteome`"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def _environment(**values: str | None) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            if value is None:
                patch.delenv(name, raising=False)
            else:
                patch.setenv(name, value)
        yield


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """List ours beside what the paper states, and what ``[paper]`` lacked, once each, with the number of tests that wanted it."""
    stated = [
        sentence
        for outcome in ("passed", "failed")
        for report in terminalreporter.getreports(outcome)
        for name, sentence in report.user_properties
        if name == BESIDE
    ]
    if stated:
        terminalreporter.section("beside what the paper states")
        for sentence in dict.fromkeys(stated):
            terminalreporter.write_line(sentence)
    wanted = Counter(
        sentence
        for report in terminalreporter.getreports("skipped")
        for name, sentence in getattr(report, "user_properties", ())
        if name == LACKS
    )
    if wanted:
        terminalreporter.section("what [paper] lacked")
        for sentence in [s for s in wanted if s.endswith(TO_COMPARE_WITH)]:
            needed = sentence.removesuffix(TO_COMPARE_WITH)
            if needed in wanted:  # by other tests
                wanted[needed] += wanted.pop(sentence)
        for sentence, tests in wanted.items():
            terminalreporter.write_line(f"({tests} test{'s' if tests > 1 else ''}) {sentence}.")

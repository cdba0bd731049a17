"""Which results stand side by side where features were post-processed in several ways: of one evaluation in its strictest column."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pci_bench.features.names import seeds_of
from pci_bench.reporting.candidates import Candidates, balanced_where_known, ladder_of
from pci_bench.reporting.headline import headline_k
from pci_bench.runs.rank_changes import RankChanges
from pci_bench.runs.results import Result, key_and_defaults


def changes_of(results: Sequence[Result]) -> Iterator[tuple[str, RankChanges]]:
    """Yield what is compared and how ranks change, for each dataset, evaluator and settings with several post-processings.

    Of several numbers of neighbours the headline's is taken, of several kinds of candidates the strictest, and of feature sets that
    differ in nothing but the seed of their weights the first.
    """
    by_settings: dict[tuple[str, str, tuple[tuple[str, str], ...]], list[Result]] = {}
    seeds: dict[tuple[str, tuple[str, bool]], str] = {}
    for result in balanced_where_known(results):
        features = result.features.full_name
        if seeds.setdefault((result.dataset.name, seeds_of(features)), features) == features:
            key = (result.dataset.name, result.evaluator.name, _settings(result))
            by_settings.setdefault(key, []).append(result)
    for (dataset, evaluator, settings), group in by_settings.items():
        k = headline_k(group)
        of_k = [r for r in group if r.evaluator.params.get("k") == k]
        strictest = ladder_of(of_k)[-1]
        chosen = [r for r in of_k if Candidates.of(r) == strictest]
        if len({r.evaluator.params.get("postprocess") for r in chosen}) < 2:
            continue
        words = [f"k = {k}"] if k is not None else []
        words += [f"{name} = {value}" for name, value in settings]
        words += [strictest.words] if "exclude" in chosen[0].evaluator.params else []
        yield (
            f"{evaluator} on {dataset} ({'; '.join(words)})" if words else f"{evaluator} on {dataset}",
            RankChanges.of(chosen),
        )


def _settings(result: Result) -> tuple[tuple[str, str], ...]:
    """Return the parameters, as texts, in which results that are compared agree, but for those that are the default.

    A standardisation that gave way to a post-processing is the default.
    """
    _, defaults = key_and_defaults(result)
    apart = {"k", "exclude", "candidates", "postprocess"}
    if "postprocess" in result.evaluator.params and result.evaluator.params.get("scale") == "none":
        apart.add("scale")
    return tuple(
        (name, str(value))
        for name, value in result.evaluator.params.items()
        if name not in apart and value != defaults.get(name)
    )

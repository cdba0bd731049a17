"""What the numbers of a study say, as sentences that follow from them, each with its interval."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pci_bench.reporting.html.answers import Evaluation, answer_of, evaluations
from pci_bench.reporting.html.sentences import best_sentence, cost_sentence, tied_sentence
from pci_bench.reporting.html.words import evaluator_title
from pci_bench.reporting.palette import FAMILIES, family
from pci_bench.reporting.tables.ranking import Kind, kind_of
from pci_bench.runs.paired import paired_interval
from pci_bench.runs.results import Result, metric_of


@dataclass(frozen=True)
class Conclusion:
    """One sentence, and the part of the study that it follows from."""

    part: str
    text: str


def conclusions(part: str, results: Sequence[Result]) -> list[Conclusion]:
    """Return what the results of one part say: of every evaluator its own sentences, else which feature set is best."""
    said: list[str] = []
    found = evaluations(results)
    for evaluation in found:
        sentences = SENTENCES.get(evaluation.results[0].evaluator.name, _ranked)(evaluation)
        by = f"{evaluator_title(evaluation.results[0])}: " if len(found) > 1 else ""
        said += [f"{by}{text}" for text in sentences if text]
    return [Conclusion(part, text) for text in said]


def _ranked(evaluation: Evaluation) -> list[str]:
    """Return which feature set is best, in the strictest column where there are several, and which cannot be told apart from it."""
    answer = answer_of(evaluation)
    if "exclude" in evaluation.results[0].evaluator.params:
        return [f"{best_sentence(answer)} {tied_sentence(answer)}"]
    return [f"{best_sentence(answer, where='')} {tied_sentence(answer)}"]


def _classified(evaluation: Evaluation) -> list[str]:
    """Return the ranking, what strictness costs, and where paired cell inpainting and the supervised reference stand."""
    return [*_ranked(evaluation), cost_sentence(answer_of(evaluation)), *_of_the_method(evaluation)]


def _of_the_method(evaluation: Evaluation) -> list[str]:
    """Return where the paper's method stands, against the best that needs no labels and against what learned from labels."""
    strictest = evaluation.at(evaluation.levels[-1])
    by_kind: dict[Kind, list[Result]] = {}
    for result in strictest:
        by_kind.setdefault(kind_of(result.features.full_name), []).append(result)
    competing = by_kind.get(Kind.features, [])
    own = [r for r in competing if family(r.features.full_name) == FAMILIES["pci"]]
    others = [r for r in competing if r not in own]
    if not own or not others:
        return []
    ours, rival = _best(own, evaluation.metric), _best(others, evaluation.metric)
    said = [_against(ours, rival, evaluation.metric)]
    if supervised := by_kind.get(Kind.supervised):
        said.append(_gap(ours, rival, _best(supervised, evaluation.metric), evaluation.metric))
    return said


def _best(results: Sequence[Result], metric: str) -> Result:
    sign = 1 if metric_of(results[0], metric).higher_is_better else -1
    return max(results, key=lambda r: (sign * r.metrics[metric], r.features.full_name))


def difference_text(old: Result, new: Result, metric: str) -> str:
    """Return how much higher the new result's metric is, with the paired interval where there is one: ``12.3 [8.1, 16.4]``."""
    form = metric_of(new, metric)
    interval = paired_interval(old, new) if metric == "balanced_accuracy" else None
    value = form.text(new.metrics[metric] - old.metrics[metric])
    return value if interval is None else f"{value} [{form.text(interval[0])}, {form.text(interval[1])}]"


def _against(ours: Result, rival: Result, metric: str) -> str:
    """Return who is ahead, paired cell inpainting or the best other feature set, or that it cannot be told."""
    sign = 1 if metric_of(ours, metric).higher_is_better else -1
    ahead = sign * (ours.metrics[metric] - rival.metrics[metric]) >= 0
    better, worse = (ours, rival) if ahead else (rival, ours)
    interval = paired_interval(worse, better) if metric == "balanced_accuracy" else None
    points = " points" if metric_of(ours, metric).unit == "percent" else ""
    if interval is not None and interval[0] <= 0:
        return (
            f"Paired cell inpainting ({ours.features.full_name}) and the best other feature set without labels, "
            f"{rival.features.full_name}, cannot be told apart: {better.features.full_name} is ahead by {difference_text(worse, better, metric)}{points}."
        )
    verb = "is ahead of" if ahead else "loses to"
    return (
        f"Paired cell inpainting ({ours.features.full_name}) {verb} the best other feature set without labels, "
        f"{rival.features.full_name}, by {difference_text(worse, better, metric)}{points}."
    )


def _gap(ours: Result, rival: Result, supervised: Result, metric: str) -> str:
    """Return how far the supervised reference is ahead, and which part of that a rival closes."""
    points = " points" if metric_of(ours, metric).unit == "percent" else ""
    gap = supervised.metrics[metric] - ours.metrics[metric]
    said = f"{supervised.features.full_name}, which learned from labels, is ahead of {ours.features.full_name} by {difference_text(ours, supervised, metric)}{points}"
    closed = (rival.metrics[metric] - ours.metrics[metric]) / gap if gap else 0
    return f"{said}; {rival.features.full_name} closes {100 * closed:.0f} % of that." if closed > 0 else f"{said}."


SENTENCES: dict[str, Callable[[Evaluation], list[str]]] = {"loo-knn": _classified}

"""What the numbers of a study say, as sentences that follow from them, each with its interval."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from pci_bench.errors import UserError
from pci_bench.reporting.candidates import Candidates, ladder_of
from pci_bench.reporting.html.answers import Evaluation, answer_of
from pci_bench.reporting.html.sentences import best_sentence, cost_sentence, tied_sentence
from pci_bench.reporting.html.words import evaluator_title
from pci_bench.reporting.palette import FAMILIES, family
from pci_bench.reporting.tables.ranking import Kind, kind_of
from pci_bench.runs.ladder import Ladder, ladders
from pci_bench.runs.paired import paired_difference
from pci_bench.runs.rank_changes import RankChanges
from pci_bench.runs.results import Result, metric_of
from pci_bench.system.text import enumerated

AXIS = ("postprocess", "scale")  # parameters in which results of one order differ
LABELS = "balanced_accuracy_at_"  # then the number of labels of each class
PROBES = {"logistic": "a linear probe", "knn": "nearest neighbours"}
WHOLE_IMAGES = "images"  # the null of clusters in which labels stay together within an image
MEASURES = {
    "area": "Area",
    "protein_mean": "Brightness of the protein",
    "marker_mean": "Brightness of the marker",
    "others": "The number of other cells in the crop",
}


@dataclass(frozen=True)
class Conclusion:
    """One sentence, the part of the study that it follows from, and what was evaluated where a part has several evaluators."""

    part: str
    text: str
    about: str = ""


def by_evaluator(said: Sequence[Conclusion]) -> dict[str, list[str]]:
    """Return sentences by what was evaluated, in their order.

    >>> by_evaluator([Conclusion("ladder", "One.", "kNN"), Conclusion("ladder", "Two.", "kNN")])
    {'kNN': ['One.', 'Two.']}
    """
    grouped: dict[str, list[str]] = {}
    for conclusion in said:
        grouped.setdefault(conclusion.about, []).append(conclusion.text)
    return grouped


def conclusions(part: str, results: Sequence[Result]) -> list[Conclusion]:
    """Return what the results of one part say: of every evaluator its own sentences, else which feature set is best."""
    evaluated: dict[str, list[Result]] = {}
    for result in results:
        evaluated.setdefault(result.evaluator.name, []).append(result)
    return [
        Conclusion(part, text, evaluator_title(members[0]) if len(evaluated) > 1 else "")
        for name, members in evaluated.items()
        for text in SENTENCES.get(name, ranked)(members)
        if text
    ]


def ranked(results: Sequence[Result]) -> list[str]:
    """Return which feature set is best, in the strictest column where there are several, and which cannot be told apart from it."""
    evaluation = Evaluation.of(results)
    if evaluation is None:
        return []
    answer = answer_of(evaluation)
    where = None if "exclude" in results[0].evaluator.params else ""
    return [f"{best_sentence(answer, where=where)} {tied_sentence(answer)}"]


def classified(results: Sequence[Result]) -> list[str]:
    """Return the ranking, what strictness costs whom, and where paired cell inpainting and the supervised reference stand."""
    if any("postprocess" in r.evaluator.params for r in results):
        return postprocessed(results)
    evaluation = Evaluation.of(results)
    if evaluation is None:
        return []
    return [*ranked(results), cost_sentence(answer_of(evaluation)), *fallen(results), *of_the_method(evaluation)]


def fallen(results: Sequence[Result]) -> list[str]:
    """Return which feature sets lose least and most from the loosest comparison to the strictest, of those well above chance."""
    found = [x for x in ladders(results) if x.candidates == "balanced"] or ladders(results)
    competing = [x for x in found if _competes(x.levels[0]) and x.settings == found[0].settings and _knows(x)]
    if len(competing) < 2:
        return []
    losses = sorted(competing, key=lambda x: x.drops[-1].value)
    first, last = (Candidates.of(losses[0].levels[i]).words for i in (0, -1))
    return [
        f"From {first} to {last}, {losses[0].features} loses least, {_drop(losses[0])}, and {losses[-1].features} most, "
        f"{_drop(losses[-1])}, of the {len(losses)} without labels that are above chance."
    ]


def _knows(x: Ladder) -> bool:
    """Return whether a feature set is clearly above chance in the loosest comparison; what knows nothing cannot fall."""
    low = x.levels[0].intervals.get(x.metric, (x.levels[0].metrics[x.metric],))[0]
    return x.chance[0] is None or low > x.chance[0]


def _drop(x: Ladder) -> str:
    drop = x.drops[-1]
    return f"{_value(x.form.text(drop.value), drop.interval, x.form.text)}{_points(x.levels[0], x.metric)}"


def of_the_method(evaluation: Evaluation) -> list[str]:
    """Return where the paper's method stands, against the best that needs no labels and against what learned from labels."""
    metric, strictest = evaluation.metric, evaluation.at(evaluation.levels[-1])
    competing = [r for r in strictest if _competes(r)]
    own = [r for r in competing if family(r.features.full_name) == FAMILIES["pci"]]
    others = [r for r in competing if r not in own]
    if not own or not others:
        return []
    ours, rival = best_of(own, metric), best_of(others, metric)
    said = [_against(ours, rival, metric)]
    if supervised := [r for r in strictest if kind_of(r.features.full_name) is Kind.supervised]:
        said.append(_gap(ours, rival, best_of(supervised, metric), metric))
    return said


def _against(ours: Result, rival: Result, metric: str) -> str:
    """Return who is ahead, paired cell inpainting or the best other feature set, or that it cannot be told."""
    sign = 1 if metric_of(ours, metric).higher_is_better else -1
    ahead = sign * (ours.metrics[metric] - rival.metrics[metric]) >= 0
    better, worse = (ours, rival) if ahead else (rival, ours)
    text, separable = difference(better, worse, metric)
    who = f"Paired cell inpainting ({ours.features.full_name})"
    other = f"the best other feature set without labels, {rival.features.full_name},"
    if separable is False:
        return f"{who} and {other} cannot be told apart: {better.features.full_name} is ahead by {text}."
    return f"{who} {'is ahead of' if ahead else 'loses to'} {other} by {text}."


def _gap(ours: Result, rival: Result, supervised: Result, metric: str) -> str:
    """Return how far the supervised reference is ahead, and which part of that a rival closes."""
    gap = supervised.metrics[metric] - ours.metrics[metric]
    closed = (rival.metrics[metric] - ours.metrics[metric]) / gap if gap else 0
    said = (
        f"{supervised.features.full_name}, which learned from labels, is ahead of {ours.features.full_name} by "
        f"{difference(supervised, ours, metric)[0]}"
    )
    return f"{said}; {rival.features.full_name} closes {100 * closed:.0f} % of that." if closed > 0 else f"{said}."


def clustered(results: Sequence[Result]) -> list[str]:
    """Return whose clusters agree best with the labels beyond the strictest null there is, and whether the bare value ranks alike."""
    chosen = _of_first_setting(results)
    if not chosen:
        return []
    first = chosen[0].evaluator.params
    exchanged = [r for r in results if r.evaluator.params == {**first, "null": WHOLE_IMAGES} and _competes(r)]
    best, bare = best_of(exchanged or chosen, "nmi_excess"), best_of(chosen, "nmi")
    (shuffled,) = (r.metrics["nmi_null"] for r in chosen if r.features.full_name == best.features.full_name)
    said = (
        f"Clusters agree best with labels for {best.features.full_name}: normalised mutual information {best.metrics['nmi']:.3f}, of which "
        f"{shuffled:.3f} is what shuffled labels score"
    )
    said += f", and {best.metrics['nmi_null']:.3f} what labels score that whole images exchange." if exchanged else "."
    if bare.features.full_name != best.features.full_name:
        said += f" The bare value would have named {bare.features.full_name}."
    return [said]


def mixed(results: Sequence[Result]) -> list[str]:
    """Return where batches mix best and worst among neighbours of the same class."""
    chosen = _of_first_setting(results)
    if len(chosen) < 2:
        return []
    best, worst = best_of(chosen, "mixing"), best_of(chosen, "mixing", reverse=True)
    batch = str(best.evaluator.params.get("batch", "batch")).replace("_", " ")
    return [
        f"Among neighbours of the same class, {batch}s mix best for {best.features.full_name}, {_number(best, 'mixing')} of what shuffled "
        f"ones would, and worst for {worst.features.full_name}, {_number(worst, 'mixing')}{_apart(best, worst, 'mixing')}."
    ]


def probed(results: Sequence[Result]) -> list[str]:
    """Return, for every nuisance, which competing feature sets know most and least of it beyond chance."""
    said = []
    for target, chosen in _by(results, "target"):
        if len(chosen) < 2:
            continue
        least, most = best_of(chosen, "excess"), best_of(chosen, "excess", reverse=True)
        said.append(
            f"The {target.replace('_', ' ')} is told best by {most.features.full_name}, {_number(most, 'excess')} points above what the class "
            f"alone tells, and least by {least.features.full_name}, {_number(least, 'excess')}{_apart(most, least, 'excess')}."
        )
    return said


def swapped(results: Sequence[Result]) -> list[str]:
    """Return whom a background of another class costs most and least, in the strictest comparison."""
    strictest = ladder_of(results)[-1]
    chosen = _of_first_setting([r for r in results if Candidates.of(r) == strictest])
    if len(chosen) < 2:
        return []
    metric = "background_effect"
    least, most = best_of(chosen, metric), best_of(chosen, metric, reverse=True)
    return [
        f"A background of another class in place of one of the same class costs {most.features.full_name} most, {_number(most, metric)} points "
        f"({strictest.words}), and {least.features.full_name} least, {_number(least, metric)}{_apart(most, least, metric)}."
    ]


def distorted(results: Sequence[Result]) -> list[str]:
    """Return who stays best under distortions, and which of them costs the best most."""
    said = ranked(results)
    strictest = ladder_of(results)[-1]
    chosen = [r for r in results if Candidates.of(r) == strictest and _competes(r)]
    if not chosen:
        return said
    best = best_of(chosen, "mean_area")
    areas = {name.removeprefix("area_"): value for name, value in best.metrics.items() if name.startswith("area_")}
    worst = min(areas, key=lambda name: areas[name])
    return [
        *said,
        f"Distorted, {best.features.full_name} loses {_number(best, 'lost')} points of its accuracy on average; most by {worst}.",
    ]


def moved(results: Sequence[Result]) -> list[str]:
    """Return how far turned copies of a cell lie, of the feature sets that move least and most."""
    chosen = _of_first_setting(results)
    if len(chosen) < 2:
        return []
    least, most = best_of(chosen, "median"), best_of(chosen, "median", reverse=True)
    return [
        f"A turned or mirrored copy of a cell moves {_number(least, 'median')} of the way to the nearest cell of another image for "
        f"{least.features.full_name}, which moves least, and {_number(most, 'median')} for {most.features.full_name}, which moves most: "
        f"there, {_number(most, 'farther')} % of the copies are farther than another cell."
    ]


def measured(results: Sequence[Result]) -> list[str]:
    """Return which feature set tells most of each known measure; it is a description and no merit."""
    chosen = _of_first_setting(results)
    if len(chosen) < 2:
        return []
    said = []
    for name in dict.fromkeys(name for r in chosen for name in r.metrics):
        most, least = best_of(chosen, name), best_of(chosen, name, reverse=True)
        said.append(
            f"{MEASURES.get(name, name.replace('_', ' '))}: R² is {_number(most, name)} for {most.features.full_name}, which tells most of it, and "
            f"{_number(least, name)} for {least.features.full_name}{_apart(most, least, name)}."
        )
    return said


def labelled(results: Sequence[Result]) -> list[str]:
    """Return who needs fewest labels, and what few and many of them give the best feature set by each classifier."""
    strictest = ladder_of(results)[-1]
    said = []
    for classifier, chosen in _by([r for r in results if Candidates.of(r) == strictest], "classifier"):
        best = best_of(chosen, "area")
        counts = sorted(int(name.removeprefix(LABELS)) for name in best.metrics if name.startswith(LABELS))
        few, many = (_number(best, f"{LABELS}{n}") for n in (counts[0], counts[-1]))
        said.append(
            f"By {PROBES.get(classifier, classifier)}, {strictest.words}: {best.features.full_name} needs fewest labels; "
            f"{few} % with {counts[0]} of a class, {many} % with {counts[-1]}."
        )
    return said


def postprocessed(results: Sequence[Result]) -> list[str]:
    """Return which feature set is best under each post-processing, and how many change places so that both orders can be told."""
    first = {n: v for n, v in results[0].evaluator.params.items() if n not in AXIS}
    chosen = [
        r for r in results if _competes(r) and {n: v for n, v in r.evaluator.params.items() if n not in AXIS} == first
    ]
    changes = RankChanges.of(chosen)
    if len(changes.features) < 2 or len(changes.postprocessings) < 2:
        return []
    best: dict[str, list[str]] = {}
    for postprocess in changes.postprocessings:
        ranks = changes.ranks(postprocess)
        best.setdefault(min(ranks, key=lambda name: ranks[name]), []).append(postprocess)
    if len(best) == 1:
        said = f"{next(iter(best))} is best under all {len(changes.postprocessings)} post-processings."
    else:
        said = "The best feature set depends on the post-processing: " + "; ".join(
            f"{name} with {enumerated(under)}" for name, under in best.items()
        )
        said += "."
    agreements = {p: changes.agreement(p) for p in changes.postprocessings[1:]}
    taus = {p: a.tau for p, a in agreements.items() if a.tau is not None}
    separably = sum(a.separably_exchanged for a in agreements.values())
    if taus:
        least = min(taus, key=lambda p: taus[p])
        said += f" The order differs most with {least} (Kendall's tau {taus[least]:.2f})"
        said += (
            f"; {separably} exchanges of two feature sets are such that both orders can be told."
            if separably
            else "; no exchange of two feature sets can be told under both."
        )
    return [said]


def calibrated(results: Sequence[Result]) -> list[str]:
    """Return, where groups are new, who is best by a proper score, and whether sets hold the truth as often as they promise."""
    strictest = ladder_of(results)[-1]
    said = []
    for classifier, chosen in _by([r for r in results if Candidates.of(r) == strictest], "classifier"):
        best = best_of(chosen, "brier")
        m, text = best.metrics, metric_of(best, "ece").text
        promised = 1 - float(best.evaluator.params.get("error", 0.1))
        said.append(
            f"By {classifier}, {strictest.words}: {best.features.full_name} has the best Brier score, {_number(best, 'brier')}. Its calibration error is "
            f"{text(m['ece'])} %, where {text(m['ece_null'])} % is chance alone; sets that should hold the truth for {100 * promised:.0f} % of cells hold it for "
            f"{_number(best, 'coverage')} %, and for {text(m['lowest_class_coverage'])} % of the worst class."
        )
    return said


def fused(results: Sequence[Result]) -> list[str]:
    """Return, for every other feature set, which gains most from it, and whether that gain can be told from none."""
    said = []
    for beside, chosen in _by(results, "beside"):
        most = best_of(chosen, "gain")
        low = most.intervals.get("gain", (0.0, 0.0))[0]
        gain = f"{_number(most, 'gain')} points over the better of the two"
        knows = f"{most.features.full_name} gains most from {beside} at its side, {gain}"
        said.append(f"{knows}." if low > 0 else f"{knows}, which cannot be told from nothing.")
    return said


def best_of(results: Sequence[Result], metric: str, *, reverse: bool = False) -> Result:
    """Return the best result by a metric, or the worst; of equal ones the first name."""
    sign = (1 if metric_of(results[0], metric).higher_is_better else -1) * (-1 if reverse else 1)
    return min(
        (r for r in results if metric in r.metrics), key=lambda r: (-sign * r.metrics[metric], r.features.full_name)
    )


def difference(better: Result, worse: Result, metric: str) -> tuple[str, bool | None]:
    """Return by how much one is ahead, ``12.3 [8.1, 16.4] points``, and whether that leaves out 0; None where nobody knows."""
    text = metric_of(better, metric).text
    value, interval = abs(better.metrics[metric] - worse.metrics[metric]), None
    try:
        paired = paired_difference(better, worse)
    except UserError:
        paired = None
    if paired is not None and paired.metric == metric and paired.interval is not None:
        low, high = paired.interval
        interval = (low, high) if paired.value >= 0 else (-high, -low)
    said = f"{_value(text(value), interval, text)}{_points(better, metric)}"
    return said, None if interval is None else interval[0] > 0


def _apart(one: Result, other: Result, metric: str) -> str:
    """Return that two numbers are not told apart, where their intervals overlap; else nothing."""
    if metric not in one.intervals or metric not in other.intervals:
        return ""
    (low, high), (other_low, other_high) = one.intervals[metric], other.intervals[metric]
    return "; their intervals overlap" if low <= other_high and other_low <= high else ""


def _competes(result: Result) -> bool:
    return kind_of(result.features.full_name) is Kind.features


def _of_first_setting(results: Sequence[Result]) -> list[Result]:
    """Return the competing results with the parameters of the first of all."""
    return [r for r in results if r.evaluator.params == results[0].evaluator.params and _competes(r)]


def _by(results: Sequence[Result], parameter: str) -> Iterator[tuple[str, list[Result]]]:
    """Yield every value of a parameter that has competing results, and these."""
    competing: dict[str, list[Result]] = {}
    for result in filter(_competes, results):
        competing.setdefault(str(result.evaluator.params[parameter]), []).append(result)
    yield from competing.items()


def _points(result: Result, metric: str) -> str:
    return " points" if metric_of(result, metric).unit == "percent" else ""


def _number(result: Result, metric: str) -> str:
    """Return a metric with its interval, where it has one: ``12.3 [8.1, 16.4]``."""
    text = metric_of(result, metric).text
    return _value(text(result.metrics[metric]), result.intervals.get(metric), text)


def _value(value: str, interval: tuple[float, float] | None, text: Callable[[float], str]) -> str:
    return value if interval is None else f"{value} [{text(interval[0])}, {text(interval[1])}]"


SENTENCES: dict[str, Callable[[Sequence[Result]], list[str]]] = {
    "loo-knn": classified,
    "clustering-agreement": clustered,
    "batch-mixing": mixed,
    "nuisance-probe": probed,
    "background-swap": swapped,
    "robustness": distorted,
    "rotation-sensitivity": moved,
    "known-measures": measured,
    "label-efficiency": labelled,
    "calibration": calibrated,
    "complementarity": fused,
}

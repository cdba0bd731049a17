"""What the paper claims of its numbers, beyond the numbers themselves: order and sign, as functions of results."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from pci_bench.reporting.tables.screens import printed_in_text
from pci_bench.runs.results import Result

Results = Sequence[Result]

CONV4 = "pci-conv4@lu2019-yeast"
SUPERVISED = "deeploc-fc2@kraus2017"
LAYERS = [f"pci-conv{i}@lu2019-yeast" for i in (4, 3, 5, 2, 1)]  # in the order that Table 1 prints
HUMAN = ("pci-conv3@lu2019-human", "pci-conv4@lu2019-human")
SAME_SCORE = 1e-3
TIED = {"RAP3": ["ATP19", "PXL1", "YJL131C"], "ALP3": ["ECO1"]}  # reproductions/test_published_changes.py shows it
COMPARTMENTS = (("cytosol", "nucleoplasm"), ("nucleoli", "nucleus"))


@dataclass(frozen=True)
class Claim:
    """Something that the paper says.

    Attributes
    ----------
    text
        What.
    holds
        Whether it is so here.
    found
        The numbers that say it.
    """

    text: str
    holds: bool
    found: str


def metric_of(results: Iterable[Result], metric: str, **params: Any) -> dict[str, float]:
    """Return a metric by feature set, of the results with these parameters."""
    return {
        r.features.full_name: r.metrics[metric]
        for r in results
        if metric in r.metrics and all(r.evaluator.params.get(k) == v for k, v in params.items())
    }


def layers_in_order(results: Results) -> Iterator[Claim]:
    """Table 1: conv4 > conv3 > conv5 > conv2 > conv1."""
    accuracy = metric_of(results, "balanced_accuracy", k=11, exclude="cell", scale="all")
    if set(LAYERS) <= set(accuracy):
        found = sorted(LAYERS, key=accuracy.__getitem__, reverse=True)
        order = ", ".join(name.removeprefix("pci-").partition("@")[0] for name in LAYERS)
        yield Claim(f"the layers stand in the order {order}", found == LAYERS, _best(accuracy))


def conv4_above_unsupervised(accuracy: Mapping[str, float], where: str) -> Iterator[Claim]:
    """Supplementary Tables 1 and 2: conv4 above every unsupervised set, the supervised one not below it."""
    if CONV4 not in accuracy:
        return
    if others := {n: v for n, v in accuracy.items() if n != CONV4 and not n.startswith("deeploc-")}:
        holds = accuracy[CONV4] > max(others.values())
        yield Claim(f"{where}, conv4 is above every unsupervised set", holds, _best({CONV4: accuracy[CONV4], **others}))
    if SUPERVISED in accuracy:
        pair = {SUPERVISED: accuracy[SUPERVISED], CONV4: accuracy[CONV4]}
        yield Claim(f"{where}, the supervised set is not below conv4", pair[SUPERVISED] >= pair[CONV4], _best(pair))


def knn_order(results: Results) -> Iterator[Claim]:
    """Supplementary Table 1, at every k."""
    for k in sorted({r.evaluator.params["k"] for r in results if r.evaluator.name == "loo-knn"}):
        accuracy = metric_of(results, "balanced_accuracy", k=k, exclude="cell", scale="all")
        yield from conv4_above_unsupervised(accuracy, f"at k = {k}")


def classifier_order(results: Results) -> Iterator[Claim]:
    """Supplementary Table 2, with both classifiers."""
    for classifier in ("logistic-regression", "random-forest"):
        of_classifier = [r for r in results if r.evaluator.name == classifier]
        accuracy = metric_of(of_classifier, "balanced_accuracy", exclude="cell", folds=5, scale="fold")
        yield from conv4_above_unsupervised(accuracy, f"with {classifier.replace('-', ' ')}")


def own_size_ahead(results: Results) -> Iterator[Claim]:
    """The Methods: 69.33 at the crops' own size, 65.64 at 224 px."""
    accuracy = metric_of(results, "balanced_accuracy", k=11, exclude="cell")
    own, resized = "vgg16-gfp-only-block4_conv1@oxford", "vgg16-fc2-224@oxford"
    if {own, resized} <= set(accuracy):
        pair = {own: accuracy[own], resized: accuracy[resized]}
        yield Claim(
            "crops at their own size are ahead of those resized to 224 px", pair[own] > pair[resized], _best(pair)
        )


def human_distances(results: Results) -> Iterator[Claim]:
    """Figure 2B: all scores negative, conv3 and conv4 ahead of every baseline."""
    score = metric_of(results, "normalized_distance", statistic="z")
    if score:
        yield Claim("all scores are negative", max(score.values()) < 0, _least(score))
    baselines = {name: value for name, value in score.items() if name not in HUMAN}
    for name in HUMAN:
        if name in score and baselines:
            pair = {name: score[name], **baselines}
            yield Claim(f"{name} is ahead of every baseline", score[name] < min(baselines.values()), _least(pair))


def cell_lines(results: Results) -> Iterator[Claim]:
    """Table 2: all scores negative, every set worse across cell lines, conv4 with the smallest drop."""
    for column in ("same_cell_line", "different_cell_line"):
        score = metric_of(results, column, statistic="z")
        if score:
            where = "within a cell line" if column.startswith("same") else "between cell lines"
            yield Claim(f"all scores {where} are negative", max(score.values()) < 0, _least(score))
    drop = metric_of(results, "difference", statistic="z")
    if drop:
        yield Claim("every set is worse between cell lines", min(drop.values()) > 0, _least(drop))
    if HUMAN[1] in drop and len(drop) > 1:
        yield Claim(
            "conv4 loses the least between cell lines", min(drop, key=drop.__getitem__) == HUMAN[1], _least(drop)
        )


def yeast_screens(results: Results) -> Iterator[Claim]:
    """Figure 3: most classes distinct in every screen, and their distances alike."""
    from pci_bench.statistics.class_distances import agreement

    of_classes = {r.dataset.name: r for r in results if r.evaluator.name == "class-distances"}
    for screen, result in of_classes.items():
        share = result.metrics["distinct_classes"]
        yield Claim(f"most localization classes of {screen} are distinct", share > 0.5, f"{100 * share:.0f} %")
    if len(of_classes) > 1:
        table = agreement({screen: r.tables["distances"] for screen, r in of_classes.items()})
        found = ", ".join(f"p = {p:.4f}" for p in table["p"])
        yield Claim("the screens agree on the distances between classes", bool((table["p"] < 0.05).all()), found)


def proteome_clusters(results: Results) -> Iterator[Claim]:
    """Figure 4: clusters recover most localization classes; the clade around MKI67 holds the rim of nucleoli's 32 proteins."""
    text = printed_in_text()["recovered-classes"]
    for r in results:
        if r.evaluator.name != "hierarchical-clustering":
            continue
        recovered = r.details.get("recovered_classes")
        if recovered and not r.evaluator.params["subset"] and not r.evaluator.params["around"]:
            yield Claim(
                "clusters recover most localization classes",
                recovered["recovered"] / recovered["classes"] > 0.5,
                f"{recovered['recovered']} of {recovered['classes']} (the paper: about {text['recovered']} of {text['classes']})",
            )
        if r.evaluator.params["around"] == "MKI67":
            clade = set(r.tables["clade"]["protein"])
            holds = "MKI67" in clade and len(clade) >= printed_in_text()["nucleolar-rim"]["clade"]
            yield Claim("the clade around MKI67 holds it and at least 32 proteins", holds, f"{len(clade)} proteins")


def compartments(results: Results) -> Iterator[Claim]:
    """Figure 5: medians of single classes of opposite sign, both between; the most variable images annotated as variable."""
    text = printed_in_text()["annotated-variable"]
    for first, second in COMPARTMENTS:
        for r in results:
            if (r.evaluator.params.get("first"), r.evaluator.params.get("second")) != (first, second):
                continue
            low, both, high = (r.metrics[f"median_{which}"] for which in ("first", "both", "second"))
            yield Claim(
                f"{first} and {second}: medians of opposite sign, with both between",
                low < 0 < high and low < both < high,
                f"{low:.2f}, {both:.2f}, {high:.2f}",
            )
            if known := r.details.get("annotated_variable"):
                share = known["annotated"] / known["most_variable_images"]
                yield Claim(
                    f"{first} and {second}: the images with the largest SD are annotated as variable more often than others",
                    share > known["annotated_images"] / known["images"],
                    f"{known['annotated']} of {known['most_variable_images']}, {known['annotated_images']:,} of all "
                    f"{known['images']:,} (the paper: {text[f'{first}-{second}']} of {text['images']})",
                )


def moa_confusion(results: Results) -> Iterator[Claim]:
    """BBBC021: 84 of 103 treatments right, and every count of the printed confusion matrix."""
    text = files("pci_bench_tables").joinpath("bbbc021-moa-confusion.csv").read_text(encoding="utf-8")
    (_, *classes), *rows = csv.reader(text.splitlines())
    printed = [[int(count) for count in row[1:]] for row in rows]  # predicted in rows
    for r in results:
        if (r.evaluator.params.get("exclude"), r.evaluator.params.get("metric")) != ("compound", "correlation"):
            continue
        if r.features.name != "profiles":
            continue
        n = len(classes)
        counts, labels = r.details["confusion"]["counts"], r.details["confusion"]["labels"]
        right = sum(counts[i][i] for i in range(n))
        wanted = sum(printed[i][i] for i in range(n))
        of = sum(map(sum, printed))
        yield Claim(f"{wanted} of {of} treatments are right", right == wanted, f"{right:.0f} of {r.dataset.n_cells}")
        equal = sum(counts[i][j] == printed[j][i] for i in range(n) for j in range(n)) if labels[:n] == classes else 0
        yield Claim(f"all {n * n} counts of the confusion matrix are as printed", equal == n * n, f"{equal} of {n * n}")


def published_changes(results: Results) -> Iterator[Claim]:
    """Lu et al. 2018: the published scores, but for proteins whose 50th and 51st neighbours are equally far."""
    from pci_bench.datasets.yeast_proteome import YeastProteomeScreens, read_table

    folder = YeastProteomeScreens().files.folder
    for r in results:
        if r.evaluator.name != "change-profiles":
            continue
        condition = r.evaluator.params["condition"]
        theirs = read_table(folder / f"{condition}_change.txt").astype(float)
        ours = r.tables["changes"].set_index("protein").reindex(theirs.index)[list(theirs.columns)]
        equal = ((ours - theirs).abs() < SAME_SCORE).all(axis=1)
        differing = sorted(equal.index[~equal])
        ties = TIED.get(condition, [])
        yield Claim(
            f"{condition}: all rows are the published ones to {SAME_SCORE:g}, but for {', '.join(ties)}, whose 50th and 51st "
            "neighbours are equally far",
            set(differing) <= set(ties),
            f"{int(equal.sum()):,} of {len(equal):,}" + (f"; not {', '.join(differing[:5])}" if differing else ""),
        )


CLAIMS: dict[str, Callable[[Results], Iterator[Claim]]] = {
    "table1": layers_in_order,
    "supplementary-table1": knn_order,
    "supplementary-table2": classifier_order,
    "supplementary-figure2": own_size_ahead,
    "figure2b": human_distances,
    "table2": cell_lines,
    "figure3": yeast_screens,
    "figure4": proteome_clusters,
    "figure5": compartments,
    "bbbc021-moa": moa_confusion,
    "change-profiles": published_changes,
}


def claims_of(item: str, results: Results) -> list[Claim]:
    """Return what the paper claims of an item's results, as far as they are there."""
    return list(CLAIMS[item](results)) if item in CLAIMS else []


def _best(values: Mapping[str, float]) -> str:
    """Return shares in percent, the largest first."""
    ranked = sorted(values.items(), key=lambda entry: -entry[1])
    return ", ".join(f"{name} {100 * value:.2f}" for name, value in ranked)


def _least(values: Mapping[str, float]) -> str:
    """Return numbers, the smallest first."""
    return ", ".join(f"{name} {value:.4f}" for name, value in sorted(values.items(), key=lambda entry: entry[1]))

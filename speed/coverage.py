"""How often every 95 % interval of the suite holds the truth, and how wide it is for what it could be.

    python speed/coverage.py [--replications 400] [--only kNN]

Data are drawn anew from a generator in every replication; the truth is the mean of an estimate over the replications (for paired
differences of two equally good feature sets: 0), and the ideal width 2 · 1.96 standard deviations of the estimate over them. Images,
plates or proteins differ at random, so cells of one are alike. Coverage stands with its Monte-Carlo error, √(p · (1 − p) / replications).
"""

from __future__ import annotations

import argparse
import importlib.util
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

if __name__ == "coverage":  # numba looks for the package coverage, also from the other programs of this folder
    raise ImportError("This is a program of pci-bench, not the package coverage.")

HERE = Path(__file__).resolve().parent
Estimates = dict[str, tuple[float, float, float]]  # by interval: value, low, high


class Row(NamedTuple):
    """One interval in one setting."""

    interval: str
    setting: str
    coverage: float
    width_over_ideal: float
    replications: int = 0

    @property
    def error(self) -> float:
        """The Monte-Carlo standard error of the coverage, of one case more and less where all or none are covered."""
        share = min(max(self.coverage, 1 / self.replications), 1 - 1 / self.replications)
        return float(np.sqrt(share * (1 - share) / self.replications))


class Images(NamedTuple):
    """Images of cells of a few classes: how many, how many cells, how far apart classes are, how much images differ."""

    classes: int = 4
    images: int = 12
    cells: int = 10
    features: int = 10
    apart: float = 2.0
    image_sd: float = 0.7

    def __str__(self) -> str:
        return f"{self.images} images × {self.cells} cells, {self.features} features, SD of images {self.image_sd}"

    def annotated(self, rng: np.random.Generator, sets: int = 1) -> list[Any]:
        """Return feature sets (AnnData) of the same cells, equally good, that share half of what varies."""
        centres = np.random.default_rng(99).normal(size=(self.classes, self.features)) * self.apart / self.features**0.5
        label = np.repeat(np.arange(self.classes), self.images * self.cells)
        image = np.repeat(np.arange(self.classes * self.images), self.cells)

        def noise() -> np.ndarray:
            own = rng.normal(size=(image.max() + 1, self.features))
            return self.image_sd * own[image] + rng.normal(size=(len(image), self.features))

        common = noise()
        confounder = "image" if self.cells > 1 else ""
        columns = {"label": np.char.add("class ", label.astype(str))}
        if confounder:
            columns["image"] = np.char.add("i", image.astype(str))
        return [annotated(centres[label] + np.sqrt(0.5) * (common + noise()), columns, confounder) for _ in range(sets)]


def annotated(values: np.ndarray, columns: dict[str, np.ndarray], confounder: str = "", names: Any = None) -> Any:
    """Return features and columns as AnnData."""
    import anndata
    import pandas as pd

    obs = pd.DataFrame({"cell": [f"c{i:05}" for i in range(len(values))], **columns})
    obs.index = pd.Index(obs["cell"].astype(str), name=None)
    adata = anndata.AnnData(np.asarray(values, np.float32), obs=obs)
    if names is not None:
        adata.var_names = names
    adata.uns["pci_bench"] = {"dataset": {"name": "synthetic", "confounder": confounder}}
    return adata


def evaluated(name: str, adata: Any, seed: int = 0, **params: Any) -> Any:
    """Return a result without its record of the machine, which takes longer than the evaluation."""
    from pci_bench.api.evaluator import EVALUATORS, EvaluationContext
    from pci_bench.runs.results import Result

    evaluator = EVALUATORS.get(name)
    (outcome,) = evaluator(adata, [evaluator.Params(**params)], EvaluationContext(seed))
    data = {"name": "synthetic", "version": "1", "sha256": "", "n_cells": adata.n_obs, "classes": {}}
    of = {"name": "set", "weights": None, "version": "1", "weights_sha256": None, "dim": adata.n_vars, "precision": ""}
    return Result(
        schema=1,
        benchmark=None,
        dataset=data,
        features=of,
        evaluator={"name": name, "version": evaluator.meta.version, "params": outcome.params},
        metrics=outcome.metrics,
        intervals=outcome.intervals,
        details=outcome.details,
        run={},
    ).with_tables(outcome.per_cell, outcome.tables)


def of_result(result: Any, prefix: str, metrics: tuple[str, ...] = ()) -> Estimates:
    """Return the intervals of one result by metric."""
    return {
        f"{prefix}: {name.replace('_', ' ')}": (result.metrics[name], *result.intervals[name])
        for name in (metrics or tuple(result.intervals))
    }


def classification(evaluator: str, images: Images, exclude: str, **params: Any) -> Callable[..., Estimates]:
    """Return what draws images, evaluates two equally good feature sets, and gives intervals of one and of their difference."""
    from pci_bench.runs.paired import paired_difference

    def replicate(rng: np.random.Generator) -> Estimates:
        first, second = (evaluated(evaluator, a, exclude=exclude, **params) for a in images.annotated(rng, 2))
        difference = paired_difference(first, second)
        return {
            **of_result(first, evaluator),
            f"{evaluator}: paired difference": (difference.value, *difference.interval),
            f"{evaluator}: paired difference, bootstrap": (difference.value, *difference.bootstrap),
        }

    return replicate


class Plates(NamedTuple):
    """Images of cells on plates: how many of each a class has, and how much plates, and a class's looks on a plate, differ.

    Where plates are drawn anew, whole plates are what intervals draw; where they are fixed, images are, and the plates are given.
    """

    classes: int = 5
    plates: int = 8
    images: int = 2
    cells: int = 8
    features: int = 10
    apart: float = 2.0
    image_sd: float = 0.7
    plate_sd: float = 0.7
    redrawn: bool = True

    def __str__(self) -> str:
        plates = f"{self.plates} plates {'drawn anew' if self.redrawn else 'given'}"
        return f"{plates} × {self.images} images of a class × {self.cells} cells, SD of images {self.image_sd}, of plates {self.plate_sd}"

    def annotated(self, rng: np.random.Generator) -> Any:
        """Return features (AnnData) with the levels cell, image and plate."""
        centres = np.random.default_rng(99).normal(size=(self.classes, self.features)) * self.apart / self.features**0.5
        of_plates = rng if self.redrawn else np.random.default_rng(98)
        image = np.repeat(np.arange(self.classes * self.plates * self.images), self.cells)
        label, plate = image // (self.plates * self.images), image // self.images % self.plates
        values = centres[label] + rng.normal(size=(len(image), self.features))
        values += self.plate_sd * of_plates.normal(size=(self.plates, self.features))[plate]
        values += 0.7 * self.plate_sd * of_plates.normal(size=(self.classes, self.plates, self.features))[label, plate]
        values += self.image_sd * rng.normal(size=(image.max() + 1, self.features))[image]
        columns = {"label": label, "image": image, "plate": plate}
        named = {name: np.char.add(f"{name} ", codes.astype(str)) for name, codes in columns.items()}
        return annotated(values, named, "plate" if self.redrawn else "image")


def drops(evaluator: str, plates: Plates, **params: Any) -> Callable[..., Estimates]:
    """Return what draws a screen, evaluates its levels of strictness, and gives the intervals of levels and of drops."""
    from pci_bench.runs.ladder import ladders

    def replicate(rng: np.random.Generator) -> Estimates:
        adata, results = plates.annotated(rng), []
        for level in ("cell", "image", "plate"):
            own = {n: v for n, v in params.items() if level != "cell" or n != "candidates"}  # the cell itself has none
            results.append(evaluated(evaluator, adata, exclude=level, **own))
        (ladder,) = ladders(results)[-1:]
        estimates: Estimates = {}
        for result in results:
            level = result.evaluator.params["exclude"]
            estimates[f"{evaluator}: level {level}"] = (result.metrics[ladder.metric], *result.intervals[ladder.metric])
        for drop in ladder.drops:
            names = f"{ladder.columns[drop.loose]} → {ladder.columns[drop.strict]}"
            estimates[f"{evaluator}: drop {names}"] = (drop.value, *drop.interval)
        return estimates

    return replicate


def recall(images: Images) -> Callable[..., Estimates]:
    """Return what gives the interval of one class's recall, as the report draws it."""
    from pci_bench.runs.recalls import Predictions, recall_intervals

    def replicate(rng: np.random.Generator) -> Estimates:
        result = evaluated("loo-knn", images.annotated(rng)[0], k=11)
        low, high = recall_intervals(result, Predictions.of(result), images.classes)[0]
        return {"report: recall of a class": (result.details["per_class"]["class 0"], low, high)}

    return replicate


def ranking(images: Images, sets: int) -> Callable[..., Estimates]:
    """Return what ranks equally good feature sets: "covered" where all get one letter."""
    from pci_bench.runs.leaderboard import rankings

    def replicate(rng: np.random.Generator) -> Estimates:
        results = []
        for number, adata in enumerate(images.annotated(rng, sets)):
            result = evaluated("loo-knn", adata, k=11)
            result.features.name = f"set {number}"
            results.append(result)
        groups = {place.group for place in rankings(results)[0].places}
        return {f"leaderboard: one letter for {sets} equally good sets": (0.0, 0.0 if groups == {"a"} else 1.0, np.inf)}

    return replicate


def fixed_network(images: Images) -> Callable[..., Estimates]:
    """Return what evaluates one score per class that no evaluated cell was learned from."""

    def replicate(rng: np.random.Generator) -> Estimates:
        (adata,) = images.annotated(rng)
        centres = np.random.default_rng(99).normal(size=(images.classes, images.features))
        columns = {c: adata.obs[c].to_numpy() for c in ("label", "image")}
        names = [f"class {i}" for i in range(images.classes)]
        return of_result(evaluated("argmax", annotated(adata.X @ centres.T, columns, "image", names)), "argmax")

    return replicate


class Proteins(NamedTuple):
    """Proteins of a few localization terms, with images in two cell lines, and how much proteins, lines and images differ."""

    terms: int = 4
    proteins: int = 6
    images: int = 2
    cells: int = 5
    features: int = 10
    apart: float = 1.5
    protein_sd: float = 0.7
    line_sd: float = 0.3

    def __str__(self) -> str:
        return f"{self.proteins} proteins × {self.images} images × {self.cells} cells, SD of proteins {self.protein_sd}"

    def annotated(self, rng: np.random.Generator) -> Any:
        """Return features (AnnData)."""
        fixed = np.random.default_rng(98)
        centres = fixed.normal(size=(self.terms, self.features)) * self.apart / self.features**0.5
        lines = fixed.normal(size=(self.terms, 2, self.features)) * self.line_sd
        protein = np.repeat(np.arange(self.terms * self.proteins), self.images * self.cells)
        term, image = (
            protein // self.proteins,
            np.repeat(np.arange(self.terms * self.proteins * self.images), self.cells),
        )
        line = image % 2
        values = centres[term] + lines[term, line] + rng.normal(size=(len(image), self.features))
        values += self.protein_sd * rng.normal(size=(protein.max() + 1, self.features))[protein]
        values += 0.3 * rng.normal(size=(image.max() + 1, self.features))[image]
        columns = {
            "protein": np.char.add("p", protein.astype(str)),
            "image": np.char.add("i", image.astype(str)),
            "labels": np.char.add("term ", term.astype(str)),
            "cell_line": np.char.add("line ", line.astype(str)),
        }
        return annotated(values, columns)


def distances(proteins: Proteins, pairs: int) -> Callable[..., Estimates]:
    """Return what measures Figure 2B's score: overall, as a ratio, and of one term."""

    def replicate(rng: np.random.Generator) -> Estimates:
        seed = int(rng.integers(2**31))
        result = evaluated("pairwise-distance", proteins.annotated(rng), pairs=pairs, minimum_proteins=2, seed=seed)
        term = result.details["per_term"]["term 0"]
        return {
            **of_result(result, "pairwise-distance"),
            "pairwise-distance: score of a term": (term["score"], term["low"], term["high"]),
        }

    return replicate


def cell_lines(proteins: Proteins, pairs: int) -> Callable[..., Estimates]:
    """Return what measures Table 2's scores."""

    def replicate(rng: np.random.Generator) -> Estimates:
        seed, adata = int(rng.integers(2**31)), proteins.annotated(rng)
        result = evaluated("pairwise-distance-cell-line", adata, pairs=pairs, minimum_proteins=2, seed=seed)
        return of_result(result, "pairwise-distance-cell-line")

    return replicate


def compartments(proteins: int, cells: int, exclude: str, protein_sd: float = 0.7) -> Callable[..., Estimates]:
    """Return what scores cells of two compartments, and of both."""

    def replicate(rng: np.random.Generator) -> Estimates:
        centres = np.zeros((3, 10))
        centres[0, 0], centres[1, 0] = -1, 1
        protein = np.repeat(np.arange(3 * proteins), cells)
        kind = protein // proteins
        values = centres[kind] + rng.normal(size=(len(kind), 10))
        values += protein_sd * rng.normal(size=(3 * proteins, 10))[protein]
        columns = {
            "protein": np.char.add("p", protein.astype(str)),
            "image": np.char.add("i", protein.astype(str)),
            "labels": np.array(["cytosol", "nucleoplasm", "cytosol;nucleoplasm"])[kind],
        }
        return of_result(
            evaluated("multi-localization", annotated(values, columns), exclude=exclude), "multi-localization"
        )

    return replicate


def inpainting(images: int, cells: int, pairs: int, between: float = 0.5) -> Callable[..., Estimates]:
    """Return what averages errors of pairs of cells, which depend on the target's image and on the source's."""
    from pci_bench.evaluators.inpainting_error import draw_pairs, error_intervals

    def replicate(rng: np.random.Generator) -> Estimates:
        image = np.repeat(np.arange(images), cells)
        names = np.array([f"c{i:05}" for i in range(len(image))])
        drawn = draw_pairs(image, image % 5, names, pairs, int(rng.integers(2**31)))
        target, source = rng.gamma(1 / between**2, between**2, images), rng.gamma(1 / between**2, between**2, images)
        own = rng.gamma(4, 1 / 4, size=len(image))
        errors = {
            "matched": target[image[drawn.targets]] * own[drawn.targets],
            "mismatched": target[image[drawn.targets]] * own[drawn.targets] + source[image[drawn.mismatched]],
        }
        intervals = error_intervals(errors, drawn, image)
        return {f"inpainting-error: {n}": (float(e.mean()), *intervals[n]) for n, e in errors.items()}

    return replicate


def settings(small: bool = False) -> Iterator[tuple[str, str, Callable[..., Estimates]]]:
    """Yield what is studied: a name, the setting in words, and what gives estimates from a random generator."""
    few, many = Images(images=6, image_sd=1.0), Images(images=25, cells=8)
    if small:
        few = Images(classes=3, images=6, cells=6, features=5, image_sd=1.0)
    forest = {"trees": 5 if small else 50}
    for exclude in ("cell", "image"):
        for images in (few,) if small else (few, Images(), many, Images(features=40, apart=3)):
            setting = f"exclude={exclude}; {images}"
            yield "kNN", setting, classification("loo-knn", images, exclude, k=11)
            if exclude == "image":
                balanced = classification("loo-knn", images, exclude, k=11, candidates="balanced")
                yield "kNN", f"{setting}, classes balanced", balanced
            yield "logistic regression", setting, classification("logistic-regression", images, exclude)
            if images in ((few, Images()) if not small or exclude == "image" else ()):
                yield "random forest", setting, classification("random-forest", images, exclude, **forest)
    for plates in (Plates(), Plates(redrawn=False)) if not small else (Plates(classes=3),):
        setting = str(plates)
        yield "ladder", setting, drops("loo-knn", plates, k=11)
        yield "ladder", setting, drops("level-distances", plates)
        if not small:
            yield "ladder", f"{setting}, classes balanced", drops("loo-knn", plates, k=11, candidates="balanced")
            yield "ladder", setting, drops("logistic-regression", plates)
    alone = Images(images=100, cells=1)
    if not small:
        for name, evaluator, more in (
            ("kNN", "loo-knn", {"k": 11}),
            ("logistic regression", "logistic-regression", {}),
        ):
            yield name, "exclude=cell; 100 cells a class, no images", classification(evaluator, alone, "cell", **more)
    yield "report", f"exclude=cell; {Images()}", recall(Images())
    yield "leaderboard", f"exclude=cell; {Images()}", ranking(Images(), 3 if small else 5)
    yield "argmax", str(few), fixed_network(few)
    for proteins in (Proteins(proteins=12),) if small else (Proteins(), Proteins(proteins=30), Proteins(protein_sd=0)):
        for pairs in (100,) if small else (100, 1000):
            yield "pairwise distance", f"{pairs} pairs; {proteins}", distances(proteins, pairs)
            yield "cell lines", f"{pairs} pairs; {proteins}", cell_lines(proteins, pairs)
    for exclude in ("protein",) if small else ("none", "protein"):
        for count, cells in ((20, 6),) if small else ((8, 10), (30, 10)):
            setting = f"exclude={exclude}; {count} proteins × {cells} cells"
            yield "multi-localization", setting, compartments(count, cells, exclude)
    for count, pairs in ((30, 200),) if small else ((15, 1000), (200, 1000), (200, 100)):
        yield "inpainting", f"{count} images × 10 cells, {pairs} pairs", inpainting(count, 10, pairs)


def measured(replicate: Callable[..., Estimates], setting: str, replications: int, seed: int = 0) -> list[Row]:
    """Return coverage and width of the intervals of one setting."""
    estimates_by_name: dict[str, list[tuple[float, float, float]]] = {}
    for number in range(replications):
        for name, estimate in replicate(np.random.default_rng([seed, number])).items():
            estimates_by_name.setdefault(name, []).append(estimate)
    rows = []
    for name, estimates in estimates_by_name.items():
        value, low, high = np.array(estimates).T
        truth = 0.0 if ("difference" in name and "paired" in name) or "leaderboard" in name else value.mean()
        spread = np.sqrt(np.square(value - truth).sum() / (len(value) - 1))
        with np.errstate(divide="ignore", invalid="ignore"):
            width = (high - low).mean() / (2 * 1.96 * spread)
        rows.append(Row(name, setting, float(((low <= truth) & (truth <= high)).mean()), float(width), replications))
    return rows


def study(replications: int, only: str = "") -> Iterator[Row]:
    """Yield every interval in every setting, also those of ``coverage_knn.py`` where it is there."""
    for name, setting, replicate in settings():
        if only in name:
            yield from measured(replicate, setting, replications)
    file = HERE / "coverage_knn.py"
    if only in "kNN" and file.exists():
        spec = importlib.util.spec_from_file_location("coverage_knn", file)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        for row in module.study(replications):
            yield Row(row["interval"], row["setting"], row["coverage"], row["width_over_ideal"], replications)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replications", type=int, default=400)
    parser.add_argument("--only", default="", help="part of a name: kNN, logistic, forest, pairwise, cell lines, …")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    print("| interval | setting | coverage | width / ideal |\n|---|---|---|---|")
    for row in study(options.replications, options.only):
        coverage = f"{row.coverage:.3f} ± {row.error:.3f}"
        print(f"| {row.interval} | {row.setting} | {coverage} | {row.width_over_ideal:.2f} |", flush=True)


if __name__ == "__main__":
    main()

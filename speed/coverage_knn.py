"""Coverage of the intervals of leave-one-out kNN, on synthetic screens whose truth is known.

    python speed/coverage_knn.py [--replications 400] [--quick]

The truth is the mean of the statistic over the screens of a setting, each drawn anew: Gaussian classes, whole groups (images)
shifted at random, noise of cells. A 95 % interval should hold it in 95 % of the screens. `width` is the mean width over the ideal
one, that of ±1.96 standard deviations of the statistic; `bootstrap` is the coverage of the earlier interval, which draws only the
predicted cells anew.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from pci_bench.statistics.jackknife import units_and_strata
from pci_bench.statistics.metrics import classification_metrics, confusion_counts
from pci_bench.statistics.neighbors import expected_confusion, neighborhoods

KINDS = {"cell": ("cell", False), "image": ("image", False), "image, balanced": ("image", True)}


@dataclass(frozen=True)
class Setting:
    """One generator: classes, groups of a class, cells of a group, features, distance of the classes, strength of the groups."""

    classes: int = 8
    groups: int = 6
    cells: int = 8
    features: int = 8
    separation: float = 1.5
    strength: float = 0.7
    unequal: bool = False  # groups of 2 … 2 × cells − 2 cells
    grouped: bool = True  # whether the groups are known: else every cell is its own

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return features (n, features), labels (n,) and groups (n,) of one screen."""
        n_groups = self.classes * self.groups
        sizes = rng.integers(2, 2 * self.cells - 1, n_groups) if self.unequal else np.full(n_groups, self.cells)
        groups = np.repeat(np.arange(n_groups), sizes)
        labels = groups % self.classes
        features = self.separation * np.eye(self.classes, self.features)[labels]
        features = features + self.strength * rng.normal(size=(n_groups, self.features))[groups]
        features = features + rng.normal(size=features.shape)
        return features, labels, groups if self.grouped else np.arange(len(labels))

    def __str__(self) -> str:
        """Return what is different from one setting to the next."""
        groups = f"{self.groups} groups of {'2–' + str(2 * self.cells - 2) if self.unequal else self.cells}"
        return f"{self.classes} classes, {groups if self.grouped else 'no groups'}, separation {self.separation:g}, groups {self.strength:g}"


SETTINGS = [
    Setting(),
    Setting(separation=0, strength=0),
    Setting(strength=0),
    Setting(strength=2),
    Setting(separation=3),
    Setting(unequal=True),
    Setting(groups=3),
    Setting(classes=5, groups=4, cells=10),
    Setting(classes=4, groups=20, cells=5),
    Setting(classes=5, groups=4, cells=10, strength=2),
    Setting(classes=4, groups=6, cells=6, strength=0, grouped=False),
]


def bootstrap_confusions(
    labels: np.ndarray, predicted: np.ndarray, groups: np.ndarray, n_classes: int, rng: np.random.Generator
) -> np.ndarray:
    """Return 300 confusion matrices of the predictions of whole groups, drawn with replacement within each class."""
    drawn = np.zeros((300, n_classes, n_classes + 1), np.int64)
    for label in range(n_classes):
        names, code = np.unique(groups[labels == label], return_inverse=True)
        counts = np.zeros((len(names), n_classes + 1), np.int64)
        np.add.at(counts, (code, predicted[labels == label]), 1)
        drawn[:, label] = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=300) @ counts
    return drawn


def one_screen(
    setting: Setting, ks: tuple[int, ...], rng: np.random.Generator, *, bootstrap: bool
) -> Iterator[tuple[str, int, str, float, tuple[float, float], tuple[float, float] | None]]:
    """Yield kind of candidates, k, metric, value, interval and the bootstrap's interval for one screen."""
    features, labels, groups = setting.draw(rng)
    features = (features - features.mean(axis=0)) / features.std(axis=0)
    n, n_classes = len(labels), setting.classes
    names = np.array([f"{i:06d}" for i in range(n)])
    units, strata, _ = units_and_strata(groups if setting.grouped else None, labels, names)
    groupings = {"cell": np.arange(n)} | ({"image": groups} if setting.grouped else {})
    by_column = neighborhoods(features, labels, groupings, min(n - 1, 2 * max(ks) + 10))
    for kind, (column, balanced) in KINDS.items():
        if column not in by_column:
            continue
        for k, shares in by_column[column].shares(ks, balanced=balanced).items():
            values = classification_metrics(expected_confusion(shares, labels, n_classes))
            intervals = by_column[column].intervals(shares, k, units, strata, balanced=balanced)
            earlier = {}
            if bootstrap:
                predicted = shares.argmax(axis=1)
                drawn = classification_metrics(bootstrap_confusions(labels, predicted, groups, n_classes, rng))
                middle = classification_metrics(confusion_counts(labels, predicted, n_classes))
                earlier = {m: np.quantile(v, [0.025, 0.975]) - middle[m] + values[m] for m, v in drawn.items()}
            for metric in ("balanced_accuracy", "macro_f1"):
                yield kind, k, metric, float(values[metric]), intervals[metric], earlier.get(metric)


def study(
    replications: int = 400,
    *,
    settings: list[Setting] | None = None,
    ks: tuple[int, ...] = (1, 11, 50),
    seed: int = 0,
    bootstrap: bool = True,
) -> list[dict[str, Any]]:
    """Return a row for every interval: what it is of, setting, coverage, width over the ideal, coverage of the bootstrap.

    Parameters
    ----------
    replications
        Screens of every setting.
    settings, ks
        Generators and numbers of neighbours; k = 50 only where there are more than 200 cells.
    seed
        Of the screens.
    bootstrap
        Whether the earlier interval is measured too.
    """
    rows = []
    for setting in SETTINGS if settings is None else settings:
        rng = np.random.default_rng(seed)
        usable_ks = tuple(k for k in ks if k < setting.classes * setting.groups * setting.cells / 4)
        screens = [list(one_screen(setting, usable_ks, rng, bootstrap=bootstrap)) for _ in range(replications)]
        for several in zip(*screens, strict=True):
            kind, k, metric = several[0][:3]
            values = np.array([s[3] for s in several])
            truth, ideal = values.mean(), 2 * 1.96 * values.std(ddof=1)

            def covered(intervals: list, truth: float = truth) -> float:
                return float(np.mean([low <= truth <= high for low, high in intervals]))

            widths = [high - low for *_, (low, high), _ in several]
            rows.append(
                {
                    "interval": f"loo-knn, {kind}, k={k}, {metric}",
                    "setting": str(setting),
                    "coverage": covered([s[4] for s in several]),
                    "width_over_ideal": float(np.mean(widths) / ideal),
                    "bootstrap": covered([s[5] for s in several]) if bootstrap else float("nan"),
                    "truth": float(truth),
                }
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replications", type=int, default=400)
    parser.add_argument("--quick", action="store_true", help="the first setting only")
    options = parser.parse_args()
    print(f"{'interval':52} {'truth':>6} {'coverage':>9} {'width':>6} {'bootstrap':>10}")
    everything = []
    for setting in SETTINGS[:1] if options.quick else SETTINGS:
        print(f"\n{setting}")
        for row in study(options.replications, settings=[setting]):
            everything.append(row)
            print(
                f"{row['interval']:52} {row['truth']:6.3f} {row['coverage']:9.3f} {row['width_over_ideal']:6.2f} "
                f"{row['bootstrap']:10.3f}",
                flush=True,
            )
    for name in ("coverage", "bootstrap"):
        values = np.array([row[name] for row in everything])
        print(
            f"\n{name}: {values.min():.3f} … {values.max():.3f}, median {np.median(values):.3f}, "
            f"{np.mean((values >= 0.92) & (values <= 0.98)):.0%} of {len(values)} intervals within 0.92 … 0.98"
        )


if __name__ == "__main__":
    main()

"""Which features rank first as acquisition varies more: accuracy of feature sets on yeast-sim drawn at several strengths and from several seeds.

    python speed/nuisance_sweep.py [--out docs/images/nuisance-sweep] [--proteins 42]

`nuisance` of yeast_sim.toml multiplies how far blur, noise, exposure and background vary over plates and images; 1 is the published
screen. Every strength is drawn with every seed. Leave-one-out kNN, k = 11: left all other cells, right other images only,
with the candidates of every class thinned alike. Networks are the shipped ones, trained at strength 1.
"""

import argparse
import csv
from pathlib import Path

import numpy as np

FEATURES = (
    "pci-conv4@yeast-sim",
    "autoencoder-conv3@yeast-sim",
    "pci-random-conv3",
    "classic-haralick",
    "designed",
    "intensity",
    "raw-pixels",
)
STRENGTHS = (0.0, 0.5, 1.0, 2.0)
SEEDS = (20190101, 1, 2)
COLUMNS = ({"exclude": "cell"}, {"exclude": "image", "candidates": "balanced"})
TITLES = ("all other cells", "other images only, balanced")


def screen(strength: float, seed: int, proteins: int):
    """Return the cells of the first proteins of yeast-sim at another strength and seed, in memory."""
    from pci_bench.datasets import yeast_sim

    settings = {**yeast_sim.SETTINGS, "nuisance": strength, "seed": seed}
    images = [image for image in yeast_sim.plan("yeast-sim", settings) if image.protein < proteins]
    return yeast_sim.simulate("yeast-sim", images, settings)


def measured(proteins: int) -> list[dict[str, object]]:
    """Return a row for every strength, seed, feature set and column."""
    from pci_bench import evaluate, extract

    rows: list[dict[str, object]] = []
    for seed in SEEDS:
        for strength in STRENGTHS:
            cells = screen(strength, seed, proteins)
            for name in FEATURES:
                adata = extract(name, cells)
                for title, params in zip(TITLES, COLUMNS, strict=True):
                    value = evaluate("loo-knn", adata, k=11, **params)[0].metrics["balanced_accuracy"]
                    rows.append(
                        {
                            "seed": seed,
                            "nuisance": strength,
                            "features": name,
                            "candidates": title,
                            "balanced_accuracy": value,
                        }
                    )
                    print(f"seed {seed}, nuisance {strength}: {name}, {title}: {100 * value:.1f}", flush=True)
    return rows


def drawn(rows: list[dict[str, object]], path: Path) -> None:
    """Draw accuracy against strength, a thin line for each seed and a thick one for their mean."""
    from pci_bench.system.drawing import COLOURS, caption, new_figure, save, title

    figure = new_figure(7.5, 3.6)
    axes = figure.subplots(1, 2, sharey=True)
    for axis, column in zip(axes, TITLES, strict=True):
        for name, colour in zip(FEATURES, COLOURS, strict=False):
            values = np.array(
                [
                    [
                        next(
                            100 * float(str(row["balanced_accuracy"]))
                            for row in rows
                            if (row["seed"], row["nuisance"], row["features"], row["candidates"])
                            == (seed, strength, name, column)
                        )
                        for strength in STRENGTHS
                    ]
                    for seed in SEEDS
                ]
            )
            for line in values:
                axis.plot(STRENGTHS, line, color=colour, lw=0.6, alpha=0.5)
            axis.plot(STRENGTHS, values.mean(axis=0), color=colour, lw=1.8, marker="o", ms=3, label=name)
        axis.set_title(column, fontsize=8)
        axis.set_xlabel("strength of nuisance (1: as published)", fontsize=8)
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("balanced accuracy, %", fontsize=8)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=7, frameon=False)
    title(figure, "Simulated yeast: accuracy as acquisition varies more from image to image")
    caption(figure, f"Leave-one-out kNN, k = 11. Thin lines: {len(SEEDS)} seeds of the generator; thick: their mean.")
    save(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("nuisance-sweep"), help="figure and table, without suffix")
    parser.add_argument("--proteins", type=int, default=82, help="so many of the 82 proteins")
    options = parser.parse_args()
    rows = measured(options.proteins)
    with options.out.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    drawn(rows, options.out)


if __name__ == "__main__":
    main()

"""Accuracy against the pairs that a network was trained on, from the weights that ``pci-bench train --keep`` saved.

    pci-bench train pci --dataset yeast-sim-train --name mine --epochs 58 --keep 1,3,6,10,20,30,40
    python speed/accuracy_by_pairs.py mine [--layers conv3,conv4] [--dataset yeast-sim] [--out accuracy-by-pairs]

Leave-one-out kNN, k = 11: all other cells, and other images only with the candidates of every class thinned alike.
"""

import argparse
import csv
import json
from pathlib import Path

COLUMNS = {
    "all other cells": {"exclude": "cell"},
    "other images only, balanced": {"exclude": "image", "candidates": "balanced"},
}


def weights_by_pairs(name: str) -> dict[str, int]:
    """Return the names of the weights that were kept, and of the last ones, by the pairs that each has seen."""
    from pci_bench import weights
    from pci_bench.errors import UserError

    last = weights.find("pci", name)
    if last is None:
        raise UserError(f"There are no weights pci@{name}. `pci-bench train pci --name {name} --keep 1,3` makes them.")
    facts = json.loads(last.with_suffix(".json").read_text(encoding="utf-8"))
    epochs, batch = facts["recipe"]["epochs"], facts["recipe"]["batch"]
    pairs = facts["dataset"]["trained_on"] // batch * batch
    kept = {f"{name}-epoch{epoch}": epoch * pairs for epoch in range(1, epochs)}
    return {n: count for n, count in kept.items() if weights.find("pci", n)} | {name: epochs * pairs}


def main() -> None:
    import pci_bench
    from pci_bench.system.drawing import COLOURS, caption, new_figure, save, title

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="what follows pci@ in the name of the weights")
    parser.add_argument("--layers", default="conv3,conv4")
    parser.add_argument("--dataset", default="yeast-sim")
    parser.add_argument("--out", type=Path, default=Path("accuracy-by-pairs"), help="figure and table, without suffix")
    options = parser.parse_args()
    cells, layers = pci_bench.load_dataset(options.dataset), options.layers.split(",")
    rows = []
    for name, pairs in weights_by_pairs(options.name).items():
        for layer in layers:
            adata = pci_bench.extract(f"pci-{layer}@{name}", cells)
            for column, params in COLUMNS.items():
                (result,) = pci_bench.evaluate("loo-knn", adata, k=11, **params)
                rows.append((pairs, layer, column, 100 * result.metrics["balanced_accuracy"]))
                print(f"{pairs:9,} pairs, {layer}, {column}: {rows[-1][-1]:.1f}", flush=True)
    with options.out.with_suffix(".csv").open("w", newline="") as file:
        csv.writer(file).writerows([("pairs", "layer", "candidates", "balanced_accuracy"), *rows])
    figure = new_figure(6, 3.4)
    axis = figure.subplots()
    for layer, colour in zip(layers, COLOURS, strict=False):
        for column, style in zip(COLUMNS, ("-", "--"), strict=True):
            points = [
                (pairs, value) for pairs, of_layer, of_column, value in rows if (of_layer, of_column) == (layer, column)
            ]
            axis.plot(*zip(*points, strict=True), style, color=colour, marker="o", ms=3, label=f"{layer}, {column}")
    axis.set_xscale("log")
    axis.set_xlabel("pairs of cells seen in training", fontsize=8)
    axis.set_ylabel("balanced accuracy, %", fontsize=8)
    axis.tick_params(labelsize=7)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(fontsize=7, frameon=False)
    title(figure, f"pci@{options.name} on {options.dataset}: accuracy against pairs")
    caption(
        figure,
        "Leave-one-out kNN, k = 11. The last point is the end of the schedule; before it the learning rate is higher.",
    )
    save(figure, options.out)


if __name__ == "__main__":
    main()

"""How often a cell's nearest neighbour of its class is of its own field of view: what `nuisance` in yeast_sim.toml was set on.

    python speed/nuisance.py [--nuisance X] [--draws 20] [--also pci-conv4,...]

Ten cells from each of four fields of a class, drawn many times; chance is 9/39. Three sources: the real cells of toy-yeast, where
a class is one protein and its fields are of one well; simulated cells of the same kind, four images of one protein on one plate,
for every class; and yeast-sim itself, where the images of a class are of several proteins and plates as well. The strength of what
differs from image to image was set so that the second source is like the first for raw intensities and Haralick texture. No learned
feature set was looked at; `--also` prints further ones.
"""

import argparse
from dataclasses import replace

import numpy as np

FIELDS, CELLS = 4, 10


def own_group_rate(features: np.ndarray, groups: np.ndarray) -> tuple[float, float]:
    """Return how often the nearest other row is of the row's own group, and how often a random other row would be."""
    from pci_bench.statistics.neighbors import loo_neighbors

    nearest = loo_neighbors(features, 1)[0][:, 0]
    sizes = np.bincount(groups)[groups]
    return float((groups[nearest] == groups).mean()), float(((sizes - 1) / (len(groups) - 1)).mean())


def rates(features: np.ndarray, labels: np.ndarray, groups: np.ndarray, draws: int) -> tuple[float, float]:
    """Return rate and chance, the mean over classes and draws of `FIELDS` groups of a class with `CELLS` cells each."""
    rng = np.random.default_rng(0)
    estimates = []
    for label in np.unique(labels):
        names, counts = np.unique(groups[labels == label], return_counts=True)
        names = names[counts >= CELLS]
        if len(names) < FIELDS:
            continue
        for _ in range(draws):
            chosen = [
                rng.permutation(np.flatnonzero((labels == label) & (groups == name)))[:CELLS]
                for name in rng.permutation(names)[:FIELDS]
            ]
            estimates.append(own_group_rate(features[np.concatenate(chosen)], np.repeat(np.arange(FIELDS), CELLS)))
    rate, chance = np.mean(estimates, axis=0)
    return float(rate), float(chance)


def one_protein_on_one_plate(settings: dict):
    """Return cells in memory: four images of the first protein of every class, all on one plate."""
    from pci_bench.datasets import yeast_sim
    from pci_bench.simulation.yeast.screen import CLASSES

    first = {image.label: image for image in reversed(yeast_sim.plan("yeast-sim", settings))}
    images: list[yeast_sim.ImagePlan] = []
    for label in CLASSES:
        for _ in range(FIELDS):
            number = 10_000 + len(images)  # beyond all images of the screen
            cells = 30 if label.startswith(("BUD", "SPINDLE")) else 14
            images.append(replace(first[label], number=number, cells=cells))
    simulated = yeast_sim.simulate("yeast-sim", images, settings)
    obs = simulated.obs
    obs["label"] = obs["label"].where(obs["label"] == obs["protein_label"])
    return simulated


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nuisance", type=float, help="another strength for the second source")
    parser.add_argument("--draws", type=int, default=20, help="how often fields of a class and their cells are drawn")
    parser.add_argument("--also", default="", help="further feature sets")
    options = parser.parse_args()
    from pci_bench import extract, load_dataset
    from pci_bench.datasets import yeast_sim
    from pci_bench.statistics.scaling import standardized

    settings = dict(yeast_sim.SETTINGS)
    if options.nuisance is not None:
        settings["nuisance"] = options.nuisance
    sources = {
        "toy-yeast": (load_dataset("toy-yeast"), "field"),
        "one protein, one plate": (one_protein_on_one_plate(settings), "image"),
        "yeast-sim": (load_dataset("yeast-sim"), "image"),
    }
    print(f"{'feature set':24}" + "".join(f"{name:>26}" for name in sources) + f"{'chance':>10}")
    for name in ["intensity", "classic-haralick", *filter(None, options.also.split(","))]:
        row = []
        for cells, group in sources.values():
            adata, labels = extract(name, cells), cells.obs["label"].astype(str).to_numpy()
            codes = np.unique(cells.obs[group].astype(str), return_inverse=True)[1]
            known = cells.obs["label"].notna().to_numpy()
            row.append(rates(standardized(np.asarray(adata.X))[known], labels[known], codes[known], options.draws))
        print(f"{name:24}" + "".join(f"{rate:26.3f}" for rate, _ in row) + f"{row[0][1]:10.3f}")


if __name__ == "__main__":
    main()

"""How real the simulated human cells look: a mosaic of every localization beside real cells, and statistics of both.

    python speed/realism_human.py [--mosaic human-sim-mosaic.png]

The real cells come from the dataset toy-human (PCI_BENCH_DATA, or a download): 62 cells of 3 proteins. Nothing here decides
anything: it is printed and drawn to be looked at.
"""

import argparse

import numpy as np
from realism import BANDS, noise_sd, power, spread, stretched

CHANNELS = ("antibody", "nucleus", "microtubules")
PER_BLOCK = 4


def one_per_line(obs, rows: np.ndarray) -> np.ndarray:
    """Return a cell of each cell line among `rows`, and more of them where there are fewer lines."""
    chosen = obs.iloc[rows].sample(frac=1, random_state=3)
    turns = chosen.groupby("cell_line", observed=True).cumcount()
    return chosen.assign(turn=turns).sort_values(["turn", "cell_line"]).index[:PER_BLOCK].to_numpy()


def blocks(simulated, real) -> list[tuple[str, np.ndarray]]:
    """Return titles and pictures: antibody above, nucleus (blue) and microtubules (red) below, side by side."""
    obs = simulated.obs
    chosen = []
    for label in obs["label"].cat.categories:
        of_label = obs["label"] == label
        for variant in sorted(obs.loc[of_label, "subcluster"].unique()):
            rows = np.flatnonzero(of_label & (obs["subcluster"] == variant))
            chosen.append((variant or str(label), simulated, one_per_line(obs, rows)))
    for labels in ("cytosol;nucleoplasm", "nucleoli;nucleoplasm"):
        mixed = obs[(obs["labels"] == labels) & obs["mixture"].notna()].sort_values("mixture", kind="stable")
        firsts = mixed.drop_duplicates("protein").index.to_numpy()
        picked = firsts[np.linspace(0, len(firsts) - 1, PER_BLOCK).astype(int)]
        chosen.append((f"mixtures: {labels.replace(';', ' → ')}", simulated, picked))
    varied = obs[(obs["labels"] == "nucleoli;mitochondria") & (obs["variable_fraction"] > 0.5)]
    image = varied[varied["image"] == varied["image"].iloc[0]].sort_values("state", kind="stable").index.to_numpy()
    picked = image[np.linspace(0, len(image) - 1, PER_BLOCK).astype(int)]
    chosen.append(("variable: nucleoli or mitochondria", simulated, picked))
    for protein, rows in real.obs.groupby("protein", observed=True).indices.items():
        chosen.append((f"real: {protein}", real, rows[:: max(len(rows) // PER_BLOCK, 1)][:PER_BLOCK]))
    return [(title, picture(cells.crops(np.asarray(rows)))) for title, cells, rows in chosen]


def picture(crops: np.ndarray) -> np.ndarray:
    """Return crops (n, 3, rows, columns) as one colour image."""
    protein, nucleus, tubules = (np.hstack(list(np.pad(c, ((0, 0), (1, 1), (1, 1))))) for c in crops.swapaxes(0, 1))
    grey = np.stack([protein] * 3, axis=2)
    marker = np.stack([tubules, 0.35 * nucleus + 0.1 * tubules, nucleus], axis=2)
    return np.clip(np.vstack([grey, marker]), 0, 1)


def mosaic(simulated, real, file: str, across: int = 5) -> None:
    """Draw all blocks."""
    from pci_bench.system.drawing import INK, new_figure

    pictures = blocks(simulated, real)
    down = -(-len(pictures) // across)
    figure = new_figure(across * 3.6, down * 2.1)
    axes = figure.subplots(down, across)
    for axis in axes.flat:
        axis.axis("off")
    for axis, (title, image) in zip(axes.flat, pictures, strict=False):
        axis.imshow(image, interpolation="nearest")
        axis.set_title(title, fontsize=11, loc="left", pad=3, color=INK)
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.02)
    figure.savefig(file, dpi=72)


def compare(simulated, real) -> None:
    """Print statistics of each channel, of stretched crops."""
    crops = [c.crops(slice(None), rescale="raw").swapaxes(0, 1).astype(float) for c in (real, simulated)]
    print(
        f"{len(real):,} real cells (toy-human), {len(simulated):,} simulated (human-sim); median (10 % – 90 % of cells)\n"
    )
    print(f"| {'':42} | {'real':26} | {'simulated':26} |\n|{'-' * 44}|{'-' * 28}|{'-' * 28}|")

    def row(name: str, statistic) -> None:
        print(f"| {name:42} | " + " | ".join(f"{spread(statistic(c)):26}" for c in crops) + " |")

    for i, channel in enumerate(CHANNELS):
        row(f"{channel}, brightest pixel", lambda c, i=i: c[i].max(axis=(1, 2)))
        for quantile in (0.25, 0.5, 0.95):
            row(
                f"{channel}, {quantile:.0%} quantile (min–max)",
                lambda c, i=i, q=quantile: np.quantile(stretched(c[i]), q, axis=(1, 2)),
            )
        row(f"{channel}, noise SD (min–max)", lambda c, i=i: noise_sd(stretched(c[i])))
        for b, band in enumerate(BANDS):
            row(f"{channel}, log power at {band} cycles", lambda c, i=i, b=b: power(stretched(c[i]))[:, b])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mosaic", default="human-sim-mosaic.png", help="where to draw the mosaic")
    options = parser.parse_args()
    from pci_bench import load_dataset
    from pci_bench.errors import UserError

    try:
        real, simulated = load_dataset("toy-human"), load_dataset("human-sim")
    except UserError as error:
        raise SystemExit(str(error)) from error
    mosaic(simulated, real, options.mosaic)
    compare(simulated, real)
    print(f"\nThe mosaic is {options.mosaic}.")


if __name__ == "__main__":
    main()

"""How real the simulated yeast looks: statistics beside those of the real cells of toy-yeast, and a mosaic of both.

    python speed/realism.py [--mosaic yeast-sim-mosaic.png]

The real cells come from the dataset toy-yeast (PCI_BENCH_DATA, or a download). Nothing here decides anything: it is
printed to be looked at. AAH1, AAP1 and AAR2 are the cytosolic proteins of toy-yeast, so CYTOPLASM stands beside them.
"""

import argparse
from collections.abc import Callable

import numpy as np

BANDS = {"1–2": (1, 2), "3–5": (3, 5), "6–10": (6, 10), "11–20": (11, 20), "21–31": (21, 31)}
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def stretched(crops: np.ndarray) -> np.ndarray:
    """Return crops (n, rows, columns) from 0 to 1, each by its own minimum and maximum."""
    low = crops.min(axis=(1, 2), keepdims=True)
    return (crops - low) / np.maximum(crops.max(axis=(1, 2), keepdims=True) - low, 1e-9)


def noise_sd(crops: np.ndarray) -> np.ndarray:
    """Return the noise SD (n,) of crops by Immerkær's method: the mean absolute response to a kernel blind to planes."""
    inner = crops[:, 1:-1, 1:-1]
    edges = crops[:, :-2, 1:-1] + crops[:, 2:, 1:-1] + crops[:, 1:-1, :-2] + crops[:, 1:-1, 2:]
    corners = crops[:, :-2, :-2] + crops[:, 2:, 2:] + crops[:, :-2, 2:] + crops[:, 2:, :-2]
    return np.abs(4 * inner - 2 * edges + corners).mean(axis=(1, 2)) * np.sqrt(np.pi / 2) / 6


def background_sd(crops: np.ndarray) -> np.ndarray:
    """Return the SD (n,) of the darkest fifth of 4×4 blocks, each around its own mean: noise without cells."""
    n, rows, columns = crops.shape
    blocks = crops.reshape(n, rows // 4, 4, columns // 4, 4).transpose(0, 1, 3, 2, 4).reshape(n, -1, 16)
    dark = np.argsort(blocks.mean(axis=2), axis=1)[:, : blocks.shape[1] // 5]
    return np.take_along_axis(blocks.std(axis=2, ddof=1), dark, axis=1).mean(axis=1)


def power(crops: np.ndarray) -> np.ndarray:
    """Return log10 of the mean power (n, bands) in rings of spatial frequency (cycles per crop), Hann-windowed."""
    size = crops.shape[1]
    window = np.hanning(size)
    flat = (crops - crops.mean(axis=(1, 2), keepdims=True)) * window[:, None] * window
    spectrum = np.abs(np.fft.fft2(flat)) ** 2
    frequency = np.fft.fftfreq(size, 1 / size)
    radius = np.rint(np.hypot(frequency[:, None], frequency))
    return np.log10([spectrum[:, (radius >= low) & (radius <= high)].mean(axis=1) for low, high in BANDS.values()]).T


def areas(crops: np.ndarray) -> np.ndarray:
    """Return the area (n,) of the cell in the middle of crops, mother and bud, as the default segmenter outlines it."""
    from pci_bench.segmentation.otsu import cells_of
    from pci_bench.segmentation.split import centre_label

    masks = (cells_of(crop) for crop in stretched(crops).astype(np.float32))
    return np.array([float((mask == centre_label(mask)).sum()) for mask in masks])


def correlation(gfp: np.ndarray, rfp: np.ndarray) -> np.ndarray:
    """Return Pearson's correlation (n,) of the two channels of each crop."""
    a, b = (c.reshape(len(c), -1) - c.mean(axis=(1, 2))[:, None] for c in (gfp, rfp))
    return (a * b).sum(axis=1) / np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))


def statistics() -> dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]]:
    """Return functions of GFP and RFP crops that give one number per cell, by name."""
    rows: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {}
    for quantile in QUANTILES:
        rows[f"RFP, {quantile:.0%} quantile (min–max)"] = lambda g, r, q=quantile: np.quantile(
            stretched(r), q, axis=(1, 2)
        )
    rows["RFP, noise SD (min–max)"] = lambda g, r: noise_sd(stretched(r))
    rows["RFP, background SD (min–max)"] = lambda g, r: background_sd(stretched(r))
    for i, band in enumerate(BANDS):
        rows[f"RFP, log power at {band} cycles"] = lambda g, r, i=i: power(stretched(r))[:, i]
    rows["RFP, pixels of the cell in the middle"] = lambda g, r: areas(r)
    rows["GFP, median (min–max)"] = lambda g, r: np.median(stretched(g), axis=(1, 2))
    rows["GFP, noise SD (min–max)"] = lambda g, r: noise_sd(stretched(g))
    rows["GFP, background SD (min–max)"] = lambda g, r: background_sd(stretched(g))
    rows["GFP, range in noise SDs"] = lambda g, r: 1 / noise_sd(stretched(g))
    rows["GFP, log power at 21–31 cycles"] = lambda g, r: power(stretched(g))[:, -1]
    return rows


def spread(values: np.ndarray) -> str:
    """Return the median and the 10 % and 90 % quantiles as text."""
    low, middle, high = np.quantile(values, [0.1, 0.5, 0.9])
    digits = 1 if abs(middle) > 5 else 3
    return f"{middle:.{digits}f} ({low:.{digits}f} – {high:.{digits}f})"


def two_sample(real: np.ndarray, simulated: np.ndarray, fields: np.ndarray, images: np.ndarray) -> tuple[float, float]:
    """Return balanced accuracy and area under the curve of a classifier that tells real from simulated RFP crops.

    Gradient boosting on 8×8 block means, quantiles, noise and power spectrum of the stretched crops; 5 folds, no field or
    image in two of them. 0.5 would be chance.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import balanced_accuracy_score, roc_auc_score
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict

    crops = stretched(np.concatenate([real, simulated]))
    blocks = crops.reshape(len(crops), 8, 8, 8, 8).mean(axis=(2, 4)).reshape(len(crops), -1)
    quantiles = np.quantile(crops, np.linspace(0.02, 0.98, 13), axis=(1, 2)).T
    features = np.column_stack([blocks, quantiles, noise_sd(crops), background_sd(crops), power(crops)])
    labels = np.repeat([1, 0], [len(real), len(simulated)])
    groups = np.unique(np.concatenate([fields, images]), return_inverse=True)[1]
    scores = cross_val_predict(
        HistGradientBoostingClassifier(max_iter=100, random_state=0),
        features,
        labels,
        groups=groups,
        cv=StratifiedGroupKFold(5, shuffle=True, random_state=0),
        method="predict_proba",
    )[:, 1]
    return balanced_accuracy_score(labels, scores > 0.5), roc_auc_score(labels, scores)


def mosaic(simulated, real, file: str, columns: int = 8) -> None:
    """Draw a row of GFP over a row of RFP for each class, from as many images as there are, and rows of real cells."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    blocks = []
    for cells, kind in ((simulated, ""), (real, "real: ")):
        for label in cells.obs["label"].cat.categories:
            of_class = cells.obs[cells.obs["label"] == label].sample(frac=1, random_state=0)
            turns = of_class.groupby("image" if not kind else "field", observed=True).cumcount()
            chosen = turns.sort_values(kind="stable").index[:columns].to_numpy()
            crops = cells.crops(chosen)
            blocks.append(
                (
                    f"{kind}{label}",
                    np.vstack([np.hstack(np.pad(c, ((0, 0), (1, 1), (1, 1)))) for c in crops.transpose(1, 0, 2, 3)]),
                )
            )
    across = 2
    down = -(-len(blocks) // across)
    figure, axes = plt.subplots(down, across, figsize=(across * columns * 1.05, down * 2.35))
    for axis in axes.flat:
        axis.axis("off")
    for axis, (title, image) in zip(axes.T.flat, blocks, strict=False):
        axis.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axis.set_title(f"{title}: GFP above, RFP below", fontsize=9, loc="left", pad=2)
    figure.subplots_adjust(0.005, 0.005, 0.995, 0.985, 0.01, 0.12)
    figure.savefig(file, dpi=90)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mosaic", default="yeast-sim-mosaic.png", help="where to draw the mosaic")
    options = parser.parse_args()
    from pci_bench import load_dataset
    from pci_bench.errors import UserError

    try:
        real, simulated = load_dataset("toy-yeast"), load_dataset("yeast-sim")
    except UserError as error:
        raise SystemExit(str(error)) from error
    mosaic(simulated, real, options.mosaic)
    crops = [c.crops(slice(None), rescale="raw").transpose(1, 0, 2, 3).astype(float) for c in (real, simulated)]
    print(
        f"{len(real):,} real cells (toy-yeast), {len(simulated):,} simulated (yeast-sim); median (10 % – 90 % of cells)\n"
    )
    print(f"| {'':36} | {'real':24} | {'simulated':24} |\n|{'-' * 38}|{'-' * 26}|{'-' * 26}|")
    for name, statistic in statistics().items():
        print(f"| {name:36} | {spread(statistic(*crops[0])):24} | {spread(statistic(*crops[1])):24} |")
    cytosolic = [real.obs["protein"].isin(["AAH1", "AAP1", "AAR2"]), simulated.obs["label"] == "CYTOPLASM"]
    pairs = [
        correlation(*(c[channel][which.to_numpy()] for channel in (0, 1)))
        for c, which in zip(crops, cytosolic, strict=True)
    ]
    print(f"| {'cytosolic, correlation of GFP and RFP':36} | {spread(pairs[0]):24} | {spread(pairs[1]):24} |")
    accuracy, area = two_sample(
        crops[0][1],
        crops[1][1],
        real.obs["field"].astype(str).to_numpy(),
        simulated.obs["image"].astype(str).to_numpy(),
    )
    print(
        f"\nReal or simulated, told from RFP crops: balanced accuracy {accuracy:.3f}, area under the curve {area:.3f}."
    )
    print(f"The mosaic is {options.mosaic}.")


if __name__ == "__main__":
    main()

"""Runs the benchmarks of gallery.md and puts the pictures that it shows into docs/images, small enough for a web page.

Usage: ``python docs/gallery.py [BENCHMARK ... | report | real-cells | ladder | backgrounds]``. `report` photographs the report that results.md shows; it needs
the extra ``browser`` and Debian's package ``chromium``. `real-cells` draws crops of the Human Protein Atlas (toy-human), `ladder` the figure of the front page,
`backgrounds` cells on other backgrounds (evaluation.md).
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import pci_bench

IMAGES = Path(__file__).parent / "images"
MOST_BYTES, WIDEST = 180_000, 1400  # of a picture; pixels

# Photographs of the report: pixels across and down, and the link of its contents that is followed first.
SCREENS = {
    "report-desktop": (1280, 900, ""),
    "report-neighbours": (1280, 900, "Neighbours"),
    "report-phone": (390, 800, ""),
}

NINE = "pci-conv4,paired-contrastive-embedding,autoencoder-conv3,efficientnet-lite0-block5,classic-haralick,designed,deeploc-fc2,intensity,noise"

# What each benchmark runs on beyond its defaults, parameters as `exclude=cell`, and its figures by the name of the picture.
PICTURES: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "organelles-knn": ({}, {"organelles-accuracy": "accuracy-rxrx1-organelles-subset=crowded=no"}),
    "organelles-umap": ({}, {"organelles-umap": "umap-rxrx1-organelles"}),
    "yeast-knn": (
        {"dataset": "yeast-sim"},
        {
            "yeast-sim-accuracy": "accuracy-yeast-sim",
            "yeast-sim-classes": "classes-yeast-sim-other-images-balanced",
            "yeast-sim-layers": "layers-yeast-sim",
            "yeast-sim-confusion": "confusion-yeast-sim",
        },
    ),
    "ladder": (
        {"dataset": "rxrx1-organelles", "features": NINE},
        {"ladder-rxrx1-organelles": "ladder-rxrx1-organelles"},
    ),
    "calibration": (
        {
            "dataset": "rxrx1-organelles",
            "features": "pci-conv4,paired-contrastive-embedding,efficientnet-lite0-block5,classic-haralick,deeploc-fc2,intensity,noise",
            "set": "exclude=cell,exclude=plate,exclude=cell_line",
        },
        {"organelles-calibration": "calibration-rxrx1-organelles-knn"},
    ),
    "label-efficiency": (
        {"dataset": "rxrx1-organelles", "features": NINE},
        {"organelles-labels": "label-efficiency-rxrx1-organelles-other-cell_lines-crowded=no"},
    ),
    "robustness": (
        {
            "dataset": "rxrx1-organelles",
            "features": "pci-conv4,paired-contrastive-embedding,autoencoder-conv3,classic-haralick,deeploc-fc2,intensity",
        },
        {"organelles-robustness": "robustness-rxrx1-organelles"},
    ),
    "confounders": (
        {
            "dataset": "rxrx1-organelles",
            "features": "pci-conv4,paired-contrastive-embedding,autoencoder-conv3,efficientnet-lite0-block5,classic-haralick,deeploc-fc2,"
            "marker-only,intensity,context,noise",
        },
        {"organelles-backgrounds": "backgrounds-rxrx1-organelles-other-cell_lines"},
    ),
    "postprocessing": ({"dataset": "rxrx1-organelles", "features": NINE}, {"organelles-ranks": "rank-changes-2"}),
    "why-maps": ({"dataset": "rxrx1-organelles", "set": "classes=2"}, {"organelles-why": "why-rxrx1-organelles"}),
    "yeast-umap": ({"dataset": "yeast-sim"}, {"yeast-sim-umap": "umap-yeast-sim"}),
    "yeast-screens": ({}, {"yeast-screens": "protein-umap-yeast-sim-yeast-sim-train"}),
    "human-distances": (
        {"dataset": "human-sim"},
        {"human-sim-distances": "distances-human-sim", "human-sim-distances-terms": "distances-human-sim-terms"},
    ),
    "human-cell-lines": ({"dataset": "human-sim"}, {"human-sim-cell-lines": "cell-lines-human-sim"}),
    "human-proteome": (
        {"dataset": "human-sim", "features": "pci-conv3"},
        {
            "human-sim-proteome": "proteome-human-sim-pci-conv3@human-sim-k=13-subclusters=27",
            "human-sim-vesicles": "proteome-human-sim-pci-conv3@human-sim-vesicles-k=3",
        },
    ),
    "human-multilocalization": (
        {"dataset": "human-sim", "features": "pci-conv3,classic-haralick,noise"},
        {
            "human-sim-multilocalization": "multi-localization-cytosol-nucleoplasm-human-sim-other-proteins",
            "human-sim-variable-images": "multi-localization-cytosol-nucleoplasm-human-sim-other-proteins-images",
        },
    ),
    "human-single-cell": (
        {"dataset": "human-sim"},
        {"human-sim-single-cell": "cells-of-H0091-pci-conv3@human-sim-human-sim"},
    ),
    "inpainting": ({"dataset": "human-sim"}, {"human-sim-inpainting": "inpainting-human-sim-human-sim"}),
}

# Pixels across of what is quantized as a chart.
CHARTS = {
    "organelles-knn": WIDEST,
    "ladder": 1100,
    "calibration": 1100,
    "label-efficiency": 1100,
    "robustness": 1100,
    "confounders": 1100,
    "postprocessing": 1100,
    "why-maps": 750,
}


def shrunk(source: Path, target: Path, *, chart: int = 0) -> int:
    """Write a picture with at most `WIDEST` pixels across, a chart with at most so many, and `MOST_BYTES`; return its bytes."""
    with Image.open(source) as opened:
        picture = opened.convert("RGB")
    width = min(chart or WIDEST, picture.width)
    while True:
        scaled = picture.resize((width, round(picture.height * width / picture.width)), Image.Resampling.LANCZOS)
        (_even_colours if chart else _colours)(scaled).save(target, optimize=True)
        if (size := target.stat().st_size) <= MOST_BYTES:
            return size
        width = round(0.9 * width)


def _colours(picture: Image.Image) -> Image.Image:
    return picture.quantize(256, dither=Image.Dither.NONE)


def _even_colours(picture: Image.Image) -> Image.Image:
    """Return a picture in colours of an even grid, so that thin lines keep theirs beside wide bands."""
    return picture.quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)


def photographed() -> None:
    """Write the report of a run as it looks on a desktop and on a phone."""
    from playwright.sync_api import sync_playwright

    from pci_bench.reporting.html import write_report

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        pci_bench.run("yeast-knn", dataset="yeast-sim", out=Path(folder, "yeast-knn"))
        report = write_report(Path(folder, "yeast-knn"))
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"]
        )
        for name, (width, height, link) in SCREENS.items():
            page = browser.new_page(viewport={"width": width, "height": height}, reduced_motion="reduce")
            page.goto(report.as_uri())
            page.wait_for_selector("html[data-ready]")
            page.wait_for_selector(".ranked svg")
            if link:
                page.get_by_role("link", name=link, exact=True).click()
                page.wait_for_timeout(1000)  # crops are decoded after the section comes into view
            shot = Path(folder, f"{name}.png")
            page.screenshot(path=shot)
            print(f"{name}.png: {shrunk(shot, IMAGES / f'{name}.png') / 1000:.0f} KB", flush=True)
        browser.close()


def drawn_cells(across: int = 12, down: int = 2, enlarged: int = 2) -> None:
    """Write a picture of real cells: antibody in green, nucleus in blue, microtubules in red."""
    cells = pci_bench.load_dataset("toy-human")
    colours = [[channel.name for channel in cells.channels].index(n) for n in ("microtubules", "antibody", "nucleus")]
    chosen = cells.crops(np.linspace(0, len(cells) - 1, across * down).round().astype(int))[:, colours]
    size = cells.crop_shape[0]
    rows = chosen.reshape(down, across, 3, size, size).transpose(0, 3, 1, 4, 2).reshape(down * size, across * size, 3)
    picture = Image.fromarray((255 * rows).round().astype(np.uint8))
    file = IMAGES / "real-cells.png"
    picture.resize((enlarged * picture.width, enlarged * picture.height), Image.Resampling.BICUBIC).save(file)
    print(f"real-cells.png: {shrunk(file, file) / 1000:.0f} KB", flush=True)


SEVEN = "paired-contrastive-embedding,pci-conv4,classic-haralick,intensity,autoencoder-conv4,efficientnet-lite0-block5,pci-random-conv4"


def drawn_ladder() -> None:
    """Write the front page's figure: seven feature sets on real cells, from all neighbours to those of other cell lines only."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    kept = {"k": 11, "subset": "crowded=no", "candidates": "all"}
    results = [
        result
        for result in pci_bench.run("organelles-knn", features=SEVEN, k=11)
        if kept.items() <= result.evaluator.params.items() and result.evaluator.params["exclude"] != "field"
    ]
    figure, axes = plt.subplots(figsize=(7.5, 4))
    pci_bench.plot.ladder(results, ax=axes)
    axes.set_title("Organelle of real human cells (RxRx1 without HepG2), kNN with k = 11", loc="left")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "ladder.png")
        figure.savefig(file, dpi=150, bbox_inches="tight")
        print(f"organelles-ladder.png: {shrunk(file, IMAGES / 'organelles-ladder.png') / 1000:.0f} KB", flush=True)


def drawn_backgrounds(cells_shown: int = 3, enlarged: int = 2) -> None:
    """Write simulated cells, protein in green and marker in magenta: as they are, then on each of the other backgrounds, a row for a cell."""
    from pci_bench.data.backgrounds import BACKGROUNDS, BackgroundSwap, drawn_donors, regions_of
    from pci_bench.data.observations import obs_codes, obs_strings

    cells = pci_bench.load_dataset("yeast-sim")
    labels, images = obs_codes(cells.obs, "label"), obs_codes(cells.obs, "image")
    nothing = np.zeros(len(cells), int)
    same, other = drawn_donors(obs_strings(cells.obs, "cell"), labels, images, nothing, regions_of(cells, 0)[0])
    crowded = np.argsort([len(np.unique(mask)) for mask in cells.crops(slice(None), masks=True)[:, -1]])[-200:]
    chosen = [next(i for i in crowded if labels[i] == label) for label in np.unique(labels[crowded])[:cells_shown]]
    swaps = [BackgroundSwap(b, other if b == "other class" else same) for b in BACKGROUNDS]
    columns = [cells, *(pci_bench.changed(cells, swap) for swap in swaps)]
    protein = [c.role for c in cells.channels].index("protein")
    rows = []
    for cell in chosen:
        crops = np.concatenate([column.crops([cell]) for column in columns])
        planes = np.stack([crops[:, 1 - protein], crops[:, protein], crops[:, 1 - protein]], axis=-1)
        rows.append(np.concatenate(list(np.pad(planes, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=1)), axis=1))
    picture = Image.fromarray((255 * np.concatenate(rows)).round().astype(np.uint8))
    picture = picture.resize((enlarged * picture.width, enlarged * picture.height), Image.Resampling.NEAREST)
    file = IMAGES / "backgrounds.png"
    picture.quantize(48, dither=Image.Dither.NONE).save(file, optimize=True)
    print(f"backgrounds.png: {file.stat().st_size / 1000:.0f} KB", flush=True)


def main(asked: list[str]) -> None:
    """Run the benchmarks that are asked for, or all, and write their pictures."""
    others = {
        "report": photographed,
        "real-cells": drawn_cells,
        "ladder": drawn_ladder,
        "backgrounds": drawn_backgrounds,
    }
    if unknown := [name for name in asked if name not in (*PICTURES, *others)]:
        sys.exit(f"The gallery shows nothing of {', '.join(unknown)}. It shows {', '.join((*PICTURES, *others))}.")
    for benchmark in asked or [*PICTURES, *others]:
        if benchmark in others:
            others[benchmark]()
            continue
        options, pictures = PICTURES[benchmark]
        arguments = {name: value.split(",") for name, value in options.items() if name != "set"}
        parameters: dict[str, list[str]] = {}
        for text in filter(None, options.get("set", "").split(",")):
            name, _, value = text.partition("=")
            parameters.setdefault(name, []).append(value)
        with tempfile.TemporaryDirectory() as folder:
            output = pci_bench.run(benchmark, out=folder, parameters=parameters, **arguments)
            drawn = {file.stem: file for file in output.figures if file.suffix == ".png"}
            for name, stem in pictures.items():
                if stem not in drawn:
                    sys.exit(f"{benchmark} drew no figure {stem}; it drew {', '.join(drawn)}.")
                size = shrunk(drawn[stem], IMAGES / f"{name}.png", chart=CHARTS.get(benchmark, 0))
                print(f"{name}.png: {size / 1000:.0f} KB", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])

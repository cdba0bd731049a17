"""The model card of trained weights: what they were trained on, how, how long, and the curve."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from pci_bench.system.files import json_text
from pci_bench.system.machine import versions
from pci_bench.system.text import markdown, plot_text

TRAINED_NETWORK = "the trained network, weights rounded to float16"  # among the references; the curve ends there


def card_of(weights: Path, facts: dict[str, Any]) -> dict[str, bytes]:
    """Return what stands beside a weights file, by suffix: the numbers, the curve and the card."""
    return {
        ".json": json_text({**facts, "versions": versions()}).encode(),
        ".png": _curve(facts),
        ".md": card_text(weights, facts).encode(),
    }


def card_text(weights: Path, facts: dict[str, Any]) -> str:
    """Return the card as Markdown."""
    dataset, recipe, last = facts["dataset"], facts["recipe"], facts["history"][-1]
    seen = recipe["epochs"] * (dataset["trained_on"] // recipe["batch"]) * recipe["batch"]
    each = facts.get("crops_each", 1)  # older cards do not say it: one
    crops = f" ({each} crops each: {each * seen:,})" if each > 1 else ""
    losses = [
        f"| held-out loss ({facts.get('loss', 'mean squared error')}) | |",
        "|---|---|",
        *[f"| {what} | {value:.5f} |" for what, value in facts["references"].items()],
        "",
    ]
    lines = [
        f"# {markdown(facts['model'])}@{markdown(facts['name'])}",
        "",
        f"Trained on {markdown(dataset['name'])} {dataset['version']} (sha256 `{dataset['sha256']}`), {dataset['trained_on']:,} of "
        f"{dataset['n_cells']:,} cells, {dataset.get('held_out', 'the rest held out by image')}: {recipe['epochs']} epochs, {seen:,} cells seen in all{crops}, "
        f"{facts['seconds'] / 60:.1f} minutes on {facts['device']} ({facts['threads']} threads), "
        f"{last['pairs_per_second']:.0f} per second.",
        "",
        f"Recipe: {', '.join(f'{k} {v}' for k, v in recipe.items())}. Weights are rounded to float16 as the last step.",
        "",
        *([f"Licence of the images: {markdown(dataset['licence'])}.", ""] if dataset.get("licence") else []),
        *(losses if facts["references"] else []),
        *[f"Held-out {what.replace('_', ' ')}: {value:.3f}.\n" for what, value in facts.get("measured", {}).items()],
        f"![Loss curve]({weights.with_suffix('.png').name})",
        "",
    ]
    return "\n".join(lines)


def _curve(facts: dict[str, Any]) -> bytes:
    """Return a PNG of training and held-out loss by epoch, with the references as lines."""
    from pci_bench.system.drawing import COLOURS, FAINT, INK, new_figure

    figure = new_figure(6.4, 3.6)
    axes = figure.subplots()
    epochs = range(1, len(facts["history"]) + 1)
    axes.plot(epochs, [h["loss"] for h in facts["history"]], color=COLOURS[4], label="training")
    if held_out := [h["validation_loss"] for h in facts["history"] if "validation_loss" in h]:
        axes.plot(epochs, held_out, color=COLOURS[0], marker=".", label="held-out images")
    for number, (what, value) in enumerate(facts["references"].items()):
        if what == TRAINED_NETWORK:
            continue
        axes.axhline(value, color=COLOURS[(1, 5)[number % 2]], linewidth=1, linestyle=(0, (5, 3)), label=what)
    axes.set_xlabel("epoch", fontsize=8.5)
    axes.set_ylabel(facts.get("loss", "mean squared error"), fontsize=8.5)
    axes.set_yscale("log")
    axes.set_title(plot_text(f"{facts['model']}@{facts['name']}: loss"), fontsize=9.5, loc="left")
    axes.legend(frameon=False, fontsize=8)
    axes.grid(color=FAINT, linewidth=0.6, which="both")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8, colors=INK, which="both")
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=150, metadata={"Software": None}, format="png")
    return drawn.getvalue()

"""The supervised upper bound on the simulated yeast: what `penetrance` in yeast_sim.toml was set on.

    python speed/calibrate_simulation.py [--epochs 6] [--width 16] [--cells N] [--seed 0] [--penetrance LOW HIGH]

A small network learns the labels of yeast-sim-train, and its balanced accuracy on yeast-sim (other proteins, other settings
of the microscope) is printed after every epoch. No unsupervised feature is computed here, and none was looked at. With
--penetrance the cells are drawn anew at that setting and kept nowhere.
"""

import argparse
import time

import numpy as np

ONE_CYCLE_PEAK = 4e-3


def read(screen: str, penetrance: list[float] | None) -> tuple[np.ndarray, np.ndarray]:
    """Return crops (n, 2, 64, 64) float16, each channel from 0 to 1, and labels (n,)."""
    from pci_bench import load_dataset
    from pci_bench.data.cells import rescaled
    from pci_bench.datasets import yeast_sim

    if penetrance is None:
        cells = load_dataset(screen)
    else:
        proteins = yeast_sim.SETTINGS["proteins"]
        proteins = {**proteins, "default": {**proteins["default"], "penetrance": penetrance}}
        settings = {**yeast_sim.SETTINGS, "proteins": proteins}
        cells = yeast_sim.simulate(screen, yeast_sim.plan(screen, settings), settings)
    crops, labels = cells.stored(slice(None)), cells.obs["label"].astype(str).to_numpy()
    parts = [
        rescaled(crops[i : i + 1024], cells.channels, "minmax").astype(np.float16) for i in range(0, len(crops), 1024)
    ]
    return np.concatenate(parts), labels


def network(width: int, classes: int):
    """Return five 3×3 convolutions (batch norm, ReLU, pooling) and a linear layer on mean and maximum over space."""
    import torch
    from torch import nn

    class MeanAndMaximum(nn.Module):
        def forward(self, x):
            return torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))], dim=1)

    def block(a: int, b: int) -> list[nn.Module]:
        return [nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU(inplace=True)]

    w = width
    return nn.Sequential(
        *block(2, w), nn.MaxPool2d(2), *block(w, 2 * w), *block(2 * w, 2 * w), nn.MaxPool2d(2),
        *block(2 * w, 4 * w), *block(4 * w, 4 * w), nn.MaxPool2d(2), *block(4 * w, 8 * w),
        MeanAndMaximum(), nn.Linear(16 * w, classes),
    )  # fmt: skip


def turned(x, rng: np.random.Generator):
    """Return a batch flipped or turned by a multiple of 90°, one way for each quarter of it."""
    import torch

    quarters = []
    for quarter in torch.chunk(x, 4):
        quarter = torch.rot90(quarter, int(rng.integers(4)), (2, 3))
        quarters.append(quarter.flip(3) if rng.integers(2) else quarter)
    return torch.cat(quarters)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--cells", type=int, help="train on so many cells only")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--penetrance", type=float, nargs=2, metavar=("LOW", "HIGH"))
    options = parser.parse_args()
    import torch
    from sklearn.metrics import balanced_accuracy_score, recall_score

    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    rng = np.random.default_rng(options.seed)
    (x, labels), (test, test_labels) = (read(s, options.penetrance) for s in ("yeast-sim-train", "yeast-sim"))
    classes, y = np.unique(labels, return_inverse=True)
    truth = np.searchsorted(classes, test_labels)
    if options.cells:
        chosen = np.sort(rng.permutation(len(x))[: options.cells])
        x, y = x[chosen], y[chosen]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = network(options.width, len(classes)).to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=ONE_CYCLE_PEAK, weight_decay=1e-2)
    steps = len(x) // options.batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, ONE_CYCLE_PEAK, total_steps=options.epochs * steps, pct_start=0.2
    )
    start = time.perf_counter()
    for epoch in range(options.epochs):
        model.train()
        total = 0.0
        for batch in rng.permutation(len(x))[: steps * options.batch].reshape(steps, -1):
            images = turned(torch.from_numpy(x[batch].astype(np.float32)), rng)
            images = images.to(device, memory_format=torch.channels_last)
            loss = torch.nn.functional.cross_entropy(
                model(images), torch.from_numpy(y[batch]).to(device), label_smoothing=0.05
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        model.eval()
        with torch.no_grad():
            parts = [
                torch.from_numpy(test[i : i + 256].astype(np.float32)).to(device) for i in range(0, len(test), 256)
            ]
            predicted = np.concatenate([model(part).argmax(dim=1).cpu().numpy() for part in parts])
        print(
            f"epoch {epoch + 1}/{options.epochs}: loss {total / steps:.3f}, balanced accuracy on yeast-sim "
            f"{balanced_accuracy_score(truth, predicted):.3f}, {time.perf_counter() - start:.0f} s",
            flush=True,
        )
    for name, recall in zip(classes, recall_score(truth, predicted, average=None), strict=True):
        wrong = predicted[(truth == np.searchsorted(classes, name)) & (predicted != truth)]
        most = classes[np.bincount(wrong, minlength=len(classes)).argmax()] if wrong.size else "—"
        print(f"{name:18} {recall:.2f}  most often taken for {most}")


if __name__ == "__main__":
    main()

"""Two processes of test_parallel_training.py, as torchrun would start them: ``python parallel_worker.py FOLDER PORT``."""

import faulthandler
import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy as np
import torch
import torch._dynamo  # DistributedDataParallel would import it in both processes
from test_training import SMALL, make_cells

from pci_bench import ModelMeta, UserError, register_model
from pci_bench.api.model import MODELS
from pci_bench.system.progress import Progress
from pci_bench.training import loop
from pci_bench.training.objectives import reconstruction
from pci_bench.training.objectives.contrastive import ContrastiveModel
from pci_bench.training.parallel import piece, started
from pci_bench.training.synchronised import synchronise

UNEVEN = SMALL.model_copy(update={"batch": 9, "epochs": 2})  # 4 and 5 pairs; five steps in an epoch
BRIEF = SMALL.model_copy(update={"epochs": 1, "precision": "bfloat16"})
STOPS_AT = 7  # steps: in the second epoch
ONE_STEP = ["pci", "pci-several-sources", "pci-adversarial", "contrastive", "plate-contrastive", "self-distillation"]


@contextmanager
def in_float64() -> Iterator[None]:
    """Train in float64 within a block: what then differs by more than 1e-12 is no matter of rounding."""
    original, kind = reconstruction.tensor, torch.get_default_dtype()

    def tensor(array: np.ndarray, device: str) -> torch.Tensor:
        found = original(array, device)
        return found.double() if found.is_floating_point() else found

    def loss(self, network, batch):
        return torch.nn.functional.mse_loss(*self.model.predict(network, *batch))

    torch.set_default_dtype(torch.float64)
    try:
        with (
            mock.patch.object(loop, "tensor", tensor),
            mock.patch.object(reconstruction, "tensor", tensor),
            mock.patch.object(reconstruction.Reconstruction, "loss", loss),
        ):
            yield
    finally:
        torch.set_default_dtype(kind)


@contextmanager
def interrupted_after(steps: int, act) -> Iterator[None]:
    """Keep every step of a training in a block, and act in its `steps`-th."""
    original, done = loop._step, []

    def step(run, arrays):
        done.append(1)
        if len(done) == steps:
            act()
        return original(run, arrays)

    with mock.patch.object(loop, "_step", step), mock.patch.object(loop, "SECONDS_PER_CHECKPOINT", -1.0):
        yield


def normalised(crops: np.ndarray, weights: np.ndarray) -> dict[str, list]:
    """Return what a batch norm makes of crops, its gradients under a weighted sum, and its statistics."""
    layer = torch.nn.BatchNorm2d(crops.shape[1], eps=1e-3, momentum=0.01).double()
    network = torch.nn.Sequential(layer)
    if started().count > 1:
        synchronise(network)
    x = torch.from_numpy(crops).requires_grad_()
    out = network(x)
    (out.square() * torch.from_numpy(weights)).sum().backward()
    gradients = {"gradient": x.grad, "weight gradient": layer.weight.grad, "bias gradient": layer.bias.grad}
    found = {"out": out, **gradients, **layer.state_dict()}
    return {name: value.detach().tolist() for name, value in found.items()}


def crops_and_weights() -> tuple[np.ndarray, np.ndarray]:
    """Return crops far from zero, and weights, of five cells."""
    rng = np.random.default_rng(0)
    return rng.normal(5, 2, (5, 3, 4, 4)), rng.normal(size=(5, 3, 4, 4))


def one_step(model: str) -> dict[str, list]:
    """Return the loss of a model's first batch, and by what it changes each parameter and each running statistic under plain gradient descent."""
    cells = make_cells()
    cells.obs["plate"] = [f"plate {i % 2}" for i in range(len(cells))]
    batch = 18 if model == "pci-several-sources" else 9  # of two sources for each target
    run = loop._Training(
        model,
        MODELS.get(model),
        cells,
        loop.recipe_of(model, width=1 / 24, batch=batch),
        "",
        (),
        Progress(),
        started(),
        "cpu",
    )
    run.objective = run.trainable.objective(cells, run.recipe, run.progress)
    loop._build(run)
    run.learner.train()
    run.optimizer = torch.optim.SGD(run.network.parameters(), lr=1.0)
    before = {name: value.clone() for name, value in run.network.state_dict().items()}
    loss = float(loop._step(run, run.objective.batches(cells.stored(slice(None)), 0)._prepared_batch(0)))
    after = run.network.state_dict()
    return {"loss": [loss], **{name: (after[name] - before[name]).flatten().tolist() for name in before}}


class Alone(ContrastiveModel):
    """A loss that compares cells and gathers none."""

    meta = ModelMeta("alone", "1", "Compares the cells of one process", pairs=False)
    gathers = False

    def build(self, channels, width, classes=()):
        network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
        network.config = {}
        return network


class Idle(reconstruction.ReconstructionModel):
    """A network with parameters that nothing is computed from."""

    meta = ModelMeta("idle", "1", "Half of it learns nothing", pairs=False)

    def build(self, channels, width, classes=()):
        network = torch.nn.ModuleList(torch.nn.Conv2d(len(channels), len(channels), 1) for _ in range(2))
        network.config = {}
        return network

    def predict(self, network, source, target):
        return network[0](source), source


def refusal(model: str) -> str:
    """Return with which sentence a training is refused."""
    try:
        loop.train(model, make_cells(), SMALL, name="refused")
    except UserError as error:
        return str(error)
    return "it is not"


def work(folder: Path) -> None:
    """Do all that is seen in two processes, and write it down; then the second is killed within a training."""
    processes, found = started(), {}
    with processes.together("cpu"):
        found["norm"] = normalised(*piece(crops_and_weights(), processes.rank, 2))
        found["steps"] = {model: one_step(model) for model in ONE_STEP}
    with in_float64():
        found["history"] = loop.train("pci", make_cells(), UNEVEN, name="two").history
        found["resumed"] = loop.train("pci", make_cells(), UNEVEN, name="begun", resume=True).history
    found["bfloat16"] = loop.train("pci", make_cells(), BRIEF, name="two-bfloat16").history
    for model in (Alone, Idle):
        register_model(model.meta.name)(model)
        found[model.meta.name] = refusal(model.meta.name)
    (folder / f"{processes.rank}.json").write_text(json.dumps(found))
    with in_float64(), interrupted_after(STOPS_AT, lambda: processes.first or os.kill(os.getpid(), signal.SIGKILL)):
        loop.train("pci", make_cells(), UNEVEN, name="parts")


def main(folder: Path, port: str) -> None:
    """Become the first process and start the second: by a fork, which need not import torch again."""
    os.environ |= {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "GLOO_SOCKET_IFNAME": "lo"}
    rank = int(os.fork() == 0)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    faulthandler.dump_traceback_later(240, exit=True)  # a hang says where
    try:
        work(folder)
    except UserError as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])

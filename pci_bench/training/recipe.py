"""The numbers of a training; the defaults are the paper's and its authors' code's, for paired cell inpainting."""

from __future__ import annotations

import math
from typing import Literal

import pydantic

from pci_bench.system.arguments import MAX_SEED

DECAY, DECAY_STEPS = 0.96, 25  # of the exponential schedule (Kraus et al. 2017)


class Recipe(pydantic.BaseModel):
    """The numbers of a training; the defaults are the paper's and its authors' code's, for paired cell inpainting.

    ``precision`` is that of products and convolutions while training (sums, the loss, the optimizer and the held-out loss are
    in float32 always): ``"auto"`` is bfloat16 on a GPU that has it, and float32 elsewhere.

    ``accumulate`` is the number of slices in which a batch passes through the network, their gradients added up before each step:
    for batches that do not fit in memory.

    A model's own defaults are in its ``meta.recipe``; :func:`pci_bench.training.loop.recipe_of` joins them with what a user wants otherwise.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    epochs: int = pydantic.Field(30, ge=1, le=100_000)
    width: float = pydantic.Field(1.0, gt=0, le=4)
    batch: int = pydantic.Field(64, ge=1, le=65_536)
    accumulate: int = pydantic.Field(1, ge=1, le=65_536)
    learning_rate: float = pydantic.Field(1e-4, gt=0, le=10)
    schedule: Literal["constant", "cosine", "exponential"] = "constant"
    beta1: float = pydantic.Field(0.5, ge=0, lt=1)
    beta2: float = pydantic.Field(0.999, ge=0, lt=1)
    epsilon: float = pydantic.Field(1e-8, gt=0, le=1)
    order: Literal["shuffled", "stored"] = "shuffled"
    held_out: float = pydantic.Field(0.05, ge=0, lt=1)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    seed: int = pydantic.Field(0, ge=0, le=MAX_SEED)

    def rate(self, step: int, steps: int) -> float:
        """Return the learning rate at a step of `steps`.

        Cosine starts with a warm-up over the first 2 %; exponential falls by 4 % after every 25 steps, however many there are.
        """
        if self.schedule == "constant":
            return self.learning_rate
        if self.schedule == "exponential":
            return self.learning_rate * DECAY ** (step // DECAY_STEPS)
        warm = max(1, steps // 50)
        return self.learning_rate * min(1, (step + 1) / warm) * 0.5 * (1 + math.cos(math.pi * step / steps))

"""Student and teacher of self-distillation: the teacher's weights are a moving mean of the student's."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from pci_bench.training.synchronised import gathered

from .projected import Projected

STUDENT_TEMPERATURE, TEACHER_TEMPERATURE = 0.1, 0.04
TEACHER_MOMENTUM, CENTRE_MOMENTUM = 0.99, 0.9
BOTTLENECK = 64


class _Prototypes(nn.Module):
    """The cosine of vectors with each of some directions. (b, d) -> (b, prototypes)."""

    def __init__(self, inputs: int, prototypes: int):
        super().__init__()
        self.directions = nn.Linear(inputs, prototypes, bias=False)

    def forward(self, vectors: Tensor) -> Tensor:
        with torch.autocast(vectors.device.type, enabled=False):
            return F.linear(F.normalize(vectors.float()), F.normalize(self.directions.weight))


class Distilled(nn.Module):
    """A student and a teacher of the same form, the source cell encoder with a head and prototypes.

    Parameters
    ----------
    channels, width
        As of the encoder.
    prototypes
        Among which both distribute a view.
    """

    centre: Tensor

    def __init__(self, channels: int, width: float, prototypes: int):
        super().__init__()
        self.config = {"channels": channels, "width": width, "prototypes": prototypes}
        self.student = nn.Sequential(Projected(channels, width, BOTTLENECK), _Prototypes(BOTTLENECK, prototypes))
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.register_buffer("centre", torch.zeros(prototypes))

    def loss(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the mean cross-entropy between the teacher's distribution of one view and the student's of the other.

        While training, the teacher is moved towards the student before each batch, and the centre towards the batch's mean after it.
        """
        if self.training:
            self._follow()
        both = torch.cat([first, second])
        student = self.student(both) / STUDENT_TEMPERATURE
        with torch.no_grad():
            teacher = self.teacher(both)
            wanted = F.softmax((teacher - self.centre) / TEACHER_TEMPERATURE, dim=1).roll(len(first), dims=0)
            if self.training:
                self.centre.lerp_(gathered(teacher).mean(dim=0), 1 - CENTRE_MOMENTUM)
        return -(wanted * F.log_softmax(student, dim=1)).sum(dim=1).mean()

    @torch.no_grad()
    def _follow(self) -> None:
        for old, new in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
            old.lerp_(new, 1 - TEACHER_MOMENTUM)

    def distribution(self, views: Tensor) -> Tensor:
        """Return the teacher's mean distribution over prototypes (prototypes,), to see whether it collapsed."""
        return F.softmax((self.teacher(views) - self.centre) / TEACHER_TEMPERATURE, dim=1)

"""Modules of a training in several processes: the loss as a module, and batch norm over the batch of all processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, distributed, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from pci_bench.errors import UserError
from pci_bench.training.parallel import started

if TYPE_CHECKING:
    from pci_bench.api.model import Objective


class LossOf(nn.Module):
    """A network under its objective, whose output is the mean loss of a batch: what DistributedDataParallel can wrap, whichever parts of the network the loss calls."""

    def __init__(self, objective: Objective, network: nn.Module):
        super().__init__()
        self.objective, self.network = objective, network

    def forward(self, *batch: Tensor) -> Tensor:
        """Return the mean loss of a batch."""
        return self.objective.loss(self.network, batch)


class _Sum(torch.autograd.Function):
    """The sum of the processes' tensors; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        summed = value.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(summed)
        return summed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        summed: Tensor = _Sum.apply(gradients[0])  # type: ignore[no-untyped-call]
        return summed


def gathered(own: Tensor) -> Tensor:
    """Return the rows of all processes, those of the first process first; gradients go back to the process of each row.

    A loss that is computed from them is the same in every process, and its gradients are those of one process with the whole batch.

    Parameters
    ----------
    own
        The rows of this process (n, …), which may be more or fewer than another's; numbers of any kind.

    Examples
    --------
    >>> gathered(torch.arange(3))  # in one process
    tensor([0, 1, 2])
    """
    processes = started()
    if processes.count == 1:
        return own
    counts = torch.zeros(processes.count, dtype=torch.int64, device=own.device)
    counts[processes.rank] = len(own)
    distributed.all_reduce(counts)
    before, _, after = (int(part.sum()) for part in counts.tensor_split([processes.rank, processes.rank + 1]))
    rows = torch.cat([own.new_zeros(before, *own.shape[1:]), own, own.new_zeros(after, *own.shape[1:])])
    summed: Tensor = _Sum.apply(rows)  # type: ignore[no-untyped-call]
    return summed


class _Normalisation(torch.autograd.Function):
    """Batch norm by the mean and variance of all processes' cells, and both: (normalised, mean, variance with n − 1)."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        axes, shape = _of_channels(values)
        sums = values.sum(axes, dtype=torch.float64)
        sums = _summed(torch.cat([sums, sums.new_tensor([values.numel() / values.shape[1]])]))
        mean, count = sums[:-1] / sums[-1], sums[-1]
        centred = values - mean.to(values.dtype).view(shape)
        squares = _summed(centred.square().sum(axes, dtype=torch.float64))
        scale = torch.rsqrt(squares / count + eps).to(values.dtype)
        normalised = centred.mul_(scale.view(shape))
        ctx.save_for_backward(normalised, weight, scale, count)
        variance = squares / (count - 1)
        ctx.mark_non_differentiable(mean, variance)
        return torch.addcmul(bias.view(shape), normalised, weight.view(shape)), mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        normalised, weight, scale, count = ctx.saved_tensors
        gradient = gradients[0]
        axes, shape = _of_channels(gradient)
        of_bias = gradient.sum(axes, dtype=torch.float64)
        of_weight = (gradient * normalised).sum(axes, dtype=torch.float64)
        means = (_summed(torch.stack([of_bias, of_weight])) / count).to(gradient.dtype)
        through = torch.addcmul(gradient - means[0].view(shape), normalised, means[1].view(shape), value=-1)
        of_values = through.mul_((weight * scale).view(shape))
        return of_values, of_weight.to(weight.dtype), of_bias.to(weight.dtype), None


def _summed(value: Tensor) -> Tensor:
    """Return the sum of the processes' tensors, in place and without a gradient."""
    distributed.all_reduce(value)
    return value


def _of_channels(values: Tensor) -> tuple[list[int], list[int]]:
    """Return the axes that a channel's statistics go over, and the shape of numbers by channel beside the values."""
    return [0, *range(2, values.ndim)], [1, -1, *[1] * (values.ndim - 2)]


class _Synchronised(_BatchNorm):
    """Batch norm whose statistics, while training, are of the cells of all processes; on any device, unlike torch's own.

    Mean and variance are summed in two passes, in float64: a mean of equal numbers must be that number, since a ReLU that follows
    tells zero from nearly zero.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        self._check_input_dim(input)  # type: ignore[no-untyped-call]
        values = input.to(torch.promote_types(input.dtype, torch.float32))
        channels = values.shape[1]
        weight: Tensor = self.weight if self.affine else values.new_ones(channels)
        bias: Tensor = self.bias if self.affine else values.new_zeros(channels)
        normalised, mean, variance = _Normalisation.apply(values, weight, bias, self.eps)  # type: ignore[no-untyped-call]
        self._remember(mean, variance)
        found: Tensor = normalised.to(input.dtype)
        return found

    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics as torch's batch norm does."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
            self.running_var.lerp_(variance.to(self.running_var.dtype), share)


class _Synchronised1d(_Synchronised, nn.BatchNorm1d):
    pass


class _Synchronised2d(_Synchronised, nn.BatchNorm2d):
    pass


class _Synchronised3d(_Synchronised, nn.BatchNorm3d):
    pass


SYNCHRONISED: dict[type, type] = {
    nn.BatchNorm1d: _Synchronised1d,
    nn.BatchNorm2d: _Synchronised2d,
    nn.BatchNorm3d: _Synchronised3d,
}


def synchronise(network: nn.Module) -> None:
    """Make every batch norm of a network take the statistics of all processes' cells; parameters and names stay as they are.

    Raises
    ------
    UserError
        For a batch norm of another class, which cannot be known to allow that.
    """
    for module in network.modules():
        if not isinstance(module, _BatchNorm) or isinstance(module, nn.SyncBatchNorm):
            continue
        if type(module) not in SYNCHRONISED:
            raise UserError(
                f"The network has a batch norm of a class of its own ({type(module).__name__}), whose statistics would be of each "
                "process's cells only. Train it in one process."
            )
        module.__class__ = SYNCHRONISED[type(module)]


def has_batch_norm(network: nn.Module) -> bool:
    """Return whether a network learns with statistics of its batches.

    Examples
    --------
    >>> has_batch_norm(nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1)))
    True
    """
    return any(isinstance(module, _BatchNorm) for module in network.modules())

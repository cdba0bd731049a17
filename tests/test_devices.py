"""Which device is used: what is asked for, the one GPU of several, and a sentence where it is not there."""

from __future__ import annotations

import pytest

from pci_bench import UserError
from pci_bench.system.devices import resolve_device


@pytest.fixture
def gpus(monkeypatch):
    """A function that makes torch see so many GPUs."""
    import torch

    def see(count: int) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    return see


@pytest.mark.parametrize(
    ("device", "resolved"), [("auto", "cuda"), ("cuda", "cuda"), ("cuda:1", "cuda:1"), ("cpu", "cpu")]
)
def test_one_of_several_gpus_is_taken_by_its_number(gpus, device, resolved):
    gpus(2)
    assert resolve_device(device) == resolved


def test_without_a_gpu_auto_is_the_processor(gpus):
    gpus(0)
    assert resolve_device("auto") == "cpu"


@pytest.mark.parametrize(
    ("count", "device", "sentence"),
    [
        (0, "cuda", "There is no CUDA device"),
        (0, "cuda:0", "There is no CUDA device"),
        (1, "cuda:1", "torch sees cuda:0 alone"),
        (2, "cuda:2", "torch sees cuda:0 to cuda:1"),
        (2, "cuda:-1", "There is no device 'cuda:-1'"),
        (2, "gpu", "There is no device 'gpu'"),
    ],
)
def test_a_device_that_is_not_there_is_a_sentence(gpus, count, device, sentence):
    gpus(count)
    with pytest.raises(UserError, match=sentence):
        resolve_device(device)

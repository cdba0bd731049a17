"""Selection of the device (CPU or GPU) and its name for people."""

from __future__ import annotations

import re
from pathlib import Path

from pci_bench.errors import UserError


def resolve_device(device: str) -> str:
    """Return ``"cpu"``, ``"cuda"`` or ``"cuda:1"`` for one of these or ``"auto"``.

    Raises
    ------
    UserError
        Where CUDA, or a CUDA device of that number, is asked for and there is none.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", device):
        raise UserError(f"There is no device '{device}'. Use auto, cpu, cuda or, of several, cuda:0, cuda:1 and so on.")
    if device == "cpu":
        return "cpu"
    import torch

    if not torch.cuda.is_available():
        if device == "auto":
            return "cpu"
        raise UserError("There is no CUDA device, or this torch was built without CUDA. Use --device cpu.")
    number, count = int(device.partition(":")[2] or 0), torch.cuda.device_count()
    if number >= count:
        last = f"cuda:0 to cuda:{count - 1}" if count > 1 else "cuda:0 alone"
        raise UserError(f"There is no device '{device}': torch sees {last}.")
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    return "cuda" if device == "auto" else device


def device_name(device: str) -> str:
    """Return what the numbers were computed on, as a person would say it."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    import platform

    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()

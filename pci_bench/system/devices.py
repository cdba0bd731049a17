"""Selection of the device (CPU or GPU) and its name for people."""

from __future__ import annotations

from pathlib import Path

from pci_bench.errors import UserError


def resolve_device(device: str) -> str:
    """Return ``"cpu"`` or ``"cuda"`` for ``"auto"``, ``"cpu"`` or ``"cuda"``.

    Raises
    ------
    UserError
        Where CUDA is asked for and there is none.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise UserError(f"There is no device '{device}'. Use auto, cpu or cuda.")
    if device == "cpu":
        return "cpu"
    import torch

    if torch.cuda.is_available():
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        return "cuda"
    if device == "cuda":
        raise UserError("There is no CUDA device, or this torch was built without CUDA. Use --device cpu.")
    return "cpu"


def device_name(device: str) -> str:
    """Return what the numbers were computed on, as a person would say it."""
    if device == "cuda":
        import torch

        return torch.cuda.get_device_name()
    import platform

    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()

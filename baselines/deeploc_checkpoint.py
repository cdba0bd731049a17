"""Import of DeepLoc's TensorFlow checkpoint, as it was published or as a user has it, read by TensorFlow in a process of its own."""

from __future__ import annotations

import glob
import os
import re
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from pci_bench import UserError, register_importer, weights
from pci_bench.acquisition.archives import unpack
from pci_bench.system import tensorflow_variables

from .deeploc_import import save_variables

PART = re.compile(r"(?P<checkpoint>(?!\.).+\.ckpt(?:-\d+)?)(?:\.(?:index|meta|data-\d{5}-of-\d{5}))?")
EXPECTED = "Expected a checkpoint of TensorFlow: model.ckpt-5000.index with its .data files, in a folder or an archive"
INSTALL = "TensorFlow, which reads checkpoints, is not installed: pip install 'pci-bench[tensorflow]'."


@register_importer("deeploc-checkpoint")
def import_deeploc_checkpoint(file: Path, name: str) -> tuple[str, tuple[str, ...]]:
    """Import a DeepLoc checkpoint as the weights ``deeploc@name``; return that name and the channel roles.

    Parameters
    ----------
    file
        An archive (``.zip``, ``.tar.gz``) or a folder that holds a checkpoint, one of its files, or its name without their endings
        (``logs/model.ckpt-5000``). Of several checkpoints in an archive or folder, that of the most steps is taken.

    Raises
    ------
    UserError
        Where TensorFlow is not installed, there is no checkpoint, it cannot be read, or it is not of DeepLoc.
    """
    if find_spec("tensorflow") is None:
        raise UserError(INSTALL)
    with tempfile.TemporaryDirectory(prefix="pci-bench-") as folder:
        checkpoint = checkpoint_in(file, Path(folder, "unpacked"))
        variables = Path(folder, "variables.npz")
        read_by_tensorflow(checkpoint, variables, of=file)
        source = weights.source_of("deeploc", name, _hashed(file, checkpoint))
        return save_variables(variables, name, source, called=f"{checkpoint.name} of {file}")


def checkpoint_in(file: Path, unpacked: Path) -> Path:
    """Return the name of a checkpoint (without the endings of its files) that a path names or holds; an archive is unpacked."""
    if file.is_dir():
        return newest(file, [p for p in file.rglob("*") if p.is_file()])
    if matched := PART.fullmatch(file.name):
        checkpoint = file.with_name(matched["checkpoint"])
        if checkpoint.is_file() or checkpoint.with_name(f"{checkpoint.name}.index").is_file():
            return checkpoint
    if not file.is_file():
        raise UserError(f"{file} is not there. {EXPECTED}.")
    names = unpack(file, unpacked, wanted=is_part, remedy=f"{EXPECTED}.")
    return newest(file, [unpacked / name for name in names])


def is_part(name: str) -> bool:
    """Return whether a file of an archive is one of a checkpoint's."""
    return PART.fullmatch(name.rpartition("/")[2]) is not None


def newest(where: Path, files: list[Path]) -> Path:
    """Return the checkpoint of the most steps among files, by its name without endings."""
    indices = [f.with_name(f.name.removesuffix(".index")) for f in files if f.name.endswith(".index")]
    # TensorFlow before 0.12 wrote a checkpoint as one file of that name, with the graph (.meta) beside it.
    indices += [f for f in files if f.with_name(f"{f.name}.meta") in files]
    checkpoints = {f for f in indices if PART.fullmatch(f.name)}
    if not checkpoints:
        raise UserError(f"{where} holds no checkpoint (it holds {_listed(files)}). {EXPECTED}.")
    return max(checkpoints, key=lambda f: (_steps(f.name), f.as_posix()))


def read_by_tensorflow(checkpoint: Path, out: Path, *, of: Path) -> None:
    """Write a checkpoint's variables to a ``.npz``, by TensorFlow in a process of its own."""
    command = [sys.executable, "-P", tensorflow_variables.__file__, str(checkpoint), str(out)]
    done = subprocess.run(
        command, env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}, capture_output=True, text=True, errors="replace"
    )
    if done.returncode or not out.is_file():
        said = done.stderr.strip().splitlines() or [f"it ended with status {done.returncode}"]
        raise UserError(f"{of} cannot be read as a checkpoint of TensorFlow ({said[-1][:300]}). {EXPECTED}.")


def _steps(name: str) -> int:
    """Return after how many steps a checkpoint was written, as its name says; -1 where it says none."""
    steps = name.rpartition("-")[2]
    return int(steps) if steps.isdecimal() else -1


def _listed(files: list[Path]) -> str:
    names = sorted({file.name for file in files})
    return ", ".join(names)[:200] or "nothing"


def _hashed(file: Path, checkpoint: Path) -> Path:
    """Return the file whose checksum stands for a checkpoint: the archive, else that of its variables."""
    if file.is_file() and not file.name.startswith(checkpoint.name):
        return file
    data = sorted(checkpoint.parent.glob(f"{glob.escape(checkpoint.name)}.data-*"))
    return data[0] if data else checkpoint

"""Files that a test makes: by their paths below a folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np


def write(folder: Path, files: Mapping[str, np.ndarray | str | bytes]) -> Path:
    """Write files and return the folder: arrays as the kind of image that the name says, texts and bytes as they are."""
    import tifffile
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    for relative, content in files.items():
        path = folder / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            path.write_text(content, encoding="utf-8")
        elif isinstance(content, bytes):
            path.write_bytes(content)
        elif path.suffix in (".tif", ".tiff"):
            tifffile.imwrite(path, content)
        else:
            Image.fromarray(content).save(path)
    return folder

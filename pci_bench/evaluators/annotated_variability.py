"""Whether the images whose scores vary the most are of proteins annotated as variable (paper: Figure 5, Supplementary Data 2).

The paper: of the ten images with the largest SD, 6 (cytosol and nucleoplasm) and 5 (nucleoli and nucleus) were already annotated
by the Human Protein Atlas as varying from cell to cell.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pci_bench.api.evaluator import EvaluatorOutput

NEGATIVE = frozenset({"", "no", "false", "none", "nan"})


def is_variable(values: np.ndarray) -> np.ndarray:
    """Return which annotations say that a protein varies from cell to cell: (n,) str -> (n,) bool.

    A number says so where it is above 0; a text where it is not empty, "no", "none" or "false", in any case.

    Examples
    --------
    >>> import numpy as np
    >>> is_variable(np.array(["", "Cytosol", "no", "0.0", "0.3"])).tolist()
    [False, True, False, False, True]
    """

    def says_so(text: str) -> bool:
        text = text.strip().casefold()
        try:
            return float(text) > 0
        except ValueError:
            return text not in NEGATIVE

    distinct, codes = np.unique(values.astype(str), return_inverse=True)
    return np.array([says_so(text) for text in distinct], bool)[codes]


def most_variable_annotated(most_variable: np.ndarray, annotated: np.ndarray) -> tuple[int, float]:
    """Return how many of the most variable images are annotated, and the chance of as many among images drawn at random.

    Parameters
    ----------
    most_variable, annotated
        (images,) bool.
    """
    from scipy.stats import hypergeom

    n_annotated = int((most_variable & annotated).sum())
    p = hypergeom.sf(n_annotated - 1, len(annotated), annotated.sum(), most_variable.sum())
    return n_annotated, float(np.clip(p, 0, 1))


def ranked_above(annotated: np.ndarray, others: np.ndarray) -> float:
    """Return the probability that an annotated image has a larger SD than another; ties count half (the area under the ROC).

    Examples
    --------
    >>> import numpy as np
    >>> ranked_above(np.array([3.0, 1.0]), np.array([1.0, 0.5]))
    0.875
    """
    wins = (annotated[:, None] > others[None]) + (annotated[:, None] == others[None]) / 2
    return float(wins.mean())


def with_annotations(output: EvaluatorOutput, both: np.ndarray, values: np.ndarray) -> EvaluatorOutput:
    """Return an output of ``multi-localization`` that says which of its most variable images are annotated as variable.

    It is returned as it is where no image of both compartments is annotated, as then nothing is known.

    Parameters
    ----------
    output
        With the cells, and the table ``variable-images``.
    both
        (cells,) bool: cells of images annotated with both compartments.
    values
        (cells,) str: each cell's annotation.
    """
    assert output.per_cell is not None  # every output of this evaluator has a row per cell
    cells = output.per_cell[both]
    images, codes = np.unique(cells["image"].to_numpy(str), return_inverse=True)
    annotated = np.bincount(codes, is_variable(values[both]), len(images)) > 0
    if not annotated.any():
        return output
    table = output.tables["variable-images"]
    variable_images = table["image"].to_numpy(str)
    n_annotated, p = most_variable_annotated(np.isin(images, variable_images), annotated)
    sd = cells["score"].groupby(codes).std(ddof=0).to_numpy()
    details = {
        "most_variable_images": len(table),
        "annotated": n_annotated,
        "images": len(images),
        "annotated_images": int(annotated.sum()),
        "p": p,
        "auc": ranked_above(sd[annotated], sd[~annotated]) if not annotated.all() else None,
    }
    return replace(
        output,
        metrics=output.metrics | {"annotated_variable": n_annotated / len(table)},
        details=output.details | {"annotated_variable": details},
        tables=output.tables | {"variable-images": table.assign(annotated=np.isin(variable_images, images[annotated]))},
    )

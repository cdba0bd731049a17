"""How the pixels of a crop move it in the space of a network's features: gradients of a nearest-neighbour margin."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pci_bench.api.extractor import TorchFunction


def margin_gradient(
    function: TorchFunction, crop: np.ndarray, own: np.ndarray, other: np.ndarray, mean: np.ndarray, scale: np.ndarray
) -> np.ndarray:
    """Return the gradient of a margin with respect to the pixels that a network is given.

    The margin is the distance to `other` minus that to `own`, of features minus `mean` over `scale`. Which cells are nearest does
    not change by an infinitesimal step, so the two are held.

    Parameters
    ----------
    function
        Features of crops, of which gradients are known: (b, channels, rows, columns) -> (b, d).
    crop
        (channels, rows, columns) float32, as the network is given it.
    own, other
        Standardised features (d,) of the nearest cell of the own and of another class.
    mean, scale
        (d,) what features are standardised by; a scale of 0 takes a feature out.

    Returns
    -------
    ndarray
        (channels, rows, columns) float64.
    """
    import torch

    used = scale > 0
    with torch.enable_grad():
        pixels = torch.from_numpy(np.ascontiguousarray(crop)[None]).requires_grad_(True)
        features = function(pixels)[0].double()[torch.from_numpy(used)]
        standardised = (features - torch.from_numpy(mean[used])) / torch.from_numpy(scale[used])
        to_other, to_own = (
            torch.linalg.vector_norm(standardised - torch.from_numpy(cell[used])) for cell in (other, own)
        )
        (gradient,) = torch.autograd.grad(to_other - to_own, pixels)
    found: np.ndarray = gradient[0].double().numpy()
    return found

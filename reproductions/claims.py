"""Whether our numbers are the printed ones, and what the paper claims of them holds."""

from __future__ import annotations

from collections.abc import Iterable

from pci_bench.reproduction.claims import metric_of
from pci_bench.reproduction.outcome import Number, Outcome

__all__ = ["UNSUPERVISED", "assert_as_printed", "assert_claims", "metric_of"]

# The unsupervised rows of the paper's yeast tables.
UNSUPERVISED = [
    "vgg16-gfp-only-block4_conv1@oxford",
    "autoencoder-conv3@lu2019-yeast",
    "cellprofiler-chong2015",
    "designed",
]


def assert_as_printed(numbers: Iterable[Number]) -> None:
    """Fail, naming table, row, ours and the printed number, where one is further off than its tolerance, or none is judged."""
    judged = [n for n in numbers if n.within is not None]
    assert judged, "no result is of the paper's data, weights and parameters, so nothing was compared"
    wrong = [
        f"{n.table}, row {n.features}, column {n.column}: ours {n.ours:.2f}, printed {n.printed:.2f} "
        f"({n.difference:+.2f}, tolerance ±{n.tolerance:g})"
        for n in judged
        if not n.within
    ]
    assert not wrong, "\n".join(wrong)


def assert_claims(outcome: Outcome) -> None:
    """Fail, with the numbers, where something that the paper claims does not hold, or nothing can be claimed."""
    assert outcome.claims, "nothing that the paper claims could be checked"
    wrong = [f"{claim.text}: {claim.found}" for claim in outcome.claims if not claim.holds]
    assert not wrong, "\n".join(wrong)

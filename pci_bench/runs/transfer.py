"""Networks trained on one screen and evaluated on another: a statistic of several results.

As :mod:`pci_bench.runs.screens`, it is computed from results that may lie in several folders, when it is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pci_bench import weights
from pci_bench.api.dataset import DATASETS
from pci_bench.api.extractor import EXTRACTORS
from pci_bench.errors import UserError
from pci_bench.features.names import known_feature_sets
from pci_bench.runs.paired import paired_interval
from pci_bench.runs.results import Result, headline

UNTRAINED = "random weights"


@dataclass(frozen=True)
class Transfer:
    """Results of one feature set, whose networks were trained on several screens, on several datasets.

    Parameters
    ----------
    features
        The feature set without its weights: ``pci-conv4``.
    results
        By what the network was trained on, and the dataset; :data:`UNTRAINED` of random weights.
    """

    features: str
    results: dict[tuple[str, str], Result]

    @classmethod
    def of(cls, results: Sequence[Result]) -> list[Transfer]:
        """Return every feature set with networks of two screens or more; random weights of the same layers beside each.

        Of several results of a network on a dataset the last counts.
        """
        trained: dict[str, dict[tuple[str, str], Result]] = {}
        for result in results:
            name = result.features.name.replace("-random", "")
            trained.setdefault(name, {})[trained_on(result), result.dataset.name] = result
        return [
            cls(name, found) for name, found in trained.items() if len({where for where, _ in found} - {UNTRAINED}) > 1
        ]

    @property
    def networks(self) -> list[str]:
        """What networks were trained on, in order; random weights last."""
        return sorted(dict.fromkeys(network for network, _ in self.results), key=lambda name: name == UNTRAINED)

    @property
    def datasets(self) -> list[str]:
        """The datasets, in order."""
        return list(dict.fromkeys(dataset for _, dataset in self.results))

    def own(self, dataset: str) -> str | None:
        """Return the screen whose network is at home on a dataset, where there is a result of it."""
        training = DATASETS.get(dataset).meta.training if dataset in DATASETS else ""
        return training if training and (training, dataset) in self.results else None

    def change(self, network: str, dataset: str) -> tuple[float, tuple[float, float] | None] | None:
        """Return what a network's result is minus that of the dataset's own network, and the interval of the paired difference.

        None where either is missing, or they are the same.
        """
        own = self.own(dataset)
        if own is None or own == network or (network, dataset) not in self.results:
            return None
        here, home = self.results[network, dataset], self.results[own, dataset]
        metric = headline(here)
        interval = paired_interval(home, here) if metric == "balanced_accuracy" else None
        return here.metrics[metric] - home.metrics[metric], interval


def trained_on(result: Result) -> str:
    """Return the dataset that a result's network was trained on as its weights say; else the weights' name.

    >>> from pci_bench.runs.results import FeaturesRecord, Result
    >>> record = FeaturesRecord(name="pci-conv4", weights="yeast-sim", version="1", weights_sha256=None, dim=1, precision="")
    >>> trained_on(Result.model_construct(features=record))
    'yeast-sim-train'
    """
    features = result.features
    if "random" in features.name:
        return UNTRAINED
    known = known_feature_sets().get(features.name)
    try:
        family = (known.extractor() if known else EXTRACTORS.get(features.name)).meta.weights
    except UserError:  # of a plug-in that is not loaded
        family = None
    file = weights.find(family, features.weights) if family and features.weights else None
    source = weights.read_header(file).source if file is not None else ""
    said = re.match(r"trained on (\S+)", source)
    return said[1] if said else features.weights or features.name

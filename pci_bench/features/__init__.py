"""Feature sets: from names to AnnData, computed, cached, or read from files."""

from pci_bench.api.extractor import EXTRACTORS, Extractor, ExtractorMeta, register_extractor, register_features
from pci_bench.features.names import FeatureSet, groups, known_feature_sets, parse, select

__all__ = [
    "EXTRACTORS",
    "Extractor",
    "ExtractorMeta",
    "FeatureSet",
    "groups",
    "known_feature_sets",
    "parse",
    "register_extractor",
    "register_features",
    "select",
]

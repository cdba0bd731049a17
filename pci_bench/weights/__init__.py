"""Weights of trained networks: which there are, where they lie, and whether they fit a dataset.

A file is ``FAMILY@NAME.safetensors``; its header says which channels it was made for and where it came from. Files lie in
this folder (shipped) or in the cache (fetched, imported or trained).
"""

from pci_bench.weights.files import WeightsHeader, network_in, read_header, save, setting, unavailable_reason
from pci_bench.weights.names import (
    IMPORTERS,
    availability,
    check_declared_channels,
    check_free,
    check_name,
    declared,
    declared_at,
    default_name,
    file_of,
    find,
    folders,
    legal_name,
    overwriting,
    register_fetcher,
    register_importer,
    shipped,
)
from pci_bench.weights.sources import (
    at_first_use,
    fetched,
    how_to_get,
    missing_reader,
    remote_files,
    source_of,
    state_to_get,
)

__all__ = [
    "IMPORTERS",
    "WeightsHeader",
    "at_first_use",
    "availability",
    "check_declared_channels",
    "check_free",
    "check_name",
    "declared",
    "declared_at",
    "default_name",
    "fetched",
    "file_of",
    "find",
    "folders",
    "how_to_get",
    "legal_name",
    "missing_reader",
    "network_in",
    "overwriting",
    "read_header",
    "register_fetcher",
    "register_importer",
    "remote_files",
    "save",
    "setting",
    "shipped",
    "source_of",
    "state_to_get",
    "unavailable_reason",
]

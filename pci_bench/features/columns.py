"""What a feature's name says: the object that was measured, the family of the measurement, the measurement, and the channel.

These are the columns of ``var`` that the scverse and Cell Painting communities agreed on for image-based profiles.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("object", "family", "measurement", "channel")
COMPARTMENTS = ("Cells", "Cytoplasm", "Nuclei")  # as CellProfiler's pipelines and CytoTable call objects
CELL = "Cells"
PARTS = ("mother", "bud")  # of a budding cell
CELLPROFILER = (
    "AreaShape", "Children", "Correlation", "Granularity", "Intensity", "Location", "Neighbors", "Number", "ObjectSkeleton",
    "Parent", "RadialDistribution", "Texture",
)  # fmt: skip
# Where CellProfiler's modules write channels, for names whose channels nobody declares.
CHANNEL_OF = {
    "Intensity": re.compile(r"(?P<measurement>[^_]+)_(?P<channel>\w+)"),
    "Location": re.compile(r"(?P<measurement>(?:CenterMass|Max)Intensity_[XYZ])_(?P<channel>\w+)"),
    "Texture": re.compile(r"(?P<measurement>[^_]+)_(?P<channel>\w+?)(?P<rest>_\d+_\d+(?:_\d+)?)"),
    "Granularity": re.compile(r"(?P<measurement>\d+)_(?P<channel>\w+)"),
    "RadialDistribution": re.compile(r"(?P<measurement>[^_]+)_(?P<channel>\w+?)(?P<rest>_\d+of\d+|_\d+_\d+)"),
    "Correlation": re.compile(r"(?P<measurement>[^_]+)_(?P<channel>[^_]+_[^_]+)"),
}


def described_columns(names: Sequence[str], channels: Sequence[str], features: str) -> pd.DataFrame:
    """Return a table with a row for each feature, indexed by the names.

    Parameters
    ----------
    names
        Of the features: ``GFP_mean``, ``conv4_7``, ``Nuclei_Intensity_MeanIntensity_DNA``.
    channels
        Names of the dataset's channels.
    features
        Name of the feature set, which is the family of measurements that name none: ``intensity``.

    Returns
    -------
    pandas.DataFrame
        Texts: ``object`` (``Cells``, ``Nuclei``, ``Cytoplasm``, or ``mother`` and ``bud`` of a yeast), ``family``,
        ``measurement`` (the name without the other three), and ``channel`` (several are joined by ``;``; empty where the name
        says none, as for a network that reads all of them at once).

    Examples
    --------
    >>> described_columns(["GFP_mean", "Nuclei_Texture_Contrast_DNA_3_00_256"], ["GFP", "DNA"], "intensity").to_dict("records")
    [{'object': 'Cells', 'family': 'intensity', 'measurement': 'mean', 'channel': 'GFP'}, \
{'object': 'Nuclei', 'family': 'Texture', 'measurement': 'Contrast_3_00_256', 'channel': 'DNA'}]
    """
    import pandas as pd

    known = tuple(channels)
    rows = [_described(name, known, features) for name in names]
    return pd.DataFrame(rows, columns=list(COLUMNS), index=pd.Index(list(names), dtype=object), dtype=object)


def _described(name: str, channels: tuple[str, ...], features: str) -> tuple[str, str, str, str]:
    """Return object, family, measurement and channel of one feature."""
    first, _, rest = name.partition("_")
    thing, rest = (first, rest) if first in COMPARTMENTS and rest else (CELL, name)
    module, _, measured = rest.partition("_")
    if module in CELLPROFILER and measured:
        found, left = _without_channels(measured, channels)
        if not found and (place := CHANNEL_OF.get(module)) and (parts := place.fullmatch(measured)):
            channel = parts["channel"].replace("_", ";") if module == "Correlation" else parts["channel"]
            return thing, module, f"{parts['measurement']}{parts.groupdict().get('rest') or ''}", channel
        return thing, module, left, ";".join(found)
    found, left = _without_channels(rest, channels)
    part, _, of_part = left.partition("_")
    if found and part in PARTS and of_part:
        thing, left = part, of_part
    return thing, features, left, ";".join(found)


def _without_channels(text: str, channels: tuple[str, ...]) -> tuple[list[str], str]:
    """Return the channels that a name holds, in their order, and the name without them."""
    pattern = _pattern(channels)
    if pattern is None:
        return [], text
    found = [match.group("channel") for match in pattern.finditer(text)]
    left = re.sub(r"_{2,}", "_", pattern.sub(lambda match: match.group("after") or "", text)).strip("_")
    return list(dict.fromkeys(found)), left or text


@lru_cache(maxsize=32)
def _pattern(channels: tuple[str, ...]) -> re.Pattern[str] | None:
    """Return the pattern of any channel's name between underscores, or before ``Rescaled`` as CellProfiler's own images are named.

    A channel that is called by a number is none of them, since names count with numbers.
    """
    texts = [name for name in channels if not name.isdigit()]
    if not texts:
        return None
    names = "|".join(re.escape(name) for name in sorted(texts, key=len, reverse=True))
    return re.compile(rf"(?<![^_])(?P<channel>{names})(?P<after>Rescaled)?(?![^_])")

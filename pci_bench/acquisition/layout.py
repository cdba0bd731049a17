"""Layouts: the declaration (TOML) of how raw fields of view lie in files, and how cells are cut from them."""

from __future__ import annotations

import hashlib
import json
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pci_bench.acquisition.pattern import Pattern, filled_in
from pci_bench.data.cells import Channel, DatasetMeta
from pci_bench.errors import UserError
from pci_bench.system.files import user_path
from pci_bench.system.foreign import first_fault, toml_value

NOT_OF_A_FIELD = ("channel", "z")  # parts of a file's name that tell planes of one field apart
Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ChannelFiles(_Part):
    """One channel: its role, and which of a field's files and planes holds it."""

    role: Literal["protein", "marker"]
    """``protein`` varies from image to image; a ``marker`` shows the same structure in all of them."""
    match: str | None = None
    """The value of ``{channel}`` in the file's name; by default the channel's name here."""
    index: Annotated[int, Field(ge=0)] | None = None
    """Which channel of a file of several, from 0."""
    z: Annotated[int, Field(ge=0)] | Literal["max"] | None = None
    """Which plane of a stack, from 0, or ``max`` for its maximum projection."""
    floor: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Raw values from here to 1 are stretched to [0, 1] when a network reads them (human markers of the authors' code: 0.05)."""
    optional: bool = False
    """Whether some fields lack it; with ``[stains]`` only."""


class Stains(_Part):
    """One crop for each cell and protein channel, in place of one crop with all channels of a cell.

    A crop then has one protein channel, whichever it is, and the markers. An image is a field and stain.
    """

    columns: dict[str, str] = {"protein": "{stain}", "label": "{stain}"}
    """Obs columns, from ``{stain}`` and names in ``pattern``."""
    draw: Literal["all", "one"] = "all"
    """``all`` stains of each cell, or ``one``: each cell is there once, its stain drawn so that stains are balanced."""
    balance: str | None = None
    """The obs column within whose values drawn stains are balanced; by default over all cells."""
    seed: int = 0
    """Of the drawing."""


class ObjectTable(_Part):
    """Centres of cells from a table, such as CellProfiler's ``Nuclei.csv``, in place of segmentation."""

    file: str
    """A CSV file, from the layout's folder, with a row per object."""
    y: str = "Location_Center_Y"
    """The column of the row coordinate, in pixels of the field's files; the middle of the first pixel is 0."""
    x: str = "Location_Center_X"
    """The column of the column coordinate."""
    on: dict[str, str]
    """Which rows are of a field: columns of the table, and what they hold, as ``{Metadata_Well = "{well}"}``."""
    images: str | None = None
    """A second CSV with a row per image (CellProfiler's ``Image.csv``), joined by ``ImageNumber``, that has columns of ``on``."""


class Segment(_Part):
    """How the cells of a field are found: by a segmenter, from label images, or from a table of centres."""

    segmenter: str | None = None
    """A segmenter of fields: ``pci-bench list segmenters``."""
    options: dict[str, Any] = {}
    """What the segmenter can be told: ``pci-bench describe NAME``."""
    channel: str | None = None
    """The channel that is segmented."""
    masks: str | None = None
    """In place of a segmenter: the files of label images (0 background, one number per object), a pattern with names of ``pattern``."""
    objects: ObjectTable | None = None
    """In place of a segmenter: a table of centres."""
    name: str = "cell"
    """What an object is; the obs column of its area is ``<name>_area``."""
    buds: bool = False
    """Whether small neighbours of the middle cell are looked for and marked as its bud (yeast)."""


class Crop(_Part):
    """How crops are cut around the centres of objects."""

    downscale: Positive = 1
    """Fields are made smaller by this factor before anything else, bilinear without anti-aliasing."""
    size: Annotated[int, Field(ge=8, le=4096)] = 64
    """Rows and columns that are cut."""
    resize: Annotated[int, Field(ge=8, le=4096)] | None = None
    """Rows and columns that crops are then resized to, bilinear without anti-aliasing as the paper does."""
    edge: Literal["drop", "pad"] = "drop"
    """A crop that would leave its field is dropped, or filled up with zeros."""


class Filters(_Part):
    """Which objects are left out. Areas are in pixels of the field as it is segmented, after ``downscale``."""

    min_area: Annotated[float, Field(ge=0)] = 0.0
    """Smaller objects are dropped."""
    max_area: Annotated[float, Field(gt=0)] | None = None
    """Larger objects are dropped."""
    min_share: Share = 0.0
    """Objects with less than this share of the crop's area are dropped."""
    max_share: Share = 1.0
    """Objects with more than this share of the crop's area are dropped."""
    border: bool = False
    """Whether objects that touch the field's border are dropped."""
    last_object: bool = False
    """Whether the object with the highest number is dropped, as a slip in the authors' code does."""
    min_cells_per_image: Annotated[int, Field(ge=0)] = 0
    """Images with fewer cells are dropped; pairs need two."""


class Labels(_Part):
    """Columns of a CSV file, joined to the cells."""

    file: str
    """From the layout's folder."""
    on: tuple[str, ...] = Field(min_length=1)
    """Columns of the file that are also names in ``pattern`` or obs columns: ``["plate", "well"]``."""
    columns: tuple[str, ...] | None = None
    """Which other columns are taken; by default all."""


class Description(_Part):
    """What results say of the dataset."""

    title: str = ""
    reference: str = ""
    licence: str = ""
    confounder: str | None = "field"
    training: str | None = None
    label: str = "label"
    levels: tuple[str, ...] = ()


class Layout(_Part):
    """How raw fields of view lie in files, and how cells are cut from them.

    Examples
    --------
    >>> layout = Layout.model_validate({
    ...     "pattern": "{well}_s{site}_w{channel}.png",
    ...     "channels": {"DNA": {"role": "marker", "match": "1"}, "ER": {"role": "protein", "match": "2"}},
    ...     "segment": {"segmenter": "nuclei", "channel": "DNA"},
    ... })
    >>> layout.crop.size
    64
    """

    pattern: str
    """The files: see :class:`~pci_bench.acquisition.pattern.Pattern`."""
    root: str = "."
    """Where they are, from the layout's folder."""
    preset: str | None = None
    """The defaults of ``segment``, ``crop`` and ``filters`` that a published pipeline has: ``yeast``, ``human-paper``, ``human-code``, ``nuclei``."""
    bits: Annotated[int, Field(ge=9, le=16)] | None = None
    """Bits that pixels of 16-bit files use, where not all: 12 for most cameras. Values are then shifted to use all 16."""
    channels: dict[str, ChannelFiles] = Field(min_length=1)
    """By name, the protein's first."""
    stains: Stains | None = None
    obs: dict[str, str] = {}
    """Columns of the table of cells, from names in ``pattern``: ``{plate = "{experiment}-{plate}"}``."""
    segment: Segment
    crop: Crop = Crop()
    filters: Filters = Filters()
    labels: Labels | None = None
    dataset: Description = Description()

    @model_validator(mode="after")
    def _consistent(self) -> Layout:
        segment, roles = self.segment, [channel.role for channel in self.channels.values()]
        ways = [segment.segmenter is not None, segment.masks is not None, segment.objects is not None]
        if sum(ways) != 1:
            raise ValueError("[segment] needs one of segmenter, masks and objects, and not two of them")
        if segment.segmenter is not None and segment.channel is None:
            raise ValueError('[segment] needs the channel that is segmented: channel = "DNA"')
        if segment.channel is not None and segment.channel not in self.channels:
            raise ValueError(
                f"[segment] channel is '{segment.channel}', but there are only the channels {', '.join(self.channels)}"
            )
        if segment.segmenter is None and segment.options:
            raise ValueError("[segment] has options, but no segmenter that takes them")
        if "protein" not in roles:
            raise ValueError("no channel has the role 'protein'")
        if self.stains is None:
            if optional := [name for name, channel in self.channels.items() if channel.optional]:
                raise ValueError(
                    f"[channels.{optional[0]}] is optional, which only [stains] allows: crops would lack a channel"
                )
        elif roles.count("protein") < 2:
            raise ValueError("[stains] needs two channels or more with the role 'protein'")
        if segment.channel is not None and self.channels[segment.channel].optional:
            raise ValueError(f"[channels.{segment.channel}] is segmented, so it cannot be optional")
        if segment.objects is not None:
            without = Filters(
                min_cells_per_image=self.filters.min_cells_per_image, last_object=self.filters.last_object
            )
            if used := [n for n in Filters.model_fields if getattr(self.filters, n) != getattr(without, n)]:
                raise ValueError(f"[filters] {used[0]} needs the objects' masks, and a table of centres has none")
        if self.filters.min_share > self.filters.max_share:
            raise ValueError("[filters] min_share is above max_share: nothing would be left")
        self._check_columns()
        names = Pattern(self.pattern).names
        matches = [channel.match or name for name, channel in self.channels.items()]
        if "channel" in names and (twice := [m for m in matches if matches.count(m) > 1]):
            raise ValueError(
                f"[channels] has two that match '{twice[0]}'. Each {{channel}} of the pattern is one channel"
            )
        if "channel" not in names and len(self.channels) > 1 and any(c.index is None for c in self.channels.values()):
            raise ValueError(
                "pattern has no {channel}, so every channel needs the index of its plane in a file: index = 0"
            )
        return self

    def _check_columns(self) -> None:
        """Raise where a column could not be kept under its name, or is made of parts that there are not."""
        parts = dict.fromkeys(self.names, "")
        stains = {} if self.stains is None else self.stains.columns
        on = {} if self.segment.objects is None else self.segment.objects.on
        taken = {"cell", "y", "x", f"{self.segment.name}_area"}
        for where, columns in (
            ("The pattern", self.names),
            ("[obs]", self.obs),
            ("[stains.columns]", stains),
            ("[segment] name", [f"{self.segment.name}_area"] if " " in self.segment.name else []),
        ):
            if spaced := [column for column in columns if " " in column]:
                raise ValueError(
                    f"{where} gives the column '{spaced[0]}', whose name has a space. Write _ in its place"
                )
            if clash := [column for column in columns if column in taken]:
                raise ValueError(
                    f"{where} gives the column '{clash[0]}', which cells have already ({', '.join(sorted(taken))}). Call it otherwise"
                )
        for where, texts, more in (
            ("[obs]", self.obs, ()),
            ("[stains.columns]", stains, ("stain",)),
            ("[segment.objects] on", on, ("field",)),
        ):
            for column, text in texts.items():
                filled_in(text, {**parts, **dict.fromkeys(more, "")}, f"{where} {column}")
        if self.labels is not None:
            known = (*self.names, *self.obs, *stains, "field", "image", "cell")
            if unknown := [column for column in self.labels.on if column not in known]:
                raise ValueError(
                    f"[labels] on names '{unknown[0]}', but the cells' columns are {', '.join(dict.fromkeys(known))}"
                )

    @property
    def names(self) -> tuple[str, ...]:
        """The named parts of the pattern that fields are told apart by."""
        return tuple(name for name in Pattern(self.pattern).names if name not in NOT_OF_A_FIELD)

    @property
    def protein_channels(self) -> tuple[str, ...]:
        """The names of the channels with the role ``protein``."""
        return tuple(name for name, channel in self.channels.items() if channel.role == "protein")

    def crop_channels(self) -> tuple[Channel, ...]:
        """Return the channels of the crops: proteins first, then markers; with stains, one protein channel named ``stain``."""
        markers = [Channel(n, "marker", c.floor) for n, c in self.channels.items() if c.role == "marker"]
        if self.stains is not None:
            return (Channel("stain", "protein"), *markers)
        return (*(Channel(n, "protein", self.channels[n].floor) for n in self.protein_channels), *markers)

    @property
    def order(self) -> tuple[str, ...]:
        """The names of the channels as they are read: proteins, then markers."""
        return (*self.protein_channels, *(n for n, c in self.channels.items() if c.role == "marker"))

    def meta(self, name: str, version: str) -> DatasetMeta:
        """Return the dataset's description under a name."""
        d = self.dataset
        return DatasetMeta(
            name,
            version,
            d.title or f"Cells cut from fields of view ({name})",
            d.reference,
            d.licence,
            d.confounder,
            d.training,
            d.label,
            levels=d.levels,
        )

    def digest(self) -> str:
        """Return a hash of all that crops follow from, but for the files."""
        content = self.model_dump(mode="json", exclude={"root", "dataset"})
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def field_digest(self) -> str:
        """Return a hash of what the crops of one field follow from, so that other changes keep them."""
        content = self.model_dump(mode="json", include={"bits", "channels", "segment", "crop", "filters", "stains"})
        content["filters"].pop("min_cells_per_image")
        content["stains"] = self.stains is not None
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def presets() -> dict[str, dict[str, Any]]:
    """Return the defaults that ``preset`` stands for, by name.

    Examples
    --------
    >>> sorted(presets())
    ['human-code', 'human-paper', 'nuclei', 'yeast']
    """
    return toml_value(files("pci_bench.acquisition").joinpath("presets.toml").read_text(encoding="utf-8"))


def read_layout(file: Path | str) -> Layout:
    """Return the layout of a TOML file, the defaults of its preset filled in.

    Raises
    ------
    UserError
        Where the file cannot be read, or declares what cannot be; the field is named.
    """
    path = user_path(file, "The layout", absolute=True)
    try:
        content = toml_value(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(
            f"The layout {path} cannot be read: {error.strerror}. `pci-bench data layout FOLDER` proposes one."
        ) from error
    except ValueError as error:
        raise UserError(f"The layout {path} is not TOML: {error}.") from error
    return layout_of(content, str(path))


def layout_of(content: dict[str, Any], where: str) -> Layout:
    """Return the layout that a table declares, the defaults of its preset filled in.

    Parameters
    ----------
    content
        As TOML gives it.
    where
        Where it was declared, for messages.

    Raises
    ------
    UserError
        Where it declares what cannot be; the field is named.
    """
    preset = content.get("preset")
    if preset is not None:
        known = presets()
        if not isinstance(preset, str) or preset not in known:
            raise UserError(f"{where}: there is no preset '{preset}'. Known are {', '.join(sorted(known))}.")
        content = dict(content)
        for section, defaults in known[preset].items():
            given = content.get(section, {})
            if not isinstance(given, dict):  # which is told below
                continue
            replaced = {"segmenter", "options"} if section == "segment" and {"masks", "objects"} & set(given) else set()
            content[section] = {k: v for k, v in defaults.items() if k not in replaced} | given
    try:
        return Layout.model_validate(content)
    except ValidationError as error:
        raise UserError(
            f"The layout {where} cannot be used: {first_fault(error).replace('its content: Value error, ', '').rstrip('.')}. "
            "docs/prepare.md shows one with every entry."
        ) from error

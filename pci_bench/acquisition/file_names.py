"""What the names of images have in common: patterns that published conventions use, else what varies from name to name."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import PurePosixPath
from typing import TypeVar

from pci_bench.acquisition.pattern import Pattern
from pci_bench.api.registry import natural_key
from pci_bench.data.cells import OBS_COLUMNS

T = TypeVar("T")

WELL = "[A-Z]{1,2}[0-9]{1,2}"
MOST_CHANNELS = 6  # that a part of a name is taken for where nothing else says what it is
MOST_NAMED_CHANNELS = 12  # where the letters before it do

# Without the ending. In the order in which they are tried: one whose names others fit too comes after those.
CONVENTIONS: Mapping[str, str] = {
    "Opera Phenix and Operetta (Harmony)": "{well:r[0-9]+c[0-9]+}f{site:[0-9]+}p{z:[0-9]+}-ch{channel:[0-9]+}sk{time:[0-9]+}*",
    "RxRx1": f"{{well:{WELL}}}_s{{site:[0-9]+}}_w{{channel:[0-9]+}}",
    "ImageXpress (MetaXpress), sites": f"{{plate}}_{{well:{WELL}}}_s{{site:[0-9]+}}_w{{channel:[0-9](?!_thumb)}}*",
    "ImageXpress (MetaXpress), one site": f"{{plate}}_{{well:{WELL}}}_w{{channel:[0-9](?!_thumb)}}*",
    "Human Protein Atlas": f"{{plate:[0-9]+}}_{{well:{WELL}}}_{{site:[0-9]+}}_{{channel:blue|green|red|yellow}}",
    "CellVoyager, numbered wells": "{well:W[0-9]+}F{site:[0-9]+}T{time:[0-9]+}Z{z:[0-9]+}C{channel:[0-9]+}",
    "CellVoyager": f"{{plate}}_{{well:{WELL}}}_T{{time:[0-9]+}}F{{site:[0-9]+}}L*A*Z{{z:[0-9]+}}C{{channel:[0-9]+}}",
}
PLATE = ("OME-Zarr plate", "{row:[A-Z]+}/{column:[0-9]+}/{site:[0-9]+}")
KEPT_AS_THEY_ARE = ("time", "z")  # parts that are written out where they are the same in all names

# What the letters before a part of a name say of it.
HINTS: Mapping[str, tuple[str, ...]] = {
    "channel": ("ch", "c", "chan", "channel", "w", "wv", "wavelength", "d"),
    "site": ("s", "site", "f", "field", "fld", "fov", "pos", "position", "xy", "img", "image", "im", "tile"),
    "z": ("z", "slice", "plane", "stack"),
    "time": ("t", "tp", "time", "timepoint", "frame"),
    "plate": ("plate", "plt"),
    "well": ("well",),
    "row": ("r", "row"),
    "column": ("col", "column"),
}
RESERVED = {*OBS_COLUMNS, "number", "position", "area", "reason", "objects", "kept"} - {"protein"}  # columns of tables
STAIN = re.compile(
    "dapi|hoechst|dna|nuc|gfp|yfp|cfp|bfp|rfp|cherry|fitc|tritc|cy[357]|alexa|texas|draq|sytox|mito|actin|phalloidin|tubul|"
    "golgi|wga|cona|er$|rna|agp|antibod|protein|brightfield|bf$|dic$|phase|blue|green|red$|yellow|cyan|magenta|"
    "^(405|488|555|561|568|594|633|640|647)$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Naming:
    """How the images of a folder are named.

    Parameters
    ----------
    title
        The convention, or what the names were taken apart by.
    pattern
        As layouts have it.
    channel_prefix
        The letters before a channel's number: ``"ch"``.
    """

    title: str
    pattern: str
    channel_prefix: str = ""

    def parts(self, image: str) -> dict[str, str] | None:
        """Return the named parts of an image's name, or None where it does not fit."""
        return Pattern(self.pattern).match(image)

    def channel(self, image: str) -> str | None:
        """Return the channel that is in an image's name, or None."""
        return (self.parts(image) or {}).get("channel")


@dataclass(frozen=True)
class _Piece:
    """A stretch of all names: the same text in all of them, or one value for each."""

    text: str = ""
    values: tuple[str, ...] = ()
    hint: str = ""  # the letters before it, small
    name: str = ""
    folder: bool = field(default=False, compare=False)

    def pattern(self, *, strict: bool) -> str:
        """Return the piece as patterns have it."""
        if not self.values:
            return re.sub(r"[{}]+", "*", self.text)
        if self.name == "*":
            return "*"
        if self.name == "well" and all(re.fullmatch(WELL, value) for value in self.values):
            return f"{{well:{WELL}}}"
        if all(re.fullmatch("[0-9]+", value) for value in self.values):
            return f"{{{self.name}:[0-9]+}}"
        return (
            f"{{{self.name}:[^/_.-]+}}"
            if strict and not any(set("/_.-") & set(v) for v in self.values)
            else f"{{{self.name}}}"
        )


def naming_of(images: Sequence[str]) -> Naming:
    """Return how most images of a folder are named.

    Parameters
    ----------
    images
        Relative POSIX paths, one or more.

    Examples
    --------
    >>> naming_of([f"Plate{p}/B02_s{s}_w{c}.png" for p in "12" for s in "12" for c in "123"]).pattern
    'Plate{plate:[0-9]+}/{well:[A-Z]{1,2}[0-9]{1,2}}_s{site:[0-9]+}_w{channel:[0-9]+}.png'
    >>> naming_of([f"{cell}_{stain}.tif" for cell in "abc" for stain in ("DAPI", "GFP")]).pattern
    '{sample}_{channel}.tif'
    """
    plates = [name for name in images if Pattern(f"**/{PLATE[1]}").match(name) and ".zarr/" in name]
    if 2 * len(plates) > len(images):
        return _by_convention(PLATE[0], PLATE[1], plates, 3, "")
    for title, stem in CONVENTIONS.items():
        pattern = Pattern(stem)
        matched = [name for name in images if pattern.match(PurePosixPath(name).stem)]
        if 2 * len(matched) > len(images):
            ending = _commonest(PurePosixPath(name).suffix for name in matched)
            matched = [name for name in matched if PurePosixPath(name).suffix == ending]
            prefix = re.search("([A-Za-z]*)$", stem.partition("{channel")[0])
            return _by_convention(title, stem, matched, 1, ending, prefix[1].lower() if prefix else "")
    return _by_comparison(images)


def _by_convention(
    title: str, template: str, images: Sequence[str], levels: int, ending: str, channel_prefix: str = ""
) -> Naming:
    """Return a convention's pattern with its folders, and without parts that are the same in all names."""
    depth = _commonest(name.count("/") for name in images)
    images = [name for name in images if name.count("/") == depth]
    inner = Pattern(template)
    parts = [inner.match("/".join(name.split("/")[-levels:]).removesuffix(ending)) or {} for name in images]
    names = list(inner.names)
    for name in KEPT_AS_THEY_ARE:
        if name in names and len(values := {part[name] for part in parts}) == 1:
            template = template.replace(f"{{{name}:[0-9]+}}", values.pop())
            names.remove(name)
    folders = _folder_pieces([name.split("/")[:-levels] for name in images])
    folders = _named(folders, taken=names)
    return Naming(title, "".join(piece.pattern(strict=False) for piece in folders) + template + ending, channel_prefix)


def _by_comparison(images: Sequence[str]) -> Naming:
    """Return a pattern of what is the same and what varies in most names of the same shape."""

    def shape(name: str) -> tuple[object, ...]:
        return (name.count("/"), *_words(PurePosixPath(name).name)[1::2], PurePosixPath(name).suffix)

    commonest = _commonest(map(shape, images))
    chosen = [name for name in images if shape(name) == commonest]
    split = [name.split("/") for name in chosen]
    pieces = _folder_pieces([levels[:-1] for levels in split]) + _pieces([levels[-1] for levels in split])
    pieces = _joined(pieces)
    channel = _channel_of(pieces, len(chosen))
    if channel is not None:
        like = [i for i, p in enumerate(pieces) if i != channel and p.values and _same(p, pieces[channel])]
        pieces = [
            replace(p, name="channel" if i == channel else "*" if i in like else "") for i, p in enumerate(pieces)
        ]
    pieces = _named(pieces, taken=())
    expected = [{p.name: p.values[i] for p in pieces if p.values and p.name != "*"} for i in range(len(chosen))]
    for strict in (False, True):
        text = "".join(piece.pattern(strict=strict) for piece in pieces)
        pattern = Pattern(text)
        if all(pattern.match(name) == parts for name, parts in zip(chosen, expected, strict=True)):
            break
    prefix = pieces[channel].hint if channel is not None else ""
    what = "a file for each channel" if channel is not None else "a file for each field of view"
    return Naming(f"no known convention; {what}, by comparing names", text, prefix)


def _words(text: str) -> list[str]:
    """Return words and what stands between them, in turn; letters and digits make words."""
    return re.split(r"([\W_]+)", text)


def _pieces(texts: Sequence[str], *, folder: bool = False) -> list[_Piece]:
    """Return the pieces of texts whose words are separated alike."""
    columns = list(zip(*map(_words, texts), strict=True))
    pieces: list[_Piece] = []

    def add(values: Sequence[str]) -> None:
        before = pieces[-1].text if pieces and not pieces[-1].values else ""
        if len(set(values)) > 1:
            hint = re.search(r"([^\W\d_]*)[\W_]*$", before)
            pieces.append(_Piece(values=tuple(values), hint=hint[1].lower() if hint else "", folder=folder))
        elif before:
            pieces[-1] = _Piece(text=before + values[0], folder=folder)
        else:
            pieces.append(_Piece(text=values[0], folder=folder))

    for values in columns:
        runs = [re.findall("[0-9]+|[^0-9]+", value) for value in values]
        kinds = {tuple(run[0] in "0123456789" for run in name) for name in runs}
        if len(set(values)) == 1 or _are_wells(values) or len(kinds) > 1:
            add(values)
            continue
        for varies, stretch in groupby(zip(*runs, strict=True), key=lambda column: len(set(column)) > 1):
            together = list(stretch)
            if varies:
                add(["".join(parts) for parts in zip(*together, strict=True)])
            else:
                for column in together:
                    add(column)
    return pieces


def _are_wells(values: Sequence[str]) -> bool:
    """Return whether words are names of wells: A01, H12; C1 and C2 alone are channels rather."""
    if not all(re.fullmatch("[A-P][0-9]{1,2}", value) for value in values):
        return False
    letters = {value[0] for value in values}
    return len(letters) > 1 or not letters & set("CFTZ")


def _folder_pieces(levels: Sequence[Sequence[str]]) -> list[_Piece]:
    """Return the pieces of folders' names, each level one value unless a single word of it varies."""
    pieces: list[_Piece] = []
    for column in zip(*levels, strict=True):
        alike = len({tuple(_words(text)[1::2]) for text in column}) == 1
        level = _pieces(column, folder=True) if alike else []
        if sum(bool(piece.values) for piece in level) != 1 and len(set(column)) > 1:
            level = [_Piece(values=tuple(column), folder=True)]
        pieces += [*level, _Piece(text="/", folder=True)]
    return pieces


def _joined(pieces: Sequence[_Piece]) -> list[_Piece]:
    """Return pieces in which neighbours that always vary together, with no letters between, are one."""
    result: list[_Piece] = []
    for piece in pieces:
        result.append(piece)
        while (
            len(result) >= 3
            and (first := result[-3]).values
            and (last := result[-1]).values
            and re.fullmatch(r"[\W_]+", between := result[-2].text)
            and "/" not in between
            and _same(first, last)
        ):
            values = tuple(f"{a}{between}{b}" for a, b in zip(first.values, last.values, strict=True))
            result[-3:] = [replace(first, values=values)]
    return result


def _same(one: _Piece, other: _Piece) -> bool:
    """Return whether two pieces stand for the same: each value of one goes with one value of the other."""
    pairs = len(set(zip(one.values, other.values, strict=True)))
    return pairs == len(set(one.values)) == len(set(other.values))


def _channel_of(pieces: Sequence[_Piece], images: int) -> int | None:
    """Return the piece that is the channel: of few values, without which names fall into groups of the same size."""
    best: tuple[tuple[bool, bool, int], int] | None = None
    last = max((i for i, piece in enumerate(pieces) if piece.values), default=-1)
    for i, piece in enumerate(pieces):
        values = set(piece.values)
        if not 2 <= len(values) <= MOST_NAMED_CHANNELS:
            continue
        stains = 2 * sum(bool(STAIN.search(value)) for value in values) >= len(values)
        hinted = piece.hint in HINTS["channel"]
        elsewhere = any(piece.hint in words for kind, words in HINTS.items() if kind != "channel")
        groups: dict[tuple[str, ...], set[str]] = defaultdict(set)
        others = [p for j, p in enumerate(pieces) if j != i and p.values and not _same(p, piece)]
        for k in range(images):
            groups[tuple(p.values[k] for p in others)].add(piece.values[k])
        if sum(map(len, groups.values())) < images:
            continue
        whole = all(len(group) == len(values) for group in groups.values())
        few = i == last and len(values) <= MOST_CHANNELS and not elsewhere and not _are_wells(piece.values)
        guessed = few and whole and len(groups) > 1
        if (stains or hinted or guessed) and (best is None or ((stains, hinted, i), i) > best):
            best = ((stains, hinted, i), i)
    return None if best is None else best[1]


def _named(pieces: Sequence[_Piece], taken: Iterable[str]) -> list[_Piece]:
    """Return pieces with a name for each that varies: what the letters before it say, or what it looks like."""
    used = {"channel", *taken, *(p.name for p in pieces)}
    unknown = [i for i, p in enumerate(pieces) if p.values and p.folder and not _kind(p)]
    result = []
    for i, piece in enumerate(pieces):
        if not piece.values or piece.name:
            result.append(piece)
            continue
        kind = _kind(piece)
        if not kind and i in unknown:
            kind = "experiment" if i == unknown[0] else "folder"
        elif not kind:
            own = re.fullmatch("[a-z][a-z0-9]+", piece.hint) and piece.hint not in RESERVED
            kind = piece.hint if own else "sample"
        name, number = kind, 2
        while name in used:
            name, number = f"{kind}_{number}", number + 1
        used.add(name)
        result.append(replace(piece, name=name))
    return result


def _kind(piece: _Piece) -> str:
    """Return what a piece is by the letters before it, or by its values, or ""."""
    if _are_wells(piece.values):
        return "well"
    return next((kind for kind, words in HINTS.items() if kind != "channel" and piece.hint in words), "")


def _commonest(values: Iterable[T]) -> T:
    """Return the value that comes most often, the first of equals."""
    return Counter(values).most_common(1)[0][0]


def values_of(pattern: str, images: Iterable[str]) -> dict[str, list[str]]:
    """Return the values of each named part of a pattern, in natural order.

    Examples
    --------
    >>> values_of("{well}_w{channel}.tif", ["A1_w2.tif", "A1_w1.tif", "notes.tif"])
    {'well': ['A1'], 'channel': ['1', '2']}
    """
    compiled = Pattern(pattern)
    found: dict[str, set[str]] = {name: set() for name in compiled.names}
    for image in images:
        for name, value in (compiled.match(image) or {}).items():
            found[name].add(value)
    return {name: sorted(values, key=natural_key) for name, values in found.items()}

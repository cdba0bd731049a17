"""Proposing a layout of raw fields of view from the names and headers of their files."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pci_bench.acquisition.fields import FoundFields, find_fields
from pci_bench.acquisition.file_names import Naming, naming_of, values_of
from pci_bench.acquisition.image_folders import READABLE, list_images
from pci_bench.acquisition.images import ImageDescription, describe_image, read_plane
from pci_bench.acquisition.layout import NOT_OF_A_FIELD, Layout, layout_of
from pci_bench.acquisition.spatial_data import elements
from pci_bench.errors import UserError
from pci_bench.system.files import atomic_file, make_folder, user_path
from pci_bench.system.foreign import toml_value
from pci_bench.system.progress import Progress
from pci_bench.system.text import enumerated

MOST_HEADERS = 2000  # files whose headers are read, evenly spread where there are more
PLANES_EACH = 3  # of each channel, whose largest value is looked at
SMALLEST_FIELD = 64  # rows and columns of a crop
N_EXAMPLES = 3  # of names that are shown
LONG = 40  # characters of a text that is shown in a line of its own
DNA = re.compile("dapi|hoechst|dna|nuc|draq|sytox|blue|^405$", re.IGNORECASE)
PROTEIN = re.compile("gfp|antibod|protein|target|yfp|venus|neon|green|fitc|^488$", re.IGNORECASE)
MASK = re.compile("label|mask|seg|outline", re.IGNORECASE)
BARE_KEY = re.compile("[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Proposal:
    """A layout that fits most images of a folder, and what it was made from.

    Parameters
    ----------
    toml
        The layout, with comments on what is a guess.
    layout
        The same, read.
    convention
        Whose names the files have.
    found
        The fields that the layout finds.
    values
        Of each named part of the pattern, all that there are, in natural order.
    kinds
        How many files there are of each size, type and number of planes, among those that were looked at.
    looked_at
        How many files' headers were read.
    unreadable
        Files that cannot be read, and why.
    notes
        What a user should know, as sentences.
    """

    toml: str
    layout: Layout
    convention: str
    found: FoundFields
    values: Mapping[str, Sequence[str]]
    kinds: Mapping[str, int]
    looked_at: int
    unreadable: Mapping[str, str]
    notes: tuple[str, ...]

    def rows(self) -> list[tuple[str, str, str]]:
        """Return what the layout finds, as rows of a table."""
        incomplete, unmatched = self.found.incomplete, self.found.unmatched
        rows = [("fields of view", f"{len(self.found.fields):,}", f"of the channels {', '.join(self.layout.channels)}")]
        if incomplete:
            reasons = [f"{name}: {reason}" for name, reason in incomplete.items()]
            rows.append(("  lack a channel", f"{len(incomplete):,}", _first_of(reasons)))
        rows.append(("names", "", self.convention))
        rows += [(f"  {{{name}}}", f"{len(found):,}", _first_of(found, 6)) for name, found in self.values.items()]
        if unmatched:
            rows.append(("  do not fit", f"{len(unmatched):,}", _first_of(unmatched)))
        rows += [("  other channel", f"{count:,}", value) for value, count in self.found.other_channels.items()]
        rows.append(("files looked at", f"{self.looked_at:,}", ""))
        rows += [("  hold", f"{count:,}", kind) for kind, count in self.kinds.items()]
        if self.unreadable:
            rows.append(("  cannot be read", f"{len(self.unreadable):,}", _first_of(list(self.unreadable.values()))))
        return rows


def _first_of(texts: Sequence[str], number: int = N_EXAMPLES) -> str:
    """Return the first texts, long ones in lines of their own, and whether there are more."""
    shown = [*texts[:number], *(["…"] if len(texts) > number else [])]
    return ("\n" if max(map(len, shown)) > LONG else ", ").join(shown)


@dataclass(frozen=True)
class _Channel:
    """A channel as it is proposed."""

    name: str
    match: str | None = None
    index: int | None = None
    z: str | None = None
    role: str = "marker"
    guess: str = ""


def propose_layout(folder: Path, root: str | None = None, progress: Progress | None = None) -> Proposal:
    """Return a layout that fits most of the images below a folder.

    Parameters
    ----------
    folder
        The images' folder.
    root
        How the layout names it, by default with its whole path.
    progress
        The progress reporter.

    Raises
    ------
    UserError
        Where there is no such folder, no image in it, or none that can be read.

    Examples
    --------
    >>> import tempfile, tifffile
    >>> folder = Path(tempfile.mkdtemp())
    >>> for stain in ("DAPI", "GFP"):
    ...     for cell in ("a", "b"):
    ...         tifffile.imwrite(folder / f"{cell}_{stain}.tif", np.zeros((64, 64), np.uint16))
    >>> proposal = propose_layout(folder)
    >>> proposal.layout.pattern, proposal.layout.protein_channels, proposal.layout.segment.channel
    ('{sample}_{channel}.tif', ('GFP',), 'DAPI')
    >>> [field.name for field in proposal.found.fields]
    ['a', 'b']
    """
    images = list_images(folder)
    if not images:
        raise UserError(
            f"There is no image below {folder}. Expected files that end in {', '.join(READABLE)}, or OME-Zarr images."
        )
    images, labels = elements(folder, images)
    if not images:
        raise UserError(f"{folder} holds label images, and no image of a field of view: {enumerated(labels[:3])}.")
    naming = replace(naming_of(images), title="SpatialData") if labels else naming_of(images)
    values = values_of(naming.pattern, images)
    described, unreadable = _described(folder, images, progress or Progress())
    fitting = {name: description for name, description in described.items() if naming.parts(name) is not None}
    if not fitting:
        reason = next(iter(unreadable.values()), f"{images[0]} does not fit the pattern {naming.pattern}.")
        raise UserError(f"None of the images below {folder} that were looked at can be read. The first: {reason}")
    channels = _channels(folder, naming, values, images, fitting)
    bits, about_bits = _bits(folder, naming, channels, fitting, unreadable)

    def proposed(masks: str | None) -> tuple[str, Layout, FoundFields]:
        toml = _toml(
            folder, root or folder.resolve().as_posix(), naming, values, channels, fitting, bits, about_bits, masks, len(images)
        )  # fmt: skip
        layout = layout_of(toml_value(toml), "proposed")
        return toml, layout, find_fields(layout, folder)

    toml, layout, found = proposed(None)
    if len(labels) == len(found.fields):  # else a segmenter is proposed, and a note says that there are label images
        with suppress(UserError):
            with_masks = proposed(naming_of(labels).pattern)
            if len(with_masks[2].fields) == len(labels):
                toml, layout, found = with_masks
    return Proposal(
        toml,
        layout,
        naming.title,
        found,
        values,
        _kinds(fitting),
        len(described) + len(unreadable),
        unreadable,
        tuple(_notes(values, fitting, found)),
    )


def write_proposal(folder: Path | str, file: Path | str, progress: Progress | None = None) -> Proposal:
    """Propose a layout, write it to a new file, and return it.

    Parameters
    ----------
    folder
        The images' folder. Where it lies within the layout's own folder, the layout names it from there, so that both can be
        moved together.
    file
        The layout's.
    progress
        The progress reporter.

    Raises
    ------
    UserError
        Where there is such a file already, and as :func:`propose_layout`.
    """
    path, images = user_path(file, "--out", absolute=True), user_path(folder, "The folder", absolute=True)
    if path.exists():
        raise UserError(f"There is {path} already, and it is not replaced. Name another --out, or remove it.")
    within = images.resolve().is_relative_to(path.parent.resolve())
    root = images.resolve().relative_to(path.parent.resolve()).as_posix() if within else None
    proposal = propose_layout(images, root, progress)
    make_folder(path.parent)
    with atomic_file(path) as temporary:
        temporary.write_text(proposal.toml, encoding="utf-8", newline="\n")
    return proposal


def _described(
    folder: Path, images: Sequence[str], progress: Progress
) -> tuple[dict[str, ImageDescription], dict[str, str]]:
    """Return what is in the headers of images, and why others cannot be read."""
    chosen = images
    if len(images) > MOST_HEADERS:
        chosen = [images[i] for i in np.linspace(0, len(images) - 1, MOST_HEADERS).astype(int)]
    described, unreadable = {}, {}
    with progress.stage(f"reading the headers of {len(chosen):,} images", len(chosen)) as advance:
        for name in chosen:
            try:
                described[name] = describe_image(folder / name)
            except UserError as error:
                unreadable[name] = str(error)
            advance(1)
    return described, unreadable


def _of_whole_fields(naming: Naming, channels: Sequence[str], images: Sequence[str]) -> list[str]:
    """Return all channels where some field has all of them, else those that fields have most often."""
    by_field: dict[tuple[tuple[str, str], ...], set[str]] = {}
    for image in images:
        if (parts := naming.parts(image)) is not None:
            field = tuple(item for item in parts.items() if item[0] not in NOT_OF_A_FIELD)
            by_field.setdefault(field, set()).add(parts["channel"])
    if any(len(found) == len(channels) for found in by_field.values()):
        return list(channels)
    commonest = Counter(frozenset(found) for found in by_field.values())
    chosen = max(commonest, key=lambda found: (commonest[found], len(found)))
    return [channel for channel in channels if channel in chosen]


def _channels(
    folder: Path,
    naming: Naming,
    values: Mapping[str, Sequence[str]],
    images: Sequence[str],
    fitting: Mapping[str, ImageDescription],
) -> list[_Channel]:
    """Return the channels, the protein's first, then the one with DNA."""
    most = Counter(description.channels for description in fitting.values()).most_common(1)[0][0]
    stack = '"max"' if any(d.z > 1 for d in fitting.values()) or len(values.get("z", ())) > 1 else None
    channels: list[_Channel] = []
    if "channel" in values:
        for value in _of_whole_fields(naming, values["channel"], images):
            name = f"{naming.channel_prefix or 'channel'}{value}" if value.isdecimal() else value
            index = None
            if most > 1:
                index = _brightest(folder, [n for n in fitting if naming.channel(n) == value], fitting)
            channels.append(_Channel(name, None if name == value else value, index, stack))
    elif most > 1:
        names = next((d.channel_names for d in fitting.values() if d.channels == most and d.channel_names), ())
        if len(set(names)) < most:
            names = tuple(f"channel{i}" for i in range(most))
        channels = [_Channel(name, None, i, stack) for i, name in enumerate(names) if name != "alpha"]
    else:
        channels = [_Channel("image", z=stack)]
    return _with_roles(channels)


def _with_roles(channels: Sequence[_Channel]) -> list[_Channel]:
    """Return channels with guessed roles."""
    if len(channels) == 1:
        return [_with(channels[0], "protein", "the only one")]
    dna = next((c for c in channels if DNA.search(c.name)), None)
    why_dna = "DNA, by its name"
    rest = [c for c in channels if c is not dna]
    protein = next((c for c in rest if PROTEIN.search(c.name)), None)
    why_protein = "the protein, by its name"
    if dna is None:
        dna, why_dna = next(c for c in channels if c is not protein), "DNA, as it is the first"
    if protein is None:
        protein, why_protein = next(c for c in channels if c is not dna), "the protein, as it comes next"
    return [
        _with(protein, "protein", why_protein),
        _with(dna, "marker", why_dna),
        *(_with(c, "marker", "another marker") for c in channels if c not in (dna, protein)),
    ]


def _with(channel: _Channel, role: str, guess: str) -> _Channel:
    return _Channel(channel.name, channel.match, channel.index, channel.z, role, guess)


def _brightest(folder: Path, names: Sequence[str], fitting: Mapping[str, ImageDescription]) -> int:
    """Return which colour holds the pixels of a channel whose files are images of colours."""
    for name in names:
        try:
            colours = [read_plane(folder / name, i, "max").mean() for i in range(min(fitting[name].channels, 3))]
        except UserError:  # another file may do; what cannot be read is told when it is cut
            continue
        return int(np.argmax(colours))
    return 0


def _bits(
    folder: Path,
    naming: Naming,
    channels: Sequence[_Channel],
    fitting: Mapping[str, ImageDescription],
    unreadable: dict[str, str],
) -> tuple[int | None, str]:
    """Return how many bits the pixels use where the files show it, and a comment on it."""
    wide = [name for name, description in fitting.items() if description.dtype == "uint16"]
    if not wide:
        return None, ""
    said = {fitting[name].bits for name in wide}
    if len(said) == 1 and (bits := said.pop()) is not None and 9 <= bits < 16:
        return bits, "as the files' headers say"
    largest, planes = 0, 0
    for channel in channels:
        value = channel.match or channel.name
        names = [name for name in wide if naming.channel(name) in (None, value)]
        for i in sorted({*np.linspace(0, len(names) - 1, PLANES_EACH).astype(int)} if names else ()):
            try:
                plane = read_plane(folder / names[i], channel.index, "max")
            except UserError as error:
                unreadable[names[i]] = str(error)
                continue
            largest, planes = max(largest, int(plane.max(initial=0))), planes + 1
    if largest in (1023, 4095, 16383):
        return (
            largest.bit_length(),
            f"the largest value in {planes} planes is {largest}, where a camera of {largest.bit_length()} bits ends",
        )
    if planes and largest < 4096:
        return None, f"perhaps: the largest value in {planes} planes is {largest}"
    return None, ""


def _toml(
    folder: Path,
    root: str,
    naming: Naming,
    values: Mapping[str, Sequence[str]],
    channels: Sequence[_Channel],
    fitting: Mapping[str, ImageDescription],
    bits: int | None,
    about_bits: str,
    masks: str | None,
    images: int,
) -> str:
    """Return the layout as TOML."""
    lines = [
        f"# Proposed by `pci-bench data layout` for {images:,} images; names: {naming.title}.",
        '# What a channel shows cannot be known from names: check each line that says "a guess".',
        f"pattern = {_text(naming.pattern)}",
        f"root    = {_text(root)}",
        'preset  = "nuclei"  # crops of 64×64 pixels around nuclei. See also "yeast" (cells, with their buds), "human-paper"',
        '                    # and "human-code" (crops of 512×512 pixels of Human Protein Atlas fields, resized to 64×64)',
    ]
    if bits is not None:
        lines.append(f"bits    = {bits}  # {about_bits}")
    elif about_bits:
        lines.append(f"# bits  = 12  # {about_bits}")
    for channel in channels:
        guess = "" if len(channels) == 1 else f"  # a guess: {channel.guess}"
        lines += ["", f"[channels.{_key(channel.name)}]", f'role  = "{channel.role}"{guess}']
        lines += [f"match = {_text(channel.match)}"] if channel.match is not None else []
        lines += [f"index = {channel.index}"] if channel.index is not None else []
        lines += [f"z     = {channel.z}  # the brightest of all planes of focus"] if channel.z is not None else []
    obs = {}
    if {"row", "column"} <= set(values) and "well" not in values:
        obs["well"] = "{row}{column}"
    if {"experiment", "plate"} <= set(values):
        obs["plate"] = "{experiment}-{plate}"
    parts = [name for name in values if name not in NOT_OF_A_FIELD]
    lines += ["", "[obs]", *(f"{name} = {_text(text)}" for name, text in obs.items())]
    lines.append(
        f"# label = {_text('{' + (parts[0] if parts else 'NAME') + '}')}  # what cells are told apart by, where names say it; else a CSV: [labels] file, on"
    )
    segmented = channels[1] if len(channels) > 1 else channels[0]
    guess = "  # a guess, as above" if len(channels) > 1 else ""
    lines += ["", "[segment]"]
    if masks is None:
        lines.append(f"channel = {_text(segmented.name)}{guess}")
    else:
        lines.append(f"masks = {_text(masks)}  # label images, in place of a segmenter")
    if min(min(description.shape) for description in fitting.values()) < SMALLEST_FIELD:
        lines += ["", "[crop]", 'edge = "pad"  # fields are smaller than crops']
    lines += ["", "[dataset]", f"title = {_text(f'Cells of {folder.resolve().name}')}", ""]
    return "\n".join(lines)


def _text(text: str) -> str:
    """Return a text as TOML has it: as JSON, and DEL escaped."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(name: str) -> str:
    return name if BARE_KEY.fullmatch(name) else _text(name)


def _kinds(fitting: Mapping[str, ImageDescription]) -> dict[str, int]:
    """Return how many files there are of each kind, the commonest first."""

    def kind(d: ImageDescription) -> str:
        several = ((d.channels, "channels"), (d.z, "planes of focus"), (d.t, "points in time"))
        more = [f"{number} {what}" for number, what in several if number > 1]
        return ", ".join([f"{d.shape[0]:,}×{d.shape[1]:,} {d.dtype}", *more])

    return dict(Counter(map(kind, fitting.values())).most_common())


def _notes(
    values: Mapping[str, Sequence[str]], fitting: Mapping[str, ImageDescription], found: FoundFields
) -> list[str]:
    notes = []
    if any(description.t > 1 for description in fitting.values()):
        notes.append(
            "Some files are series in time, of which `data prepare` reads none: save each point in time as a file."
        )
    if "time" in values:
        notes.append(f"Names hold {len(values['time'])} points in time; each is a field of view of its own.")
    if len({description.channels for description in fitting.values()}) > 1:
        notes.append("Files differ in the number of their channels; the layout is for the commonest.")
    if len({description.dtype for description in fitting.values()}) > 1:
        notes.append("Files differ in the type of their pixels; one dataset has one type.")
    if found.incomplete:
        notes.append(
            f"{len(found.incomplete):,} of {len(found.incomplete) + len(found.fields):,} fields of view lack a channel and would be "
            "left out. To keep them, remove that channel from the layout."
        )
    if masks := [name for name in found.unmatched if MASK.search(name.rpartition("/")[2])]:
        notes.append(
            f'{masks[0]} is named like a label image: with `masks = "PATTERN"` under [segment], such files take the place of a '
            "segmenter."
        )
    return notes

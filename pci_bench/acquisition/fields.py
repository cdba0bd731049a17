"""Fields of view: which files a layout's pattern finds, and which of them make up a field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pci_bench.acquisition.image_folders import list_images
from pci_bench.acquisition.layout import NOT_OF_A_FIELD, Layout
from pci_bench.acquisition.pattern import Pattern, filled_in
from pci_bench.api.registry import natural_key
from pci_bench.errors import UserError
from pci_bench.system.text import enumerated


@dataclass(frozen=True)
class FieldOfView:
    """One field of view: its name, the parts of its files' names, and the files of its channels.

    Parameters
    ----------
    name
        Unique.
    parts
        The named parts of the pattern, but for ``channel`` and ``z``.
    files
        The files of each channel, relative to the root: one, or the planes of a stack in order.
    mask
        The file of its label image, where the layout names such files.
    """

    name: str
    parts: Mapping[str, str]
    files: Mapping[str, tuple[str, ...]]
    mask: str | None = None


@dataclass(frozen=True)
class FoundFields:
    """The fields of a layout, and what of the folder is not in them.

    Parameters
    ----------
    fields
        In the natural order of their names.
    incomplete
        Fields that lack a channel, with the reason.
    unmatched
        Image files that do not fit the pattern.
    other_channels
        How many files there are of channels that the layout does not declare.
    """

    fields: tuple[FieldOfView, ...]
    incomplete: Mapping[str, str] = field(default_factory=dict)
    unmatched: tuple[str, ...] = ()
    other_channels: Mapping[str, int] = field(default_factory=dict)

    def notes(self) -> list[str]:
        """Return what the folder holds besides the fields, as sentences."""
        notes = []
        if self.unmatched:
            notes.append(
                f"{len(self.unmatched):,} image files do not fit the pattern, for example {enumerated(self.unmatched[:3])}."
            )
        for value, count in self.other_channels.items():
            notes.append(f"{count:,} files are of the channel '{value}', which the layout does not declare.")
        return notes


def find_fields(layout: Layout, root: Path) -> FoundFields:
    """Return the fields of view below a folder.

    Raises
    ------
    UserError
        Where the pattern fits no file, fits two files of one channel and field, or two fields would have one name.
    """
    pattern = Pattern(layout.pattern)
    by_field: dict[tuple[str, ...], dict[str, list[tuple[str, str]]]] = {}
    parts_of: dict[tuple[str, ...], dict[str, str]] = {}
    channel_of = {channel.match or name: name for name, channel in layout.channels.items()}
    unmatched, others = [], dict[str, int]()
    images = list_images(root)
    masks = _masks(layout, root, images)
    mask_files = set(masks.by_parts.values())
    for path in images:
        if path in mask_files:
            continue
        if (parts := pattern.match(path)) is None:
            unmatched.append(path)
            continue
        kept = {name: value for name, value in parts.items() if name not in NOT_OF_A_FIELD}
        key = tuple(kept.values())
        parts_of[key] = kept
        planes = by_field.setdefault(key, {})
        if "channel" not in parts:
            for name in layout.channels:
                planes.setdefault(name, []).append((parts.get("z", ""), path))
        elif parts["channel"] in channel_of:
            planes.setdefault(channel_of[parts["channel"]], []).append((parts.get("z", ""), path))
        else:
            others[parts["channel"]] = others.get(parts["channel"], 0) + 1
    if not by_field:
        seen = f"for example {enumerated(images[:3])}" if images else "and there is no image at all"
        raise UserError(
            f"No file below {root} fits the pattern '{layout.pattern}', {seen}. `pci-bench data layout {root}` proposes a pattern."
        )
    fields, incomplete, names = [], {}, dict[str, tuple[str, ...]]()
    for key, planes in by_field.items():
        parts = parts_of[key]
        name = _name(layout, parts)
        if name in names:
            raise UserError(
                f"Two fields of view would have the name '{name}': {names[name]} and {key}. [obs] field must tell them apart."
            )
        names[name] = key
        for channel, files in planes.items():
            _check_planes(layout, name, channel, files)
        missing = [c for c, declared in layout.channels.items() if c not in planes and not declared.optional]
        if missing:
            some = next((files[0][1] for files in planes.values()), None)
            beside = f" beside {some}" if some else ""
            incomplete[name] = f"there is no file of the channel {' and '.join(missing)}{beside}"
            continue
        if layout.segment.masks is not None and key_of(parts, masks.names) not in masks.by_parts:
            incomplete[name] = f"no label image fits the pattern '{layout.segment.masks}' for it"
            continue
        files_of = {c: tuple(p for _, p in sorted(planes[c], key=lambda f: natural_key(f[0]))) for c in planes}
        mask = masks.by_parts[key_of(parts, masks.names)] if layout.segment.masks is not None else None
        fields.append(FieldOfView(name, parts, files_of, mask))
    fields.sort(key=lambda f: natural_key(f.name))
    if not fields:
        first, reason = next(iter(incomplete.items()))
        raise UserError(f"No field of view below {root} has all its channels; of '{first}', for example, {reason}.")
    return FoundFields(tuple(fields), incomplete, tuple(unmatched), others)


def key_of(parts: Mapping[str, str], names: Sequence[str]) -> tuple[str, ...]:
    """Return the values of some parts of a field's name."""
    return tuple(parts[name] for name in names)


def columns_of(layout: Layout, field_of_view: FieldOfView) -> dict[str, str]:
    """Return the obs columns that all cells of a field share: its named parts, and those that ``[obs]`` makes of them."""
    values = dict(field_of_view.parts)
    made = {column: filled_in(text, values, f"[obs] {column}") for column, text in layout.obs.items()}
    return {**values, **made, "field": field_of_view.name}


def _name(layout: Layout, parts: Mapping[str, str]) -> str:
    template = layout.obs.get("field")
    return filled_in(template, parts, "[obs] field") if template is not None else "-".join(parts.values()) or "field"


def _check_planes(layout: Layout, name: str, channel: str, files: Sequence[tuple[str, str]]) -> None:
    """Raise where a channel has two files that the pattern does not tell apart."""
    positions = [z for z, _ in files]
    if len(set(positions)) < len(files) or (len(files) > 1 and layout.channels[channel].z is None):
        both = enumerated([path for _, path in files[:2]])
        hint = (
            f'[channels.{channel}] z = "max", or the number of a plane, says which to take'
            if len(set(positions)) == len(files)
            else "Give what tells them apart a name in the pattern, or move one of them away"
        )
        raise UserError(f"The field '{name}' has {len(files)} files of the channel {channel}: {both}. {hint}.")


@dataclass(frozen=True)
class _Masks:
    names: tuple[str, ...]
    by_parts: Mapping[tuple[str, ...], str]


def _masks(layout: Layout, root: Path, images: Sequence[str]) -> _Masks:
    """Return the label images of a layout by the parts of their names."""
    if layout.segment.masks is None:
        return _Masks((), {})
    pattern = Pattern(layout.segment.masks)
    unknown = [name for name in pattern.names if name not in Pattern(layout.pattern).names]
    if unknown:
        raise UserError(
            f"[segment] masks = '{layout.segment.masks}' names {{{unknown[0]}}}, which the layout's pattern does not."
        )
    found: dict[tuple[str, ...], str] = {}
    for path in images:
        if (parts := pattern.match(path)) is not None:
            key = key_of(parts, pattern.names)
            if key in found:
                raise UserError(f"{found[key]} and {path} are both label images of one field. Keep one of them.")
            found[key] = path
    if not found:
        raise UserError(f"No file below {root} fits [segment] masks = '{layout.segment.masks}'.")
    return _Masks(pattern.names, found)

"""The quality-control page of fields of view that were cut into cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from pci_bench.acquisition.prepare import Joined, Prepared
from pci_bench.acquisition.quality import (
    KEPT,
    OUTCOMES,
    Groups,
    binned,
    bins,
    chosen_fields,
    furthest,
    groups_of,
    outcomes_of,
    spreads,
)
from pci_bench.data.cells import Cells
from pci_bench.data.observations import obs_strings
from pci_bench.data.pictures import channels_sentence
from pci_bench.reporting.html.cells import Shown, scattered, sprite
from pci_bench.reporting.html.charts import Spec
from pci_bench.reporting.html.field_pictures import (
    GLYPH,
    LARGEST_PICTURE,
    LARGEST_SIDE,
    LOW_HIGH,
    FieldPicture,
    field_picture,
    glyph,
    shown_channel,
)
from pci_bench.reporting.html.quality_charts import counted, histogram, number, outcome_bars, spread_chart
from pci_bench.reporting.html.rendering import rendered_page
from pci_bench.reporting.palette import ON_DARK
from pci_bench.reporting.tables.table import Cell, PageTable
from pci_bench.system.files import atomic_file, check_replaceable

FIELDS_SHOWN = 24
CROPS_SHOWN = 60
LINES_OF_CROPS = 12  # values of a column that have a line of crops each
POINTS_SHOWN = 400  # of one chart
HISTOGRAMS = 12
ROWS_SHOWN = 500  # of one table
WHOLE_AREAS = 0.995  # quantile of areas where the last bin begins
MEASURES = (("mean", "Mean intensity"), ("focus", "Focus"))


def write_quality_page(file: Path, cells: Cells, prepared: Prepared, layout: str) -> Path:
    """Write what was cut from fields of view, and what was not, as one HTML file, and return it.

    Fields are read one by one. The same fields, cut once, give the same bytes.

    Parameters
    ----------
    file
        The page.
    cells
        The dataset.
    prepared
        The fields that it was cut from.
    layout
        The file that says how.

    Raises
    ------
    UserError
        Where a field can no longer be read.

    Examples
    --------
    >>> import tempfile
    >>> from PIL import Image
    >>> from pci_bench.acquisition.layout import layout_of
    >>> from pci_bench.acquisition.prepare import Source, prepare_fields
    >>> from pci_bench.data.cells import Channel, DatasetMeta
    >>> layout = {
    ...     "pattern": "{well}_{channel}.png",
    ...     "channels": {"GFP": {"role": "protein"}},
    ...     "segment": {"masks": "{well}_mask.png"},
    ...     "crop": {"size": 16},
    ... }
    >>> image = np.zeros((32, 32), np.uint8)
    >>> image[8:20, 8:20] = 9
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("A1_GFP.png", "A1_mask.png"):
    ...         Image.fromarray(image).save(f"{folder}/{name}")
    ...     prepared = prepare_fields(Source(layout_of(layout, "mine.toml"), Path(folder)), Path(folder) / "parts", workers=1)
    ...     crops = prepared.cut(prepared.fields[0]).crops
    ...     meta = DatasetMeta("mine", "1", "My cells")
    ...     cells = Cells(prepared.joined.obs, (Channel("GFP", "protein"),), meta, "of these pixels", crops)
    ...     page = write_quality_page(Path(folder) / "qc.html", cells, prepared, "mine.toml")
    ...     "1 object kept" in page.read_text(encoding="utf-8")
    True
    """
    check_replaceable(file)
    text = rendered_quality(cells, prepared, layout)
    with atomic_file(file) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="replace", newline="\n")
    return file


def rendered_quality(cells: Cells, prepared: Prepared, layout: str) -> str:
    """Return the page."""
    table = prepared.joined
    groups = groups_of(table, ("plate", cells.meta.confounder))
    outcomes = outcomes_of(table, groups)
    charts = _Charts()
    bars = charts.add(outcome_bars(groups, outcomes))
    images = _cells_per_image(table)
    per_image = charts.add(images) if images is not None else None
    measured = [_measured(table, groups, charts, what, title) for what, title in MEASURES]
    histograms, areas_by = _areas(table, groups)
    areas = [(title, charts.add(chart)) for title, chart in histograms]
    pictures, worst = _pictures(prepared, groups)
    shown_cells, lines = _crops(cells)
    first = prepared.fields[0]
    return rendered_page(
        "quality.html.j2",
        {"charts": charts.specs},
        charts=True,
        name=cells.meta.name,
        title=cells.meta.title,
        facts=_facts(cells, prepared, layout),
        counts=_counts(prepared, cells),
        notes=cells.notes,
        legend=_legend(outcomes, drawn_objects=prepared.cut(first).labels is not None),
        channel=shown_channel(prepared, first),
        black_white=[f"{percentile:g}" for percentile in LOW_HIGH],
        largest_side=LARGEST_SIDE,
        largest_picture=LARGEST_PICTURE // 1000,
        pictures=[
            {
                "field": picture.field,
                "uri": picture.uri,
                "width": picture.width,
                "height": picture.height,
                "alt": _alt(picture),
                "said": _outcomes_said(picture.outcomes),
                "group": groups.of_field[picture.field] if groups.column else "",
                "worst": picture.field in worst,
            }
            for picture in pictures
        ],
        n_fields=len(prepared.fields),
        groups=groups,
        bars=bars,
        per_image=per_image,
        outcome_table=_outcome_table(groups, outcomes),
        measured=measured,
        points_shown=POINTS_SHOWN,
        areas=areas,
        areas_by=areas_by,
        sprite=sprite(shown_cells, [cells]),
        crops=lines,
        crops_said=channels_sentence(cells),
        n_crops=len(shown_cells.tiles),
        not_cut=_not_cut(prepared),
    )


class _Charts:
    """The charts of the page, each found by its position."""

    def __init__(self) -> None:
        self.specs: list[Spec] = []

    def add(self, spec: Spec) -> int:
        self.specs.append(spec)
        return len(self.specs) - 1


def _facts(cells: Cells, prepared: Prepared, layout: str) -> list[tuple[str, str]]:
    """Return where the cells came from, as pairs of a word and what it says."""
    source = prepared.source.layout
    newest = max(file.stat().st_mtime for file, _ in prepared.parts.values())
    segment = source.segment
    way = (
        f"segmenter {segment.segmenter} on {segment.channel}"
        if segment.segmenter is not None
        else f"label images {segment.masks}"
        if segment.masks is not None
        else f"centres of {segment.objects.file if segment.objects else ''}"
    )
    return [
        ("layout", layout),
        ("folder of images", str(prepared.source.root)),
        ("cut", f"{datetime.fromtimestamp(newest, UTC):%Y-%m-%d %H:%M} UTC"),
        ("objects from", way),
        ("crops", f"{cells.crop_shape[0]}×{cells.crop_shape[1]} pixels: {', '.join(c.name for c in cells.channels)}"),
    ]


def _counts(prepared: Prepared, cells: Cells) -> list[tuple[str, str]]:
    """Return how many fields, objects and cells there are, as pairs of what and how many."""
    table = prepared.joined
    kept = int((table.objects["reason"] == "").sum())
    rows = [("fields of view cut", f"{len(prepared.parts):,}")]
    rows += [
        (what, f"{len(reasons):,}")
        for what, reasons in (
            ("fields not cut: failed", prepared.failed),
            ("fields not cut: incomplete", prepared.found.incomplete),
        )
        if reasons
    ]
    rows.append(("objects found", f"{len(table.objects):,}"))
    rows.append(("objects kept", _with_share(kept, len(table.objects))))
    rows += [(f"objects dropped: {reason}", _with_share(n, len(table.objects))) for reason, n in table.drops().items()]
    rows.append(("cells in the dataset", f"{len(cells):,}"))
    rows.append(("images", f"{cells.obs['image'].nunique():,}"))
    return rows


def _with_share(n: int, total: int) -> str:
    return f"{n:,} ({100 * n / max(total, 1):.1f} %)"


def _pictures(prepared: Prepared, groups: Groups) -> tuple[list[FieldPicture], set[str]]:
    """Return the pictures of some fields, and which fields were chosen since the largest share of objects is dropped."""
    table = prepared.joined
    names, worst = chosen_fields(table.per_field, groups, FIELDS_SHOWN)
    by_name = {field.name: field for field in prepared.fields}
    rows = table.objects.groupby("field", sort=False).indices
    return [
        field_picture(prepared, by_name[name], table.objects.iloc[rows.get(name, np.zeros(0, int))]) for name in names
    ], worst if len(names) < len(by_name) else set()


def _alt(picture: FieldPicture) -> str:
    return f"Field {picture.field} with its objects outlined: {_outcomes_said(picture.outcomes)}."


def _outcomes_said(outcomes: Mapping[str, int]) -> str:
    """Return how many objects were kept, and dropped by reason, as a line."""
    dropped = [f"{reason} ({n:,})" for reason, n in outcomes.items() if reason != KEPT]
    return f"{counted(outcomes.get(KEPT, 0), KEPT)}; dropped: {', '.join(dropped) or 'none'}"


def _legend(outcomes: Mapping[str, Sequence[int]], *, drawn_objects: bool) -> list[dict[str, Any]]:
    """Return of every outcome that occurs: its name, its colour on black, whether it has an outline, and its symbol as a path."""
    return [
        {
            "outcome": outcome if outcome == KEPT else f"dropped: {outcome}",
            "colour": ON_DARK[code],
            "outlined": drawn_objects,
            "dropped": outcome != KEPT,
            "symbol": _path(glyph(code)) if outcome != KEPT or not drawn_objects else "",
        }
        for code, outcome in enumerate(OUTCOMES)
        if outcome in outcomes
    ]


def _path(shape: np.ndarray) -> str:
    """Return pixels as an SVG path, the middle of the picture being 0."""
    half = GLYPH / 2
    return "".join(f"M{x - half} {y - half}h1v1h-1z" for y, x in np.argwhere(shape))


def _outcome_table(groups: Groups, outcomes: Mapping[str, Sequence[int]]) -> PageTable:
    fields = list(groups.of_field.values())
    rows = []
    for i, name in enumerate(groups.names):
        numbers = [fields.count(name), sum(counts[i] for counts in outcomes.values())]
        numbers += [counts[i] for counts in outcomes.values()]
        rows.append([Cell(name), *(Cell(f"{n:,}", n) for n in numbers)])
    return PageTable("The bars as a table", [groups.column or "", "fields", "objects", *outcomes], rows)


def _cells_per_image(table: Joined) -> Spec | None:
    """Return a histogram of images by their number of cells."""
    sizes = table.obs.groupby("image", observed=True).size().to_numpy()
    if len(sizes) == 0:
        return None
    edges = bins(sizes)
    return histogram(
        edges.tolist(), {"": binned(sizes, edges).tolist()}, of="images", axis="cells per image", unit="cells"
    )


def _measured(table: Joined, groups: Groups, charts: _Charts, what: str, title: str) -> dict[str, Any]:
    """Return a measure of every channel: its charts, and a table of groups with the fields of extremes."""
    drawn, rows, points_left = [], [], False
    fields = table.per_field["field"].astype(str).tolist()
    for column in table.per_field.columns:
        if not column.startswith(f"{what} "):
            continue
        channel = column.removeprefix(f"{what} ")
        numbers = table.per_field[column].to_numpy(float)
        values = {field: value for field, value in zip(fields, numbers.tolist(), strict=True) if np.isfinite(value)}
        spread = spreads(values, groups)
        points = furthest(values, groups, POINTS_SHOWN)
        points_left |= len(points) < len(values)
        drawn.append((channel, charts.add(spread_chart(f"{title} of {channel}", groups, spread, points))))
        rows += [
            [
                Cell(s.group),
                Cell(channel),
                Cell(f"{s.fields:,}", s.fields),
                Cell(number(s.lowest[0]), s.lowest[0]),
                Cell(s.lowest[1]),
                Cell(number(s.quartiles[1]), s.quartiles[1]),
                Cell(number(s.highest[0]), s.highest[0]),
                Cell(s.highest[1]),
            ]
            for s in spread
        ]
    columns = [groups.column or "", "channel", "fields", "lowest", "lowest field", "median", "highest", "highest field"]
    return {
        "title": title,
        "charts": drawn,
        "points_left": points_left,
        "table": PageTable(f"{title} of fields", columns, rows),
    }


def _areas(table: Joined, groups: Groups) -> tuple[list[tuple[str, Spec]], str]:
    """Return histograms of the objects' areas with their titles, and by what they are; none where areas are not known."""
    objects = table.objects[np.isfinite(table.objects["area"].to_numpy(float))]
    if len(objects) == 0:
        return [], ""
    lines = groups_of(table, ("cell_line",))
    by = lines if lines.column is not None else groups
    if len(by.names) > HISTOGRAMS:
        by = groups_of(table, ())
    area, reason = objects["area"].to_numpy(float), objects["reason"].to_numpy()
    group = objects["field"].map(by.of_field).to_numpy()
    edges = bins(area, upper=WHOLE_AREAS)
    charts = []
    for name in by.names:
        of_group = group == name
        counts = {
            outcome: binned(area[of_group & (reason == ("" if outcome == KEPT else outcome))], edges).tolist()
            for outcome in OUTCOMES
        }
        title = name if by.column is not None else "All objects"
        charts.append(
            (title, histogram(edges.tolist(), counts, of="objects", axis="area (pixels)", unit="pixels", open_end=True))
        )
    return charts, by.column or ""


@dataclass(frozen=True)
class _Line:
    """Crops that share a value: their positions in the sprite and what is said of each."""

    value: str
    crops: list[tuple[int, int, str]]


def _crops(cells: Cells) -> tuple[Shown, list[_Line]]:
    """Return a drawing of cells, and lines of their crops by the first of label and protein that tells them apart."""
    column = next((c for c in ("label", "protein") if len(set(obs_strings(cells.obs, c)) - {""}) > 1), "")
    chosen = set(scattered(cells, CROPS_SHOWN, column))
    names = cells.obs["cell"].astype(str).to_numpy()
    values = obs_strings(cells.obs, column)
    by_value: dict[str, list[tuple[str, str]]] = {}
    for name, value in zip(names, values, strict=True):
        if name in chosen:
            by_value.setdefault(str(value), []).append((str(name), str(value)))
    ordered = [pair for value in sorted(by_value) for pair in by_value[value]]
    shown_cells = Shown()
    shown_cells.give_tiles(0, (name for name, _ in ordered), CROPS_SHOWN)
    columns = int(np.ceil(np.sqrt(len(ordered))))
    apart = len(by_value) <= LINES_OF_CROPS
    lines: dict[str, _Line] = {}
    for place, (name, value) in enumerate(ordered):
        line = lines.setdefault(value if apart else "", _Line(value if apart else "", []))
        line.crops.append((place % columns, place // columns, f"Cell {name}{f', {value}' if value else ''}"))
    return shown_cells, list(lines.values())


def _not_cut(prepared: Prepared) -> PageTable | None:
    """Return the fields that could not be cut, with reasons; None where there is none."""
    reasons = prepared.left_out
    if not reasons:
        return None
    rows = [[Cell(field), Cell(reason)] for field, reason in list(reasons.items())[:ROWS_SHOWN]]
    left = len(reasons) - len(rows)
    notes = [f"{left:,} more are not in this table; pci-bench data prepare prints all."] if left else []
    return PageTable("Fields that were not cut", ["field", "reason"], rows, notes)

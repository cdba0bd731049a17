"""The charts of a quality-control page: objects by outcome, histograms, and how values of fields are spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pci_bench.acquisition.quality import OUTCOMES, Groups, Spread
from pci_bench.reporting.html.charts import Spec, vega_lite

LEAST_FOR_BOX = 4  # fields of a group whose quartiles are drawn
FEW_EDGES = 7  # of bins, which all have their number


def outcome_color(present: Sequence[str], *, legend: bool = True) -> Spec:
    """Return how an outcome is coloured: always the same, whichever others there are."""
    return {
        "field": "outcome",
        "type": "nominal",
        "scale": {"domain": list(OUTCOMES), "range": "category"},
        "legend": {"orient": "top", "title": None, "values": list(present), "columns": 2} if legend else None,
    }


def said() -> Spec:
    """Return the channels that tell what a mark is, to who points at it and to a screen reader."""
    return {"tooltip": {"field": "said"}, "description": {"field": "said"}}


def outcome_bars(groups: Groups, counts: Mapping[str, Sequence[int]]) -> Spec:
    """Return bars of every group's objects, kept and dropped by reason.

    Examples
    --------
    >>> spec = outcome_bars(Groups("plate", ("1", "2"), {}), {"kept": [5, 0]})
    >>> spec["data"]["values"][0]["said"], len(spec["data"]["values"])
    ('1: 5 objects kept', 1)
    """
    values = [
        {"group": name, "outcome": outcome, "n": n, "order": order, "said": f"{name}: {counted(n, outcome)}"}
        for order, (outcome, numbers) in enumerate(counts.items())
        for name, n in zip(groups.names, numbers, strict=True)
        if n
    ]
    return vega_lite(
        f"Bars: objects by {groups.column or 'outcome'}, kept and dropped by reason",
        height=len(groups.names) * step(len(groups.names)),
        data={"values": values},
        mark={"type": "bar", "height": {"band": 0.85}},
        encoding={
            "x": {"field": "n", "type": "quantitative", "title": "objects"},
            "y": group_axis(groups),
            "color": outcome_color(list(counts)),
            "order": {"field": "order"},
            **said(),
        },
    )


def counted(n: int, outcome: str) -> str:
    """Return how many objects have an outcome, in words.

    >>> counted(1, "kept"), counted(2, "too small")
    ('1 object kept', '2 objects dropped: too small')
    """
    objects = f"{n:,} {'object' if n == 1 else 'objects'}"
    return f"{objects} kept" if outcome == OUTCOMES[0] else f"{objects} dropped: {outcome}"


def histogram(
    edges: Sequence[int], counts: Mapping[str, Sequence[int]], *, of: str, axis: str, unit: str, open_end: bool = False
) -> Spec:
    """Return a histogram; counts of outcomes stand on one another.

    Parameters
    ----------
    edges
        Of the bins.
    counts
        Of each bin, by outcome; by "" where there is only one kind.
    of
        What is counted, in the plural.
    axis
        The title of the horizontal axis.
    unit
        What stands behind the numbers of a bin.
    open_end
        Whether the last bin has what is above it too.
    """
    values = []
    for order, (outcome, numbers) in enumerate(counts.items()):
        for i, n in enumerate(numbers):
            if n:
                width = f"{edges[i]:,}" if edges[i + 1] - edges[i] == 1 else f"{edges[i]:,} to {edges[i + 1] - 1:,}"
                if open_end and i == len(numbers) - 1:
                    width = f"{edges[i]:,} or more"
                what = counted(n, outcome) if outcome else f"{n:,} {of}"
                values.append(
                    {
                        "low": int(edges[i]),
                        "high": int(edges[i + 1]),
                        "n": int(n),
                        "outcome": outcome,
                        "order": order,
                        "said": f"{width} {unit}: {what}",
                    }
                )
    color = {"color": outcome_color([], legend=False), "order": {"field": "order"}} if "" not in counts else {}
    domain = [int(edges[0]), int(edges[-1])]
    ticks = {"values": list(edges)} if len(edges) <= FEW_EDGES else {"tickCount": 6}
    return vega_lite(
        f"Histogram: {of} by {axis}",
        height=160,
        data={"values": values},
        mark={"type": "bar", "binSpacing": 1},
        encoding={
            "x": {
                "field": "low",
                "bin": "binned",
                "type": "quantitative",
                "title": axis,
                "scale": {"domain": domain, "nice": False},
                "axis": {"format": ",d", "grid": False, **ticks},
            },
            "x2": {"field": "high"},
            "y": {"field": "n", "type": "quantitative", "title": of, "axis": {"tickCount": 4, "tickMinStep": 1}},
            **color,
            **said(),
        },
    )


def spread_chart(title: str, groups: Groups, spreads: Sequence[Spread], points: Mapping[str, float]) -> Spec:
    """Return the values of fields as points, a line for each group: its median as a tick, between its quartiles a box.

    Parameters
    ----------
    title
        What the values are.
    groups
        The groups of the fields.
    spreads
        Of each group.
    points
        Of some fields or all, by their names.
    """
    boxes = [
        {
            "group": s.group,
            "first": s.quartiles[0],
            "median": s.quartiles[1],
            "last": s.quartiles[2],
            "boxed": s.fields >= LEAST_FOR_BOX,
            "said": f"{s.group}, {s.fields:,} fields: median {number(s.quartiles[1])}",
        }
        for s in spreads
    ]
    values = [
        {"group": groups.of_field[field], "value": value, "said": f"{field}: {number(value)}"}
        for field, value in points.items()
    ]
    y, height = group_axis(groups), step(len(groups.names))
    x = {"type": "quantitative", "title": None, "scale": {"zero": False, "padding": 8}, "axis": {"tickCount": 4}}
    return vega_lite(
        f"Points: {title}",
        height=len(groups.names) * height,
        layer=[
            {
                "data": {"values": boxes},
                "transform": [{"filter": "datum.boxed"}],
                "mark": {"type": "bar", "opacity": 0.25, "height": {"band": 0.8}, "aria": False},
                "encoding": {"y": y, "x": {"field": "first", **x}, "x2": {"field": "last"}},
            },
            {
                "data": {"values": boxes},
                "mark": {"type": "tick", "thickness": 2, "size": 0.8 * height},
                "encoding": {"y": y, "x": {"field": "median", **x}, **said()},
            },
            {
                "data": {"values": values},
                "mark": {"type": "point", "filled": True, "size": 40, "opacity": 0.75},
                "encoding": {"y": y, "x": {"field": "value", **x}, **said()},
            },
        ],
    )


def number(value: float) -> str:
    """Return a value with three digits.

    >>> number(0.012345), number(1.5), number(0)
    ('0.0123', '1.5', '0')
    """
    return f"{value:.3g}"


def group_axis(groups: Groups) -> Spec:
    """Return the axis that has a line for each group."""
    return {
        "field": "group",
        "type": "nominal",
        "title": None,
        "sort": list(groups.names),
        "scale": {"domain": list(groups.names)},
        "axis": {"labelOverlap": "greedy"},
    }


def step(n_groups: int) -> int:
    """Return the height of a group's line in pixels."""
    return max(12, min(40, 280 // n_groups))

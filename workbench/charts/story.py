"""Pictures of the home page: one group on its tree with bars beside the leaves, and verdicts."""

from __future__ import annotations

import altair as alt
import polars as pl

from workbench.charts.style import INK, Chart, titled
from workbench.charts.together import fixed, overlaid, side_by_side

UP, DOWN, REACHED = "#006AB1", "#D24D00", "#008A61"
_ROW, _TREE, _BARS, _FRAME = 11, 360, 150, 100
"""Pixels: a row's height, widths of the tree and of a panel of bars, title and axis of a tree."""


def group_story(
    nodes: pl.DataFrame,
    edges: pl.DataFrame,
    depth: int,
    bars: pl.DataFrame | None = None,
    moved: tuple[int, float, float] | None = None,
    lit: str = "",
) -> Chart:
    """A group on its tree of semantic IDs, each rollout's bars on the line of its leaf.

    nodes, edges: as `group.tree_frames` gives, one rollout per leaf. bars: panel (its title), row,
    weight, one panel after the other. moved: rollout whose slot the anchor takes, its row and the
    target's. lit: the panel whose weights colour the leaves, blue up and orange down.
    """
    last = float(nodes["row"].cast(pl.Float64).to_numpy().max())
    place = alt.Y("row:Q", axis=None).scale(domain=[-0.8, last + 0.8], reverse=True, nice=False)
    height = int(_ROW * (last + 1.6))
    leaves = _pushed(nodes.filter(pl.col("kind") != "inner"), bars, lit)
    target = leaves.filter(pl.col("kind") == "target").with_columns(label=pl.lit("target"))
    layers = [_branches(edges, depth, place), _leaves(leaves, place, bool(lit))]
    layers.append(_named(target, place))
    if moved is not None:
        layers += _flight(depth, *moved, place)
    found: Chart = overlaid(*layers)
    named: list[str] = []
    if bars is None:  # alone it takes the width that there is
        found = found.properties(height=height + _FRAME)
    else:
        named = bars["panel"].unique(maintain_order=True).to_list()
        panels = [
            _panel(bars.filter(pl.col("panel") == name), name, place, height) for name in named
        ]
        tree = found.properties(width=_TREE, height=height)
        found = side_by_side(tree, *panels, spacing=14)
    said = " and ".join(named)
    told: Chart = found.properties(
        # Short: a title may be cut to the tree's width.
        title="Which rollouts go up, which down?" if lit else "How near the target do they end?",
        description="One prompt's group of 32 rollouts as a prefix tree of semantic IDs, the thick "
        "branch leading to the target"
        + (f"; beside each leaf the weight that it gets under {said}." if said else "."),
    )
    return told


def _pushed(leaves: pl.DataFrame, bars: pl.DataFrame | None, lit: str) -> pl.DataFrame:
    """Leaves with the direction, `push`, in which the weights of panel `lit` move each of them."""
    leaves = leaves.with_columns(push=pl.lit("no push"))
    if bars is None or not lit:
        return leaves
    weights = bars.filter(pl.col("panel") == lit).group_by("row").agg(pl.col("weight").sum())
    return leaves.join(weights, on="row", how="left").with_columns(
        push=pl.when(pl.col("weight") > 0)
        .then(pl.lit("pushed up"))
        .when(pl.col("weight") < 0)
        .then(pl.lit("pushed down"))
        .otherwise(pl.lit("no push"))
    )


def _branches(edges: pl.DataFrame, depth: int, place: alt.Y) -> alt.Chart:
    """The tree's edges, those towards the target thick."""
    x = alt.X("level:Q", title="Level of the semantic ID").axis(
        values=list(range(depth + 1)), format="d", grid=False
    )
    towards = "datum.path == 'shared with the target'"
    lines: alt.Chart = (
        alt.Chart(edges)
        .mark_line()
        .encode(
            x=x.scale(domain=[0, depth + 0.7], nice=False),
            y=place,
            detail=alt.Detail("edge:N"),
            color=alt.condition(towards, alt.value(REACHED), alt.value(INK)),
            strokeWidth=alt.condition(towards, alt.value(4), alt.value(1)),
        )
    )
    return lines


def _leaves(leaves: pl.DataFrame, place: alt.Y, explained: bool) -> alt.Chart:
    """A mark per rollout, by the direction in which it is pushed. explained: with a legend."""
    key = alt.Legend(orient="bottom") if explained else None
    pushes = ["pushed up", "pushed down", "no push"]
    marks: alt.Chart = (
        alt.Chart(leaves)
        .mark_point(filled=True, opacity=1)
        .encode(
            x=alt.X("level:Q"),
            y=place,
            # Without bars nothing is pushed, and a legend would explain what is not there.
            color=alt.Color("push:N", title=None)
            .scale(domain=pushes, range=[UP, DOWN, INK])
            .legend(key),
            shape=alt.Shape("push:N", title=None)
            .scale(domain=pushes, range=["triangle-up", "triangle-down", "circle"])
            .legend(key),
            size=alt.condition("datum.kind == 'target'", alt.value(150), alt.value(45)),
            tooltip=[alt.Tooltip("label:N", title="Rollout"), alt.Tooltip("code:N", title="Item")],
        )
    )
    return marks


def _flight(depth: int, rollout: int, start: float, end: float, place: alt.Y) -> list[alt.Chart]:
    """The anchor's way from the target's row to the slot that it takes, and that slot's name."""
    flight = pl.DataFrame(
        {"level": [depth + x for x in (0.0, 0.45, 0.45, 0.0)], "row": [end, end, start, start]}
    ).with_columns(order=pl.int_range(4))
    return [
        alt.Chart(flight)
        .mark_line(color=REACHED, strokeDash=[4, 2], strokeWidth=2, interpolate="monotone")
        .encode(x=alt.X("level:Q"), y=place, order=alt.Order("order:O")),
        alt.Chart(pl.DataFrame({"level": [depth], "row": [start]}))
        .mark_point(shape="circle", size=200, color=REACHED, strokeWidth=2)
        .encode(x=alt.X("level:Q"), y=place),
        _named(pl.DataFrame({"level": [depth], "row": [start], "label": [f"R{rollout}"]}), place),
    ]


def _named(frame: pl.DataFrame, place: alt.Y) -> alt.Chart:
    named: alt.Chart = (
        alt.Chart(frame)
        .mark_text(align="left", dx=9, dy=-9, color=INK, fontWeight="bold")
        .encode(x=alt.X("level:Q"), y=place, text=alt.Text("label:N"))
    )
    return named


def _panel(rows: pl.DataFrame, title: str, place: alt.Y, height: int) -> Chart:
    """The bars of one strategy. A panel without a weight says so, which is its message."""
    top = float(rows["weight"].abs().max() or 1)  # type: ignore[arg-type]
    x = alt.X("weight:Q", title="Weight").axis(tickCount=3, grid=False)
    x = x.scale(domain=[-1.1 * top, 1.1 * top], nice=False)
    base = alt.Chart(rows.filter(pl.col("weight") != 0)).encode(y=place)
    bars = base.mark_rule(strokeWidth=8).encode(
        x=x,
        x2=alt.X2Datum(0),
        color=alt.condition("datum.weight > 0", alt.value(UP), alt.value(DOWN)),
        tooltip=[
            alt.Tooltip("slot:N", title="Rollout"),
            alt.Tooltip("weight:Q", title="Weight", format=".3f"),
            alt.Tooltip("origin:N", title="Origin"),
        ],
    )
    layers = [alt.Chart(pl.DataFrame({"weight": [0.0]})).mark_rule(color=INK).encode(x=x)]
    if rows["weight"].cast(pl.Float64).to_numpy().any():
        layers.append(bars)
    else:  # marks without an item would be a picture without a text for those who cannot see it
        layers.append(
            alt.Chart(pl.DataFrame({"label": ["no bar: nothing to learn"]}))
            .mark_text(color=INK, angle=270, fontSize=13)
            .encode(
                x=fixed(alt.XValue, _BARS / 2 - 14),
                y=fixed(alt.YValue, height / 2),
                text=alt.Text("label:N"),
            )
        )
    found: Chart = overlaid(*layers).properties(width=_BARS, height=height, title=title)
    return found


def verdict_map(
    frame: pl.DataFrame, title: str, description: str, rows_are: str = "Metric"
) -> Chart:
    """Who is ahead: one tile per row and rival, its colour and words the verdict.

    frame: label (of the row), rival, tone ("first", "second", "open"), said (words of the tile),
    difference, low, high, p. rows_are: what a row is, in the tooltip.
    """
    tones = {"first": "ReCast helps", "open": "not told apart", "second": "the rival wins"}
    shown = frame.with_columns(verdict=pl.col("tone").replace_strict(dict(tones)))
    rivals = frame["rival"].unique(maintain_order=True).to_list()
    rows = frame["label"].unique(maintain_order=True).to_list()
    base = alt.Chart(shown).encode(
        x=alt.X("rival:N", title=None, sort=rivals).axis(
            orient="top", labelAngle=0, labelFontSize=13, labelLimit=220, domain=False, ticks=False
        ),
        y=alt.Y("label:N", title=None, sort=rows).axis(labelLimit=340, domain=False, ticks=False),
    )
    number = [
        alt.Tooltip(f"{name}:Q", title=words, format="+.4f")
        for name, words in (("difference", "Difference"), ("low", "95% low"), ("high", "95% high"))
    ]
    tiles = base.mark_rect(stroke="white", strokeWidth=2).encode(
        color=alt.Color("verdict:N", title=None)
        .scale(domain=list(tones.values()), range=["#B34200", "#676767", "#006AB1"])
        .legend(orient="bottom", symbolStrokeWidth=0),
        tooltip=[
            alt.Tooltip("label:N", title=rows_are),
            alt.Tooltip("rival:N", title="Rival"),
            *number,
            alt.Tooltip("p:Q", title="p, corrected", format=".3f"),
        ],
    )
    words = base.mark_text(color="white", fontWeight="bold").encode(text=alt.Text("said:N"))
    return titled(
        overlaid(tiles, words).properties(width=alt.Step(190), height=alt.Step(34)),
        title,
        description,
    )

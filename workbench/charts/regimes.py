"""Chart of regime shares against the search width."""

from __future__ import annotations

import altair as alt
import polars as pl

from recast import REGIMES
from workbench.charts.style import (
    INK,
    PAPER_POINT,
    PAPER_SHARES,
    REGIME_LABELS,
    REGIME_STYLE,
    Chart,
    titled,
)
from workbench.charts.together import fixed, overlaid


def regimes_by_group(frame: pl.DataFrame, here: int | None = None) -> Chart:
    """Share of groups in each regime against G, the paper's 85/13/2 at G = 32 marked.

    frame: group, regime (of `REGIMES`), share in [0, 1]. here: the user's own G, drawn as a rule.
    """
    labels = [REGIME_LABELS[name] for name in REGIMES]
    named = frame.with_columns(pl.col("regime").replace_strict(dict(REGIME_LABELS)))
    key = alt.Legend(symbolType="stroke", symbolSize=600, symbolStrokeWidth=2)
    percent = {"format": "%"}
    lines = (
        alt.Chart(named)
        .mark_line(point=alt.OverlayMarkDef(size=25))
        .encode(
            x=alt.X("group:Q", title="Rollouts per group, G", scale={"type": "log", "base": 2}),
            y=alt.Y("share:Q", title="Share of groups", axis=percent, scale={"domain": [0, 1]}),
            color=alt.Color(
                "regime:N",
                title="Regime",
                legend=key,
                scale={"domain": labels, "range": [colour for colour, _ in REGIME_STYLE]},
            ),
            strokeDash=alt.StrokeDash(
                "regime:N",
                title="Regime",
                legend=key,
                scale={"domain": labels, "range": [dash for _, dash in REGIME_STYLE]},
            ),
            tooltip=[
                alt.Tooltip("group:Q"),
                alt.Tooltip("regime:N"),
                alt.Tooltip("share:Q", format=".2%"),
            ],
        )
    )
    paper = pl.DataFrame(
        {
            "group": [PAPER_POINT["group"]] * len(PAPER_SHARES),
            "share": list(PAPER_SHARES.values()),
            "label": [f"paper: {share:.0%} {name}" for name, share in PAPER_SHARES.items()],
        }
    )
    marks = alt.Chart(paper).encode(
        x=alt.X("group:Q"), y=alt.Y("share:Q"), tooltip=[alt.Tooltip("label:N")]
    )
    said = "paper: " + " / ".join(f"{share:.0%}" for share in PAPER_SHARES.values())
    text = alt.Chart(paper.head(1)).encode(
        x=alt.X("group:Q"), y=alt.Y("share:Q"), text=fixed(alt.TextValue, said)
    )
    own = alt.Chart(pl.DataFrame({"group": [here or 0]})).encode(x=alt.X("group:Q"))
    rules = [own.mark_rule(color=INK, strokeDash=[2, 2])] if here else []
    return titled(
        overlaid(
            *rules,
            lines,
            marks.mark_point(shape="diamond", size=140, color=INK, strokeWidth=2),
            text.mark_text(align="right", dx=-4, dy=24, color=INK),
        ),
        "How many groups can teach anything at this search width?",
        "Lines: share of all-zero, single-hit, multi-hit and saturated groups against the rollouts "
        "per group. Grey diamonds: the paper's 85%, 13% and 2% at 32 rollouts. Dashed rule: your "
        "own number of rollouts.",
    )


def stacked(shares: pl.DataFrame, panel: str) -> pl.DataFrame:
    """Each regime's band between `bottom` and `top`, all-zero groups lowest, saturated ones on top.

    shares: `panel`, step, regime (of `REGIMES`) and share, one row each.
    """
    place = {name: i for i, name in enumerate(REGIMES)}
    return (
        shares.sort(pl.col("regime").replace_strict(place), maintain_order=True)
        .with_columns(top=pl.col("share").cum_sum().over(panel, "step"))
        .with_columns(
            bottom=pl.col("top") - pl.col("share"),
            regime=pl.col("regime").replace_strict(dict(REGIME_LABELS)),
        )
    )


def band_channels(ticks: int) -> dict[str, alt.Y | alt.Y2 | alt.Color]:
    """How the bands of `stacked` are drawn. ticks: about how many along the shares."""
    labels = [REGIME_LABELS[name] for name in REGIMES]
    return {
        "y": alt.Y("bottom:Q", title="Share of groups")
        .axis(format="%", tickCount=ticks)
        .scale(domain=[0, 1]),
        "y2": alt.Y2("top:Q"),
        "color": alt.Color("regime:N", title=None)
        .legend(orient="top", symbolStrokeWidth=0)
        .scale(domain=labels, range=[colour for colour, _ in REGIME_STYLE]),
    }

"""Charts of what a group can teach."""

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
    scales,
    titled,
)


def regimes_by_group(frame: pl.DataFrame) -> Chart:
    """Share of groups in each regime against G, the paper's 85/13/2 at G = 32 marked.

    frame: group, regime (of `REGIMES`), share in [0, 1].
    """
    labels = [REGIME_LABELS[name] for name in REGIMES]
    named = frame.with_columns(pl.col("regime").replace_strict(dict(REGIME_LABELS)))
    lines = (
        alt.Chart(named)
        .mark_line(point=alt.OverlayMarkDef(size=25))
        .encode(
            x=alt.X("group:Q", title="Rollouts per group, G").scale(type="log", base=2),
            y=alt.Y("share:Q", title="Share of groups").axis(format="%").scale(domain=[0, 1]),
            color=alt.Color("regime:N", title="Regime").scale(
                domain=labels, range=[colour for colour, _ in REGIME_STYLE]
            ),
            strokeDash=alt.StrokeDash("regime:N", title="Regime").scale(
                domain=labels, range=[dash for _, dash in REGIME_STYLE]
            ),
            tooltip=["group:Q", "regime:N", alt.Tooltip("share:Q", format=".2%")],
        )
    )
    paper = pl.DataFrame(
        {
            "group": [PAPER_POINT["group"]] * len(PAPER_SHARES),
            "share": list(PAPER_SHARES.values()),
            "label": [f"paper: {share:.0%} {name}" for name, share in PAPER_SHARES.items()],
        }
    )
    marks = alt.Chart(paper).encode(x="group:Q", y="share:Q", tooltip=["label:N"])
    return titled(
        lines
        + marks.mark_point(shape="diamond", size=140, color=INK, strokeWidth=2)
        + marks.mark_text(align="left", dx=9, dy=-9, color=INK).encode(text="label:N"),
        "How many groups can teach anything at this search width?",
        "Lines: share of all-zero, single-hit, multi-hit and saturated groups against the rollouts "
        "per group. Black diamonds: the paper's 85%, 13% and 2% at 32 rollouts.",
    )


def signal_counts(frame: pl.DataFrame) -> Chart:
    """Expected rollouts with a gradient signal per group, one bar per strategy.

    frame: strategy, signal_count.
    """
    order, colour, _, _ = scales(frame)
    base = alt.Chart(frame.filter(pl.col("signal_count").is_not_nan())).encode(
        y=alt.Y("strategy:N", title=None, sort=order),
        x=alt.X("signal_count:Q", title="Expected rollouts or targets with a signal, per group"),
        tooltip=["strategy:N", alt.Tooltip("signal_count:Q", format=".3f")],
    )
    bars = base.mark_bar().encode(color=colour.legend(None))
    text = base.mark_text(align="left", dx=4).encode(text=alt.Text("signal_count:Q", format=".2f"))
    return titled(
        bars + text,
        "How many rollouts of a group does each strategy learn from?",
        "One bar per strategy: the expected number of rollouts with a non-zero advantage, plus one "
        "for a supervised target, per group.",
    )

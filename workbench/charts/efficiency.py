"""Chart of the actor update's cost: measured ratios beside the token model."""

from __future__ import annotations

import altair as alt
import polars as pl

from workbench.charts.style import INK, Chart, log_ticks, titled
from workbench.charts.together import fixed, overlaid

PAPER_RATIO = 16.6
PREFIX = {"reencoded": "encoded per rollout", "shared": "shared by group"}


def update_ratio(frame: pl.DataFrame, baseline: str, strategy: str) -> Chart:
    """Update time of `baseline` over `strategy` against G, one point per micro-batch.

    frame: rows of `recast lm efficiency`. Lines: the ratio of tokens. The rule marks the paper.
    """
    shown = frame.filter(pl.col("strategy") == strategy).with_columns(
        pl.col("prefix").replace_strict(PREFIX).alias("mode"),
        pl.when(pl.col("micro_rows") == 0)
        .then(pl.lit("whole batch"))
        .otherwise(pl.format("{} rows", "micro_rows"))
        .alias("micro"),
    )
    widths = sorted(shown["group"].unique().to_list())
    x = (
        alt.X("group:Q", title="Search width G (rollouts per prompt)")
        .scale(type="log", base=2, domain=[widths[0] / 1.2, widths[-1] * 1.2], nice=False)
        .axis(values=widths)
    )
    values = [v for name in ("ratio", "token_ratio") for v in shown[name].drop_nulls()]
    ticks = log_ticks(min(values), max(values)) if values and min(values) > 0 else []
    y = (
        alt.Y("ratio:Q", title=f"Update time, {baseline} / {strategy}")
        .scale(type="log")
        .axis(values=ticks, format="~g")
    )
    key = alt.Legend(symbolType="stroke", symbolSize=600, symbolStrokeWidth=2)
    colour = alt.Color("mode:N", title="Prompt", legend=key).scale(
        domain=list(PREFIX.values()), range=["#0072B2", "#D55E00"]
    )
    dash = alt.StrokeDash("mode:N", title="Prompt", legend=key).scale(
        domain=list(PREFIX.values()), range=[[1, 0], [6, 3]]
    )
    shape = alt.Shape("micro:N", title="Micro-batch").legend(
        symbolFillColor=INK, symbolStrokeColor=INK
    )
    lines = (
        alt.Chart(shown.unique(["group", "prompt_tokens", "mode"], maintain_order=True))
        .mark_line()
        .encode(x=x, y=alt.Y("token_ratio:Q"), color=colour, strokeDash=dash)
    )
    points = (
        alt.Chart(shown)
        .mark_point(size=80, filled=True)
        .encode(
            x=x,
            y=y,
            color=colour,
            shape=shape,
            tooltip=["group:Q", "prompt_tokens:Q", "micro:N", "ratio:Q", "token_ratio:Q"],
        )
    )
    tokens = sorted(shown["prompt_tokens"].unique().to_list())
    return titled(
        overlaid(lines, points, *_paper()),
        f"How much cheaper is {strategy}'s update, and how much of it is prompt re-encoding?",
        f"Update time of {baseline} over {strategy} against G at prompts of "
        f"{', '.join(map(str, tokens))} tokens, measured (points) and by counting tokens (lines), "
        "with the prompt re-encoded per rollout and shared by the group; the dotted rule is the "
        "paper's 16.6.",
    )


def _paper() -> tuple[alt.Chart, alt.Chart]:
    """The rule at the paper's ratio, and its name."""
    paper = pl.DataFrame({"ratio": [PAPER_RATIO], "label": ["paper: 16.6x at G = 32"]})
    rule = alt.Chart(paper).mark_rule(color=INK, strokeDash=[2, 2]).encode(y="ratio:Q")
    text = (
        alt.Chart(paper)
        .mark_text(align="left", dx=4, dy=-6, color=INK)
        .encode(x=fixed(alt.XValue, 0), y=alt.Y("ratio:Q"), text=alt.Text("label:N"))
    )
    return rule, text

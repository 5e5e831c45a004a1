"""Learnability: which groups can teach, from the hit probability alone."""

from __future__ import annotations

import math

import polars as pl
import streamlit as st

from recast import STRATEGIES, Strategy
from recast.by_hits import sampled_width
from recast.learnability import beta_regimes, expected_signal_count, hit_count_pmf
from workbench import charts

WIDTHS = (1, 2, 4, 8, 16, 32, 64, 128)


def regime_frame(mean: float, cv: float, widths: list[int]) -> pl.DataFrame:
    """group, regime, share: one row per width and regime."""
    return pl.DataFrame(
        [
            {"group": group, "regime": regime, "share": share}
            for group in widths
            for regime, share in beta_regimes(mean, cv, group).items()
        ]
    )


def count_frame(mean: float, cv: float, group: int) -> pl.DataFrame:
    """strategy, signal_count, meaning; nan where a strategy has no count per group."""

    def count(strategy: Strategy) -> float:
        pmf = hit_count_pmf(mean, cv, sampled_width(strategy, group))
        try:
            return expected_signal_count(strategy, pmf, group)
        except ValueError:
            return math.nan

    return pl.DataFrame(
        [
            {
                "strategy": name,
                "signal_count": count(strategy),
                "meaning": strategy.meaning,
            }
            for name, strategy in STRATEGIES.items()
        ]
    )


st.title("How much can a sparse-hit policy learn from its own rollouts?")
st.write(
    "A rollout hits its target with a small probability. A group without a hit, or with hits only, "
    "teaches GRPO nothing. Move the sliders to see how often that happens."
)
left, middle, right = st.columns(3)
percent = left.slider(
    "Mean hit probability (%)",
    min_value=0.05,
    max_value=50.0,
    value=100 * charts.PAPER_POINT["mean"],
    step=0.01,
    key="hit_probability",
    help="Chance that one rollout hits, averaged over prompts.",
)
mean = percent / 100
bound = math.sqrt((1 - mean) / mean)
spread = middle.slider(
    "Spread over prompts (CV)",
    min_value=0.0,
    max_value=3.0,
    value=charts.PAPER_POINT["cv"],
    step=0.01,
    key="cv",
    help="Standard deviation / mean of the hit probability. 0: every prompt is equally hard.",
)
group = int(right.select_slider("Rollouts per group, G", options=WIDTHS, value=32, key="group"))
cv = min(spread, 0.99 * bound)
if cv < spread:
    st.info(f"At a mean of {mean:.2%} the CV stays below {bound:.2f}; the page uses {cv:.2f}.")

regimes = regime_frame(mean, cv, sorted({*WIDTHS, group}))
here = dict(regimes.filter(pl.col("group") == group).select("regime", "share").iter_rows())
for column, (name, share) in zip(st.columns(4), here.items(), strict=True):
    column.metric(charts.REGIME_LABELS[name], f"{share:.1%}")
st.altair_chart(charts.regimes_by_group(regimes), width="stretch")
st.caption(
    "Diamonds: the paper's 85 / 13 / 2 at G = 32, which a mean of 0.54% with CV 0.89 reproduces."
)
st.dataframe(
    regimes.pivot("regime", index="group", values="share").rename(dict(charts.REGIME_LABELS)),
    hide_index=True,
    width="stretch",
    column_config={
        label: st.column_config.NumberColumn(format="percent")
        for label in charts.REGIME_LABELS.values()
    },
)

counts = count_frame(mean, cv, group)
st.altair_chart(charts.signal_counts(counts), width="stretch")
st.caption(
    f"Per group of {group}, from the strategies' own code on groups with 0 to {group} hits; a "
    "supervised target counts as one. `reinforce` centres on the whole batch, so it has no count "
    "per group."
)
st.dataframe(
    counts.with_columns(pl.col("signal_count").fill_nan(None).round(3)),
    hide_index=True,
    width="stretch",
)

"""Learnability: which groups can teach and what a strategy climbs, from the hit rate alone."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

import polars as pl
import streamlit as st

from recast import STRATEGIES
from recast.theory.closed_forms import SYMBOLS
from workbench import charts
from workbench.pages.address import Address
from workbench.pages.figure import figure, grid, plain
from workbench.theory import frames as theory
from workbench.theory.regimes import regime_frame

if TYPE_CHECKING:
    from workbench.stats.beta_binomial import BetaFit

WIDTHS = (1, 2, 4, 8, 16, 32, 64, 128)
FIRST = ["grpo", "dr_grpo", "pass_at_k", "maxrl", "repair_only", "recast", "contrast_only", "sft"]
SCALES = {"shape": "Shapes, made comparable", "shipped": "As shipped, own denominators"}
LOWEST, HIGHEST, WIDEST = 0.05, 50.0, 3.0

view = Address("learnability")


def use(fit: BetaFit) -> None:
    """Put a fit into the sliders, as far as they reach."""
    view.put(
        {
            "hit_probability": min(max(round(100 * fit.mean.value, 2), LOWEST), HIGHEST),
            "cv": min(round(fit.cv.value, 2), WIDEST),
        }
    )


@st.cache_data(max_entries=64, show_spinner=False)
def pushes(names: tuple[str, ...], mean: float, group: int) -> pl.DataFrame:
    """Weights; computed once per setting."""
    return theory.weight_frame(names, mean, group)


@st.cache_data(max_entries=64, show_spinner=False)
def summed_up(names: tuple[str, ...], mean: float, group: int) -> pl.DataFrame:
    """Closed forms and what each sum is divided by; computed once per setting."""
    return theory.summary_frame(names, mean, group)


@st.cache_data(max_entries=64, show_spinner=False)
def teaching_groups(
    names: tuple[str, ...], mean: float, cv: float, group: int
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """What width buys, and counts; computed once per setting."""
    return (
        theory.reach_frame(names, mean, cv, WIDTHS),
        theory.count_frame(names, mean, cv, group),
    )


st.title("How much can a sparse-hit policy learn from its own rollouts?")
st.write(
    "A policy samples G rollouts for a prompt; each hits its target with a small probability p. A "
    "group without a hit, or with hits only, teaches GRPO nothing. Move the sliders to see how "
    "often that happens, and what each strategy makes of it. Nothing is trained or stored here, so "
    "there are no data to choose: these are exact sums over the number of hits, taken from the "
    "strategies' own code."
)
view.presets(
    {
        "The paper's point": {
            "hit_probability": 100 * charts.PAPER_POINT["mean"],
            "cv": charts.PAPER_POINT["cv"],
            "group": 32,
        },
        "A strong policy": {"hit_probability": 20.0, "cv": 1.0, "group": 32},
        "Every prompt alike": {"hit_probability": 3.0, "cv": 0.0, "group": 32},
        "A narrow search": {
            "hit_probability": 100 * charts.PAPER_POINT["mean"],
            "cv": charts.PAPER_POINT["cv"],
            "group": 4,
        },
    }
)
left, middle, right = st.columns(3)
percent = left.slider(
    "Mean hit probability (%)",
    LOWEST,
    HIGHEST,
    step=0.01,
    help="Chance that one rollout hits, averaged over prompts: your p.",
    **view.number("hit_probability", 100 * charts.PAPER_POINT["mean"], low=LOWEST, high=HIGHEST),
)
mean = percent / 100
bound = math.sqrt((1 - mean) / mean)
spread = middle.slider(
    "Spread over prompts (CV)",
    0.0,
    WIDEST,
    step=0.01,
    help="Standard deviation / mean of the hit probability. 0: every prompt is equally hard.",
    **view.number("cv", charts.PAPER_POINT["cv"], low=0.0, high=WIDEST),
)
group = int(
    right.select_slider("Rollouts per group, G", WIDTHS, **view.one_of("group", WIDTHS, 32))
)
cv = min(spread, 0.99 * bound)
if cv < spread:
    st.info(f"At a mean of {mean:.2%} the CV stays below {bound:.2f}; the page uses {cv:.2f}.")

regimes = regime_frame(mean, cv, WIDTHS)
here = dict(regimes.filter(pl.col("group") == group).select("regime", "share").iter_rows())
for column, (name, share) in zip(st.columns(4), here.items(), strict=True):
    column.metric(charts.REGIME_LABELS[name], f"{share:.1%}")
teaching = here["single_hit"] + here["multi_hit"]
price = f"one that teaches costs {group / teaching:,.0f} rollouts" if teaching else "none teaches"
st.markdown(
    f"**{1 - teaching:.1%} of the rollouts that you pay for give GRPO no gradient**: they sit in "
    f"groups of equal rewards, where reward minus group mean is zero. With G = {group}, {price}. "
    "ReCast puts the ground truth into all-zero groups; supervised training (SFT) needs no rollout "
    "at all."
)
figure(
    charts.regimes_by_group(regimes, group),
    regimes.pivot("regime", index="group", values="share").rename(dict(charts.REGIME_LABELS)),
    name="regimes",
    read="Only single-hit and multi-hit groups hold both hits and misses. The dashed rule is your "
    "G. Diamonds: the paper's 85 / 13 / 2 at G = 32, which a mean of 0.54% with CV 0.89 gives.",
    columns={
        label: st.column_config.NumberColumn(format="percent")
        for label in charts.REGIME_LABELS.values()
    },
)

names = charts.in_order(
    st.multiselect(
        "Strategies", list(STRATEGIES), **view.some_of("strategies", list(STRATEGIES), FIRST)
    )
)
if not names:
    st.info("Choose at least one strategy.")
    st.stop()
for name, reason in theory.left_out(names, group).items():
    st.caption(f"`{name}` is not drawn: {plain(reason)}.")


def which_prompts() -> None:
    """What each strategy pushes and climbs, over the hit probability of a prompt."""
    curves = pushes(tuple(names), mean, group)
    if curves.is_empty():
        st.info("None of these strategies has a weight at this G; choose another one.")
        return
    scale = st.segmented_control(
        "Scale",
        list(SCALES),
        format_func=SCALES.__getitem__,
        required=True,
        **view.one_of("scale", list(SCALES)),
    )
    figure(
        charts.weights(curves, mean, scale or "shape"),
        curves,
        name="weights",
        columns={
            "p": st.column_config.NumberColumn("Hit probability p", format="%.4g"),
            "w": st.column_config.NumberColumn("Weight w(p)", format="%.4g"),
            "f": st.column_config.NumberColumn("Objective f(p)", format="%.4g"),
            "w_scaled": st.column_config.NumberColumn("w(p), 1 at your p", format="%.4g"),
            "f_scaled": st.column_config.NumberColumn("f(p), share of its climb", format="%.4g"),
        },
        read="The expected update of a prompt is w(p) grad log p, so the strategy climbs the f "
        "with slope w / p. Flat w: every prompt counts alike, as in supervised training (f = log "
        "p). w rising with p: easy prompts count most, as in the policy gradient (f = p).",
    )
    together = theory.same_lines(curves)
    for line in together:
        st.markdown(f"**{' and '.join(f'`{name}`' for name in line)} lie on one line.**")
    if any({"recast", "sft"} <= set(line) for line in together):
        st.write(
            "That is the insight of this picture: in expectation ReCast pulls a prompt towards its "
            "target as supervised training does, whatever its hit rate; GRPO all but leaves rare "
            "hits alone. What ReCast adds is a push against one miss, which no w(p) shows."
        )
    unfolded = st.expander(
        "The formulas, and what each sum is divided by", key="formulas", on_change="rerun"
    )
    if unfolded.open:
        with unfolded:
            definitions(summed_up(tuple(names), mean, group))


def definitions(summary: pl.DataFrame) -> None:
    """The closed forms, their symbols and what each sum is divided by."""
    st.markdown(formulas(summary))
    st.caption(SYMBOLS)
    grid(
        summary.drop("w_closed_form", "climbs"),
        hide_index=True,
        width="stretch",
        placeholder="-",
        column_config={
            "w": st.column_config.NumberColumn("w at your p", format="%.4g"),
            "divided_by": "Denominator: the sum is divided by",
            "apart": st.column_config.NumberColumn(
                "Credit apart",
                format="%.4g",
                help="Summed advantage on misses that are picked by their structure, such as a "
                "hard negative. It pushes against them, along no multiple of grad log p.",
            ),
            "snr": st.column_config.NumberColumn(
                "Signal to noise",
                format="%.3g",
                help="Mean over standard deviation of one group's update along the logit of p.",
            ),
            "note": "Holds for",
        },
        alt="Per strategy: weight at your p, denominator, signal to noise",
    )


def formulas(summary: pl.DataFrame) -> str:
    """w and f of each strategy as a Markdown table."""
    rows = summary.select("strategy", "w_closed_form", "climbs").iter_rows()
    return "\n".join(
        [
            "| Strategy | $w(p)$ | climbs $f(p)$, up to a constant |",
            "|---|---|---|",
            *(f"| `{name}` | {w} | {f} |" for name, w, f in rows),
        ]
    )


def one_group() -> None:
    """How much one group teaches, over its width."""
    reach, counts = teaching_groups(tuple(names), mean, cv, group)
    if reach.is_empty():
        st.info("The chosen strategies look at the whole batch; none has a count per group.")
        return
    figure(
        charts.what_width_buys(reach),
        reach,
        name="what-width-buys",
        columns={
            "learnable": st.column_config.NumberColumn("Groups with a signal", format="percent"),
            "cost": st.column_config.NumberColumn("Rollouts per such group", format="%.4g"),
        },
        read="Wider groups find more hits, so more of them teach; the right-hand line is the price "
        "of one that does. With repair every group teaches, from G = 2 on. Strategies that share a "
        "line cover each other.",
    )
    figure(
        charts.signal_counts(counts),
        counts,
        name="signal-counts",
        read=f"Rollouts of a group of {group} with a non-zero advantage, averaged over prompts; a "
        "supervised target counts as one.",
    )
    batch = sorted(set(names) - set(counts["strategy"]) - set(theory.left_out(names, group)))
    if batch:
        st.caption(f"Without a value per group, as they look at the batch: {', '.join(batch)}.")


def fitted() -> None:
    """The sliders' values for hits that somebody has counted."""
    st.write(
        "Paste the number of hits of each prompt's group. The Beta-binomial fit gives the two "
        "sliders their values, with 95% profile-likelihood intervals."
    )
    typed = st.text_area("Hits per prompt", placeholder="0 0 1 0 2 0 ...", key="hits")
    rolled = int(st.number_input("Rollouts per prompt", 1, 4096, 32, key="hits_group"))
    if typed.strip():
        from workbench.stats.beta_binomial import fit_hit_counts

        try:
            words = re.split(r"[\s,;]+", typed.strip())
            if strange := [word for word in words if not re.fullmatch(r"[0-9]{1,9}", word)]:
                raise ValueError(f"hits: {strange[0][:20]!r} is not a whole number")
            fit = fit_hit_counts([int(word) for word in words], rolled)
            predicted = {"Pass@1, mean p": fit.mean, "CV": fit.cv}
            if fit.predicts or group == 1:
                predicted |= {
                    f"{charts.REGIME_LABELS[name]} at G = {group}": share
                    for name, share in fit.regimes(group).items()
                }
                predicted[f"Pass@{group}"] = fit.pass_at(group)
        except ValueError as problem:
            st.error(plain(str(problem)))
        else:
            grid(
                pl.DataFrame(
                    [
                        {"": name, "fitted": e.value, "low": e.low, "high": e.high}
                        for name, e in predicted.items()
                    ]
                ),
                hide_index=True,
                alt="Fitted mean, spread and predicted regimes, each with its 95% interval",
            )
            if fit.note:
                st.caption(f"Mind: {fit.note}.")
            st.button("Use this fit above", key="use_fit", on_click=use, args=(fit,))


view.draw_part(
    {
        "push": ("Which prompts does it push?", which_prompts),
        "group": ("How much does one group teach?", one_group),
    }
)
with st.expander("Have you counted hits already? Fit them"):
    fitted()

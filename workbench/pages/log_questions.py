"""The questions that a diagnosed log answers, one part of the page each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import polars as pl
import streamlit as st

from recast import REGIMES, STRATEGIES
from workbench import charts
from workbench.diagnosis.answer import DiagnosisSummary
from workbench.diagnosis.counterfactual import DEFAULT, Logged, counterfactual, example_groups
from workbench.diagnosis.diagnosis import Diagnosis
from workbench.diagnosis.logs.groups import TEACHES
from workbench.diagnosis.savings import best_group
from workbench.diagnosis.snippets import TRAINERS, mind, snippet
from workbench.pages.address import Address
from workbench.pages.figure import figure, grid, plain
from workbench.pages.ranked_by_theory import ranked_by_theory
from workbench.pages.simulate import simulate


class ShownDiagnosis(NamedTuple):
    """A diagnosis and everything that the page shows of it."""

    diagnosis: Diagnosis
    answer: DiagnosisSummary
    training: pl.DataFrame
    regimes: pl.DataFrame
    predictions: pl.DataFrame
    savings: pl.DataFrame
    tensors: Logged


def chosen(view: Address) -> list[str]:
    """The strategies that are asked about; stops the page where there are none."""
    names = charts.in_order(
        st.multiselect(
            "Strategies", list(STRATEGIES), **view.some_of("strategies", list(STRATEGIES), DEFAULT)
        )
    )
    if not names:
        st.info("Choose at least one strategy.")
        st.stop()
    return names


def teaching_groups(view: Address, said: ShownDiagnosis) -> None:
    """Regimes over the log's steps, and their shares of the whole log."""
    found = said.diagnosis
    st.header("How many groups can teach anything?")
    if found.known:
        figure(
            charts.logged_regimes(said.training),
            said.training,
            name="logged-regimes",
            read="Only single-hit and multi-hit groups hold hits and misses both, which is what a "
            "group-relative signal such as GRPO compares. Grey teaches it nothing.",
            width="content",
        )
    grid(
        said.regimes.select(name for name in said.regimes.columns if said.regimes[name].count()),
        hide_index=True,
        column_config={
            **{
                name: st.column_config.NumberColumn(charts.REGIME_LABELS[name], format="percent")
                for name in REGIMES
            },
            "learnable": st.column_config.NumberColumn("learnable", format="percent"),
            "constant": st.column_config.NumberColumn("equal rewards", format="percent"),
            "pass_at_1": st.column_config.NumberColumn("Pass@1", format="percent"),
            "pass_at_g": st.column_config.NumberColumn("Pass@G", format="percent"),
            "distinct": st.column_config.NumberColumn("distinct per group", format="%.1f"),
            "entropy": st.column_config.NumberColumn("entropy (nats)", format="%.3f"),
            "logp": st.column_config.NumberColumn("log-probability (nats)", format="%.3f"),
        },
        alt="Regime shares of the whole log, overall and per task",
    )


def other_groups(view: Address, said: ShownDiagnosis) -> None:
    """What another G would make learnable, and what a learnable group costs."""
    found = said.diagnosis
    st.header("What G is worth paying for?")
    left, right = st.columns([2, 1])
    share = left.slider(
        "Learnable groups wanted (%)", 5, 95, **view.number("learnable", 50, low=5, high=95)
    )
    st.write(plain(best_group(found, share / 100)))
    if not said.predictions.is_empty():
        tasks = said.predictions["task"].unique(maintain_order=True).to_list()
        task = tasks[0]
        if len(tasks) > 1:
            task = right.selectbox("Task", tasks, **view.one_of("task", tasks))
        mine = said.predictions.filter(pl.col("task") == task)
        part = found.late() if task == "all" else found.late().filter(pl.col("task") == task)
        teaches = part.filter(TEACHES).height / part.height
        figure(
            charts.other_widths(mine, found.group, teaches),
            mine,
            name="other-widths",
            read="A Beta-binomial fit to the hits of the last third of the steps; bands are 95%. "
            "More rollouts make more groups learnable and each learnable group dearer.",
            width="content",
        )
    grid(
        said.savings,
        hide_index=True,
        placeholder="-",
        column_config={
            "how": "Way to run",
            "cost": st.column_config.NumberColumn("Rollouts per learnable group", format="%.1f"),
            "cost_low": st.column_config.NumberColumn("95% low", format="%.1f"),
            "cost_high": st.column_config.NumberColumn("95% high", format="%.1f"),
            "updated": st.column_config.NumberColumn("Rows updated for it", format="%.1f"),
            "updated_low": None,
            "updated_high": None,
            "labelled": st.column_config.NumberColumn("Ground truths used", format="%.2f"),
            "rollouts_per_step": st.column_config.NumberColumn(
                "Rollouts per step, x", format="%.2f"
            ),
            "note": "Mind",
        },
        alt="What one learnable group costs under each way to run, with 95% intervals",
    )


def other_strategies(view: Address, said: ShownDiagnosis) -> None:
    """What each strategy would have made of the logged groups."""
    found = said.diagnosis
    st.header("What would each strategy change?")
    names = chosen(view)
    table = counterfactual(found, names, said.tensors)
    if "learnable" in table.columns and table["learnable"].count():
        figure(
            charts.what_if(table),
            table,
            name="what-if",
            read="The strategies' own code on the groups of the whole log, raw outcomes as "
            "rewards. It says what one step would have seen, not where training would lead.",
            width="content",
        )
    for row in table.filter(pl.col("note") != "").iter_rows(named=True):
        st.caption(plain(f"{row['strategy']}: {row['note']}."))


def one_logged_group(view: Address, said: ShownDiagnosis) -> None:
    """What each strategy would have given each rollout of one logged group."""
    found = said.diagnosis
    st.header("Which rollouts of one group would be pushed?")
    names = chosen(view)
    groups = example_groups(found, names, said.tensors)
    if not groups.is_empty():
        there = [name for name in REGIMES if name in set(groups["regime"])]
        kind = st.segmented_control(
            "One logged group",
            there,
            format_func=charts.REGIME_LABELS.__getitem__,
            required=True,
            **view.one_of("regime", there),
        )
        one = groups.filter(pl.col("regime") == (kind or there[0]))
        figure(
            charts.advantages(one),
            one,
            name="one-group",
            read="The last group of that kind in the log: what each rollout would have been given.",
            width="content",
        )


def similar_world(view: Address, said: ShownDiagnosis) -> None:
    """The strategies ranked by theory, and in a simulated world with the log's regimes."""
    found = said.diagnosis
    st.header("Which strategy would learn most from here?")
    ranked_by_theory(view, found)
    st.subheader("And in a simulated world like this?")
    simulate(found)


def plug_in(view: Address, said: ShownDiagnosis) -> None:
    """Lines for the trainer at hand."""
    found = said.diagnosis
    st.header("How do I plug it in?")
    left, right = st.columns(2)
    strategy = left.selectbox(
        "Strategy", list(STRATEGIES), **view.one_of("strategy", list(STRATEGIES), "recast")
    )
    trainer = right.selectbox(
        "Trainer", list(TRAINERS), format_func=TRAINERS.__getitem__,
        **view.one_of("trainer", list(TRAINERS)),
    )  # fmt: skip
    zero = found.late_share(pl.col("regime") == "all_zero")
    st.code(
        snippet(trainer, strategy, found.group, zero),
        language="bash" if trainer in ("run", "verl") else "python",
        wrap_lines=True,
    )
    if reason := mind(trainer, strategy, found.group):
        st.info(plain(reason))


PARTS: Mapping[str, tuple[str, Callable[[Address, ShownDiagnosis], None]]] = {
    "groups": ("Groups that teach", teaching_groups),
    "width": ("Which G pays", other_groups),
    "strategies": ("Other strategies", other_strategies),
    "group": ("One group", one_logged_group),
    "world": ("What would win", similar_world),
    "plug": ("Plug it in", plug_in),
}

"""Two strategies against each other, in one cell or in two."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

import polars as pl
import streamlit as st

from workbench import charts
from workbench.analysis.answers import compared
from workbench.analysis.cells import cell_labels, varying_fields
from workbench.analysis.compare import Side, compare
from workbench.analysis.tuning import lone_rates, mark_tuned
from workbench.charts.style import words_of
from workbench.errors import UserError
from workbench.pages.address import Address
from workbench.pages.figure import answer, figure, least_p_told, plain
from workbench.pages.over_worlds import over_worlds
from workbench.pages.stored import StoreState, cached_by_store
from workbench.pages.tuned_for import other_rates, tuning_box
from workbench.spec.metrics import PRIMARY


def first_choice(known: list[str], place: int) -> str:
    """What a side opens with: ReCast, and SFT or else GRPO; without them others, and twice the
    same only where there is one."""
    first = "recast" if "recast" in known else known[min(1, len(known) - 1)]
    others = [name for name in known if name != first]
    if place == 0 or not others:
        return first
    return next((name for name in ("sft", "grpo") if name in others), others[0])


def comparison(view: Address, state: StoreState, frame: pl.DataFrame) -> None:
    """Two strategies, in one cell or in two, paired by seed."""
    (one, first), (two, second) = _sides(view, state, frame)
    if first == second and one["cell"][0] == two["cell"][0]:
        st.info(_why_not(frame))
        return
    both = pl.concat([one, two]) if one["cell"][0] != two["cell"][0] else one
    differing = varying_fields(both)
    metrics = [name for name in PRIMARY if name in both.columns and both[name].count()]
    boxes = st.columns(2)
    with boxes[1]:
        known = [name for name in charts.METRICS if name in both.columns and both[name].count()]
        asked_for = tuning_box(view, known, "the metric of each row")
    try:
        table = compare(
            both,
            Side(first, {name: one[name][0] for name in differing}),
            Side(second, {name: two[name][0] for name in differing}),
            metrics,
            asked_for,
        )
    except UserError as problem:
        st.info(plain(str(problem)))
        return
    headline = boxes[0].selectbox(
        "Headline metric",
        metrics,
        format_func=lambda name: charts.METRICS.get(name, name),
        **view.one_of("headline", metrics),
    )
    label = charts.METRICS.get(headline, headline)
    row = table.filter(pl.col("metric") == headline).row(0, named=True)
    answer(
        compared(table, first, second, headline, label),
        _rates_said(row, ((one, first), (two, second)), headline, asked_for),
        over_worlds(state, first, [second], headline),
    )
    least_p_told(int(table["n"].to_numpy().min()))
    figure(
        charts.differences(
            table.select(
                label=pl.col("metric").replace(dict(charts.METRICS)),
                setting=pl.lit(f"{first} minus {second}"),
                value="difference",
                low="low",
                high="high",
                p="p_corrected",
            ),
            f"Is {first} better than {second}, each at the best rate tried?",
        ),
        table,
        name="comparison",
        read="Right of zero: the first is higher. The bar is a 95% interval over paired seeds; a "
        "hollow mark is not significant at .05 after correction over these rows.",
    )


def _why_not(frame: pl.DataFrame) -> str:
    """What to do where both sides are the same."""
    if frame["strategy"].n_unique() == frame["cell"].n_unique() == 1:
        return "Two strategies are needed to compare, and these runs are of one."
    return "Both sides are the same: choose another strategy or another cell."


def _rates_said(
    row: dict[str, Any],
    sides: Sequence[tuple[pl.DataFrame, str]],
    headline: str,
    asked_for: str | None,
) -> list[str]:
    """At which rates a row's two sides are, what chose them, the command of these numbers, and,
    where another metric chose, which rates the headline metric would have chosen."""
    (_, first), (_, second) = sides
    alone = {name for runs, name in sides if name in lone_rates(runs)}
    by = charts.METRICS.get(row["tuned_by"], row["tuned_by"])
    command = shlex.join(["recast", "compare", first, second])
    command += f" --tune-metric {asked_for}" if asked_for else ""
    chosen = [name for name in dict.fromkeys((first, second)) if name not in alone]
    how = f"best on {by} of validation users" if chosen else "the only ones tried, so none is tuned"
    if chosen and alone:
        how = f"{chosen[0]}'s is {how}, the other the only one tried"
    told = [
        f"Rates {first} {row['lr_first']:g} and {second} {row['lr_second']:g}: {how}. All test "
        f"users, after the last step. The numbers of {command}."
    ]
    if asked_for is not None and asked_for != headline:
        tuned = [mark_tuned(runs.filter(strategy=name), asked_for) for runs, name in sides]
        told.append(other_rates(headline, *tuned))
    return told


def _sides(view: Address, state: StoreState, frame: pl.DataFrame) -> list[tuple[pl.DataFrame, str]]:
    """Rows of the chosen cell and the chosen strategy, of the first and of the second."""
    labels = cached_by_store(state, "labels", lambda: cell_labels(frame, words_of))
    sides = []
    for place, (column, name) in enumerate(zip(st.columns(2), ("First", "Second"), strict=True)):
        with column:
            cell = st.selectbox(
                f"{name} cell",
                list(labels),
                format_func=lambda one: labels[one],
                **view.one_of(f"cell_{place}", list(labels)),
            )
            here = frame.filter(pl.col("cell") == cell)
            known = charts.in_order(here["strategy"].unique().to_list())
            strategy = st.selectbox(
                f"{name} strategy",
                known,
                **view.one_of(f"strategy_{place}", known, first_choice(known, place)),
            )
        sides.append((here, strategy))
    return sides

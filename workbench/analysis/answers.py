"""Answers in one sentence: who is ahead, by how much, how surely, and at which rates.

Every number comes from the tables that the commands print (`compare`, `budget_table`, the phase
map, saved tables of a real model), so a page and a command never say different things.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from workbench.analysis.compare import Side, compare
from workbench.errors import UserError
from workbench.plurals import number_of
from workbench.spec.metrics import PRIMARY
from workbench.stats.p_values import LEVEL, least_p

Tone = Literal["first", "second", "open"]


@dataclass(frozen=True)
class Answer:
    """verdict: a few words; sentence: the same with its numbers; tone: who is ahead, if anybody."""

    verdict: str
    sentence: str
    tone: Tone = "open"


def standing(difference: float, p: float | None) -> Tone:
    """Who is ahead by a paired difference, first minus second; open at p of .05 or more."""
    if p is None or p >= LEVEL or not difference:
        return "open"
    return "first" if difference > 0 else "second"


def says(tone: Tone, first: str, second: str) -> str:
    """The verdict of a comparison in words."""
    return {"first": f"{first} ahead", "second": f"{second} ahead", "open": "not told apart"}[tone]


def value(number: float | None, digits: int = 4) -> str:
    """A share without its leading zero, as papers set it: .0169."""
    if number is None:
        return "-"
    text = f"{number:.{digits}f}"
    return text.replace("0.", ".", 1) if abs(number) < 1 else text


def chance(p: float) -> str:
    """A p-value in words, never as nothing: p .004, p below .001."""
    return f"p {value(p, 3)}" if p >= 0.001 else "p below .001"


def surely(low: float | None, high: float | None, p: float | None, seeds: int) -> str:
    """Interval, corrected p and seeds in words; says when so few seeds can show nothing."""
    parts = [] if low is None or high is None else [f"95% interval {value(low)} to {value(high)}"]
    parts.append(f"{number_of(seeds, 'paired seed')}")
    if p is not None:
        parts.append(chance(p))
    if least_p(seeds) >= LEVEL:
        parts.append(f"so few seeds give no p below {value(least_p(seeds), 3)}")
    return ", ".join(parts)


def compared(table: pl.DataFrame, first: str, second: str, metric: str, label: str) -> Answer:
    """What a table of `compare` says of one metric, and of how many others the two differ.

    label: the metric in words. The first cell of the table answers.
    """
    rows = table.filter(pl.col("metric") == metric)
    row = (rows if rows.height else table).row(0, named=True)
    tone = standing(row["difference"], row["p_corrected"])
    told = [standing(gap, p) for gap, p in table.select("difference", "p_corrected").iter_rows()]
    apart = sum(one != "open" for one in told)
    how = surely(row["low"], row["high"], row["p_corrected"], row["n"])
    return Answer(
        says(tone, first, second),
        f"{first} {value(row['first'])} against {second} {value(row['second'])} on {label}: "
        f"{_signed(row['difference'])} ({how}). {apart} of {table.height} metrics, over which p is "
        "corrected, tell the two apart.",
        tone,
    )


def of_pairs(
    table: pl.DataFrame,
    first: str,
    metric: str,
    label: str,
    corrected: str = "over all strategies and metrics",
) -> Answer | None:
    """What a table of paired differences says of one strategy against each control; None where it
    has none. table: control, strategy, metric, difference, difference_low, difference_high,
    p_corrected; corrected: over what its p is."""
    order = {"sft": 0, "grpo": 1}
    rows = table.filter((pl.col("strategy") == first) & (pl.col("metric") == metric)).sort(
        pl.col("control").replace_strict(order, default=len(order)), maintain_order=True
    )
    if rows.is_empty():
        return None
    parts, verdicts, tones = [], [], []
    for row in rows.iter_rows(named=True):
        tone = standing(row["difference"], row["p_corrected"])
        tones.append(tone)
        verdicts.append(
            f"not told apart from {row['control']}"
            if tone == "open"
            else f"{'ahead of' if tone == 'first' else 'behind'} {row['control']}"
        )
        known = None not in (row["difference_low"], row["difference_high"])
        how = [
            f"95% interval {value(row['difference_low'])} to {value(row['difference_high'])}"
            if known
            else "no interval"
        ]
        if row["p_corrected"] is not None:
            how.append(chance(row["p_corrected"]))
        parts.append(f"{_signed(row['difference'])} against {row['control']} ({', '.join(how)})")
    return Answer(
        f"{first} {', '.join(verdicts)}",
        f"{first} on {label}: {', '.join(parts)}; p corrected {corrected}.",
        tones[0] if len(set(tones)) == 1 else "open",
    )


def ranking(scores: pl.DataFrame, metric: str, label: str, first: str) -> list[str]:
    """What a table of scores says in words: who has the highest means and where `first` and the
    start stand; and whose tuned rate is the last of its grid, so that a further one may do better.

    scores: rows of one slice: strategy, the metric with _low and _high, and edge where it is known.
    """
    rows = scores.drop_nulls(metric).sort(metric, descending=True, maintain_order=True)
    if rows.is_empty():
        return []
    names = rows["strategy"].to_list()
    known = {*names[:3], "sft", "grpo", first, "start"}
    said = []
    for name in (one for one in names if one in known):
        row = rows.row(names.index(name), named=True)
        part = f"{'the start' if name == 'start' else name} {value(row[metric])}"
        if None not in (row[f"{metric}_low"], row[f"{metric}_high"]):
            part += f" ({value(row[f'{metric}_low'])} to {value(row[f'{metric}_high'])})"
        said.append(part)
    told = [
        f"{label}, mean and 95% interval; the three highest and the controls: {', '.join(said)}."
    ]
    sides = dict(rows.select("strategy", "edge").iter_rows()) if "edge" in rows.columns else {}
    there = ", ".join(f"{name} ({side})" for name, side in sides.items() if side)
    if there:
        told.append(
            f"Tuned rate on an edge of the grid, where a rate beyond it may do better: {there}."
        )
    return told


def against(
    frame: pl.DataFrame,
    first: str,
    rivals: Sequence[str],
    metric: str,
    label: str,
    tune_metric: str | None = None,
) -> Answer | None:
    """Where one strategy stands against each rival on a metric, with the numbers of `compare`; None
    where it has no pair. frame: runs of one cell; tune_metric: as there."""
    names = [*PRIMARY, *([] if metric in PRIMARY else [metric])]
    known = [name for name in names if name in frame.columns and frame[name].count()]
    there = set(frame["strategy"])
    tables = []
    for rival in rivals:
        if rival == first or not {first, rival} <= there:
            continue
        with contextlib.suppress(UserError):
            tables.append(
                compare(frame, Side(first, {}), Side(rival, {}), known, tune_metric).select(
                    "metric",
                    "difference",
                    "p_corrected",
                    strategy=pl.lit(first),
                    control=pl.lit(rival),
                    difference_low="low",
                    difference_high="high",
                )
            )
    if not tables:
        return None
    whole = pl.concat(tables, how="vertical_relaxed")
    return of_pairs(whole, first, metric, label, "over the metrics of a pair")


def leads(row: Mapping[str, Any], label: str) -> Answer:
    """What a row of the phase map says: the winner, or the best and who does as well."""
    how = surely(row["low"], row["high"], row["p"], row["seeds"])
    best, rival = row["best"], row["runner_up"]
    if row["winner"] == best:
        return Answer(
            f"{best} wins",
            f"{best} reaches {value(row['value'])} on {label} after the same steps, "
            f"{value(row['margin'])} above {rival}, its hardest rival ({how}).",
            "first",
        )
    return Answer(
        "no winner",
        f"{best} has the highest mean on {label} after the same steps ({value(row['value'])}), but "
        f"{rival} may do as well: margin {_signed(row['margin'])} ({how}).",
    )


def cheapest(table: pl.DataFrame, baseline: str, axis: str) -> str:
    """One sentence on who reaches a target for the least; table: rows of `budget_table`."""
    target = table["target"][0]
    reached = table.drop_nulls("median").sort("median")
    if reached.is_empty():
        return f"Half of the runs or more of every strategy never reach {value(target)}."
    first = reached.row(0, named=True)
    name, share = first["strategy"], first["share_of_baseline"]
    part = "" if share is None else f", {share:.1%} of all that {baseline} spends"
    lowest, highest = first["share_low"], first["share_high"]
    if share is not None and lowest is not None:
        part += f" (95% from {lowest:.1%} to {'no limit' if highest is None else f'{highest:.1%}'})"
    return (
        f"{name} reaches {value(target)} for the least {axis.lower()}: {first['median']:,.0f} in "
        f"the median run{part}; {first['n_reached']} of {first['n_runs']} runs reach it."
    )


def counted(verdicts: Sequence[str]) -> Answer:
    """How many claims ended with each verdict."""
    tally = {one: verdicts.count(one) for one in dict.fromkeys(verdicts)}
    parts = [f"{n} {one}" for one, n in sorted(tally.items(), key=lambda item: -item[1])]
    reached = set(tally) - {"not measured", "not judged", "shown, not judged"}
    return Answer(
        f"{tally.get('reproduced', 0)} of {len(verdicts)} reproduced"
        if reached
        else "Nothing is measured yet",
        f"Of {len(verdicts)} claims: {', '.join(parts)}.",
    )


def _signed(number: float) -> str:
    return f"{'+' if number >= 0 else '-'}{value(abs(number))}"

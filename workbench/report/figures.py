"""What a report shows: every chart with its data and the command that regenerates it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import polars as pl

from recast.strategies import STRATEGIES
from sim.exact import exact_world
from workbench import charts
from workbench.analysis.budget import (
    budget_table,
    curve_table,
    final_value,
    reach_events,
    spends_nothing,
    survival_table,
)
from workbench.charts.efficiency import update_ratio
from workbench.stats.estimates import performance_profile
from workbench.studies import phase_map as phases
from workbench.studies import questions, search
from workbench.studies.claims import MAIN
from workbench.studies.evidence import SweepFrames
from workbench.studies.measures import BASELINE, CONTROL, METHOD, METRIC
from workbench.theory.enumeration import exact_table

PAPER_SHARE = 0.041
GRADIENTS = ("grpo", "dr_grpo", "maxrl", "recast", "repair_only", "contrast_only", "sft")
HIT_RATES = (0.02, 0.1, 0.4)


@dataclass(frozen=True)
class Figure:
    """key: a name fit for a file; chart; data: the rows behind it; command: what prints or redraws
    them; note: what a reader must know; part: the heading of the report that it stands under."""

    key: str
    chart: charts.Chart
    data: pl.DataFrame
    command: str
    note: str = ""
    part: str = ""


def figures(evidence: SweepFrames) -> list[Figure]:
    """Every figure that the evidence carries, in the order of the report."""
    return [
        replace(figure, part=part)
        for part, drawn in PARTS.items()
        for draw in drawn
        for figure in draw(evidence)
    ]


def claim_figures(evidence: SweepFrames, sweeps: Collection[str] = ()) -> list[Figure]:
    """Curves, budgets, waiting times and profiles of the claims' sweeps; of all of them by
    default."""
    found = []
    for sweep in sweeps or MAIN.values():
        curves = evidence.curves(sweep)
        if curves.is_empty():
            continue
        command = f"recast sweep {sweep}"
        for place, setting in enumerate(evidence.settings(sweep), start=1):
            here = curves.filter(pl.col("setting") == setting)
            name, note = f"{sweep}-{place}", f"Sweep {sweep}, {setting}."
            lines = curve_table(here, METRIC, "rollouts")
            found.append(
                Figure(
                    f"{name}-curves",
                    charts.learning_curves(
                        lines, METRIC, "rollouts", free=spends_nothing(here, METRIC, "rollouts")
                    ),
                    lines,
                    command,
                    f"{note} Dotted: where rows end that roll nothing out, such as sft.",
                )
            )
            shares = budget_table(here, METRIC, "rollouts", BASELINE)
            found.append(
                Figure(
                    f"{name}-budget",
                    charts.budget_shares(shares, BASELINE, PAPER_SHARE),
                    shares,
                    "recast claims --claim C2 --show settings",
                    note,
                )
            )
            target = final_value(here, METRIC, BASELINE)
            waiting = survival_table(reach_events(here, METRIC, "rollouts", target))
            found.append(
                Figure(
                    f"{name}-waiting",
                    charts.waiting_curves(waiting, "rollouts", target),
                    waiting,
                    command,
                    note,
                )
            )
            last = evidence.final(sweep).filter(pl.col("setting") == setting)
            profile = profiles(last, METRIC)
            found.append(
                Figure(
                    f"{name}-profile",
                    charts.performance_profiles(profile, METRIC),
                    profile,
                    command,
                    note,
                )
            )
    return found


def profiles(last: pl.DataFrame, metric: str, levels: int = 25) -> pl.DataFrame:
    """Performance profiles on evenly spaced levels: strategy, threshold, share, low, high."""
    values = last[metric].cast(pl.Float64).to_numpy()
    low, high = float(values.min()), float(values.max())
    thresholds = [low + (high - low) * i / (levels - 1) for i in range(levels)]
    return pl.DataFrame(
        [
            {
                "strategy": str(strategy),
                "threshold": threshold,
                "share": e.value,
                "low": e.low,
                "high": e.high,
            }
            for (strategy,), rows in last.group_by("strategy", maintain_order=True)
            for threshold, e in zip(
                thresholds, performance_profile(rows[metric].to_numpy(), thresholds), strict=True
            )
        ],
        infer_schema_length=None,
    )


def _questions(evidence: SweepFrames) -> list[Figure]:
    settings = evidence.settings(questions.SWEEP)
    if not settings:
        return []
    first = settings[0]
    place = f"Sweep {questions.SWEEP}, {first}."
    wanted: Sequence[tuple[str, str, Callable[[pl.DataFrame], charts.Chart], str]] = (
        (
            "question-1-supervision",
            "supervision",
            lambda t: charts.differences(t, questions.QUESTIONS["supervision"][0]),
            f"{place} After the same number of updates; p corrected (max-T) over all settings.",
        ),
        (
            "question-1-settings",
            "supervision",
            lambda t: charts.differences(t, "Is ReCast ahead of supervision in any setting?"),
            "After the same number of updates; p corrected (max-T) over all comparisons.",
        ),
        ("question-2-rate", "rate", lambda t: charts.against_rate(t, METRIC), place),
        (
            "question-3-prompts",
            "prompts",
            charts.prompt_cost,
            f"A count of tokens, not a time: {questions.SID_TOKENS} tokens per row, update widths "
            f"as measured in the sweep {questions.SWEEP}.",
        ),
        ("question-5-sharpening", "sharpening", charts.against_temperature, place),
        (
            "question-5-tempered",
            "tempered",
            lambda t: charts.differences(t, questions.QUESTIONS["tempered"][0]),
            f"{place} Pass@1 of sft at a temperature minus Pass@1 of the other at T = 1; on the "
            "last row of each, both at their best temperature. p corrected (max-T) over all rows.",
        ),
        ("question-6-diversity", "diversity", charts.against_k, place),
        ("question-6-entropy", "entropy", charts.remaining, place),
    )
    keep = {
        "question-1-supervision": pl.col("setting") == first,
        "question-1-settings": pl.col("label").str.starts_with(f"{METHOD} - {CONTROL}:"),
    }
    found = []
    for key, name, draw, text in wanted:
        table = questions.QUESTIONS[name][1](evidence, first)
        if key in keep and not table.is_empty():
            table = table.filter(keep[key])
        if not table.is_empty():
            found.append(Figure(key, draw(table), table, f"recast questions {name}", text))
    return found


def _gradients(evidence: SweepFrames) -> list[Figure]:
    """Question 4 needs no runs: every group of a small world is enumerated."""
    del evidence
    table = exact_table(
        {name: STRATEGIES[name] for name in GRADIENTS}, exact_world(HIT_RATES, 4), 4
    )
    options = " ".join(f"--strategy {name}" for name in GRADIENTS)
    return [
        Figure(
            "question-4-gradients",
            charts.exact_directions(table),
            table,
            f"recast exact {options}",
            f"Exact, not sampled: prompts with hit probabilities {HIT_RATES}, G = 4.",
        )
    ]


def _efficiency(evidence: SweepFrames) -> list[Figure]:
    if evidence.efficiency.is_empty():
        return []
    return [
        Figure(
            "question-3-measured",
            update_ratio(evidence.efficiency, BASELINE, METHOD),
            evidence.efficiency,
            "recast lm efficiency --format json",
            "Measured on a small real model, prompts encoded again for each row and shared.",
        )
    ]


def _phase_map(evidence: SweepFrames) -> list[Figure]:
    table = phases.phase_table(evidence.of(phases.SWEEP))
    if table.is_empty():
        return []
    zero, noise, group, apart = phases.FIELDS
    return [
        Figure(
            f"phase-map-{metric}",
            charts.phase_map(
                table.filter(pl.col("metric") == metric), metric, zero, noise, group, apart
            ),
            table.filter(pl.col("metric") == metric),
            f"recast phase-map --metric {metric}",
            "A tile names the strategy that beats every rival there (p corrected over all tiles).",
        )
        for metric in table["metric"].unique(maintain_order=True)
    ]


def _search(evidence: SweepFrames) -> list[Figure]:
    frame = evidence.of(search.SWEEP)
    if frame.is_empty():
        return []
    found = []
    for matched, words in search.MATCHED.items():
        runs = search.points(frame, "rollouts" if matched == "rollouts" else "updated_rows")
        for x, y in search.FRONTS:
            table = search.front(runs, x, y)
            found.append(
                Figure(
                    f"search-{matched}-{x}-{y}",
                    charts.pareto_front(table, x, y, words),
                    table,
                    "recast search --show fronts",
                )
            )
        judged = search.dominance(runs, search.chosen(runs))
        if judged.height:
            rows = judged.select(
                pl.format("{}: {}", "candidate", "metric").alias("label"),
                pl.format("minus {}", "control").alias("setting"),
                pl.col("difference").alias("value"),
                "low",
                "high",
                "p",
            )
            found.append(
                Figure(
                    f"search-{matched}-dominance",
                    charts.differences(rows, f"Does a candidate dominate both controls, {words}?"),
                    judged,
                    "recast search",
                    "Worlds not used to choose the candidates; p corrected over all rows.",
                )
            )
    return found


PARTS: Mapping[str, tuple[Callable[[SweepFrames], list[Figure]], ...]] = MappingProxyType(
    {
        "Curves and budgets behind the claims": (claim_figures,),
        "Questions beyond the paper": (_questions, _efficiency, _gradients),
        "Which strategy wins where, at equal budget?": (_phase_map,),
        "Is there something better than supervision and GRPO?": (_search,),
    }
)
"""The report's headings, and what draws the figures under each."""

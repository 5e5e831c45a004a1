"""Questions a careful reader asks, each as a table on the rows of a packaged sweep.

`QUESTIONS` lists them; the report draws them. Bias and variance, the fourth of the paper's
readers' questions, need no runs: `recast exact`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import polars as pl

from workbench.analysis.rows import last_rows
from workbench.spec.metrics import COMPARED
from workbench.stats.estimates import Difference, estimate, paired_difference
from workbench.stats.p_values import aligned, max_t
from workbench.stats.samples import Floats
from workbench.studies.evidence import SweepFrames, pairs
from workbench.studies.measures import METRIC

SWEEP = "claims"
COMPARISONS = (
    ("recast", "sft"),
    ("recast", "grpo_sft"),
    ("repair_only", "sft"),
    ("recast_prefix_mask", "sft"),
    ("recast_prefix_mask", "recast"),
)
SID_TOKENS = 3
PROMPT_TOKENS = (1, 8, 32, 128, 512, 2048, 8192)


def against_supervision(
    evidence: SweepFrames, comparisons: Sequence[tuple[str, str]] = COMPARISONS
) -> pl.DataFrame:
    """Is repair just supervised fine-tuning? label, setting, value, low, high, p, seeds.

    Paired differences of final metrics after the same number of updates; p is corrected (max-T)
    over the whole table.
    """
    found, gaps = [], list[Floats]()
    last = {metric: evidence.final(SWEEP, metric) for metric in COMPARED}
    for setting in evidence.settings(SWEEP):
        for first, second in comparisons:
            for metric in COMPARED:
                ours, theirs = pairs(last[metric], metric, first, second, setting)
                if len(ours):
                    d = paired_difference(ours, theirs)
                    found.append(_row(f"{first} - {second}: {metric}", setting, d))
                    gaps.append(ours - theirs)
    return _corrected(found, gaps)


def by_rate(evidence: SweepFrames, setting: str, metric: str = METRIC) -> pl.DataFrame:
    """Does the rate decide the order? strategy, lr, tuned, mean, low, high, seeds."""
    frame = evidence.of(SWEEP)
    if frame.is_empty():
        return frame
    last = last_rows(frame).filter(pl.col("setting") == setting)
    return _means(last, ["strategy", "lr", "tuned"], metric)


def prompt_cost(evidence: SweepFrames, sid_tokens: int = SID_TOKENS) -> pl.DataFrame:
    """How much of the update is prompts encoded again? prompt_tokens, encoding, ratio.

    A count, not a time: tokens through the forward pass per group, GRPO's over ReCast's, from their
    measured update widths. A row is its prompt and `sid_tokens` - 1 codes (the last is predicted,
    never fed); a shared prompt is encoded once per group.
    """
    curves = evidence.curves(SWEEP)
    if curves.is_empty():
        return curves
    wide, narrow = (
        curves.filter(pl.col("strategy") == name)["update_width"].drop_nulls().mean()
        for name in ("grpo", "recast")
    )
    if not isinstance(wide, float) or not isinstance(narrow, float) or narrow == 0:
        return pl.DataFrame()
    found = []
    for prompt in PROMPT_TOKENS:
        fed = sid_tokens - 1
        row = prompt + fed
        shared = (prompt + wide * fed) / (prompt + narrow * fed)
        found += [
            {
                "prompt_tokens": prompt,
                "encoding": "every row encodes its prompt",
                "ratio": wide * row / (narrow * row),
            },
            {"prompt_tokens": prompt, "encoding": "one prompt per group", "ratio": shared},
        ]
    return pl.DataFrame(found)


def by_temperature(evidence: SweepFrames, setting: str) -> pl.DataFrame:
    """Is a gain in Pass@1 more than sharpening? strategy, temperature, mean, low, high, seeds."""
    return _long(evidence, setting, r"pass_at_1_t(\d{3})", "temperature", 100.0, "pass_at_1", 1.0)


def by_k(evidence: SweepFrames, setting: str) -> pl.DataFrame:
    """What happens to diversity? strategy, k, mean, low, high, seeds."""
    return _long(evidence, setting, r"pass_at_(\d+)", "k", 1.0, "pass_at_1", 1.0)


def diversity(evidence: SweepFrames, setting: str) -> pl.DataFrame:
    """Entropy (nats) and coverage at the end: strategy, measure, mean, low, high, seeds."""
    last = evidence.final(SWEEP)
    if last.is_empty():
        return last
    here = last.filter(pl.col("setting") == setting)
    names = [name for name in ("entropy", "coverage_at_10") if name in here.columns]
    return pl.concat(
        [_means(here, ["strategy"], name).with_columns(measure=pl.lit(name)) for name in names]
    )


def tempered(evidence: SweepFrames, setting: str) -> pl.DataFrame:
    """Does sharpened supervision beat them? label, setting, value, low, high, p, seeds.

    Pass@1 of the trained `sft` sampled at a temperature, which costs nothing, minus Pass@1 of
    `grpo` and `recast` at T = 1 (in C(1), where each has its best temperature, on the last rows); p
    is corrected (max-T) over the whole table.
    """
    last = evidence.final(SWEEP)
    if last.is_empty():
        return last
    here = last.filter(pl.col("setting") == setting)
    columns = _numbered(here, r"pass_at_1_t(\d{3})", 100.0) | {"pass_at_1": 1.0}
    matches = [
        (f"sft at T = {t:g}", column, "pass_at_1")
        for column, t in sorted(columns.items(), key=lambda item: item[1])
        if t <= 1
    ]
    matches.append(("sft, each at its best T", "c_at_1", "c_at_1"))
    found, gaps = list[dict[str, Any]](), list[Floats]()
    for rival in ("grpo", "recast"):
        for name, ours, theirs in matches:
            first, second = _by_seed(here, "sft", ours), _by_seed(here, rival, theirs)
            seeds = sorted(first.keys() & second.keys())
            if seeds:
                d = paired_difference([first[s] for s in seeds], [second[s] for s in seeds])
                found.append(_row(f"{name} - {rival}", setting, d))
                gaps.append(np.array([first[s] - second[s] for s in seeds]))
    return _corrected(found, gaps)


def _by_seed(rows: pl.DataFrame, strategy: str, column: str) -> dict[int, float]:
    own = rows.filter((pl.col("strategy") == strategy) & pl.col(column).is_not_null())
    return {int(seed): float(value) for seed, value in own.select("seed", column).iter_rows()}


def _row(label: str, setting: str, d: Difference) -> dict[str, Any]:
    return {
        "label": label,
        "setting": setting,
        "value": d.value,
        "low": d.low,
        "high": d.high,
        "p": d.p,
        "seeds": d.n,
    }


def _corrected(rows: list[dict[str, Any]], gaps: Sequence[Floats]) -> pl.DataFrame:
    """Rows as a table, p-values corrected by max-T over all of them; gaps: each row's differences,
    in order of seeds."""
    table = pl.DataFrame(rows, infer_schema_length=None)
    if table.is_empty():
        return table
    return table.with_columns(p=pl.Series(max_t(aligned([dict(enumerate(g)) for g in gaps]))))


def _numbered(rows: pl.DataFrame, pattern: str, unit: float) -> dict[str, float]:
    """Columns whose names carry a number, with that number over `unit`."""
    found = ((name, re.fullmatch(pattern, name)) for name in rows.columns)
    return {name: float(match[1]) / unit for name, match in found if match is not None}


def _long(
    evidence: SweepFrames, setting: str, pattern: str, name: str, unit: float, base: str, at: float
) -> pl.DataFrame:
    """Metrics whose names carry a number, as a table over that number; `base` stands at `at`."""
    last = evidence.final(SWEEP)
    if last.is_empty():
        return last
    here = last.filter(pl.col("setting") == setting)
    columns = _numbered(here, pattern, unit) | {base: at}
    if len(columns) < 2:
        return pl.DataFrame()
    found = [
        _means(here, ["strategy"], column).with_columns(pl.lit(value).alias(name))
        for column, value in sorted(columns.items(), key=lambda item: item[1])
        if here[column].count()
    ]
    return pl.concat(found)


def _means(rows: pl.DataFrame, keys: list[str], metric: str) -> pl.DataFrame:
    found: list[dict[str, Any]] = []
    usable = rows.filter(pl.col(metric).cast(pl.Float64).is_finite())
    for values, group in usable.group_by(keys, maintain_order=True):
        e = estimate(group[metric].cast(pl.Float64).to_numpy())
        found.append(
            {
                **dict(zip(keys, values, strict=True)),
                "mean": e.value,
                "low": e.low,
                "high": e.high,
                "seeds": e.n,
            }
        )
    return pl.DataFrame(found, infer_schema_length=None)


QUESTIONS: Mapping[str, tuple[str, Callable[[SweepFrames, str], pl.DataFrame]]] = MappingProxyType(
    {
        "supervision": (
            "Is repair just supervised fine-tuning on the target?",
            lambda evidence, _: against_supervision(evidence),
        ),
        "rate": ("Is the order of the strategies an artefact of the learning rate?", by_rate),
        "prompts": (
            "How much of the saved update is prompts encoded again and again?",
            lambda evidence, _: prompt_cost(evidence),
        ),
        "sharpening": ("Is a gain in Pass@1 more than sharpening?", by_temperature),
        "tempered": ("Does supervision, sampled colder, beat what was trained for hits?", tempered),
        "diversity": ("What does each strategy do to diversity?", by_k),
        "entropy": ("How much of the catalogue is left?", diversity),
    }
)
"""Name -> the question, and its table for one setting (some tables hold every setting)."""

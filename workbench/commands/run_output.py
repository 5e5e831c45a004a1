"""The tables that `recast run` prints for a reader, each under the question that it answers."""

from __future__ import annotations

from collections.abc import Mapping

import click
import polars as pl

from recast import REGIMES
from recast.ledger import COST, TAUGHT
from recast.metrics import PASSES
from workbench.analysis.summary import TEMPERATURES
from workbench.commands.output import emit
from workbench.spec.experiment import Experiment
from workbench.spec.metrics import COMPARED, SAMPLED, UNORDERED

DEFINITIONS = """\
c_at_k: Pass@k at the temperature that is best for that k on validation users; area: its mean over
k = 1, 2, 4, .. 64; pass_at_1: expected hit of one sample at T = 1; pass_at_1_matched: the same at
the temperature at which mean entropy equals the start's; greedy: hit of greedy decoding;
pass_at_32: chance of a hit in 32 samples; hr_at_k: a target among the k most probable items, which
is recall@k where each prompt has one target; beam_*: the top beam, or any of 32; coverage: share of
the catalogue that some top ten holds; total_variation: distance to the true preferences."""


def print_results(table: pl.DataFrame, history: pl.DataFrame, spec: Experiment, mode: str) -> None:
    """table: `tables.summary`; history: `tables.over_time`; mode: what is equal, for the title."""
    everyone = table.filter(pl.col("slice") == "all")
    labels = ["strategy", "slice"] if table["slice"].n_unique() > 1 else ["strategy"]
    tuned = [*labels, "lr", "seeds", *(["diverged"] if table["diverged"].sum() else [])]
    _show(
        table.select(*tuned, *_with_interval(*COMPARED, *UNORDERED)),
        f"Who is ahead? Mean [95% interval] over seeds, G = {spec.train.group}, {mode}",
    )
    _show(
        everyone.select("strategy", *(f"c_at_{k}" for k in PASSES), "area"),
        "C(k): Pass@k at the temperature that is best for that k on validation users",
    )
    _show(
        table.select(*labels, *_with_interval(*SAMPLED, "pass_at_1_matched", "greedy")),
        "How sharp? At T = 1, where a sharper policy gains in Pass@1 and loses in Pass@32",
    )
    several = not table["recall_at_10"].equals(table["hr_at_10"])
    wide = ["hr_at_1", "hr_at_5", *(["recall_at_10"] if several else [])]
    _show(table.select(*labels, *_with_interval(*wide, "ndcg_at_10")), "The most probable items")
    if not everyone[TEMPERATURES[0]].null_count():
        at = {name: f"T={int(name[-3:]) / 100:g}" for name in TEMPERATURES}
        curve = everyone.select("strategy", *TEMPERATURES, "pass_at_1").rename(at)
        cold = [column for column in at.values() if float(column[2:]) < 1]
        hot = [column for column in at.values() if float(column[2:]) > 1]
        _show(
            curve.select("strategy", *cold, pl.col("pass_at_1").alias("T=1"), *hot),
            "How much of Pass@1 is sharpness? One sample at temperature T (greedy: T -> 0)",
        )
    passes = [f"pass_at_{k}" for k in (2, 4, 8, 16, 32, 64)]
    _show(everyone.select("strategy", *passes), "What do more samples find? Pass@k at T = 1")
    lists = ["recall_at_5", "recall_at_10", "recall_at_50", "ndcg_at_5", "ndcg_at_10"]
    far = [] if everyone["total_variation"].is_null().all() else ["total_variation"]
    beams = ["beam_pass_at_1", "beam_hit_at_32", "coverage_at_10"]
    _show(everyone.select("strategy", *lists, *beams, *far), "Lists, beams, coverage, distance")
    trained = everyone.filter(pl.col("strategy") != "start")
    start = [f"{name}_start" for name in REGIMES]
    _show(
        trained.select("strategy", *start, *REGIMES),
        f"Group regimes at G = {spec.train.group}: at the start, then at the end",
    )
    _show(history, "Over training: regimes at that step, and what groups taught since the last one")
    if spec.train.rollouts == "beam":
        click.echo(
            "Regimes are those of independent samples; the groups here are beam sets of distinct "
            "items,\nwhich hit more often: repaired is the share of beam sets without a hit."
        )
    _show(trained.select("strategy", *TAUGHT, *COST), "What taught, and what did it cost?")
    if "invalid_share" in trained.columns:
        shares = ("invalid_share_start", "invalid_share_training", "invalid_share")
        _show(
            trained.select("strategy", *shares),
            "How many rollouts are no item? At the start, over training, at the end",
        )


def print_ceilings(ceilings: Mapping[str, Mapping[str, float]]) -> None:
    """What no policy can exceed, one row per slice; nothing where the truth is unknown."""
    bounds = [{"slice": part, **found} for part, found in ceilings.items() if found]
    if bounds:
        _show(pl.DataFrame(bounds), "What no policy can exceed, as targets are noisy")
        click.echo("truth_pass_at_1: the true preferences sampled at T = 1, a level, not a ceiling")


def _show(table: pl.DataFrame, title: str) -> None:
    emit(table, "table", title)


def _with_interval(*metrics: str) -> list[str]:
    return [c for m in metrics for c in (m, f"{m}_low", f"{m}_high")]

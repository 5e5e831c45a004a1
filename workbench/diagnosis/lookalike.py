"""A simulated world with a log's regimes, and how strategies rank there.

The world begins (`workbench.execution.imitation`) with the shares of all-zero groups and of groups
with two hits or more that the log's last third has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from recast.progress import Progress
from recast.regimes import REGIMES
from sim.training.calibrate import Calibration, several_hits
from workbench.analysis.compare import Side, compare
from workbench.analysis.rows import last_rows
from workbench.analysis.summary import edge_warnings, summary
from workbench.analysis.tuning import HEADLINE, mark_tuned
from workbench.diagnosis.diagnosis import Diagnosis
from workbench.diagnosis.findings.scalars import ScalarRun
from workbench.errors import UserError
from workbench.execution.imitation import imitate
from workbench.execution.runner import run_sweep
from workbench.plurals import number_of
from workbench.spec.sweep import Sweep
from workbench.stats.beta_binomial import binomial_share
from workbench.stats.p_values import LEVEL, aligned, least_p, max_t
from workbench.store.runs import Store

RIVALS = ("grpo", "repair_only", "recast", "grpo_sft", "sft")
METRIC = HEADLINE
SEEDS = 8
EXTEND = 4
"""How often a grid grows whose best rate lies on its edge."""
WIDEST = 128

WARNING = (
    "A simulator cannot know your policy, your catalogue, or how far your reward is right. It "
    "holds small policies in a made-up world whose groups are mixed like yours at the start, and "
    "trains them briefly. Take its ranking as a reason to try something, not as a result."
)


@dataclass(frozen=True)
class Wanted:
    """The regimes to imitate: shares of all-zero groups and of those with two hits or more, at G
    rollouts; low, high: the interval of the all-zero share in the log; unlearnable: share of
    targets that any item may be, which no log tells: an assumption to try."""

    all_zero: float
    several: float
    group: int
    low: float
    high: float
    unlearnable: float = 0.0

    def order(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def wanted_of_scalars(run: ScalarRun) -> Wanted:
    """What the mean reward and the share of equal groups ask of a world, by their Beta-binomial.

    Raises UserError, one line, where they do not say enough.
    """
    if run.fit is None or run.group is None or not run.fit.predicts:
        raise UserError(f"simulate: {run.why or 'the scalars fit no mixture of prompts'}")
    if not 2 <= run.group <= WIDEST:
        raise UserError(f"simulate: groups of {run.group}; expected 2 to {WIDEST} rollouts")
    shares = run.fit.regimes(run.group)
    zero = shares[REGIMES[0]]
    several = sum(shares[name].value for name in REGIMES[2:])
    return Wanted(zero.value, several, run.group, zero.low, zero.high)


def wanted_of(found: Diagnosis, unlearnable: float = 0.0) -> Wanted:
    """What the last third of a log asks of a world.

    Raises UserError, one line, for groups that no world here can have, and where nobody knows what
    a hit is.
    """
    if not found.known:
        raise UserError(f"simulate: {found.rule.words}")
    if not 2 <= found.group <= WIDEST:
        raise UserError(f"simulate: groups of {found.group}; expected 2 to {WIDEST} rollouts")
    late = found.late()
    zero = late.filter(pl.col("regime") == REGIMES[0]).height
    more = late.filter(pl.col("regime").is_in(REGIMES[2:])).height
    share = binomial_share(zero, late.height)
    return Wanted(share.value, more / late.height, found.group, share.low, share.high, unlearnable)


@dataclass(frozen=True)
class Ranking:
    """regimes: log, world (the four shares, and the log's interval of the all-zero share); table:
    strategies, best first; notes: what to know of the calibration, of the learning rates and of
    the p-values."""

    regimes: pl.DataFrame
    table: pl.DataFrame
    notes: tuple[str, ...]


def rank(
    wanted: Wanted,
    store: Path,
    progress: Progress = lambda *_: None,
    strategies: Sequence[str] = RIVALS,
    seeds: int = SEEDS,
    executor: str = "process",
) -> Ranking:
    """Imitate, train, and rank by the area; runs are kept in the store.

    Raises UserError where nothing can be imitated or trained, DiskError when the disk refuses.
    """
    progress(0, 1, "looking for a world with these regimes")
    found, spec, notes = imitate(
        wanted.all_zero, wanted.several, wanted.group, strategies, seeds, wanted.unlearnable
    )
    kept = Store(store).prepare()
    tune = {"lr": spec.train.lr, "metric": METRIC, "extend": EXTEND}
    sweep = Sweep.model_validate({**spec.model_dump(), "tune": tune})
    outcome = run_sweep(sweep, kept, progress, executor)
    if outcome.failures:
        raise UserError(f"simulate: {outcome.first_failure()}")
    frame = kept.load(outcome.keys)
    notes += edge_warnings(mark_tuned(frame, METRIC), spec.train.lr)
    least = least_p(seeds)
    few = number_of(seeds, "seed")
    aside = ": see intervals" if least >= LEVEL else ""
    notes.append(f"with {few} no corrected p can be below {least:.3g}{aside}")
    return Ranking(_regimes(wanted, found), _table(frame, strategies), tuple(notes))


def _regimes(wanted: Wanted, found: Calibration) -> pl.DataFrame:
    asked = {
        "all_zero": wanted.all_zero,
        "all_zero_low": wanted.low,
        "all_zero_high": wanted.high,
        "single_hit": 1 - wanted.all_zero - wanted.several,
        "several_hits": wanted.several,
    }
    there = {
        "all_zero": found.held_out["all_zero"],
        "single_hit": found.held_out["single_hit"],
        "several_hits": several_hits(found.held_out),
    }
    return pl.DataFrame([{"groups": "log", **asked}, {"groups": "simulated start", **there}])


def _table(frame: pl.DataFrame, strategies: Sequence[str]) -> pl.DataFrame:
    """Columns: strategy, lr, seeds, area and hr_at_10 with intervals, difference (of the area to
    the first strategy, with difference_low, difference_high), p_corrected (max-T), label."""
    table = summary(mark_tuned(frame, METRIC)).filter(pl.col("slice") == "all")
    metrics = [c for m in (METRIC, "hr_at_10") for c in (m, f"{m}_low", f"{m}_high")]
    rows = table.select("strategy", "lr", "seeds", *metrics)
    against, gaps = [], list[Mapping[int, float]]()
    for name in strategies[1:]:
        pair, gap = _against(frame, name, strategies[0])
        gaps.append(gap)
        said = pair.select(
            "difference",
            pl.col("low").alias("difference_low"),
            pl.col("high").alias("difference_high"),
            "label",
        ).row(0, named=True)
        against.append({"strategy": name, **said})
    differences = pl.DataFrame(against, infer_schema_length=None)
    differences = differences.with_columns(p_corrected=pl.Series(max_t(aligned(gaps))))
    return rows.join(differences, on="strategy", how="left", maintain_order="left").sort(
        METRIC, descending=True
    )


def _against(
    frame: pl.DataFrame, name: str, control: str
) -> tuple[pl.DataFrame, Mapping[int, float]]:
    """A strategy against a control in the metric of the ranking: `compare`, and the difference of
    each pair by seed."""
    pair = compare(frame, Side(name, {}), Side(control, {}), (METRIC,))
    last = last_rows(mark_tuned(frame, METRIC).filter("tuned"))
    sides = [
        dict(last.filter(pl.col("strategy") == side).select("seed", METRIC).iter_rows())
        for side in (name, control)
    ]
    shared = sorted(sides[0].keys() & sides[1].keys())
    return pair, {seed: sides[0][seed] - sides[1][seed] for seed in shared}

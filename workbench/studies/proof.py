"""The proof: does p^alpha with averaged weights hold against the strongest supervised row?

Written down before anything was run. Worlds that nothing else uses, three shares of unlearnable
targets. Rates are chosen by the area on validation users over seeds of their own (the packaged
sweep `prove`); ten further seeds at these rates are judged on 2,048 test users each, paired by
world and seed. A candidate is judged against every supervised row and against every row of GRPO,
and a statement that needs all of several bounds needs each of them (intersection-union).

Two controls were added afterwards, which make the tests harder. One is the start: a rate of 0 is a
rate that every strategy has, and where no other one is better the start is the best of it. The
other is supervision at a rate that falls linearly to 0, which costs as little as a mean of weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from recast.progress import Progress
from workbench.analysis.rows import at_the_end, last_rows, reported
from workbench.analysis.tuning import tried
from workbench.errors import UserError
from workbench.execution.runner import run_all, run_sweep
from workbench.spec.experiment import Experiment, change
from workbench.spec.messages import validated
from workbench.spec.metrics import COMPARED, PRIMARY, SAMPLED
from workbench.spec.row_names import AVERAGED, DECAYING
from workbench.spec.sweep import Run, Sweep, load_sweep
from workbench.stats.estimates import ONE_SIDED, estimate, paired_difference
from workbench.stats.p_values import LEVEL, aligned, holm, max_t
from workbench.stats.samples import Floats
from workbench.store.runs import Store

SWEEP = "prove"
SEEDS, TEST_PROMPTS, MARGIN = 10, 2048, 0.005
CONTAMINATED = 0.2
"""From this share of unlearnable targets on, a candidate has to be better in area."""

METRICS = (*COMPARED, *SAMPLED)
GENTLE = "credit=none, supervised=power(end=0.1), denominator=prompts"
LABELS = {GENTLE: "target_power to .1", "target_power": "target_power to .25"}
CANDIDATES = tuple(f"{name}{AVERAGED}" for name in LABELS.values())
SUPERVISED = ("sft", f"sft{DECAYING}", f"sft{AVERAGED}")
GRPO = ("grpo", "grpo averaged")
START = "start"
SAME = 0.0005
"""Of the area on validation users: a best rate that gains no more is taken for not training."""

_SHARE, _WORLD, _ITERATE = "world.unlearnable", "world.seed", "train.iterate"
_ROW = ["strategy", _ITERATE, _SHARE, _WORLD]


@dataclass(frozen=True)
class Test:
    """One pre-registered comparison with each of `controls`. bound: what the one-sided 95% bound
    of the difference must exceed, None = tested at .05, corrected over the shares it is asked at;
    least: the smallest share of unlearnable targets at which it is asked."""

    name: str
    metric: str
    controls: tuple[str, ...]
    bound: float | None = None
    least: float = 0.0


TESTS = (
    Test("not worse in HR@10 than supervision", "hr_at_10", SUPERVISED, bound=-MARGIN),
    Test("better in area than supervision", "area", SUPERVISED, least=CONTAMINATED),
    Test("better in C(1) than GRPO and the start", "c_at_1", (*GRPO, START)),
    Test("better in C(32) than GRPO and the start", "c_at_32", (*GRPO, START)),
)


def tuning_plan(worlds: int | None = None) -> Sweep:
    """The sweep that chooses the rates, of its first so many worlds."""
    plan = load_sweep(SWEEP)
    if worlds is None:
        return plan
    kept = plan.grid[_WORLD][:worlds]
    include = [{**rule, _WORLD: kept} for rule in plan.include]
    return load_sweep(SWEEP, {"grid": {**plan.grid, _WORLD: kept}, "include": include})


def judged_runs(plan: Sweep, store: Store, seeds: int) -> list[Run]:
    """Every row's runs at its chosen rate, on seeds that chose nothing and more test users.

    Raises UserError where the store lacks runs that choose.
    """
    runs = plan.runs()
    missing = sum(not store.has(run.key) for run in runs)
    if missing:
        raise UserError(
            f"store {str(store.root)!r}: {missing} of {len(runs)} runs that choose the rates are "
            "missing; run `recast prove` without --no-run"
        )
    known = {run.config["cell"]: run.experiment for run in runs}
    assert plan.tune is not None
    chosen = tried(_choosing_rows(plan, store), plan.tune.metric).filter("chosen")
    found = []
    for cell, strategy, lr in chosen.select("cell", "strategy", "lr").iter_rows():
        raw = change(known[cell].model_dump(), {"world.test_prompts": TEST_PROMPTS})
        spec = validated(Experiment, raw)
        first = plan.seeds
        found += [Run(spec, strategy, lr, first + seed) for seed in range(seeds)]
    # World by world, so that what a cut study has stored can be judged.
    return sorted(found, key=lambda run: run.experiment.world.seed)


def _choosing_rows(plan: Sweep, store: Store) -> pl.DataFrame:
    """The stored rows of the runs that choose, those of further rates among them."""
    cells = list(dict.fromkeys(run.config["cell"] for run in plan.runs()))
    return store.load().filter(pl.col("cell").is_in(cells))


def prove(
    store: Store,
    progress: Progress,
    executor: str = "process",
    workers: int | None = None,
    seeds: int = SEEDS,
    worlds: int | None = None,
) -> pl.DataFrame:
    """Run what is missing, first what chooses, then what is judged; the judged rows, see `rows`.

    Raises UserError when a run cannot be done and DiskError when the disk refuses.
    """
    plan = tuning_plan(worlds)

    def choosing(done: int, total: int, text: str) -> None:
        progress(done, total, f"choosing rates: {text}")

    def judging(done: int, total: int, text: str) -> None:
        progress(done, total, f"judging: {text}")

    outcome = run_sweep(plan, store, choosing, executor, workers)
    if not outcome.failures:
        outcome = run_all(judged_runs(plan, store, seeds), store, judging, executor, workers)
    if outcome.failures:
        raise UserError(f"prove: {outcome.first_failure()}")
    return rows(plan, store, seeds)


def rows(plan: Sweep, store: Store, seeds: int) -> pl.DataFrame:
    """One row per judged run that is stored: row, unlearnable, world, seed, lr, idle (whether no
    rate gains more than `SAME` over the start where rates are chosen), inside (whether the rate has
    a larger one and a smaller one beside it; below the lowest of an idle row lies the start) and
    `METRICS`, on all test users; and the start of every run of plain supervision, at a rate of 0.
    """
    runs = judged_runs(plan, store, seeds)
    frame = store.load(run.key for run in runs)
    if frame.is_empty():
        return frame
    frame, tuning = (_completed(part) for part in (frame, _choosing_rows(plan, store)))
    begun = reported(frame).filter(
        pl.col("strategy") == "sft", pl.col(_ITERATE) == "last", step=0, slice="all"
    )
    begun = begun.with_columns(lr=0.0, label=pl.lit(START), idle=False, inside=True)
    ended = last_rows(frame).join(grids(tuning), on=_ROW, how="left")
    ended = ended.with_columns(
        label=pl.col("strategy").replace(LABELS)
        + pl.when(pl.col(_ITERATE) == "mean").then(pl.lit(AVERAGED)).otherwise(pl.lit(""))
    )
    return (
        pl.concat([ended, begun], how="diagonal_relaxed")
        .select(
            row=pl.col("label"),
            unlearnable=pl.col(_SHARE),
            world=pl.col(_WORLD),
            seed=pl.col("seed"),
            lr=pl.col("lr"),
            idle=pl.col("idle"),
            inside=pl.col("inside"),
            **{metric: pl.col(metric).cast(pl.Float64) for metric in METRICS},
        )
        .sort("unlearnable", "row", "world", "seed")
    )


def grids(tuning: pl.DataFrame) -> pl.DataFrame:
    """What was tried for each row: strategy, iterate, share and world, idle and inside, as in
    `rows`. tuning: every evaluation of the runs that choose the rates."""
    area = pl.col("area").cast(pl.Float64)
    held = tuning.filter(split="validation", slice="all")
    begun = held.filter(step=0).group_by(_SHARE, _WORLD).agg(start=area.mean())
    tried_rates = at_the_end(held).group_by(*_ROW, "lr").agg(value=area.mean())
    lr, best = pl.col("lr"), pl.col("lr").sort_by("value").last()
    return (
        tried_rates.group_by(_ROW)
        .agg(
            above=best > lr.min(),
            below=best < lr.max(),
            value=pl.col("value").max(),
        )
        .join(begun, on=[_SHARE, _WORLD], how="left")
        .with_columns(idle=pl.col("value") <= pl.col("start") + SAME)
        .select(*_ROW, "idle", inside=pl.col("below") & (pl.col("above") | pl.col("idle")))
    )


def _completed(frame: pl.DataFrame) -> pl.DataFrame:
    """Fields that a run leaves out at their usual value, filled in."""
    usual = {_ITERATE: "last", _SHARE: 0.0}
    return frame.with_columns(
        **{
            name: pl.col(name).fill_null(value) if name in frame.columns else pl.lit(value)
            for name, value in usual.items()
        }
    )


def means_table(judged: pl.DataFrame) -> pl.DataFrame:
    """unlearnable, row, rates (chosen, by world), inside (whether all lie within their grids), idle
    (worlds in which no rate beats the start), runs, and each metric with its interval over seeds,
    stratified by world."""
    found = []
    for (share, row), runs in judged.group_by("unlearnable", "row", maintain_order=True):
        rates = runs.unique(["world", "lr"]).sort("world")["lr"].to_list()
        rates = [] if row == START else rates
        known: dict[str, Any] = {
            "unlearnable": share,
            "row": row,
            "rates": ", ".join(f"{lr:g}" for lr in rates),
            "inside": bool(runs["inside"].all()),
            "idle": runs.filter("idle")["world"].n_unique(),
            "runs": runs.height,
        }
        for metric in METRICS:
            e = estimate(runs[metric].to_numpy(), strata=runs["world"].to_list())
            known |= {metric: e.value, f"{metric}_low": e.low, f"{metric}_high": e.high}
        found.append(known)
    return pl.DataFrame(found, infer_schema_length=None)


def tests_table(judged: pl.DataFrame) -> pl.DataFrame:
    """The pre-registered tests, one row per share, candidate, test and control: unlearnable,
    candidate, test, control, difference, low, high (95%), bound (one-sided 95%), p (sign flips,
    Holm over the shares), worlds (in how many the mean difference is above 0), holds, pairs.

    holds: the bound is above minus the margin, or p is below .05 and the difference above 0.
    """
    found = [
        row for candidate in CANDIDATES for test in TESTS for row in _test(judged, candidate, test)
    ]
    for test in TESTS:
        for candidate in CANDIDATES:
            for control in test.controls:
                key = (candidate, test.name, control)
                family = [r for r in found if (r["candidate"], r["test"], r["control"]) == key]
                for row, p in zip(family, holm([r["p"] for r in family]), strict=True):
                    row["p"] = p
                    if test.bound is None:
                        row["holds"] = p < LEVEL and row["difference"] > 0
                    else:
                        row["holds"] = row["bound"] is not None and row["bound"] > test.bound
    return pl.DataFrame(found, infer_schema_length=None)


def _test(judged: pl.DataFrame, candidate: str, test: Test) -> Iterator[dict[str, Any]]:
    for share in judged["unlearnable"].unique().sort().to_list() if judged.height else ():
        if share < test.least:
            continue
        here = judged.filter(pl.col("unlearnable") == share)
        for control in test.controls:
            gap, pairs = _gaps(here, candidate, control, test.metric)
            if not len(gap):
                continue
            worlds = [world for world, _ in pairs]
            d = paired_difference(gap, np.zeros_like(gap), strata=worlds)
            each = [float(gap[np.array(worlds) == w].mean()) for w in dict.fromkeys(worlds)]
            yield {
                "unlearnable": share,
                "candidate": candidate,
                "test": test.name,
                "control": control,
                "difference": d.value,
                "low": d.low,
                "high": d.high,
                "bound": estimate(gap, strata=worlds, confidence=ONE_SIDED).low,
                "p": d.p,
                "worlds": f"{sum(value > 0 for value in each)} of {len(each)}",
                "holds": False,
                "pairs": d.n,
            }


def _gaps(
    here: pl.DataFrame, candidate: str, control: str, metric: str
) -> tuple[Floats, list[tuple[int, int]]]:
    """Differences of pairs by world and seed, and the (world, seed) of each."""
    keys = ["world", "seed"]
    sides = [here.filter(pl.col("row") == r).select(*keys, metric) for r in (candidate, control)]
    both = sides[0].join(sides[1], on=keys, suffix="_control").drop_nulls().sort(keys)
    gap: Floats = (both[metric] - both[f"{metric}_control"]).to_numpy()
    return gap, list(both.select(keys).iter_rows())


def gaps_table(judged: pl.DataFrame, control: str = SUPERVISED[-1]) -> pl.DataFrame:
    """Every row minus one, in HR@10 and area: unlearnable, row, metric, difference, low, high
    (95%), pairs, p (max-T over the table)."""
    found: list[dict[str, Any]] = []
    differences = []
    for share, row in judged.select("unlearnable", "row").unique(maintain_order=True).iter_rows():
        here = judged.filter(pl.col("unlearnable") == share)
        for metric in PRIMARY[:2] if row != control else ():
            gap, pairs = _gaps(here, row, control, metric)
            if not len(gap):
                continue
            e = estimate(gap, strata=[world for world, _ in pairs])
            differences.append(dict(zip(pairs, gap.tolist(), strict=True)))
            known = {"unlearnable": share, "row": row, "metric": metric, "difference": e.value}
            found.append({**known, "low": e.low, "high": e.high, "pairs": e.n})
    if not found:
        return pl.DataFrame()
    p = pl.Series("p", max_t(aligned(differences)))
    return pl.DataFrame(found, infer_schema_length=None).with_columns(p)


def verdicts(tests: pl.DataFrame) -> list[str]:
    """One line per candidate and share: which of its tests hold, and whether all do."""
    found = []
    for (candidate, share), rows_ in tests.group_by(
        "candidate", "unlearnable", maintain_order=True
    ):
        failed = [
            f"{r['test']} ({r['control']}: {r['difference']:+.4f})"
            for r in rows_.iter_rows(named=True)
            if not r["holds"]
        ]
        text = "every test holds" if not failed else "fails: " + "; ".join(failed)
        found.append(f"{candidate}, {share:g} unlearnable: {text}")
    return found

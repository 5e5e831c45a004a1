"""Do what is missing of a rung on a case, one run after the other; every file whole or not at all.

Below the rung's folder: `start-N.json`, `tuning/` (one file per run: the area at each checkpoint)
and `report/` (the metrics of each test prompt, Parquet, beside its costs). Costs are seconds of
this process's processor time.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recast.progress import Progress
from workbench.spec.keys import run_key
from workbench.spec.metrics import LM_METRICS
from workbench.store.files import replace as write_whole
from workbench.store.kept_files import kept_note, kept_table
from workbench.studies.prediction.protocol import (
    START,
    TUNING_SEED,
    Floats,
    PredictionPlan,
    Rung,
    Table,
)


@dataclass(frozen=True)
class Chosen:
    """Rate and checkpoint of a strategy."""

    lr: float
    stop: int


def tuning_tasks(plan: PredictionPlan, rates: Sequence[float]) -> list[tuple[str, float, int]]:
    """Strategy, rate and seed of every tuning run."""
    seeds = range(TUNING_SEED, TUNING_SEED + plan.tuning_seeds)
    return [(s, lr, seed) for seed in seeds for s in plan.strategies for lr in rates]


def runs_left(
    plan: PredictionPlan, folder: Path, rates: Sequence[float], seeds: Sequence[int]
) -> tuple[int, int]:
    """How many runs of a rung on a case are missing, and how many there are in all."""
    tuning = [_tried(folder, *task) for task in tuning_tasks(plan, rates)]
    paired = [_file(folder, row, seed) for seed in seeds for row in (START, *plan.strategies)]
    return sum(not path.exists() for path in (*tuning, *paired)), len(tuning) + len(paired)


def do(
    rung: Rung, plan: PredictionPlan, folder: Path, seeds: Sequence[int], progress: Progress
) -> Iterator[str]:
    """Do the runs that are missing: those that choose, then the paired ones, each named when it is
    done."""
    chosen = tune(rung, plan, folder, seeds, progress)
    yield from report(rung, plan, folder, chosen, seeds, progress)


def tune(
    rung: Rung, plan: PredictionPlan, folder: Path, seeds: Sequence[int], progress: Progress
) -> dict[str, Chosen]:
    """Do the tuning runs that are missing, and choose. seeds: the paired ones that follow."""
    found: dict[str, dict[Chosen, list[float]]] = {s: {} for s in plan.strategies}
    missing, total = runs_left(plan, folder, rung.rates, seeds)
    for strategy, lr, seed in tuning_tasks(plan, rung.rates):
        path = _tried(folder, strategy, lr, seed)
        if not path.exists():
            progress(total - missing, total, f"{rung.name} tuning {strategy} {lr:g}")
            began = time.process_time()
            areas = {str(stop): rung.tuned() for stop in rung.run(strategy, lr, seed, plan.stops)}
            note = {"areas": areas, "seconds": time.process_time() - began}
            write_whole(json.dumps(note).encode(), path)
            missing -= 1
        areas = kept_note(path, _areas)
        for stop in plan.stops:
            value = areas.get(str(stop), -np.inf)
            found[strategy].setdefault(Chosen(lr, stop), []).append(value)
    return {strategy: _best(values) for strategy, values in found.items()}


def _best(values: dict[Chosen, list[float]]) -> Chosen:
    """The highest mean; ties go to the smaller rate, then the earlier checkpoint."""
    return max(values, key=lambda c: (float(np.mean(values[c])), -c.lr, -c.stop))


def report(
    rung: Rung,
    plan: PredictionPlan,
    folder: Path,
    chosen: dict[str, Chosen],
    seeds: Sequence[int],
    progress: Progress,
) -> Iterator[str]:
    """Do the paired runs that are missing, seed by seed, and name each that was done."""
    missing, total = runs_left(plan, folder, rung.rates, seeds)
    for seed in seeds:
        if not _file(folder, START, seed).exists():
            began = time.process_time()
            about = rung.start(seed)
            _keep(folder, START, seed, rung.measured(), began, {"lr": None, "stop": 0, **about})
            missing -= 1
            yield f"{START} {seed}"
        for strategy in plan.strategies:
            if _file(folder, strategy, seed).exists():
                continue
            progress(total - missing, total, f"{rung.name} {strategy}, seed {seed}")
            began, pick = time.process_time(), chosen[strategy]
            ended = list(rung.run(strategy, pick.lr, seed, (pick.stop,)))
            if not ended:  # it diverged where its tuning run did not: it counts as untrained
                rung.start(seed)
            about = {"lr": pick.lr, "stop": pick.stop, "diverged": float(not ended)}
            _keep(folder, strategy, seed, rung.measured(), began, about)
            missing -= 1
            yield f"{strategy} {seed}"


def _keep(
    folder: Path, strategy: str, seed: int, table: Table, began: float, about: dict[str, Any]
) -> None:
    buffer = io.BytesIO()
    frame = pl.DataFrame({m: table[m] for m in LM_METRICS}).cast(pl.Float32)
    frame.write_parquet(buffer)
    path = _file(folder, strategy, seed)
    note = {**about, "seconds": time.process_time() - began}
    write_whole(json.dumps(note).encode(), path.with_suffix(".json"))
    write_whole(buffer.getvalue(), path)


def _file(folder: Path, strategy: str, seed: int) -> Path:
    return folder / "report" / f"{_plain(strategy)}-{seed}.parquet"


def _tried(folder: Path, strategy: str, lr: float, seed: int) -> Path:
    return folder / "tuning" / f"{_plain(strategy)}-{lr:g}-{seed}.json"


def _plain(strategy: str) -> str:
    """A name for files: the strategy's own, or a hash of a composition's text."""
    return strategy if strategy.isidentifier() else run_key({"strategy": strategy})[:16]


def collected(folder: Path, plan: PredictionPlan) -> tuple[Floats, list[int]] | None:
    """Values `[strategies + 1, metrics, seeds, prompts]` of the seeds that every row has, the start
    first, and those seeds; None before the first."""
    rows = (START, *plan.strategies)
    seeds = [s for s in range(plan.seeds) if all(_file(folder, r, s).exists() for r in rows)]
    if not seeds:
        return None
    values = [
        [kept_table(_file(folder, row, seed), LM_METRICS).to_numpy().T for seed in seeds]
        for row in rows
    ]
    return np.asarray(values, dtype=np.float64).transpose(0, 2, 1, 3), seeds


def seconds(folder: Path) -> tuple[float, int]:
    """Processor seconds of everything that lies below a rung's folder (starts, tuning, reports),
    and how many runs that is."""
    notes = [*folder.glob("tuning/*.json"), *folder.glob("report/*.json")]
    return sum(kept_note(path, lambda note: float(note["seconds"])) for path in notes), len(notes)


def _areas(note: dict[str, Any]) -> dict[str, float]:
    return {stop: float(value) for stop, value in note["areas"].items()}

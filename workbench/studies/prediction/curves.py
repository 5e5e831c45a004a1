"""Learning curves of the study's rungs: the area on tuning users along a run, for forecasts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from workbench.stats.growth import Curve, Forecaster, Record, choose, halves, judge
from workbench.store.files import replace as write_whole
from workbench.studies.prediction.protocol import Rung

POINTS = 12
SHARE = 1 / 3
"""How much of a run is seen before its end is forecast."""


def follow(
    rung: Rung, strategies: Sequence[str], seeds: Sequence[int], steps: int, lr: float, folder: Path
) -> Iterator[str]:
    """Do the curves that are missing, one file each, and name each that was done."""
    stops = tuple(round(steps * (i + 1) / POINTS) for i in range(POINTS))
    for seed in seeds:
        for strategy in strategies:
            path = folder / "curves" / f"{strategy}-{lr:g}-{seed}.json"
            if path.exists():
                continue
            rung.start(seed)
            values = [rung.tuned()]
            values += [rung.tuned() for _ in rung.run(strategy, lr, seed, stops)]
            note = {"strategy": strategy, "seed": seed, "lr": lr, "steps": [0, *stops]}
            write_whole(json.dumps({**note, "values": values}).encode(), path)
            yield f"{strategy} {seed}"


def read(folder: Path, rung: str, data: str) -> pl.DataFrame:
    """rung, data, strategy, lr, seed, step, value of the curves below a folder; runs that diverged
    are left out."""
    found = []
    for path in sorted(folder.glob("curves/*.json")):
        note = json.loads(path.read_text(encoding="utf-8"))
        if len(note["values"]) < len(note["steps"]):
            continue
        found += [
            {
                "rung": rung,
                "data": data,
                "strategy": note["strategy"],
                "lr": note["lr"],
                "seed": note["seed"],
                "step": step,
                "value": value,
            }
            for step, value in zip(note["steps"], note["values"], strict=True)
        ]
    return pl.DataFrame(found)


def curves_of(frame: pl.DataFrame) -> list[Curve]:
    """One curve per run; runs of one data set, strategy and rung are one group."""
    keys = ["rung", "data", "strategy", "lr", "seed"]
    found = []
    for key, rows in frame.sort(*keys, "step").group_by(keys, maintain_order=True):
        group = " ".join(map(str, key[:3]))
        steps, values = rows["step"].to_numpy(), rows["value"].to_numpy()
        found.append(Curve(steps.astype(np.float64), values.astype(np.float64), group))
    return found


def trial(frame: pl.DataFrame, share: float = SHARE) -> tuple[Forecaster, Record]:
    """A forecaster that one half of the runs chose, judged on the other."""
    chosen, judged = halves(curves_of(frame))
    forecaster = choose(chosen, share)
    return forecaster, judge(forecaster, judged)

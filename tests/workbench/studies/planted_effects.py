"""Runs with effects that are known, and claims judged on them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import polars as pl

from workbench.studies.claims import (
    CLAIMS,
    IID,
    MAIN,
    OPENONEREC,
    Checked,
    check,
)
from workbench.studies.evidence import SweepFrames, with_setting
from workbench.studies.verdicts import (
    Measured,
)

SEEDS = 10


STEPS = (0, 10, 20, 30, 40)


BY_KEY = {claim.key: claim for claim in CLAIMS}


def row(verdict, counts: bool = True, setting: str = "s") -> Measured:
    return Measured("m", setting, 0.0, None, None, 10, None, verdict, "", counts)


def frame(
    curves: Mapping[str, Mapping[str, object]],
    fields: Mapping[str, object] | None = None,
    seeds: int = SEEDS,
    noise: float = 0.002,
    tag: str = "",
) -> pl.DataFrame:
    """Runs of each strategy whose hits (C(1), `greedy`) follow a curve over STEPS, plus noise.

    The start differs between seeds, alike for all strategies. Other columns come as lists over
    STEPS or as constants.
    """
    rng = np.random.default_rng(len(tag) + 7)
    fields = fields or {}
    shared = rng.normal(0, 0.02, seeds)
    rows = []
    for strategy, columns in curves.items():
        own = rng.normal(0, noise, (seeds, len(STEPS)))
        unit = 0 if strategy == "sft" else 100
        for seed, (place, step), split in itertools.product(
            range(seeds), enumerate(STEPS), ("test", "validation")
        ):
            values = {
                name: value[place] if isinstance(value, list) else value
                for name, value in columns.items()
            }
            base = values.pop("greedy") + shared[seed] + own[seed, place]
            rows.append(
                {
                    "run": f"{tag}{strategy}-{seed}", "strategy": strategy, "seed": seed,
                    "cell": tag, "lr": 0.003, "tuned": True, "split": split, "slice": "all",
                    "step": step, "rollouts": unit * step, "updated_rows": 10 * step,
                    "greedy": base, "pass_at_1": base, "pass_at_1_matched": base,
                    "area": base, "c_at_1": base, "hr_at_10": 2 * base, "c_at_32": 3 * base,
                    "pass_at_32": 3 * base, "diverged_at": None,
                    "all_zero": 0.85, "single_hit": 0.13, "repaired": 0.5, "update_width": 32.0,
                    **fields, **values,
                }
            )  # fmt: skip
    return with_setting(
        pl.DataFrame(rows, infer_schema_length=None), [f for f in fields if "." in f]
    )


GRPO = {"greedy": [0.2, 0.22, 0.24, 0.25, 0.25], "updated_rows": [0, 320, 640, 960, 1280]}


BETTER = {"greedy": [0.2, 0.29, 0.3, 0.3, 0.3], "updated_rows": [0, 20, 40, 60, 80],
          "update_width": 2.0, "repaired": [None, 0.8, 0.7, 0.6, 0.5]}  # fmt: skip


def main(iid: pl.DataFrame, openonerec: pl.DataFrame | None = None) -> SweepFrames:
    found = {MAIN[IID]: iid}
    if openonerec is not None:
        found[MAIN[OPENONEREC]] = openonerec
    return SweepFrames(found)


def judged(key: str, evidence: SweepFrames) -> Checked:
    """A claim on the baselines that the evidence holds, as if there were no others."""
    claim = BY_KEY[key]
    present = {mode: sweep for mode, sweep in claim.modes.items() if sweep in evidence.sweeps}
    return check(replace(claim, modes=present), evidence)

"""A tiny sweep that several test files run."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import polars as pl

from workbench.spec.experiment import PolicySpec, StartSpec, TrainSpec, WorldSpec
from workbench.spec.sweep import Sweep
from workbench.store.runs import Store

TINY = Sweep(
    name="tiny",
    strategies=("grpo", "recast", "sft"),
    seeds=3,
    world=WorldSpec(items=32, test_prompts=16, validation_prompts=16),
    policy=PolicySpec(width=8),
    start=StartSpec(all_zero=0.55, lr=0.02),
    train=TrainSpec(steps=4, batch=8, group=8, evaluations=2, lr=(0.001, 0.01)),
    grid={"train.group": (4, 8)},
)


def small_sweep(strategies: list[str], seeds: int, steps: int = 4) -> str:
    """The text of a sweep that takes a moment per run, as a user would type it."""
    return f"""
strategies = {json.dumps(strategies)}
seeds = {seeds}
[world]
items = 64
test_prompts = 16
validation_prompts = 16
[policy]
width = 8
[start]
all_zero = 0.6
[train]
steps = {steps}
evaluations = 2
batch = 8
group = 8
"""


TOML = """
name = "tiny"
strategies = ["grpo", "recast", "sft"]
seeds = 3
[world]
items = 32
test_prompts = 16
validation_prompts = 16
[policy]
width = 8
[start]
all_zero = 0.55
lr = 0.02
[train]
steps = 4
batch = 8
group = 8
evaluations = 2
lr = [0.001, 0.01]
[grid]
train.group = [4, 8]
"""


def gone(group: int) -> bool:
    """Whether every process of a group has ended, given ten seconds."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def payload(store: Path) -> pl.DataFrame:
    """Every stored number, in an order of its own; timings and provenance are not columns."""
    frame = Store(store).load()
    return frame.select(sorted(frame.columns)).sort("run", "split", "slice", "step")


def payload_bytes(store: Path) -> bytes:
    """The payload, bit for bit: NaN payloads and signs of zero count."""
    return payload(store).rechunk().write_ipc(None).getvalue()


def copied(store: Path, place: Path) -> Store:
    """A store like another, to be damaged or gone on with."""
    shutil.copytree(store, place, dirs_exist_ok=True)
    return Store(place)

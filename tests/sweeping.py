"""A tiny sweep that several test files run."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Sequence
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


def tiny_text(strategies: Sequence[str], seeds: int, **changes: object) -> str:
    """The text of an experiment that takes a moment per run, as a user would type it; changes by
    section and field, `train__steps=30`."""
    sections: dict[str, dict[str, object]] = {
        "world": {"items": 32, "test_prompts": 16, "validation_prompts": 16},
        "policy": {"width": 8},
        "start": {"all_zero": 0.55, "lr": 0.02},
        "train": {"steps": 4, "batch": 8, "group": 8, "evaluations": 2},
    }
    for name, value in changes.items():
        section, field = name.split("__")
        sections[section][field] = value
    lines = [f"strategies = {json.dumps(strategies)}", f"seeds = {seeds}"]
    for section, fields in sections.items():
        lines += [f"[{section}]", *(f"{name} = {json.dumps(v)}" for name, v in fields.items())]
    return "\n".join(lines) + "\n"


def small_sweep(strategies: list[str], seeds: int, steps: int = 4) -> str:
    """The text of a sweep of twice as many items."""
    return tiny_text(strategies, seeds, world__items=64, start__all_zero=0.6, train__steps=steps)


TOML = f"""
name = "tiny"
{tiny_text(TINY.strategies, TINY.seeds, start__lr=0.02, train__lr=[0.001, 0.01])}
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

"""Compile ahead of time: `python -m sim.shortcuts.compile_ahead`, training in both precisions by
default, and the evaluation."""

from __future__ import annotations

import sys

import torch

from recast import STRATEGIES
from sim.decoding.compiled import KIND, ready
from sim.general.runs import Runs
from sim.policies.mlp import MLP
from sim.settings import Training
from sim.shortcuts.fast_path import FastPath
from sim.worlds.synthetic import SyntheticWorld, build_synthetic


def kinds(precision: str) -> tuple[str, str]:
    """What `warm` compiles, as `sim.kernel.machine_code.is_compiled` knows it."""
    return precision, f"float32, {KIND}"


def warm(precision: str) -> None:
    """One step of a tiny run, and what evaluates it."""
    ready(torch.float32)
    recipe = SyntheticWorld(
        items=8, codes=3, sft_prompts=8, train_prompts=8, validation_prompts=8, test_prompts=8
    )
    world, how = build_synthetic(recipe), Training(steps=1, batch=2, group=2)
    start = MLP(2).init(world.catalogue, recipe.features, (0,), getattr(torch, precision))
    fast = FastPath.of(Runs(MLP(2), world, STRATEGIES["grpo"], start, (0,), how))
    if fast is not None:
        fast.advance(torch.full((1,), 0.001), 0, 1)


if __name__ == "__main__":
    for precision in sys.argv[1:] or ("float64", "float32"):
        warm(precision)

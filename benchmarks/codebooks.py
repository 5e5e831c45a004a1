"""How a training step and memory grow with the catalogue: python -m benchmarks.codebooks.

Catalogues of random semantic IDs with 256 codes a level, as real codebooks have; one MLP run from
its first parameters; milliseconds of processor time per step, least of many, and the peak memory of
a process of its own for each size.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from typing import Any

import numpy as np
import torch

from benchmarks.contenders import ours
from benchmarks.measure import least, table
from sim.policies.mlp import MLP
from sim.settings import Training
from sim.worlds.catalogue import build_catalogue
from sim.worlds.world import Prompts, World

CODES, FEATURES, PROMPTS = 256, 64, 2048


def world_of(items: int, levels: int) -> World:
    """Random IDs, prompts and targets."""
    rng = np.random.default_rng(0)
    ids = np.unique(rng.integers(0, CODES**levels, 2 * items))
    ids = rng.permutation(ids)[:items]
    codes = np.stack([ids // CODES**level % CODES for level in reversed(range(levels))], 1)
    catalogue = build_catalogue(codes, CODES)
    context = torch.randn(PROMPTS, FEATURES, generator=torch.Generator().manual_seed(0))
    prompts = Prompts(context, torch.from_numpy(rng.integers(0, items, PROMPTS)))
    return World("random", catalogue, prompts, prompts, prompts, prompts)


def one(items: int, levels: int, seconds: float) -> dict[str, Any]:
    """The row of one size."""
    world, policy = world_of(items, levels), MLP(64)
    start = policy.init(world.catalogue, FEATURES, (0,), torch.float32)
    row: dict[str, Any] = {"items": items, "levels": levels, "nodes": world.catalogue.nodes}
    for name in ("grpo", "recast"):
        how = Training(steps=1000, group=32)
        timed = {"ours": ours(world, policy, start, name, how, 16)}
        row[f"{name}, ms"] = least(timed, 16, seconds)["ours"]
    row["peak memory, GB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--items", type=int, nargs="+", default=[1_000, 30_000, 1_000_000])
    parser.add_argument("--levels", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each measurement")
    parser.add_argument("--alone", action="store_true", help="one size, in this process, as JSON")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.alone:
        print(json.dumps(one(given.items[0], given.levels, given.seconds)))
        return
    rows = []
    for items in given.items:
        command = [sys.executable, "-m", "benchmarks.codebooks", "--alone", "--items", str(items)]
        command += ["--levels", str(given.levels), "--seconds", str(given.seconds)]
        found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        rows.append(json.loads(found.splitlines()[-1]))
    table("Step and memory against the catalogue (float32, R = 1, G = 32, H = 64)", rows)


if __name__ == "__main__":
    main()

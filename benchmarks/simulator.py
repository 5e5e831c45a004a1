"""Speed of a training step: our fast path with either kernel, our naive loop, and JAX, in one run
on one core.

    python -m benchmarks.simulator peers scaling profile sweep [--out docs/images]

Each number is the least processor time of many short repetitions, interleaved between the peers, in
milliseconds per run-step: one optimizer step of one run with everything that belongs to it (draws,
rollouts, signal, gradient, Adam). `peers` needs jax (`make bench` installs it).
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import sys
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.contenders import RATE, general, jax_peer, ours, phases, warm, world_of
from benchmarks.cost_chart import cost_chart
from benchmarks.measure import least, table
from recast import STRATEGIES
from sim.allocator import keep_freed_memory
from sim.general.runs import Runs, params_of_one
from sim.policies.mlp import MLP
from sim.policies.protocol import Params
from sim.settings import Training
from sim.shortcuts.fast_path import FastPath
from sim.training.trainer import open_run, train
from sim.worlds.synthetic import SyntheticWorld, build_synthetic
from sim.worlds.world import World

AXES = {"R": "R, runs together", "B": "B, prompts", "N": "N, items", "H": "H, hidden units"}


def peers(seconds: float) -> None:
    world, policy, runs = world_of(), MLP(64), 8
    rows = []
    for dtype in (torch.float32, torch.float64):
        start = warm(world, policy, runs, dtype)
        for name, group, kl in TOLD_APART:
            how = Training(steps=1000, group=group, kl_weight=kl)
            steps = 16 if group == 32 else 4
            timed = {
                "naive": general(world, policy, start, name, how, steps, tree=False),
                "jax vmap": jax_peer(world, start, name, how, steps, "vmap"),
                "jax map": jax_peer(world, start, name, how, steps, "map"),
                "ours": ours(world, policy, start, name, how, steps),
            }
            best = least(timed, steps * runs, seconds)
            peer = min(best["jax vmap"], best["jax map"])
            rows.append(
                {
                    "type": str(dtype).removeprefix("torch."),
                    "G": group,
                    "strategy": name + (f", KL {kl}" if kl else ""),
                    **{f"{k}, ms": v for k, v in best.items()},
                    "jax against naive": best["naive"] / peer,
                    "ours against jax": peer / best["ours"],
                    "ours, M rollouts/s": how.batch * group / best["ours"] / 1e3,
                }
            )
            print(rows[-1], file=sys.stderr, flush=True)
    table("One training step, R = 8, B = 32, H = 64, one step per phase", rows)


TOLD_APART = (
    ("grpo", 32, 0.0),
    ("grpo", 32, 0.001),
    ("recast", 32, 0.0),
    ("grpo", 512, 0.0),
    ("recast", 512, 0.0),
)
"""Strategy, rollouts per group and weight of the KL term that `peers` times."""
NODES = ("nodes, G = 32", "nodes, G = 1024")


Lines = dict[str, list[float]]
"""Milliseconds per run-step by strategy, along the values of one axis."""
GROUPS = (32, 128, 512, 1024)


def scaling(seconds: float, out: Path | None) -> None:
    world, policy = world_of(), MLP(64)
    start = warm(world, policy, 8, torch.float64)
    by_group = against_group(world, policy, start, seconds)
    others = against_sizes(world, policy, start, seconds)
    with_terms(world, policy, start, seconds)
    if out is not None:
        panels = {"G, rollouts per prompt": (GROUPS, by_group), **others}
        (out / "cost.svg").write_text(cost_chart(panels), encoding="utf-8")


def against_group(world: World, policy: MLP, start: Params, seconds: float) -> Lines:
    """Cost of several strategies and of the naive loop against G."""
    names = ("grpo", "repair_only", "reinforce", "recast", "sft")
    by_group: Lines = {}
    for name in names:
        for group in GROUPS:
            timed = {"ours": ours(world, policy, start, name, Training(steps=99, group=group), 1)}
            by_group.setdefault(name, []).append(least(timed, 8, seconds)["ours"])
    for group in GROUPS[:3]:
        how = Training(steps=99, group=group)
        timed = {"naive": general(world, policy, start, "grpo", how, 1, tree=False)}
        by_group.setdefault("grpo, naive loop", []).append(least(timed, 8, seconds)["naive"])
    nodes: Lines = {
        name: [scored_nodes(world, policy, start, name, group) for group in (32, 1024)]
        for name in names
    }
    table(
        "Cost against G, ms per run-step (float64, R = 8), and nodes of the trie that it scores",
        [
            {"strategy": name}
            | {f"G = {g}": v for g, v in zip(GROUPS, [*cost, "-"], strict=False)}
            | {"G = 1024 / G = 32": cost[3] / cost[0] if len(cost) == 4 else "-"}
            | dict(zip(NODES, nodes.get(name, ["-", "-"]), strict=True))
            for name, cost in by_group.items()
        ],
    )
    return by_group


def against_sizes(
    world: World, policy: MLP, start: Params, seconds: float
) -> dict[str, tuple[tuple[int, ...], Lines]]:
    """Cost of GRPO and ReCast against runs, prompts, items and hidden units: values and lines."""
    rows = []
    found: dict[str, tuple[tuple[int, ...], Lines]] = {}
    for what, values in {
        "R": (1, 2, 4, 8),
        "B": (8, 32, 128),
        "N": (256, 1024, 4096),
        "H": (16, 64, 256),
    }.items():
        for value in values:
            here = world if what != "N" else world_of(value)
            sized = policy if what != "H" else MLP(value)
            begin = start if what in "RB" else warm(here, sized, 8, torch.float64)
            begin = {k: v[: value if what == "R" else 8] for k, v in begin.items()}
            how = Training(steps=99, batch=value if what == "B" else 32)
            row: dict[str, Any] = {"axis": what, "value": value}
            for name in ("grpo", "recast"):
                timed = {"ours": ours(here, sized, begin, name, how, 1)}
                runs = value if what == "R" else 8
                cost = row[f"{name}, ms"] = least(timed, runs, seconds)["ours"]
                _, lines = found.setdefault(AXES[what], (values, {}))
                lines.setdefault(name, []).append(cost)
            rows.append(row)
    table("Cost against R, B, N and H at G = 32, ms per run-step (float64)", rows)
    return found


def with_terms(world: World, policy: MLP, start: Params, seconds: float) -> None:
    """Cost of GRPO with a KL term, and with several optimizer steps per rollout phase."""
    rows = []
    for label, how in {
        "KL 0, one step": Training(steps=99),
        "KL .001, one step": Training(steps=99, kl_weight=0.001),
        "KL 0, 8 steps per phase": Training(steps=99, mini_batch=128),
        "KL .001, 8 steps per phase": Training(steps=99, mini_batch=128, kl_weight=0.001),
    }.items():
        served = (
            phases(world, policy, start, "grpo", how)
            if how.mini_batch
            else ours(world, policy, start, "grpo", how, 1)
        )
        naive = general(world, policy, start, "grpo", how, 1, tree=False)
        best = least({"naive": naive, "ours": served}, 8, seconds)
        rows.append(
            {
                "grpo, G = 32": label,
                "served by": "given rollouts" if how.mini_batch else "hits",
                **{f"{k}, ms per phase": v for k, v in best.items()},
                "ours against naive": best["naive"] / best["ours"],
            }
        )
    table("With KL, and with several steps per rollout phase (float64, R = 8)", rows)


def profile() -> None:
    world, policy = world_of(), MLP(64)
    size, rows = 512, []
    for dtype in (torch.float32, torch.float64):
        square = torch.randn(size, size, dtype=dtype)
        long = torch.randn(8_000_000, dtype=dtype)
        best = least({"mm": lambda s=square: s @ s, "copy": lambda x=long: x.clone()}, 1, 1.0)
        peak = 2 * size**3 / best["mm"] / 1e6
        start = warm(world, policy, 8, dtype)
        for name, group in (("grpo", 32), ("recast", 32), ("grpo", 512)):
            how = Training(steps=99, group=group)
            nodes = scored_nodes(world, policy, start, name, group)
            products = 8 * products_of(start, nodes, how.batch)
            cost = least({"ours": ours(world, policy, start, name, how, 8)}, 8, 2.0)["ours"]
            moving = moved(start) / (2 * long.nbytes / best["copy"] / 1e6)
            rows.append(
                {
                    "type": str(dtype).removeprefix("torch."),
                    "strategy": name,
                    "G": group,
                    "matmul peak, GFLOP/s": peak,
                    "memory copy, GB/s": 2 * long.nbytes / best["copy"] / 1e6,
                    "products per step, MFLOP": products / 1e6,
                    "step, ms (R = 8)": cost,
                    "share of matmul peak": products / (cost * 1e6) / peak,
                    "parameters and moments moved, MB": moved(start),
                    "share of memory bandwidth": moving / cost,
                    "share of both": (products / peak / 1e6 + moving) / cost,
                }
            )
    table("Share of a roofline: products, and Adam's memory traffic", rows)
    calls(world, policy)


def calls(world: World, policy: MLP) -> None:
    """How many calls a step makes from Python."""
    start, rows = warm(world, policy, 8, torch.float64), []
    for runs in (8, 1):
        some = {key: value[:runs].clone() for key, value in start.items()}
        row: dict[str, Any] = {"runs": runs}
        for name in ("grpo", "recast", "reinforce"):
            go = ours(world, policy, some, name, Training(steps=99), 48)
            go()
            spy = cProfile.Profile()
            spy.runcall(go)
            row[name] = pstats.Stats(spy).total_calls / 48  # type: ignore[attr-defined]
        rows.append(row)
    table("Calls from Python in one step (cProfile, float64, G = 32)", rows)


def products_of(start: Params, nodes: float, batch: int) -> float:
    """Floating-point operations of the matrix products of one run-step: forward, and twice that
    backward, for the prompts' encoding (whose own input needs no gradient) and for the nodes."""
    _, features, width = start["input"].shape
    codes = start["head"].shape[-1]
    return 2.0 * (2 * batch * features * width + 3 * nodes * width * codes)


def scored_nodes(world: World, policy: MLP, start: Params, name: str, group: int) -> float:
    """Nodes whose logits a run-step computes, those of targets included."""
    runs = len(next(iter(start.values())))
    how = Training(steps=99, group=group)
    fast = FastPath.of(Runs(policy, world, STRATEGIES[name], start, tuple(range(runs)), how))
    assert fast is not None
    step = 0
    while step < 8:
        step += fast.advance(torch.full((runs,), RATE), step, 8 - step)
    return sum(fast.nodes(run) for run in range(runs)) / runs / 8


def moved(params: Params) -> float:
    """MB that Adam reads and writes at the least: parameter, gradient and two moments."""
    return 7 * sum(value.nbytes for value in params.values()) / 1e6


def sweep(steps: int, seeds: int) -> None:
    world, policy = build_synthetic(SyntheticWorld(validation_prompts=256)), MLP(64)
    start = warm(world, policy, seeds, torch.float64)
    names = (
        *("grpo", "dr_grpo", "rloo", "reinforce", "recast", "recast_random_negative"),
        *("repair_only", "contrast_only", "sft", "grpo_sft"),
    )
    rows, whole = [], time.process_time()
    how = Training(steps=steps, evaluations=max(1, steps // 100))
    # As in a sweep, a start is evaluated once for all strategies.
    opening = [open_run(policy, params_of_one(start, run), world, how) for run in range(seeds)]
    looking = time.process_time() - whole
    for name in names:
        begun, wall = time.process_time(), time.perf_counter()
        rates = torch.full((seeds,), 0.003)
        runs = Runs(policy, world, STRATEGIES[name], start, tuple(range(seeds)), how)
        found = train(runs, rates, opening=opening)
        spent = time.process_time() - begun
        # The evaluation's share of wall time, applied to processor time.
        evaluating = sum(run.evaluating for run in found) / (time.perf_counter() - wall) * spent
        looking += evaluating
        rows.append(
            {
                "strategy": name,
                "s": spent,
                "ms per run-step": (spent - evaluating) * 1e3 / steps / seeds,
                "evaluation / training": evaluating / (spent - evaluating),
            }
        )
    total = time.process_time() - whole
    rows.append(
        {
            "strategy": "all",
            "s": total,
            "ms per run-step": (total - looking) * 1e3 / steps / seeds / len(names),
            "evaluation / training": looking / (total - looking),
        }
    )
    table(
        f"{len(names)} strategies x {seeds} seeds x {steps} steps with evaluation every 100, "
        f"processor seconds of one core; on two cores {total / 2:.0f} s at best",
        rows,
    )


PARTS = ("peers", "scaling", "profile", "sweep")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("what", nargs="+", choices=list(PARTS))
    parser.add_argument("--seconds", type=float, default=3.0, help="for each comparison")
    parser.add_argument("--steps", type=int, default=600, help="of the sweep")
    parser.add_argument("--seeds", type=int, default=10, help="of the sweep")
    parser.add_argument("--out", type=Path, help="folder for the chart")
    given = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    print(f"torch {torch.__version__}, one thread, {os.cpu_count()} cores; load {os.getloadavg()}")
    for part in given.what:
        {
            "peers": lambda: peers(given.seconds),
            "scaling": lambda: scaling(given.seconds, given.out),
            "profile": profile,
            "sweep": lambda: sweep(given.steps, given.seeds),
        }[part]()


if __name__ == "__main__":
    main()

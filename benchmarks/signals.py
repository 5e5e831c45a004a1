"""How long the learning signal of one large batch takes, ours against verl's, on one core.

Usage, inside the parity environment (`make bench-signals` builds it):

    python benchmarks/signals.py [--groups 8192] [--width 32] [--rounds 15] [--no-loop] [--cold]

Every round calls each contender in turn, once untimed and once in processor time, so that neither
other work on the machine nor the caches that another contender left matter; the table shows each
contender's fastest round and its ratio to our `grpo`.
glibc hands freed memory back to the system and faults it in again, page by page, at the next use;
how often is luck, and it can cost more than the arithmetic. So the process is told to keep what it
freed, for every contender alike, as a GPU's caching allocator does; --cold leaves glibc's default.
"Signal" means rewards in, advantages out: for verl from token rewards `[rollouts, 1]` and group
identifiers, for us from a `RolloutGroups`; repair decision and selection included for `recast`.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from recast import STRATEGIES, RolloutGroups, Signal, Strategy, build_signal

DEPTH = 3


def batch(groups: int, width: int, seed: int = 0) -> RolloutGroups:
    """Binary rewards at a hit rate of 1 / width and structural scores of three-level paths."""
    generator = torch.Generator().manual_seed(seed)
    reward = (torch.rand(groups, width, generator=generator) < 1 / width).float()
    levels = torch.randint(0, DEPTH, (groups, width), generator=generator)
    score = torch.where(reward > 0, 1.0, torch.tensor([0.0, 0.01, 0.1])[levels])
    return RolloutGroups.of(reward, score=score)


def fresh_signal(strategy: Strategy, groups: RolloutGroups) -> Signal:
    """The signal of groups that remember nothing of earlier rounds."""
    return build_signal(strategy, replace(groups))


def contenders(groups: RolloutGroups, loop: bool) -> dict[str, Callable[[], object]]:
    """What is timed, by name. verl's two are absent where verl is not installed."""
    timed: dict[str, Callable[[], object]] = {
        f"{name} (ours)": functools.partial(fresh_signal, STRATEGIES[name], groups)
        for name in ("grpo", "recast")
    }
    try:
        from verl.trainer.ppo import core_algos as verl
    except ImportError:
        return timed
    prompts, width = groups.reward.shape
    tokens = groups.reward.reshape(-1, 1)
    mask = torch.ones_like(tokens)
    integers = np.repeat(np.arange(prompts), width)
    # verl's trainer labels each prompt with a UUID text; integers are the kindest case for it.
    texts = np.array([str(uuid.UUID(int=i, version=4)) for i in range(prompts)], dtype=object)
    for label, index in (("integer groups", integers), ("UUID groups", texts[integers])):
        timed[f"grpo (verl, vectorised, {label})"] = functools.partial(
            verl.compute_grpo_vectorized_outcome_advantage, tokens, mask, index
        )
    if loop:
        timed["grpo (verl, loop)"] = functools.partial(
            verl.compute_grpo_outcome_advantage, tokens, mask, texts[integers]
        )
    return timed


def keep_freed_memory() -> bool:
    """Tell glibc to keep freed memory; False where there is no glibc."""
    try:
        tell = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    trim_threshold, mmap_threshold, plenty = -1, -3, 1 << 30
    return bool(tell(trim_threshold, plenty) and tell(mmap_threshold, plenty))


def fastest(timed: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Processor seconds of each contender's fastest round; the loop, seconds long, runs once."""
    best = dict.fromkeys(timed, float("inf"))
    for turn in range(rounds + 1):  # round 0 warms up
        for name, work in timed.items():
            slow = name.endswith("loop)")
            if slow and turn != 1:
                continue
            if not slow:
                work()  # untimed: nobody pays for the caches that the contender before left
            start = time.process_time()
            work()
            took = time.process_time() - start
            if turn or slow:
                best[name] = min(best[name], took)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--groups", type=int, default=8192)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--no-loop", action="store_true", help="leave verl's loop out")
    parser.add_argument("--cold", action="store_true", help="leave memory to glibc's default")
    options = parser.parse_args()
    kept = not options.cold and keep_freed_memory()
    torch.set_num_threads(1)
    groups = batch(options.groups, options.width)
    best = fastest(contenders(groups, loop=not options.no_loop), options.rounds)
    ours = best["grpo (ours)"]
    sys.stdout.write(
        f"{options.groups * options.width:,} rollouts "
        f"({options.groups:,} groups of {options.width}), one thread, torch {torch.__version__}, "
        f"freed memory {'kept' if kept else 'as the system has it'}\n"
    )
    for name, seconds in best.items():
        sys.stdout.write(f"{name:40} {1e3 * seconds:10.2f} ms {seconds / ours:10.2f} x our grpo\n")


if __name__ == "__main__":
    main()

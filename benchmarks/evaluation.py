"""What exact evaluation costs beside training: seconds of both for each packaged preset.

    python -m benchmarks.evaluation [--data DIR] [PRESET ...]

Every strategy of a preset is trained as the preset says, all its seeds together, at the middle one
of its learning rates, in one process on one thread. The evaluation of a start is shared by all runs
that begin there, and counted once per seed and strategy grid as the preset would.
"""

from __future__ import annotations

import argparse
import os
import time

import torch

from benchmarks.measure import table
from sim.allocator import keep_freed_memory
from sim.training.trainer import open_run
from workbench.execution.tasks import (
    StartTask,
    TrainTask,
    build_policy,
    make_runs,
    make_starts,
    world_of,
)
from workbench.spec.experiment import Experiment, load_experiment, preset_names

PRESETS = ("quick", "openonerec_iid", "mixed")


def share(name: str, spec: Experiment) -> dict[str, object]:
    """One row: seconds of training and of evaluation, over all strategies."""
    seeds = tuple(range(spec.seeds))
    starts = tuple(make_starts(StartTask(spec, seeds), lambda _: None))
    rate = sorted(spec.train.lr)[len(spec.train.lr) // 2]
    training = evaluating = 0.0
    for strategy in spec.strategies:
        task = TrainTask(spec, (strategy,) * len(seeds), (rate,) * len(seeds), seeds, starts)
        for run in make_runs(task, lambda _: None):
            training += run.seconds - run.evaluating
            evaluating += run.evaluating
    # An opening is shared by every strategy and learning rate of its seed.
    opening = time.perf_counter()
    one = {key: torch.from_numpy(value).unsqueeze(0) for key, value in starts[0].params.items()}
    open_run(build_policy(spec), one, world_of(spec), spec.train)
    opening = (time.perf_counter() - opening) * len(seeds) / len(spec.train.lr)
    evaluating += opening
    return {
        "preset": name,
        "runs": len(spec.strategies) * len(seeds),
        "steps": spec.train.steps,
        "evaluations": spec.train.evaluations,
        "training, s": training,
        "evaluation, s": evaluating,
        "evaluation / training": evaluating / training,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("presets", nargs="*", metavar="PRESET", help=f"default: {PRESETS}")
    parser.add_argument(
        "--data", default=os.environ.get("RECAST_DATA"), help="of `replay`, which runs when named"
    )
    given = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    rows = []
    for name in given.presets or PRESETS:
        if name not in preset_names():
            parser.error(f"no such preset: {name!r}; there are {', '.join(preset_names())}")
        spec = load_experiment(name, {})
        if spec.world.kind == "replay":
            if given.data is None:
                print(f"{name}: left out, it needs --data DIR or RECAST_DATA")
                continue
            spec = load_experiment(name, {"world.data": given.data})
        rows.append(share(name, spec))
    if rows:
        table("Evaluation beside training, seconds of one core", rows)


if __name__ == "__main__":
    main()

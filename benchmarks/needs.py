"""What plans are estimated to need, beside what they took: the memory limit of one worker.

`python -m benchmarks.needs` trains two runs of a few steps for each case, eight where it says so,
each in a process of its own, and prints a table; about ten minutes of one core.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

SMALL = {
    "strategies": ("grpo", "recast"),
    "seeds": 1,
    "train.lr": (0.003,),
    "train.steps": 3,
    "train.evaluations": 1,
}
EIGHT = {"strategies": ("grpo",), "seeds": 8}
CASES: tuple[dict[str, Any], ...] = (
    {"policy.kind": "transformer"},
    {"policy.kind": "transformer", "policy.width": 256, "start.all_zero": 0.955},
    {"policy.kind": "transformer", "policy.width": 512, "start.all_zero": 0.96},
    {"policy.kind": "transformer", "train.batch": 256, "train.group": 64, "start.all_zero": 0.7},
    {"policy.kind": "transformer", "train.batch": 512, "train.group": 128, "start.all_zero": 0.6},
    {"policy.kind": "transformer", "world.items": 4096, "start.all_zero": 0.955},
    {"policy.width": 1024, "start.all_zero": 0.955},
    {"policy.width": 1024, "start.all_zero": 0.955, **EIGHT},
    {
        "policy.width": 512,
        "train.batch": 128,
        "train.group": 128,
        "train.kernel": "general",
        "start.all_zero": 0.8,
        **EIGHT,
    },
    {"policy.kind": "tabular", "start.all_zero": 0.955, **EIGHT},
    {"world.items": 4096, "world.test_prompts": 512, "start.all_zero": 0.955},
    {"world.items": 4096, "world.test_prompts": 4096, "start.all_zero": 0.955},
    {"world.items": 4096, "world.test_prompts": 8000, "start.all_zero": 0.955},
    {"world.validation_prompts": 8000, "start.all_zero": 0.955},
    {"train.batch": 512, "train.group": 128, "start.all_zero": 0.6},
)


def one(changes: dict[str, Any]) -> tuple[float, float]:
    """GiB estimated and taken, of this process."""
    from workbench.execution.runner import run_experiment
    from workbench.spec.experiment import load_experiment
    from workbench.spec.limits import lifted, need_of
    from workbench.store.runs import Store

    with lifted(), tempfile.TemporaryDirectory() as folder:
        spec = load_experiment("quick", {**SMALL, **changes})
        run_experiment(spec, Store(Path(folder)).prepare(), executor="serial")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    runs = len(spec.strategies) * len(spec.train.lr) * spec.seeds
    return need_of(spec, runs).gibibytes, peak


def main() -> None:
    """Print the table."""
    if len(sys.argv) > 1:
        print(json.dumps(one(json.loads(sys.argv[1]))))
        return
    print("| plan, beside `quick` | estimate, GiB | peak, GiB |\n|---|---|---|")
    for changes in CASES:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.needs", json.dumps(changes)],
            capture_output=True,
            text=True,
            check=True,
        )
        estimate, peak = json.loads(done.stdout)
        said = ", ".join(f"`{name}={value}`" for name, value in changes.items())
        print(f"| {said} | {estimate:.2f} | {peak:.2f} |", flush=True)


if __name__ == "__main__":
    main()

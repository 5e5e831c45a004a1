"""What a worker really takes beside the estimate of `workbench.spec.limits`.

`python -m benchmarks.limits` trains one short run of each kind of policy in a process of its own
and prints both figures: peak memory in GiB, processor seconds.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile

from workbench.spec.experiment import load_experiment
from workbench.spec.limits import need_of

KINDS: dict[str, dict[str, object]] = {
    "mlp": {"policy.kind": "mlp"},
    "tabular": {"policy.kind": "tabular"},
    "loglinear": {"policy.kind": "loglinear"},
    "transformer, width 32": {"policy.kind": "transformer", "policy.width": 32},
    "transformer, width 128": {"policy.kind": "transformer", "policy.width": 128},
}
SMALL = {
    "strategies": ("grpo",),
    "seeds": 1,
    "train.lr": (0.003,),
    "train.steps": 8,
    "train.evaluations": 1,
    "start.all_zero": 0.95,
}


def measured(settings: dict[str, object]) -> tuple[float, float]:
    """Peak GiB and seconds of one core of `recast run` in a process of its own."""
    words = [sys.executable, "-m", "workbench.cli", "run", "--preset", "quick"]
    words += ["--executor", "serial", "--strategy", "grpo", "--seeds", "1", "--lr", "0.003"]
    for name in ("train.steps", "train.evaluations", "start.all_zero"):
        words += ["--set", f"{name}={SMALL[name]}"]
    for name, value in settings.items():
        words += ["--set", f'{name}="{value}"' if isinstance(value, str) else f"{name}={value}"]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.Popen(
            [*words, "--store", f"{folder}/s"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert done.stderr is not None
        said = done.stderr.read()
        _, code, used = _ended(done)
    if code:
        raise SystemExit(f"{settings}: {said[-300:]}")
    return used.ru_maxrss / 2**20, used.ru_utime + used.ru_stime


def _ended(process: subprocess.Popen[str]) -> tuple[int, int, resource.struct_rusage]:
    pid, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return pid, process.returncode, used


def main() -> None:
    """One row for each kind of policy."""
    print(
        "| policy | estimated GiB | peak GiB | estimated s | s of one core |\n|---|---|---|---|---|"
    )
    for name, settings in KINDS.items():
        spec = load_experiment("quick", {**SMALL, **settings})
        need = need_of(spec, 1)
        peak, seconds = measured(settings)
        print(
            f"| {name} | {need.gibibytes:.2f} | {peak:.2f} | {need.core_hours * 3600:.0f} "
            f"| {seconds:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()

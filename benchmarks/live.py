"""What the live diagnosis costs beside a trainer's step.

    python benchmarks/live.py               # steps of 1 s, 1,000 of them
    python benchmarks/live.py --step 0.2 --steps 5000

Steps are not waited for: the clock that the diagnosis looks at is moved on by a step's time, and
its own processor time is measured beside it. Printed are the mean and the worst share of the time
of a run so far, and the slowest call.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from workbench.diagnosis.live import LiveDiagnosis

NAMES = ("reward", "frac_reward_zero_std", "entropy", "kl", "completions/clipped_ratio",
         "completions/mean_length", "clip_ratio/region_mean", "grad_norm", "loss")  # fmt: skip


class StepClock:
    """Seconds of a run that is made up, and of the diagnosis, which is not."""

    def __init__(self) -> None:
        self.steps = 0.0

    def __call__(self) -> float:
        return self.steps + time.process_time()


def measured(step: float, steps: int) -> tuple[float, float, float]:
    """Share of the whole run, the worst share of the run so far after its first tenth, and the
    slowest call in seconds."""
    rng = np.random.default_rng(0)
    clock = StepClock()
    live = LiveDiagnosis(clock)
    live.add(0, {"reward": 0.3})
    began, worst, slowest, spent = clock.steps, 0.0, 0.0, 0.0
    for place in range(1, steps + 1):
        clock.steps += step
        values = dict(zip(NAMES, rng.random(len(NAMES)).tolist(), strict=True))
        start = time.process_time()
        live.add(place, values)
        took = time.process_time() - start
        spent, slowest = spent + took, max(slowest, took)
        if 10 * place >= steps:
            worst = max(worst, spent / (clock.steps - began))
    return spent / (steps * step), worst, slowest


def main() -> None:
    """Print the shares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--step", type=float, default=1.0, help="seconds of a step")
    parser.add_argument("--steps", type=int, default=1000)
    given = parser.parse_args()
    share, worst, slowest = measured(given.step, given.steps)
    print(
        f"{given.steps:,} steps of {given.step:g} s: the diagnosis took {share:.2%} of the run, at "
        f"most {worst:.2%} of it so far; the slowest call took {1000 * slowest:.0f} ms"
    )


if __name__ == "__main__":
    main()

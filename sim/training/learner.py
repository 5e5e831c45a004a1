"""Which learner trains: the compiled one where it can, and whether this machine can compile."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache

from sim.general.general_path import General
from sim.general.runs import Learner, Runs
from sim.general.step import Collected
from sim.kernel.available import why_not_compiled
from sim.settings import Kernel


def kernel_here(asked: Kernel) -> Kernel:
    """What trains on this machine where `asked` is asked for. Warns once per process where that is
    something else for want of numba."""
    reason = why_not_compiled() if asked == "compiled" else None
    if reason is None:
        return asked
    _say(reason)
    return "general"


@cache
def _say(reason: str) -> None:
    warnings.warn(
        f"numba cannot be used ({reason}): the general path trains, several times slower",
        RuntimeWarning,
        stacklevel=3,
    )


def fast_path(runs: Runs) -> Learner | None:
    """The kernel's learner, or None where the general path must do."""
    if kernel_here(runs.how.kernel) == "general":
        return None
    from sim.shortcuts.fast_path import FastPath

    return FastPath.of(runs)


def general_path(run: Runs, record: Callable[[int, Collected], None] | None = None) -> Learner:
    """The general path of a single run, whose optimizer steps the kernel takes where it can."""
    if kernel_here(run.how.kernel) == "compiled":
        from sim.shortcuts.phases import Phases

        several = run.world.train.targets is not None and run.how.targets == "all"
        if Phases.why_not(run.policy, run.strategy, several) is None:
            return Phases(run, record)
    return General(run, record)


def expected_path(runs: Runs) -> Learner:
    """The learner of expected updates. Raises ValueError, one line, where there is none."""
    reason = why_not_compiled()
    if reason is not None:
        raise ValueError(f"train.updates: expected updates need numba ({reason})")
    from sim.shortcuts.expected import ExpectedPath

    return ExpectedPath(runs)

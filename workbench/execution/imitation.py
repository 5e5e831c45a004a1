"""A simulated world whose groups are mixed as asked: the start of a look-alike.

SFT's length and the sampling temperature are solved (`sim.training.calibrate`) for the share of
all-zero groups and, where it can be reached, for that of groups with two hits or more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sim.training.calibrate import Calibration, calibrate
from sim.training.warm_start import StartRequest
from workbench.errors import UserError
from workbench.execution.tasks import build_policy, build_world
from workbench.spec.experiment import Experiment, load_experiment

EDGE = 0.02
SCENES: tuple[Mapping[str, Any], ...] = (
    {"world.items": 512},
    {"world.items": 2048},
    {"world.items": 4096},
    {"world.items": 64, "world.noise": 0.05},
)
"""Worlds to try, in this order: more items where hits are rarer, clear tastes where they abound."""

NEAR, WITHIN = 0.03, 0.1
"""How near the share of groups with several hits should come, and must. The search stops at a tenth
of `WITHIN`, as a log of a few hundred groups knows its share no better; beyond `NEAR` is noted."""

PATIENCE = 600
"""SFT steps of one try. Samples too hot to hit often enough would take all there are."""


def imitate(
    all_zero: float,
    several: float,
    group: int,
    strategies: Sequence[str],
    seeds: int,
    unlearnable: float = 0.0,
) -> tuple[Calibration, Experiment, list[str]]:
    """Solve for a start with these regimes: its calibration, the experiment that begins there, and
    what to know of it. unlearnable: share of targets that any item may be, an assumption.

    Raises UserError, saying what stood in the way first, when none of `SCENES` has that all-zero
    share.
    """
    notes = []
    zero = min(max(all_zero, EDGE), 1 - EDGE)
    if zero != all_zero:
        notes.append(f"the all-zero share {all_zero:.1%} is imitated as {zero:.1%}")
    reasons = []
    for place in SCENES:
        scene = {**place, "world.unlearnable": unlearnable}
        spec = _experiment(scene, zero, 1.0, group, strategies, seeds)
        policy, world = build_policy(spec), build_world(spec)
        for share in (several, None) if several + zero < 1 else (None,):
            try:
                found = calibrate(
                    policy,
                    world,
                    StartRequest(zero, group, max_steps=PATIENCE, lr=spec.start.lr),
                    several=share,
                    within=WITHIN,
                )
            except ValueError as problem:
                reasons.append(str(problem))
                continue
            gap = found.several - several
            if abs(gap) > NEAR:
                notes.append(
                    f"{found.several:.1%} of the simulated groups have several hits, "
                    f"{several:.1%} of the log's"
                )
            heat = round(found.temperature, 4)
            begun = _experiment(scene, zero, heat, group, strategies, seeds)
            return found, begun, notes
    raise UserError(f"simulate: no world has these regimes; in the first, {reasons[0]}")


def _experiment(
    scene: Mapping[str, Any],
    all_zero: float,
    temperature: float,
    group: int,
    strategies: Sequence[str],
    seeds: int,
) -> Experiment:
    changes: Mapping[str, Any] = {
        "strategies": tuple(strategies),
        "seeds": seeds,
        "start.all_zero": all_zero,
        "train.group": group,
        "train.temperature": temperature,
        **scene,
    }
    return load_experiment("quick", changes)

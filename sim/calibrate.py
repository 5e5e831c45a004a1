"""A whole triple of regimes by two knobs: how long SFT goes, and at which temperature one samples.

At a given temperature SFT is stopped where the all-zero share crosses the request; a higher
temperature needs a longer SFT, and leaves fewer groups with two hits or more. Both are solved on
the solver's prompts of `sim.warmstart` and measured again on validation and test prompts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from recast.metrics import regime_shares
from sim.policy import Policy
from sim.warmstart import WarmStart, hit_share, solver_prompts, warm_start
from sim.world import Prompts, World

COLDEST, HOTTEST = 0.5, 4.0
WITHIN = 0.01


@dataclass(frozen=True)
class Calibration:
    """temperature of the rollouts; steps of SFT; solved, held_out: the four regime shares on the
    solver's prompts and on validation and test prompts together."""

    temperature: float
    steps: int
    solved: dict[str, float]
    held_out: dict[str, float]


def calibrate(
    policy: Policy,
    world: World,
    *,
    all_zero: float,
    several: float | None,
    group: int,
    seed: int = 0,
    max_steps: int = 2000,
    lr: float = 0.003,
    within: float = WITHIN,
) -> Calibration:
    """Solve for the all-zero share and, unless `several` is None, for the share of groups with two
    hits or more (multi-hit and saturated together; the rest is single-hit).

    Raises ValueError, saying what the nearest reachable share was, when no temperature in
    [COLDEST, HOTTEST] gives it to `within`, or SFT cannot reach the all-zero share.
    """
    if several is not None and not 0 <= several < 1 - all_zero:
        raise ValueError(
            f"all-zero {all_zero:g} and multi-hit {several:g} leave no single-hit groups"
        )

    def at(temperature: float) -> tuple[WarmStart, Calibration]:
        warm = warm_start(
            policy,
            world,
            (seed,),
            all_zero=all_zero,
            group=group,
            temperature=temperature,
            max_steps=max_steps,
            lr=lr,
        )
        solved = _shares(policy, warm, world, [solver_prompts(world)], group, temperature)
        held_out = _shares(policy, warm, world, [world.validation, world.test], group, temperature)
        return warm, Calibration(temperature, int(warm.steps[0]), solved, held_out)

    def excess(found: Calibration) -> float:
        assert several is not None
        return found.solved["multi_hit"] + found.solved["saturated"] - several

    best = at(1.0)[1]
    if several is None or abs(excess(best)) < within / 10:
        return best
    low, high = (1.0, HOTTEST) if excess(best) > 0 else (COLDEST, 1.0)
    reason = ""
    for _ in range(8):
        middle = math.sqrt(low * high)
        try:
            found = at(middle)[1]
        except ValueError as problem:
            # SFT cannot get there: samples this hot never hit often enough.
            reason, high = f"; at temperature {middle:.2f}: {problem}", middle
            continue
        if abs(excess(found)) < abs(excess(best)):
            best = found
        if abs(excess(found)) < within / 10:
            break
        low, high = (middle, high) if excess(found) > 0 else (low, middle)
    if abs(excess(best)) > within:
        raise ValueError(
            f"multi-hit {several:g} at all-zero {all_zero:g} is out of reach: the nearest was "
            f"{several + excess(best):.3f} at temperature {best.temperature:.2f}{reason}; "
            "change world.noise, or ask for that"
        )
    return best


def _shares(
    policy: Policy,
    warm: WarmStart,
    world: World,
    prompts: list[Prompts],
    group: int,
    temperature: float,
) -> dict[str, float]:
    total: dict[str, float] = {}
    for part in prompts:
        hit = hit_share(policy, warm.params, world, part, temperature)[0]
        for name, share in regime_shares(hit, group).items():
            total[name] = total.get(name, 0.0) + share.sum().item()
    return {name: value / sum(map(len, prompts)) for name, value in total.items()}

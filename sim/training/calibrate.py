"""A whole triple of regimes by three knobs: SFT length, temperature, and heterogeneity of users.

At a given temperature SFT is stopped where the all-zero share crosses the request; a higher
temperature needs a longer SFT, and leaves fewer groups with two hits or more. Where no temperature
gives the wanted share of them, users are made more alike or less
(`sim.worlds.synthetic.strengths`). All of it is solved on the solver's prompts of
`sim.training.warm_start` and measured again on validation and test prompts, where it must hold as
well.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from recast.metrics import regime_shares
from sim.policies.protocol import Policy
from sim.training.warm_start import StartRequest, WarmStart, hit_share, solver_prompts, warm_start
from sim.worlds.world import Prompts, World

COLDEST, HOTTEST = 0.5, 4.0
MOST_ALIKE, LEAST_ALIKE = -1.0, 1.5
WITHIN = 0.01


@dataclass(frozen=True)
class Calibration:
    """temperature of the rollouts; steps of SFT; heterogeneity of the world; solved, held_out: the
    four regime shares on the solver's prompts and on validation and test prompts together."""

    temperature: float
    steps: int
    solved: dict[str, float]
    held_out: dict[str, float]
    heterogeneity: float = 0.0

    @property
    def several(self) -> float:
        """Share of groups with two hits or more on the solver's prompts."""
        return several_hits(self.solved)


def calibrate(
    policy: Policy,
    world: World,
    wanted: StartRequest,
    *,
    several: float | None,
    seed: int = 0,
    within: float = WITHIN,
    heterogeneity: float = 0.0,
    worlds: Callable[[float], World] | None = None,
) -> Calibration:
    """Solve for the all-zero share and, unless `several` is None, for the share of groups with two
    hits or more (multi-hit and saturated together; the rest is single-hit).

    wanted: but for its temperature, which is solved for. heterogeneity: that of `world`; worlds:
    the same world at another one, None where it has no such knob (replayed data). Raises
    ValueError, saying what the nearest reachable share was, when the knobs do not give it to
    `within`, or SFT cannot reach the all-zero share. Whether it holds on prompts that the solver
    never saw is for `not_held_out` to say.
    """
    all_zero = wanted.all_zero
    if several is not None and not 0 <= several < 1 - all_zero:
        raise ValueError(
            f"all-zero {all_zero:g} and two-or-more {several:g} leave no single-hit groups"
        )

    def at(temperature: float, alike: float, place: World) -> Calibration:
        warm = warm_start(policy, place, (seed,), replace(wanted, temperature=temperature))
        shares = partial(_shares, policy, warm, place, group=wanted.group, temperature=temperature)
        solved, held_out = shares([solver_prompts(place)]), shares([place.validation, place.test])
        return Calibration(temperature, int(warm.steps[0]), solved, held_out, alike)

    best = at(1.0, heterogeneity, world)
    close = within / 10
    if several is None or abs(best.several - several) < close:
        return best
    best, reason = _by_temperature(lambda t: at(t, heterogeneity, world), best, several, close)
    if abs(best.several - several) > close and worlds is not None:
        heat = best.temperature
        best = _by_heterogeneity(lambda h: at(heat, h, worlds(h)), best, several, close)
    if abs(best.several - several) > within:
        raise ValueError(
            f"two-or-more {several:g} at all-zero {all_zero:g} is out of reach: the nearest was "
            f"{best.several:.3f} at temperature {best.temperature:.2f} and heterogeneity "
            f"{best.heterogeneity:.2f}{reason}; change world.noise, or ask for that"
        )
    return best


def several_hits(shares: dict[str, float]) -> float:
    """Share of groups with two hits or more."""
    return shares["multi_hit"] + shares["saturated"]


def _by_temperature(
    at: Callable[[float], Calibration], best: Calibration, several: float, close: float
) -> tuple[Calibration, str]:
    """The temperature nearest to the request, and why there is none beyond; hotter leaves fewer
    groups with several hits."""
    low, high = (1.0, HOTTEST) if best.several > several else (COLDEST, 1.0)
    reason = ""
    for _ in range(8):
        middle = math.sqrt(low * high)
        try:
            found = at(middle)
        except ValueError as problem:
            # SFT cannot get there: samples this hot never hit often enough.
            reason, high = f"; at temperature {middle:.2f}: {problem}", middle
            continue
        best = min(best, found, key=lambda c: abs(c.several - several))
        if abs(found.several - several) < close:
            break
        low, high = (middle, high) if found.several > several else (low, middle)
    return best, reason


def _by_heterogeneity(
    at: Callable[[float], Calibration], best: Calibration, several: float, close: float
) -> Calibration:
    """The heterogeneity nearest to the request; unequal users leave more groups with several
    hits."""
    here = best.heterogeneity
    low, high = (here, LEAST_ALIKE) if best.several < several else (MOST_ALIKE, here)
    for _ in range(8):
        if high - low < 0.01:
            break
        middle = (low + high) / 2
        try:
            found = at(middle)
        except ValueError:
            # SFT cannot get there: so many users are out of its reach.
            low, high = (low, middle) if middle > here else (middle, high)
            continue
        best = min(best, found, key=lambda c: abs(c.several - several))
        if abs(found.several - several) < close:
            break
        low, high = (middle, high) if found.several < several else (low, middle)
    return best


def not_held_out(found: Calibration, all_zero: float, several: float | None) -> str | None:
    """Why the request does not hold on prompts that the solver never saw, in one line; None where
    it holds within a point."""
    wanted = {"all-zero": (all_zero, found.held_out["all_zero"])}
    if several is not None:
        wanted["two or more"] = (several, several_hits(found.held_out))
    for name, (asked, got) in wanted.items():
        if abs(asked - got) > WITHIN:
            return (
                f"{name} {asked:g} is met on the solver's prompts, but held-out prompts show "
                f"{got:.3f}: more than a point off; expected users who differ less from each other "
                "(world.drift, world.heterogeneity), or another world.seed"
            )
    return None


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

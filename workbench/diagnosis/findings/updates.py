"""Whether weights are updated at all: a learning rate or a gradient of 0."""

from __future__ import annotations

import numpy as np

from workbench.diagnosis.findings.curves import Curve, Curves
from workbench.diagnosis.findings.finding import Finding

LEAST = 5
"""Steps at the end that must be 0: a warm-up begins there, and a schedule may end there."""

PART = 0.1
"""And the share of the run that they must be."""


def no_update(curves: Curves) -> Finding | None:
    """The learning rate, or the gradient, is 0 while rewards differ: nothing is trained."""
    return _no_rate(curves) or _no_gradient(curves)


def _no_rate(curves: Curves) -> Finding | None:
    rate = curves.get("learning_rate")
    # Three printed digits say 0 of every learning rate.
    if rate is None or "rounded" in curves or not (zeros := _zeros_at_end(rate)):
        return None
    whole = zeros == len(rate)
    when = f"at all {zeros:,} logged steps" if whole else f"from step {_from(rate, zeros)} on"
    return Finding(
        "no_update",
        "problem",
        f"The learning rate is 0 {when}: no weight moves"
        + ("." if whole else f", for {zeros / len(rate):.0%} of the steps."),
        "Print the optimizer's learning rate at each step: the schedule ends too early (its number "
        "of steps, epochs or warm-up is not that of the run), or the value never reached it.",
    )


def _no_gradient(curves: Curves) -> Finding | None:
    norm, equal = curves.get("grad_norm"), curves.get("zero_spread")
    if norm is None or not (zeros := _zeros_at_end(norm)):
        return None
    spread, reward = curves.get("reward_std"), curves.get("reward")
    late = reward.value[reward.step >= norm.step[-zeros]] if reward else np.zeros(0)
    if len(late) > 1 and float(np.ptp(late)) == 0:
        return None  # all rewards are equal there, which leaves nothing to learn
    if equal is not None:
        differ = 1 - float(equal.value[-zeros:].mean())
        if differ <= 0:
            return None
        rewards = f"though {differ:.0%} of the groups have different rewards"
    elif spread is not None and float(spread.value[-zeros:].min()) > 0:
        rewards = "though rewards differ"
    else:
        rewards = "whatever the rewards are"
    whole = zeros == len(norm)
    when = f"at all {zeros:,} logged steps" if whole else f"from step {_from(norm, zeros)} on"
    first = (
        ""
        if rewards.startswith("though")
        else "See first whether rewards differ inside groups (log reward_std, "
        "frac_reward_zero_std): where all are equal there is no gradient. If they do, count the "
        "parameters. "
    )
    return Finding(
        "no_update",
        "problem",
        f"The gradient's norm is 0 {when}, {rewards}: no weight is trained.",
        f"{first}Print how many parameters have requires_grad, and whether the optimizer holds "
        "them: frozen weights, an adapter (LoRA) that is not active or was merged, or a loss that "
        "is cut off from the policy (no_grad, detach, an empty mask).",
    )


def _zeros_at_end(one: Curve) -> int:
    """How many steps at the end are exactly 0; 0 where they are too few to say anything."""
    other = np.flatnonzero(one.value != 0)
    zeros = len(one) - 1 - int(other[-1]) if len(other) else len(one)
    return zeros if zeros >= max(LEAST, PART * len(one)) else 0


def _from(one: Curve, zeros: int) -> str:
    return f"{one.step[-zeros]:,.0f}"

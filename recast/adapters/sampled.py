"""What adapters know of sampled groups, and what they log of them; no trainer is needed."""

from __future__ import annotations

from recast.groups import regime
from recast.regimes import REGIMES
from recast.signal import Signal
from recast.stages.repair import anchored

GIVEN = frozenset({"target", "tie_key", "length", "matched", "depth", "score"})
"""Inputs of strategies that every adapter fills."""


def described(signal: Signal) -> dict[str, float]:
    """What the rollouts were before repair, and what is left of them."""
    sampled = signal.sampled
    kinds = regime(sampled.hit, sampled.valid)
    found = {
        f"recast/{name}": float((kinds == place).double().mean())
        for place, name in enumerate(REGIMES)
    }
    found["recast/raw_reward"] = float(sampled.reward.sum() / sampled.valid.sum())
    found["recast/repaired"] = float(anchored(signal.groups).double().mean())
    found["recast/update_width"] = float(signal.rows.sum(-1).double().mean())
    return found

"""A strategy from text: every stage by name."""

from __future__ import annotations

from dataclasses import fields

from recast.quoting import nearest
from recast.signal import probe
from recast.strategy import LABELS, Strategy


def compose(text: str) -> Strategy:
    """A strategy from text such as `"repair=anchor, credit=grpo(eps=1e-4)"`.

    Raises ValueError, one line, for an unknown key or value, and for a composition that learns
    nothing from any group of binary rewards.
    """
    keys = [f.name for f in fields(Strategy) if f.name not in LABELS]
    chosen: dict[str, str | float] = {}
    for part in _parts(text):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if key not in keys or not equals:
            raise ValueError(f"strategy: unknown key {key!r} in {text!r}; {nearest(key, keys)}")
        chosen[key] = value
    if "policy_weight" in chosen:
        try:
            chosen["policy_weight"] = float(chosen["policy_weight"])
        except ValueError:
            raise ValueError(
                f"policy_weight: {chosen['policy_weight']!r} is not a number; expected >= 0"
            ) from None
    strategy = Strategy(**chosen)  # type: ignore[arg-type]  # checked by Strategy itself
    width = max(16, strategy.width(16) + 1, strategy.least_group + 1)
    if not strategy.learns_from_target and not bool((probe(strategy, width).count > 0).any()):
        raise ValueError(
            f"strategy: {text!r} gives every rollout of every group of binary rewards an advantage "
            "of 0; choose a credit that can tell the selected rollouts apart"
        )
    return strategy


def _parts(text: str) -> list[str]:
    depth, parts = 0, [""]
    for letter in text:
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts

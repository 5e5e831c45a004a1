"""What the simulator can give to a strategy; importing this loads no world and no policy."""

from __future__ import annotations

from typing import Literal

from recast.groups import OPTIONAL
from recast.strategy import Strategy, missing_input

Search = Literal["sample", "beam"]

GIVEN = frozenset({"target", "reference", "path", "depth", "score", *OPTIONAL}) - {
    "beam_rank",
    "length",
}
"""Inputs that the simulator gives every strategy; beam sets have a `beam_rank` as well."""


def given(rollouts: Search) -> frozenset[str]:
    """Names of the inputs that rollouts of this kind come with, as in `Strategy.needs`."""
    return GIVEN | ({"beam_rank"} if rollouts == "beam" else set())


def why_not(
    strategy: Strategy, rollouts: Search = "sample", group: int | None = None
) -> str | None:
    """Why the simulator cannot train a strategy, in one line; None where it can."""
    if rollouts == "beam" and strategy.samples_again:
        return f"repair={strategy.repair} samples its prompts again; beam sets are the same again"
    return missing_input(strategy, given(rollouts), group)

"""`recast lm rl --recipe`: published settings by name, as defaults of the other options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import click

_MINIONEREC: dict[str, Any] = {
    "strategies": ("rank_penalty",),
    "search": "beam",
    "group": 16,
    "batch": 64,
    "rates": (1e-5,),
    "kl": 1e-3,
    "logp": "free",
    "prompt": "minionerec",
}
RECIPES: Mapping[str, Mapping[str, Any]] = {
    "minionerec": _MINIONEREC,
    "minionerec_rule": {**_MINIONEREC, "strategies": ("grpo_trl",)},
    "minionerec_ranking_only": {
        **_MINIONEREC,
        "strategies": ("credit=rank_penalty(hit=0)",),
    },
    "minionerec_semantic": {**_MINIONEREC, "strategies": ("credit=grpo_score(5e-5)",)},
    "minionerec_sampling": {
        **_MINIONEREC,
        "strategies": ("minionerec_sampling",),
        "search": "sample",
    },
    "minionerec_add_gt": {**_MINIONEREC, "strategies": ("add_gt",)},
}
"""MiniOneRec's `rl.sh` and `rl.py` (commit 81b4ba9): reward types ranking (its default), rule,
ranking_only and semantic, dynamic sampling, add_gt."""


def _fill_in(context: click.Context, _: click.Parameter, value: str | None) -> str | None:
    if value is not None:
        context.default_map = {**(context.default_map or {}), **RECIPES[value]}
    return value


def RECIPE(command: Callable[..., None]) -> Callable[..., None]:
    """The option; what is given beside it wins."""
    option = click.option(
        "--recipe",
        type=click.Choice(list(RECIPES)),
        default=None,
        is_eager=True,
        expose_value=False,
        callback=_fill_in,
        help="Published settings for what is not given: docs/published-models.md.",
    )
    return option(command)

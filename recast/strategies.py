"""Strategies: each published method as one composition of stages.

`STRATEGIES` is the whole registry. A composition that is not in it needs no registration:
`Strategy(repair="anchor", credit="grpo")` works wherever a name works, and so does the text
`"repair=anchor, credit=grpo"` through `parse_strategy`.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cache, partial
from types import MappingProxyType
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from recast.credit import CREDITS
from recast.groups import RolloutGroups
from recast.repair import REPAIRS
from recast.selection import SELECTIONS

AllZero = Literal["zero", "negative", "anchored", "supervised", "unstated"]
Denominator = Literal["rollouts", "active", "tokens", "prompts"]
Update = Literal["all", "active"]

STAGES: Mapping[str, Mapping[str, Callable[..., Any]]] = MappingProxyType(
    {"repair": REPAIRS, "select": SELECTIONS, "credit": CREDITS}
)


@dataclass(frozen=True)
class Strategy:
    """One learning signal: repair -> select -> credit -> loss.

    repair, select, credit: keys of `REPAIRS`, `SELECTIONS`, `CREDITS`, with optional numbers in
    brackets, as in `"grpo(eps=1e-4)"`. supervised: weight of -log p(target) per prompt. update:
    which rollouts reach the actor, every selected one ("all") or those with a non-zero advantage
    ("active"). denominator: what the summed loss is divided by. all_zero: the declared effect on
    a group without hits.
    Raises ValueError for an unknown stage or option, naming the nearest one.
    """

    repair: str = "none"
    select: str = "all"
    credit: str = "grpo"
    supervised: float = 0.0
    update: Update = "all"
    denominator: Denominator = "rollouts"
    meaning: str = ""
    source: str = ""
    all_zero: AllZero = "unstated"

    def __post_init__(self) -> None:
        for kind in STAGES:
            stage(kind, getattr(self, kind))
        for kind, options in (("update", Update), ("denominator", Denominator)):
            if getattr(self, kind) not in get_args(options):
                raise ValueError(
                    f"{kind}: {getattr(self, kind)!r} is not one of {', '.join(get_args(options))}"
                )
        if not 0.0 <= self.supervised < float("inf"):
            raise ValueError(f"supervised: expected a weight >= 0, got {self.supervised}")
        if self.credit == "none" and self.supervised == 0.0:
            raise ValueError(
                "credit=none with supervised=0 learns nothing; give a credit, or supervised > 0"
            )

    @property
    def needs_rollouts(self) -> bool:
        """False for a strategy that learns from targets alone."""
        return self.credit != "none"

    @property
    def needs_tie_key(self) -> bool:
        """True when random draws decide who is selected."""
        return self.select.startswith("random")

    def width(self, group: int) -> int:
        """The most rows a group of this width can send to the actor."""
        if not self.needs_rollouts:
            return 0
        return min(2, group) if self.select.endswith("pair") else group


@dataclass(frozen=True)
class Signal:
    """What the actor learns from one batch.

    groups: after repair `[..., B, G]`; advantage `[..., B, G]`; rows: bool `[..., B, G]`, the
    rollouts that reach the actor; supervised: weight of -log p(target) per prompt.
    """

    groups: RolloutGroups
    advantage: Tensor
    rows: Tensor
    supervised: float

    @property
    def count(self) -> Tensor:
        """Gradient-signal count per group: rollouts with a non-zero advantage or a supervised
        target; int64 `[..., B]`."""
        return (self.advantage != 0).sum(-1) + int(self.supervised > 0)


def build_signal(strategy: Strategy, groups: RolloutGroups) -> Signal:
    """Turn rollout groups into a learning signal; shapes as in `Signal`.

    Raises ValueError when the strategy needs an input that the groups lack.
    """
    require_inputs(strategy, groups)
    repaired = stage("repair", strategy.repair)(groups)
    selected = stage("select", strategy.select)(repaired)
    advantage = stage("credit", strategy.credit)(replace(repaired, valid=selected))
    if strategy.update == "active":
        selected = selected & (advantage != 0)
    return Signal(repaired, advantage, selected, strategy.supervised)


def require_inputs(strategy: Strategy, groups: RolloutGroups) -> None:
    """Raise ValueError when `strategy` needs an input that `groups` lack, naming both."""
    if strategy.needs_tie_key and groups.tie_key is None:
        raise ValueError(
            f"select={strategy.select} needs `tie_key` (uniform draws [..., B, G]) in the groups"
        )


@cache
def stage(kind: str, text: str) -> Callable[..., Any]:
    """The function that `name` or `name(0.5, key=2)` stands for among the stages of one kind.

    Raises ValueError for an unknown name or option.
    """
    match = re.fullmatch(r"\s*(\w+)\s*(?:\((.*)\))?\s*", text)
    if not match:
        raise ValueError(f"{kind}: cannot read {text!r}; expected name or name(number, key=number)")
    name, options = match.groups()
    table = STAGES[kind]
    if name not in table:
        raise ValueError(f"{kind}: unknown {name!r}; {nearest(name, table)}")
    function = table[name]
    positional, named = [], {}
    for option in filter(None, (part.strip() for part in (options or "").split(","))):
        key, _, value = option.rpartition("=")
        try:
            number = float(value) if not re.fullmatch(r"\s*[+-]?\d+\s*", value) else int(value)
        except ValueError:
            raise ValueError(f"{kind}: {value.strip()!r} in {text!r} is not a number") from None
        if not math.isfinite(number):
            raise ValueError(f"{kind}: {value.strip()!r} in {text!r} is not a finite number")
        if key:
            named[key.strip()] = number
        else:
            positional.append(number)
    parameters = list(function.__code__.co_varnames[1 : function.__code__.co_argcount])
    unknown = [key for key in named if key not in parameters]
    if unknown or len(positional) > len(parameters):
        raise ValueError(
            f"{kind}: {name} takes {', '.join(parameters) or 'no options'}; got {text!r}"
        )
    named |= dict(zip(parameters, positional, strict=False))
    return partial(function, **named) if named else function


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint that names the closest known word, or all of them."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"


def parse_strategy(text: str) -> Strategy:
    """A name of `STRATEGIES`, or a composition such as `"repair=anchor, credit=grpo(eps=1e-4)"`.

    Raises ValueError, one line, for an unknown name, key or value.
    """
    if text.strip() in STRATEGIES:
        return STRATEGIES[text.strip()]
    if "=" not in text.split("(")[0]:
        raise ValueError(f"strategy: unknown {text.strip()!r}; {nearest(text.strip(), STRATEGIES)}")
    keys = [f.name for f in fields(Strategy) if f.name not in ("meaning", "source", "all_zero")]
    chosen: dict[str, Any] = {}
    for part in re.split(r",(?![^(]*\))", text):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if key not in keys or not equals:
            raise ValueError(f"strategy: unknown key {key!r} in {text!r}; {nearest(key, keys)}")
        chosen[key] = value
    if "supervised" in chosen:
        try:
            chosen["supervised"] = float(chosen["supervised"])
        except ValueError:
            raise ValueError(
                f"supervised: {chosen['supervised']!r} is not a number; expected a weight >= 0"
            ) from None
    return Strategy(**chosen)


_PAIR: dict[str, Any] = {"credit": "sign", "update": "active", "denominator": "prompts"}

STRATEGIES: Mapping[str, Strategy] = MappingProxyType(
    {
        "grpo": Strategy(
            meaning="reward normalised inside the group",
            source="arXiv 2402.03300; verl compute_grpo_outcome_advantage",
            all_zero="zero",
        ),
        "dr_grpo": Strategy(
            credit="dr_grpo",
            meaning="reward minus the group mean, no division by the spread",
            source="arXiv 2503.20783",
            all_zero="zero",
        ),
        "rloo": Strategy(
            credit="rloo",
            meaning="reward minus the mean of the other rollouts",
            source="arXiv 2402.14740",
            all_zero="zero",
        ),
        "reinforce": Strategy(
            credit="reinforce",
            meaning="reward minus the mean of the whole batch",
            source="REINFORCE with a batch baseline",
            all_zero="negative",
        ),
        "recast": Strategy(
            repair="anchor",
            select="pair",
            meaning="repair all-zero groups, then strongest positive against hardest negative",
            source="arXiv 2604.22169",
            all_zero="anchored",
            **_PAIR,
        ),
        "recast_random_negative": Strategy(
            repair="anchor",
            select="random_pair",
            meaning="ReCast with a random miss: does the hard negative matter?",
            source="control for arXiv 2604.22169",
            all_zero="anchored",
            **_PAIR,
        ),
        "repair_only": Strategy(
            repair="anchor",
            meaning="repair all-zero groups, then GRPO on the whole group",
            source="ablation of arXiv 2604.22169",
            all_zero="anchored",
        ),
        "contrast_only": Strategy(
            select="pair",
            meaning="strongest positive against hardest negative, no repair",
            source="ablation of arXiv 2604.22169",
            all_zero="zero",
            **_PAIR,
        ),
        "sft": Strategy(
            credit="none",
            supervised=1.0,
            denominator="prompts",
            meaning="cross-entropy on the same targets, no rollouts: is repair just supervision?",
            source="control",
            all_zero="supervised",
        ),
        "grpo_sft": Strategy(
            supervised=0.1,
            meaning="GRPO plus 0.1 x cross-entropy on the target",
            source="control",
            all_zero="supervised",
        ),
    }
)


def declared_all_zero(strategy: Strategy, groups: int = 2, width: int = 8) -> Tensor:
    """Advantages on a batch of all-zero groups beside one group with a hit; `[groups, width]`.

    What `recast strategies` shows as "on an all-zero group": measured, not quoted.
    """
    reward = torch.zeros(groups + 1, width)
    reward[-1, 0] = 1.0
    key = torch.arange(width, dtype=reward.dtype).expand_as(reward)
    return build_signal(strategy, RolloutGroups.of(reward, tie_key=key)).advantage[:-1]

"""A strategy: one composition of stages, and the signal that it makes of a batch.

`recast.strategies` names the published ones. A composition that is not among them needs no
registration: `Strategy(repair="anchor", credit="grpo")` works wherever a name works, and so does
the text `"repair=anchor, credit=grpo"`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from functools import cache, cached_property
from types import MappingProxyType
from typing import Literal, get_args

import torch
from torch import Tensor

from recast.groups import RolloutGroups
from recast.stage import Bound, Coupling, Stage, bind, nearest
from recast.stages.credit import CREDITS, HISTORY, batch_mean
from recast.stages.gate import GATES
from recast.stages.gate import State as State
from recast.stages.repair import REPAIRS
from recast.stages.selection import SELECTIONS
from recast.stages.supervised import SUPERVISED

AllZero = Literal["zero", "negative", "anchored", "supervised", "shaped", "unstated"]
Denominator = Literal["rollouts", "active", "tokens", "prompts", "constant", "live_groups"]
Update = Literal["all", "active"]
AnchorChoice = Literal["uniform", "first"]
RatioLevel = Literal["token", "sequence"]
Clip = Literal["ppo", "none"]

STAGES: Mapping[str, Mapping[str, Stage]] = MappingProxyType(
    {
        "gate": GATES,
        "repair": REPAIRS,
        "select": SELECTIONS,
        "credit": CREDITS,
        "supervised": SUPERVISED,
    }
)


def _ratio_one() -> None:
    """The anchor is treated as if the rollout policy had sampled it: its ratio starts at 1."""


def _behaviour_one() -> None:
    """The anchor's behaviour probability is taken as 1: its ratio is pi / 1, clipped as usual."""


def _shaped(c: float = 0.1) -> None:
    """The anchor's surrogate is A p / (p + c) per token, not clipped. Source: LUFFY, 2504.14945."""


ANCHOR_RATIOS: Mapping[str, Stage] = MappingProxyType(
    {"one": Stage(_ratio_one), "behaviour_one": Stage(_behaviour_one), "shaped": Stage(_shaped)}
)

# What a supervised stage may ask of the trainer rather than of the data: a sampled group, and its
# selected rollouts in the actor.
_DEMANDS = frozenset({"rollouts", "negatives"})

_LABELS = ("meaning", "source", "all_zero")

_CHOICES = {
    "update": Update,
    "denominator": Denominator,
    "anchor_choice": AnchorChoice,
    "ratio": RatioLevel,
    "clip": Clip,
}


@dataclass(frozen=True)
class Strategy:
    """One learning signal: gate -> repair -> select -> credit -> loss.

    gate, repair, select, credit, supervised: rows of `GATES`, `REPAIRS`, `SELECTIONS`, `CREDITS`,
    `SUPERVISED`, with optional numbers in brackets, as in `"grpo(eps=1e-4)"`.
    policy_weight: factor on the policy loss. update: which rollouts reach the actor, every selected
    one ("all", so a KL term pulls on those without advantage too) or those with a non-zero
    advantage ("active"). denominator: what the summed loss is divided by. anchor_ratio: how an
    injected rollout enters the importance ratio (`ANCHOR_RATIOS`). anchor_choice: which of several
    targets becomes the anchor. ratio: importance ratio per token or per sequence. clip: PPO's clip
    or none. all_zero: the declared effect on a group without hits.
    Raises ValueError for an unknown stage or option, naming the nearest one, and for a composition
    that makes no sense.
    """

    gate: str = "none"
    repair: str = "none"
    select: str = "all"
    credit: str = "grpo"
    supervised: str = "none"
    policy_weight: float = 1.0
    update: Update = "all"
    denominator: Denominator = "rollouts"
    anchor_ratio: str = "one"
    anchor_choice: AnchorChoice = "uniform"
    ratio: RatioLevel = "token"
    clip: Clip = "ppo"
    meaning: str = ""
    source: str = ""
    all_zero: AllZero = "unstated"

    def __post_init__(self) -> None:
        for kind in STAGES:
            bind(kind, STAGES[kind], getattr(self, kind))
        bind("anchor_ratio", ANCHOR_RATIOS, self.anchor_ratio)
        for kind, options in _CHOICES.items():
            if getattr(self, kind) not in get_args(options):
                raise ValueError(
                    f"{kind}: {getattr(self, kind)!r} is not one of {', '.join(get_args(options))}"
                )
        if not 0.0 <= self.policy_weight < float("inf"):
            raise ValueError(f"policy_weight: expected a weight >= 0, got {self.policy_weight}")
        for kind in ("repair", "select", "supervised"):
            self._check_options(kind)
        counts = self.stage("credit").stage in (CREDITS["pass_at_k"], CREDITS["bgae"])
        if counts and self.stage("credit").given.get("k", 4) < 1:
            raise ValueError(f"credit: {self.credit!r}; expected k >= 1")
        if self.credit == "none" and not self.stage("supervised").stage.needs:
            raise ValueError(
                "credit=none with supervised=none learns nothing; give a credit, or supervised=sft"
            )

    def _check_options(self, kind: str) -> None:
        for option, value in self.stage(kind).given.items():
            least, most = (1, math.inf) if option == "factor" else (0, math.inf)
            if option == "share":
                most = 1
            if not least <= value <= most:
                raise ValueError(
                    f"{kind}: {option}={value:g} in {getattr(self, kind)!r}; expected "
                    f"{'a whole number' if kind == 'select' else 'a number'} >= {least}"
                    + (f" and <= {most}" if most < math.inf else "")
                )

    def stage(self, kind: str) -> Bound:
        """The bound stage of one kind: gate, repair, select, credit or supervised."""
        return _bound(kind, getattr(self, kind))

    @property
    def text(self) -> str:
        """The composition as `parse_strategy` reads it: every field that is not its default."""
        return ", ".join(
            f"{f.name}={getattr(self, f.name)}"
            for f in fields(self)
            if f.name not in _LABELS and (f.name == "credit" or getattr(self, f.name) != f.default)
        )

    @cached_property
    def needs(self) -> frozenset[str]:
        """Inputs without which the strategy cannot work: fields of `RolloutGroups`, "target" (the
        ground truth), "reference" (the reference policy's log-probabilities)."""
        found = set[str]().union(*(self.stage(kind).stage.needs for kind in STAGES))
        return frozenset(found - _DEMANDS)

    @cached_property
    def needs_rollouts(self) -> bool:
        """False for a strategy that learns from targets alone."""
        return self.credit != "none" or "rollouts" in self.stage("supervised").stage.needs

    @cached_property
    def sends_rows(self) -> bool:
        """False when no rollout reaches the actor, even where rollouts are sampled."""
        return self.credit != "none" or "negatives" in self.stage("supervised").stage.needs

    @cached_property
    def needs_tie_key(self) -> bool:
        """True when random draws decide who is selected."""
        return "tie_key" in self.needs

    @cached_property
    def needs_binary(self) -> bool:
        """True when rewards must be 0 or 1."""
        return self.stage("credit").stage.binary

    @cached_property
    def learns_from_target(self) -> bool:
        """True with a supervised term on the ground truth."""
        return self.supervised != "none"

    @cached_property
    def anchors(self) -> bool:
        """True when its repair may inject the ground truth into a group."""
        return "target" in self.stage("repair").stage.needs

    @cached_property
    def coupling(self) -> Coupling:
        """What the signal of one group depends on: that "group", the "batch", or a "state"."""
        kinds = {self.stage(kind).stage.coupling for kind in STAGES}
        return "state" if "state" in kinds else "batch" if "batch" in kinds else "group"

    def width(self, group: int) -> int:
        """The most rows a group of this width can send to the actor."""
        if not self.sends_rows:
            return 0
        return self.stage("select").width(self.stage("repair").width(group))

    def sampled(self, group: int) -> int:
        """Rollouts to sample so that `group` of them take part; 0 without rollouts."""
        if not self.needs_rollouts:
            return 0
        repair = self.stage("repair")
        if repair.stage is REPAIRS["keep_distinct"]:
            return round(group * repair.given.get("factor", 1.5))
        return group

    def check_group(self, group: int) -> None:
        """Raise ValueError, one line, when groups of this width make no sense for the strategy."""
        select, credit = self.stage("select"), self.stage("credit")
        if select.stage is SELECTIONS["pods"] and select.given.get("m", 2) > group:
            raise ValueError(
                f"select={self.select} is wider than G = {group}; expected m <= {group}"
            )
        if credit.stage in (CREDITS["pass_at_k"], CREDITS["bgae"]):
            k = credit.given.get("k", 4)
            if k > group:
                raise ValueError(f"credit={self.credit} needs G >= k = {k:g}, got G = {group}")


@dataclass(frozen=True)
class Signal:
    """What the actor learns from one batch.

    groups: after repair `[..., B, G]` (one slot wider where a repair appends); advantage
    `[..., B, G]`, or `[..., B, G, L]` where credit differs by token; rows: bool `[..., B, G]`, the
    rollouts that reach the actor; supervised: whether each target is learnt from as well.
    sampled: the groups before repair. state: for the next batch.
    """

    groups: RolloutGroups
    advantage: Tensor
    rows: Tensor
    supervised: bool
    sampled: RolloutGroups
    state: State = field(default_factory=dict)

    @property
    def hits(self) -> Tensor:
        """Hits of each group as sampled; int64 `[..., B]`."""
        return self.sampled.hit.sum(-1)

    @property
    def valid(self) -> Tensor:
        """Rollouts of each group as sampled; int64 `[..., B]`."""
        return self.sampled.valid.sum(-1)

    @property
    def active(self) -> Tensor:
        """Rollouts with a non-zero advantage; bool `[..., B, G]`."""
        return _active(self.advantage, self.rows)

    @property
    def count(self) -> Tensor:
        """Gradient-signal count per group: rollouts with a non-zero advantage, plus one for a
        supervised target; int64 `[..., B]`."""
        return self.active.sum(-1) + int(self.supervised)


def _active(advantage: Tensor, rows: Tensor) -> Tensor:
    active = advantage.to(torch.bool)
    return active.any(-1) if advantage.ndim > rows.ndim else active


def build_signal(strategy: Strategy, groups: RolloutGroups, state: State | None = None) -> Signal:
    """Turn rollout groups into a learning signal; shapes as in `Signal`.

    state: what the previous batch's signal returned, for strategies that remember.
    Raises ValueError when the strategy needs an input that the groups lack.
    """
    require_inputs(strategy, groups.given | {"reference"}, groups.reward.shape[-1])
    if strategy.needs_binary and not groups.binary:
        raise ValueError(
            f"credit={strategy.credit} counts hits: it needs rewards that are 0 or 1; "
            "threshold them first, or choose another credit"
        )
    repaired = strategy.stage("repair")(groups)
    selected = strategy.stage("select")(repaired)
    if not strategy.sends_rows:
        selected = torch.zeros_like(selected)
    narrowed = repaired.narrowed(selected)
    credit, after = strategy.stage("credit"), dict(state or {})
    if credit.stage is CREDITS["ha_dw"]:
        after["history"] = _remember(after.get("history"), batch_mean(narrowed))
        advantage = credit(narrowed, history=after["history"])
    else:
        advantage = credit(narrowed)
    if strategy.update == "active":
        selected = selected & _active(advantage, selected)
    return Signal(repaired, advantage, selected, strategy.learns_from_target, groups, state=after)


def _remember(history: Tensor | None, mean: Tensor) -> Tensor:
    if history is None:
        history = mean.new_full((*mean.shape, HISTORY), torch.nan)
    return torch.cat([history[..., 1:], mean.unsqueeze(-1)], -1)


def require_inputs(strategy: Strategy, given: Collection[str], group: int) -> None:
    """Raise ValueError, one line, when `strategy` cannot work with what there is.

    given: names of the inputs at hand, as in `Strategy.needs`; group: rollouts per prompt.
    """
    for kind in STAGES:
        for name in sorted(strategy.stage(kind).stage.needs - _DEMANDS):
            if name not in given:
                raise ValueError(
                    f"{kind}={getattr(strategy, kind)} needs `{name}` ({INPUTS[name]})"
                )
    strategy.check_group(group)


INPUTS: Mapping[str, str] = MappingProxyType(
    {
        "target": "the ground truth of each prompt",
        "tie_key": "uniform draws [..., B, G]",
        "length": "tokens of each rollout [..., B, G]",
        "entropy": "entropy of the policy at each token [..., B, G, L]",
        "beam_rank": "place of each rollout in its beam [..., B, G]; roll out with beams",
        "matched": "leading codes shared with the target [..., B, G]",
        "item": "identity of each recommended item [..., B, G]",
        "depth": "codes per rollout, L",
        "reference": "log-probabilities under a reference policy",
    }
)


@cache
def _bound(kind: str, text: str) -> Bound:
    return bind(kind, STAGES[kind], text)


def compose(text: str) -> Strategy:
    """A strategy from text such as `"repair=anchor, credit=grpo(eps=1e-4)"`.

    Raises ValueError, one line, for an unknown key or value, and for a composition that learns
    nothing from any group of binary rewards.
    """
    keys = [f.name for f in fields(Strategy) if f.name not in _LABELS]
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
    counted = strategy.stage("credit").given.get("k", 0) if strategy.needs_binary else 0
    width = max(16, strategy.width(16) + 1, int(counted) + 1)
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


def probe(strategy: Strategy, width: int = 16) -> Signal:
    """The signal on one batch that holds a group for each number of hits 0..width, or for 64 of
    them in a wider group, both ends included.

    Every optional input is made up: one matched code on the first miss, an entropy of 1 nat falling
    to .5, beams in order. What `compose` and `recast strategies` look at.
    """
    slot = torch.arange(width, dtype=torch.float64)
    apart = max(1, width // 64)
    hits = torch.tensor(sorted({*range(0, width, apart), 1, width - 1, width})).unsqueeze(-1)
    reward = (slot < hits).to(torch.float64)
    rank = slot.to(torch.int64).expand_as(reward)
    groups = RolloutGroups.of(
        reward,
        score=torch.where(reward > 0, 1.0, 0.01 * (slot == hits)),
        tie_key=((slot + 0.5) / width).expand_as(reward),
        length=torch.ones_like(reward),
        entropy=torch.tensor([1.0, 0.5], dtype=torch.float64).expand(*reward.shape, 2),
        beam_rank=rank,
        matched=torch.where(reward > 0, 3, (slot == hits).to(torch.int64)),
        item=rank,
        depth=4,
    )
    return build_signal(strategy, groups)

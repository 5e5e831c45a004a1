"""A strategy: one composition of stages, and what it needs and asks for.

`recast.strategies` names the published ones. A composition that is not among them needs no
registration: `Strategy(repair="anchor", credit="grpo")` works wherever a name works, and so does
the text `"repair=anchor, credit=grpo"`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from functools import cache, cached_property
from types import MappingProxyType
from typing import Literal, get_args

from torch import Tensor

from recast.stage import Bound, Coupling, Rounds, Stage, State, bind
from recast.stages.credit import CREDITS
from recast.stages.gate import GATES
from recast.stages.repair import REPAIRS
from recast.stages.selection import SELECTIONS
from recast.stages.supervised import SUPERVISED
from recast.stages.surrogate import ANCHOR_RATIOS, CLIPS, RATIOS

AllZero = Literal["zero", "negative", "anchored", "supervised", "shaped", "unstated"]
Denominator = Literal["rollouts", "active", "tokens", "prompts", "constant", "live_groups"]
Update = Literal["all", "active"]
AnchorChoice = Literal["uniform", "first"]

STAGES: Mapping[str, Mapping[str, Stage]] = MappingProxyType(
    {
        "gate": GATES,
        "repair": REPAIRS,
        "select": SELECTIONS,
        "credit": CREDITS,
        "supervised": SUPERVISED,
        "ratio": RATIOS,
        "clip": CLIPS,
        "anchor_ratio": ANCHOR_RATIOS,
    }
)
"""The table of each kind of stage: a field of `Strategy` of that name holds a row's text."""

# What a supervised stage may ask of the trainer rather than of the data: a sampled group, and its
# selected rollouts in the actor.
_DEMANDS = frozenset({"rollouts", "negatives"})

LABELS = ("meaning", "source", "all_zero")
"""Fields of `Strategy` that say what it is, and change nothing."""

_CHOICES = {"update": Update, "denominator": Denominator, "anchor_choice": AnchorChoice}


@dataclass(frozen=True)
class Strategy:
    """One learning signal: gate -> repair -> select -> credit -> loss.

    gate, repair, select, credit, supervised, ratio, clip, anchor_ratio: rows of the tables in
    `STAGES`, with optional numbers in brackets, as in `"grpo(eps=1e-4)"`. ratio: importance ratio
    per token or per sequence; clip: the surrogate, PPO's clip or none; anchor_ratio: how an
    injected rollout enters it.
    policy_weight: factor on the policy loss. update: which rollouts reach the actor, every selected
    one ("all", so a KL term pulls on those without advantage too) or those with a non-zero
    advantage ("active"). denominator: what the summed loss is divided by. anchor_choice: which of
    several targets becomes the anchor. all_zero: the declared effect on a group without hits.
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
    ratio: str = "token"
    clip: str = "ppo"
    meaning: str = ""
    source: str = ""
    all_zero: AllZero = "unstated"

    def __post_init__(self) -> None:
        for kind in STAGES:
            self.stage(kind)
        for kind, options in _CHOICES.items():
            if getattr(self, kind) not in get_args(options):
                raise ValueError(
                    f"{kind}: {getattr(self, kind)!r} is not one of {', '.join(get_args(options))}"
                )
        if not 0.0 <= self.policy_weight < float("inf"):
            raise ValueError(f"policy_weight: expected a weight >= 0, got {self.policy_weight}")
        if not self.has_credit and not self.learns_from_target:
            raise ValueError(
                f"credit={self.credit} with supervised={self.supervised} learns nothing; give a "
                "credit, or supervised=sft"
            )

    def stage(self, kind: str) -> Bound:
        """The bound stage of one kind, a key of `STAGES`."""
        return _bound(kind, getattr(self, kind))

    @property
    def text(self) -> str:
        """The composition as `parse_strategy` reads it: every field that is not its default."""
        return ", ".join(
            f"{f.name}={getattr(self, f.name)}"
            for f in fields(self)
            if f.name not in LABELS and (f.name == "credit" or getattr(self, f.name) != f.default)
        )

    @property
    def composition(self) -> dict[str, object]:
        """Everything that determines what it does: its fields without `LABELS`."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in LABELS}

    @cached_property
    def needs(self) -> frozenset[str]:
        """Inputs without which the strategy cannot work: fields of `RolloutGroups`, "target" (the
        ground truth), "reference" (the reference policy's log-probabilities)."""
        found = set[str]().union(*(self.stage(kind).stage.needs for kind in STAGES))
        return frozenset(found - _DEMANDS)

    @cached_property
    def has_gate(self) -> bool:
        """True when a gate may skip prompts."""
        return not self.stage("gate").stage.idle

    @cached_property
    def has_repair(self) -> bool:
        """True when groups may be changed before they get credit."""
        return not self.stage("repair").stage.idle

    @cached_property
    def has_selection(self) -> bool:
        """True when some rollouts may be left out."""
        return not self.stage("select").stage.idle

    @cached_property
    def has_credit(self) -> bool:
        """False for a strategy without a policy loss: it learns from its supervised term alone."""
        return not self.stage("credit").stage.idle

    @cached_property
    def learns_from_target(self) -> bool:
        """True with a supervised term on the ground truth."""
        return not self.stage("supervised").stage.idle

    @cached_property
    def needs_rollouts(self) -> bool:
        """False for a strategy that learns from targets alone."""
        return self.has_credit or "rollouts" in self.stage("supervised").stage.needs

    @cached_property
    def sends_rows(self) -> bool:
        """False when no rollout reaches the actor, even where rollouts are sampled."""
        return self.has_credit or "negatives" in self.stage("supervised").stage.needs

    @cached_property
    def needs_binary(self) -> bool:
        """True when rewards must be 0 or 1."""
        return any(self.stage(kind).stage.binary for kind in STAGES)

    @cached_property
    def anchors(self) -> bool:
        """True when its repair may inject the ground truth into a group."""
        repair = self.stage("repair").stage
        return repair.injects is not None and "target" in repair.needs

    @cached_property
    def bends(self) -> bool:
        """True when the loss weighs a rollout otherwise than by its advantage before any step."""
        return self.stage("clip").stage.bends

    @cached_property
    def draws_repair(self) -> bool:
        """True when chance decides which groups are repaired."""
        return self.stage("repair").stage.drawn

    @cached_property
    def rounds(self) -> Rounds | None:
        """Further rounds of sampling that its repair asks for."""
        return self.stage("repair").stage.rounds

    @cached_property
    def hints(self) -> bool:
        """True when rollouts may start behind codes of the ground truth."""
        return self.rounds is not None and self.rounds.kind == "hint"

    @cached_property
    def samples_again(self) -> bool:
        """True when a prompt may be sampled in several rounds."""
        return self.rounds is not None and self.rounds.kind != "refill"

    @cached_property
    def oversamples(self) -> bool:
        """True when it samples more rollouts than take part."""
        return self.stage("repair").stage.samples is not None

    @cached_property
    def coupling(self) -> Coupling:
        """What the signal of one group depends on: that "group", the "batch", or a "state"."""
        kinds = {self.stage(kind).stage.coupling for kind in STAGES}
        return "state" if "state" in kinds else "batch" if "batch" in kinds else "group"

    def start(self, leading: tuple[int, ...], prompts: int) -> State:
        """What the strategy remembers before the first batch; {} for one that does not.

        leading: axes before the batch, as in `RolloutGroups`; prompts: size of the training set.
        Raises ValueError when two stages remember something of one name.
        """
        found: dict[str, Tensor] = {}
        for kind in STAGES:
            for name, value in self.stage(kind).start(leading, prompts).items():
                if name in found:
                    raise ValueError(
                        f"{kind}={getattr(self, kind)}: another stage remembers {name!r} as well"
                    )
                found[name] = value
        return found

    def width(self, group: int) -> int:
        """The most rows a group of this width can send to the actor."""
        if not self.sends_rows:
            return 0
        return self.stage("select").width(self.stage("repair").width(group))

    def sampled(self, group: int) -> int:
        """Rollouts to sample so that `group` of them take part; 0 without rollouts."""
        return self.stage("repair").samples(group) if self.needs_rollouts else 0

    @cached_property
    def least_group(self) -> int:
        """The smallest group that the strategy makes sense for."""
        return max(self.stage(kind).least_group for kind in STAGES)

    def why_not_group(self, group: int) -> str | None:
        """Why groups of this width make no sense for it, in one line; None where they do."""
        for kind in STAGES:
            least = self.stage(kind).least_group
            if group < least:
                return f"{kind}={getattr(self, kind)} needs G >= {least}, got G = {group}"
        return None

    def check_group(self, group: int) -> None:
        """Raise ValueError, one line, when groups of this width make no sense for the strategy."""
        reason = self.why_not_group(group)
        if reason:
            raise ValueError(reason)


def missing_input(
    strategy: Strategy, given: Collection[str], group: int | None = None
) -> str | None:
    """Why a strategy cannot work with what there is, in one line; None where it can.

    given: names of the inputs at hand, as in `Strategy.needs`; group: rollouts per prompt, where
    it is known.
    """
    for kind in STAGES:
        for name in sorted(strategy.stage(kind).stage.needs - _DEMANDS):
            if name not in given:
                return f"{kind}={getattr(strategy, kind)} needs `{name}` ({INPUTS[name]})"
    return None if group is None else strategy.why_not_group(group)


def require_inputs(strategy: Strategy, given: Collection[str], group: int) -> None:
    """Raise ValueError, one line, when `strategy` cannot work with what there is.

    given: names of the inputs at hand, as in `Strategy.needs`; group: rollouts per prompt.
    """
    reason = missing_input(strategy, given, group)
    if reason:
        raise ValueError(reason)


INPUTS: Mapping[str, str] = MappingProxyType(
    {
        "target": "the ground truth of each prompt",
        "tie_key": "uniform draws [..., B, G]",
        "length": "tokens of each rollout [..., B, G]",
        "entropy": "entropy of the policy at each token [..., B, G, L]",
        "beam_rank": "place of each rollout in its beam [..., B, G]; roll out with beams",
        "matched": "leading codes shared with the target [..., B, G]",
        "item": "identity of each recommended item [..., B, G]",
        "score": "structural score of each rollout, in [0, 1] [..., B, G]",
        "logp": "log-probability of each code under the policy that sampled [..., B, G, L]",
        "codes": "codes of each rollout [..., B, G, L]",
        "prompt": "place of each prompt in the training set [..., B]",
        "depth": "codes per rollout, L",
        "reference": "log-probabilities under a reference policy",
        "path": "log-probabilities of every code on the target's way [..., B, L, K]",
    }
)


@cache
def _bound(kind: str, text: str) -> Bound:
    return bind(kind, STAGES[kind], text)

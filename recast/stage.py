"""Stages: a function, everything that others ask of it, and how a person writes it down.

A stage table maps a name to a `Stage`. A person writes a stage as `name`, `name(4)` or
`name(eps=1e-4)`; `bind` turns the text into the function with its options filled in and checked.

Nothing outside the tables compares with a row of one: who has to know something of a stage (how
many rollouts it samples, whether it remembers, what it injects) reads it from its `Stage`. So a
new stage is one function and one row. docs/stages.md walks through one of every kind.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from torch import Tensor

from recast.quoting import nearest

State = Mapping[str, Tensor]
"""What stages remember from batch to batch, by name."""

Coupling = Literal["group", "batch", "state"]

Injection = Literal["miss", "slot", "extra"]
"""Where a repair puts a rollout that the policy did not sample: in the place of the least
informative miss of a group without hits, of any rollout, or in a slot of its own."""

WIDEST = 4096
"""The largest value of an option that is a count: no group is wider."""

MOST_ROUNDS = 10
"""The most rounds of sampling that one step may take."""

Hook = Callable[..., Any]


@dataclass(frozen=True)
class Rounds:
    """Further rounds of sampling before a repair sees the groups.

    wanted: takes the groups so far, then options of the stage. kind says what a round does:
    "refill": other prompts are rolled out in the place of the marked groups, bool `[..., B]`;
    "more": the marked prompts, bool `[..., B]`, get as many rollouts again, in further slots;
    "hint": groups are rolled out again behind the first codes of the ground truth, int64
    `[..., B]`, 0 for a group that stays; given codes (`RolloutGroups.hinted`) get no credit.
    most: rounds in all.
    """

    wanted: Callable[..., Tensor]
    kind: Literal["refill", "more", "hint"] = "refill"
    most: int = MOST_ROUNDS

    def __post_init__(self) -> None:
        if not 1 <= self.most <= MOST_ROUNDS:
            raise ValueError(f"rounds: expected 1..{MOST_ROUNDS} in all, got {self.most}")


@dataclass(frozen=True)
class Stage:
    """One row of a stage table. Only `function` has to be given.

    function: takes its input first (see the module of its kind), then, with `start`, the state,
    then options, which have numeric defaults. Hooks (`least_group`, `width`, `samples`, `start`,
    `carry`, `rounds.wanted`) get those options that they name, filled in.

    needs: inputs without which it cannot work: fields of `RolloutGroups`, "target" (the ground
    truth), "reference" (the reference policy's log-probabilities); of a supervised term also
    "path" (the other codes on the target's way), "rollouts" (a sampled group) and "negatives" (its
    selected rollouts in the actor).
    binary: it counts hits, so rewards must be 0 or 1.
    coupling: what the result of one group depends on: that group alone or the other groups of the
    batch; "state", from batch to batch, follows from `start`.
    bounds: least and most value of an option, both allowed; default 0 to `WIDEST` for a count (an
    option whose default is a whole number), 0 or more for others.
    least_group() -> the smallest group that it makes sense for.
    width(group) -> rows that a group sends on at most; default group.
    samples(group) -> rollouts to sample for a group; default group.
    rounds: further rounds of sampling.
    start(leading, prompts) -> what it remembers before the first batch, tensors with the leading
    axes; prompts: size of the training set, for a memory per prompt.
    carry(inputs of the function, state) -> the entries that a batch changes. A gate's also gets
    the groups as sampled and which prompts were rolled out.
    injects: where a repair puts what the policy did not sample. drops: it may make rollouts
    invalid. drawn: chance decides which groups it changes.
    boundary: a selection of the strongest positive and the hardest negative, both or nobody.
    by_code: a loss that is not a function of a row's summed log-probability.
    whole: a supervised term that is not averaged over a prompt's targets: it looks at all of them
    by itself, or speaks of the one that its rollouts saw.
    bends: a loss whose slope is not minus the advantage where the policy has not moved yet.
    idle: the row that does nothing. note: what a reader of its results must know.
    """

    function: Hook
    needs: frozenset[str] | set[str] = frozenset()
    binary: bool = False
    coupling: Coupling = "group"
    width: Hook | None = None
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    least_group: Hook | None = None
    samples: Hook | None = None
    rounds: Rounds | None = None
    start: Hook | None = None
    carry: Hook | None = None
    injects: Injection | None = None
    drops: bool = False
    drawn: bool = False
    boundary: bool = False
    by_code: bool = False
    whole: bool = False
    bends: bool = False
    idle: bool = False
    note: str = ""

    def __post_init__(self) -> None:
        if (self.start is None) != (self.carry is None):
            raise ValueError("stage: start and carry go together; give both or neither")
        unknown = sorted(set(self.bounds) - set(self.options))
        if unknown:
            raise ValueError(f"stage: bounds for {unknown[0]!r}, which is no option")
        if self.start is not None:
            object.__setattr__(self, "coupling", "state")

    @cached_property
    def defaults(self) -> Mapping[str, float]:
        """The options in order, with their defaults: parameters whose default is a number."""
        parameters = inspect.signature(self.function).parameters.values()
        return {p.name: p.default for p in parameters if type(p.default) in (int, float)}

    @property
    def options(self) -> tuple[str, ...]:
        """Names of the options, in order."""
        return tuple(self.defaults)

    def is_count(self, option: str) -> bool:
        """Whether an option is a whole number, as its default is."""
        return type(self.defaults[option]) is int

    def bound(self, option: str) -> tuple[float, float]:
        """Least and most value of an option."""
        usual = (0, WIDEST) if self.is_count(option) else (0, math.inf)
        return self.bounds.get(option, usual)


@dataclass(frozen=True)
class Bound:
    """A stage with its options filled in; given: those that a text sets."""

    stage: Stage
    given: Mapping[str, float]

    @cached_property
    def options(self) -> Mapping[str, float]:
        """Every option's value."""
        return {**self.stage.defaults, **self.given}

    def __call__(self, *inputs: Any, state: State | None = None) -> Any:
        """The function's result; state: what it remembers, for a stage that does."""
        if self.stage.start is not None and state is not None:
            return self.stage.function(*inputs, state, **self.given)
        return self.stage.function(*inputs, **self.given)

    def width(self, group: int) -> int:
        """The most rows a group of `group` rollouts sends on."""
        if self.stage.width is not None:
            return int(self._ask(self.stage.width, group))
        rounds = self.stage.rounds
        return group * rounds.most if rounds is not None and rounds.kind == "more" else group

    def samples(self, group: int) -> int:
        """Rollouts to sample for a group of `group`."""
        return int(self._ask(self.stage.samples, group)) if self.stage.samples else group

    @property
    def least_group(self) -> int:
        """The smallest group that the stage makes sense for."""
        return int(self._ask(self.stage.least_group)) if self.stage.least_group else 1

    def start(self, leading: tuple[int, ...], prompts: int) -> State:
        """What the stage remembers before the first batch; empty for one that does not."""
        found: State = self._ask(self.stage.start, leading, prompts) if self.stage.start else {}
        return found

    def carry(self, *inputs: Any, state: State) -> State:
        """The entries of the state that a batch changes."""
        if self.stage.carry is None:
            return {}
        found: State = self._ask(self.stage.carry, *inputs, state)
        return found

    def wanted(self, groups: Any) -> Tensor:
        """What a further round of sampling is for; see `Rounds`."""
        assert self.stage.rounds is not None
        found: Tensor = self._ask(self.stage.rounds.wanted, groups)
        return found

    def _ask(self, hook: Hook, *inputs: Any) -> Any:
        taken = inspect.signature(hook).parameters
        return hook(*inputs, **{name: self.options[name] for name in self.options if name in taken})


def bind(kind: str, table: Mapping[str, Stage], text: str) -> Bound:
    """The stage that `name` or `name(0.5, key=2)` stands for in a table of one kind.

    Raises ValueError, one line, for an unknown name or option, a value that is no number, or one
    outside the option's bounds.
    """
    match = re.fullmatch(r"\s*(\w+)\s*(?:\((.*)\))?\s*", text)
    if not match:
        raise ValueError(f"{kind}: cannot read {text!r}; expected name or name(number, key=number)")
    name, options = match.groups()
    if name not in table:
        raise ValueError(f"{kind}: unknown {name!r}; {nearest(name, table)}")
    stage = table[name]
    positional, named = [], {}
    for option in filter(None, (part.strip() for part in (options or "").split(","))):
        key, _, value = option.rpartition("=")
        if key:
            named[key.strip()] = _number(kind, value, text)
        else:
            positional.append(_number(kind, value, text))
    known = stage.options
    if any(key not in known for key in named) or len(positional) > len(known):
        raise ValueError(f"{kind}: {name} takes {', '.join(known) or 'no options'}; got {text!r}")
    given = named | dict(zip(known, positional, strict=False))
    return Bound(stage, {key: _checked(kind, stage, key, given[key], text) for key in given})


def _checked(kind: str, stage: Stage, option: str, value: float, text: str) -> float:
    """The value of an option within its bounds, a whole number where it counts."""
    whole = stage.is_count(option)
    if whole and value != int(value):
        raise ValueError(f"{kind}: {option}={value:g} in {text!r}; expected a whole number")
    least, most = stage.bound(option)
    if not least <= value <= most:
        raise ValueError(
            f"{kind}: {option}={value:g} in {text!r}; expected a {'whole ' if whole else ''}number "
            f">= {least:g}" + (f" and <= {most:g}" if most < math.inf else "")
        )
    return int(value) if whole else value


def _number(kind: str, value: str, text: str) -> float | int:
    try:
        number = float(value) if not re.fullmatch(r"\s*[+-]?\d+\s*", value) else int(value)
        finite = math.isfinite(number)
    except (ValueError, OverflowError):
        raise ValueError(
            f"{kind}: {value.strip()[:40]!r} in {text[:80]!r} is not a number"
        ) from None
    if not finite:
        raise ValueError(f"{kind}: {value.strip()!r} in {text!r} is not a finite number")
    return number

"""Stages: a function, what it needs, and how a person writes it down.

A stage table maps a name to a `Stage`. A person writes a stage as `name`, `name(4)` or
`name(eps=1e-4)`; `bind` turns the text into the function with its options filled in.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from recast.quoting import nearest as nearest
from recast.quoting import quoted

Coupling = Literal["group", "batch", "state"]

LARGEST = 1_000_000
"""No option is larger, whatever its sign."""
LARGEST_COUNT = 4096
"""No option that is a whole number is larger: groups are at most so wide."""


@dataclass(frozen=True)
class Stage:
    """One row of a stage table.

    function: takes `RolloutGroups` first, then its options, which have numeric defaults.
    needs: inputs without which it cannot work (fields of `RolloutGroups`, or "target", the ground
    truth). binary: it counts hits, so rewards must be 0 or 1. coupling: what the result of one
    group depends on: that group alone, the other groups of the batch, or a state carried from
    batch to batch. width: rows that a group of G can send on, given G and the options; default G.
    """

    function: Callable[..., Any]
    needs: frozenset[str] | set[str] = frozenset()
    binary: bool = False
    coupling: Coupling = "group"
    width: Callable[..., int] | None = None

    @cached_property
    def options(self) -> tuple[str, ...]:
        """Names of the options, in order."""
        code = self.function.__code__
        names: tuple[str, ...] = code.co_varnames[: code.co_argcount]
        return names[len(names) - len(self.function.__defaults__ or ()) :]

    @cached_property
    def counts(self) -> frozenset[str]:
        """Names of the options that are whole numbers, as their defaults are."""
        defaults = self.function.__defaults__ or ()
        named = zip(self.options, defaults, strict=True)
        return frozenset(name for name, default in named if type(default) is int)


@dataclass(frozen=True)
class Bound:
    """A stage with its options filled in: call it, or ask how many rows it sends on."""

    stage: Stage
    given: Mapping[str, float]

    def __call__(self, *inputs: Any, **more: Any) -> Any:
        return self.stage.function(*inputs, **more, **self.given)

    def width(self, group: int) -> int:
        """The most rows a group of `group` rollouts sends on."""
        return self.stage.width(group, **self.given) if self.stage.width else group


def bind(kind: str, table: Mapping[str, Stage], text: str) -> Bound:
    """The stage that `name` or `name(0.5, key=2)` stands for in a table of one kind.

    Raises ValueError, one line, for an unknown name or option, or a value that is no number.
    """
    match = re.fullmatch(r"\s*(\w+)\s*(?:\((.*)\))?\s*", text)
    if not match:
        raise ValueError(f"{kind}: cannot read {text!r}; expected name or name(number, key=number)")
    name, options = match.groups()
    if name not in table:
        raise ValueError(f"{kind}: unknown {name!r}; {nearest(name, table)}")
    known = table[name].options
    positional, named = [], {}
    for option in filter(None, (part.strip() for part in (options or "").split(","))):
        key, _, value = option.rpartition("=")
        if key:
            named[key.strip()] = _number(kind, value, text)
        else:
            positional.append(_number(kind, value, text))
    if any(key not in known for key in named) or len(positional) > len(known):
        raise ValueError(f"{kind}: {name} takes {', '.join(known) or 'no options'}; got {text!r}")
    given = named | dict(zip(known, positional, strict=False))
    for key, value in given.items():
        if key in table[name].counts:
            if value != int(value):
                raise ValueError(f"{kind}: {key}={value:g} in {text!r}; expected a whole number")
            if abs(value) > LARGEST_COUNT:
                raise ValueError(
                    f"{kind}: {key}={quoted(value)} in {text!r}; expected a whole number <= "
                    f"{LARGEST_COUNT}"
                )
            given[key] = int(value)
    return Bound(table[name], given)


def _number(kind: str, value: str, text: str) -> float | int:
    try:
        number = float(value) if not re.fullmatch(r"\s*[+-]?\d+\s*", value) else int(value)
    except ValueError:
        raise ValueError(f"{kind}: {value.strip()!r} in {text!r} is not a number") from None
    if isinstance(number, float) and not math.isfinite(number):
        raise ValueError(f"{kind}: {value.strip()!r} in {text!r} is not a finite number")
    if abs(number) > LARGEST:
        raise ValueError(f"{kind}: {value.strip()!r} in {text!r}; expected at most {LARGEST:g}")
    return number

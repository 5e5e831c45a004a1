"""Hostile command lines, generated from the commands themselves: every option that there is.

What is accepted and starts to train is stopped by the worker; nothing is served.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import click
from hypothesis import strategies as st

from benchmarks.hostile_inputs import PAIRS, RAW_NUMBERS, STRATEGY_TEXTS, TEXTS, Input
from benchmarks.hostile_places import DAMAGES, DATA_FILES, PLACES
from workbench.cli import cli

NUMBERS = st.one_of(
    RAW_NUMBERS,
    st.sampled_from(["nan", "inf", "-inf", "1e300", "-1", "0", "1", "2", "4", "0.5", "1e-300"]),
    st.sampled_from([2**31, 2**53, 2**63, 2**64, 10**30]).map(str),
)
PLACE = st.one_of(st.sampled_from(PLACES), st.sampled_from(PLACES), TEXTS)
FIELDS = st.lists(
    st.tuples(st.one_of(st.sampled_from(["step", "prompt", "reward", "x"]), TEXTS), TEXTS).map(
        "=".join
    ),
    max_size=3,
).map(",".join)
BY_NAME = {
    "--strategy": STRATEGY_TEXTS,
    "--found": STRATEGY_TEXTS,
    "--set": PAIRS.map("=".join),
    "--map": FIELDS,
    "--store": st.one_of(st.just("store"), PLACE),
    "--data": st.one_of(st.just("data"), PLACE),
    "--device": st.one_of(st.sampled_from(["cpu", "cuda", "cuda:-1", "cuda:9", "meta"]), TEXTS),
    "--category": st.one_of(st.sampled_from(["tiny", "t", "*", "../"]), TEXTS),
}
CHEAP = ("--once", "--no-run", "--executor=serial", "--steps=1", "--store=/dev/null/store")
"""Options that come first wherever a command has them: what is accepted does little."""
DEAR = ("--dry-run", "--simulate")
"""Options by which what is accepted times real steps, or trains."""
TEXT_ARGUMENTS = {"first", "second", "name"}


def leaves(
    command: click.Command, names: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command that does something, by the words that call it."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from leaves(inner, (*names, name))
    else:
        yield names, command


def values(param: click.Parameter) -> st.SearchStrategy[str]:
    """Values of an option or argument: of its kind, beside it, and of another."""
    name = param.opts[-1]
    if name in BY_NAME:
        return BY_NAME[name]
    if isinstance(param.type, click.Choice):
        return st.one_of(st.sampled_from([str(one) for one in param.type.choices]), TEXTS)
    if isinstance(param.type, (click.types.IntParamType, click.types.FloatParamType)):
        return NUMBERS
    if isinstance(param.type, click.Path) or param.param_type_name == "argument":
        return TEXTS if name in TEXT_ARGUMENTS else PLACE
    return st.one_of(TEXTS, PLACE, NUMBERS)


def words(param: click.Parameter) -> st.SearchStrategy[list[str]]:
    """A parameter as words of a command line."""
    if isinstance(param, click.Option):
        if param.is_flag:
            return st.just([param.opts[-1]])
        return values(param).map(lambda value: [f"{param.opts[-1]}={value}"])
    return values(param).map(lambda value: [value])


def lines(names: tuple[str, ...], command: click.Command) -> st.SearchStrategy[list[str]]:
    """Command lines of one command: its arguments and up to three of its options."""
    arguments = [words(one) for one in command.params if isinstance(one, click.Argument)]
    options = [
        words(one)
        for one in command.params
        if isinstance(one, click.Option) and one.opts[-1] not in DEAR
    ]
    chosen = st.lists(st.one_of(options), min_size=1, max_size=3) if options else st.just([])
    known = {word for one in command.params for word in one.opts}
    always = [word for word in CHEAP if word.partition("=")[0] in known]
    return st.tuples(st.tuples(*arguments), chosen).map(
        lambda parts: [
            *names,
            *always,
            *chain.from_iterable(parts[1]),
            *chain.from_iterable(parts[0]),
        ]
    )


COMMAND_LINES: st.SearchStrategy[Input] = (
    st.sampled_from(list(leaves(cli)))
    .flatmap(lambda pair: lines(*pair))
    .map(lambda arguments: {"kind": "any command", "arguments": arguments, "places": True})
)


def _data_input(parts: tuple[Any, ...]) -> Input:
    arguments, name, how = parts
    return {
        "kind": "a data folder",
        "arguments": arguments,
        "places": True,
        "damage": [name, how],
    }


DATA_FOLDERS: st.SearchStrategy[Input] = st.tuples(
    st.sampled_from(
        [
            ["lm", "data", "data"],
            ["lm", "data", "data", "--category", "tiny"],
            ["run", "--world", "replay", "--data", "data", "--store", "/dev/null/store"],
            ["sweep", "replay", "--data", "data", "--dry-run", "--store", "/dev/null/store"],
            ["calibrate", "--preset", "replay", "--data", "data"],
            ["diagnose", "data"],
        ]
    ),
    st.sampled_from(DATA_FILES),
    st.sampled_from(DAMAGES),
).map(_data_input)

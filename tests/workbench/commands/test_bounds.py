"""Every option and argument of every command that is a number has two bounds."""

from __future__ import annotations

import click
import pytest

from benchmarks.hostile_commands import leaves
from workbench.cli import cli
from workbench.commands.bounds import Finite, of_field
from workbench.errors import UserError
from workbench.spec.experiment import Experiment
from workbench.spec.messages import validated

WHOLE, REAL = click.types.IntParamType, click.types.FloatParamType


def numbers() -> list[tuple[str, click.Parameter]]:
    """Every number of every command, by its name on the command line."""
    return [
        (" ".join((*names, param.opts[-1])), param)
        for names, command in leaves(cli)
        for param in command.params
        if isinstance(param.type, (WHOLE, REAL))
    ]


def test_every_number_of_every_command_has_a_lower_and_an_upper_bound():
    found = numbers()
    assert len({name.rpartition(" ")[0] for name, _ in found}) > 15
    for name, param in found:
        assert isinstance(param.type, (click.IntRange, Finite)), f"{name}: {param.type}"
        assert param.type.min is not None, name
        assert param.type.max is not None, name
        assert not param.type.clamp, name


def test_no_command_takes_a_number_as_text():
    """What converts its value to a number by a type or a default is seen by the test above."""
    for names, command in leaves(cli):
        for param in command.params:
            plain = isinstance(param.type, (click.types.StringParamType, click.types.FuncParamType))
            default = param.default if isinstance(param.default, (int, float)) else None
            flag = isinstance(param, click.Option) and (param.is_flag or param.count)
            assert not (plain and default is not None and not flag), (names, param.opts)


@pytest.mark.parametrize(
    "name", ["seeds", "train.group", "train.steps", "world.noise", "start.all_zero"]
)
def test_an_option_of_a_field_accepts_what_the_field_accepts(name):
    bounds = of_field(name)
    assert isinstance(bounds, (click.IntRange, Finite))
    step = 1 if isinstance(bounds, click.IntRange) else 1e-9
    assert bounds.min is not None
    assert bounds.max is not None
    table, _, leaf = name.rpartition(".")
    for value in (bounds.min, bounds.max, bounds.min - step, bounds.max + step):
        raw = {"strategies": ["sft"], **({table: {leaf: value}} if table else {leaf: value})}
        accepted = [_fits(lambda raw=raw: validated(Experiment, raw))]
        accepted.append(_fits(lambda value=value: bounds.convert(value, None, None)))
        assert len(set(accepted)) == 1, (name, value)


def _fits(call) -> bool:
    try:
        call()
    except (UserError, click.BadParameter):
        return False
    return True

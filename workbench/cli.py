"""The `recast` command: one module of `workbench.commands` per command, put together here.

Errors a user can cause are one line and exit code 2.
"""

from __future__ import annotations

import sys

import click

from workbench.commands.lm import lm
from workbench.commands.run import presets, run
from workbench.commands.store import store
from workbench.commands.strategies import strategies
from workbench.spec import SpecError
from workbench.store import StoreError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Find out what sparse-hit RL for generative recommenders really buys."""


for command in (run, strategies, presets, store, lm):
    cli.add_command(command)


def main() -> None:
    """Entry point: every foreseeable failure is one line and exit code 2."""
    try:
        cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("interrupted; finished runs are kept, the same command resumes", err=True)
        sys.exit(130)
    except click.ClickException as problem:
        click.echo(f"error: {' '.join(problem.format_message().split())}", err=True)
        sys.exit(2)
    except (SpecError, StoreError) as problem:
        click.echo(f"error: {problem}", err=True)
        sys.exit(2)

"""The `recast` command: one module of `workbench.commands` per command, put together here.

Errors a user can cause are one line and exit code 2; a disk that refuses a write is exit code 3.
"""

from __future__ import annotations

import logging
import sys
from typing import NoReturn

import click

from workbench.commands.app import app
from workbench.commands.calibrate import calibrate
from workbench.commands.claims import claims
from workbench.commands.compare import compare
from workbench.commands.diagnose import diagnose
from workbench.commands.exact import exact
from workbench.commands.fields import fields
from workbench.commands.lm import lm
from workbench.commands.phases import phase_map
from workbench.commands.questions import questions
from workbench.commands.report import report
from workbench.commands.rollouts import rollouts
from workbench.commands.run import presets, run
from workbench.commands.search import search
from workbench.commands.store import store
from workbench.commands.strategies import strategies
from workbench.commands.sweep import sweep, sweeps
from workbench.commands.watch import watch
from workbench.spec.experiment import SpecError
from workbench.store.files import DiskError, StoreError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Find out what sparse-hit RL for generative recommenders really buys."""


for command in (
    run,
    calibrate,
    diagnose,
    watch,
    rollouts,
    sweep,
    compare,
    claims,
    phase_map,
    search,
    questions,
    report,
    app,
    strategies,
    exact,
    presets,
    fields,
    sweeps,
    store,
    lm,
):
    cli.add_command(command)


def main() -> None:
    """Entry point: every foreseeable failure is one line.

    Exit code 2 for what a user can put right, 3 when the disk refuses, 130 after an interruption.
    """
    _warn_on_stderr()
    try:
        code = cli.main(standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):
        _fail("interrupted; finished runs are kept, the same command resumes", 130)
    except click.ClickException as problem:
        _fail(f"error: {problem.format_message()}", 2)
    except DiskError as problem:
        _fail(f"error: {problem}; finished runs are kept, the same command resumes", 3)
    except (SpecError, StoreError) as problem:
        _fail(f"error: {problem}", 2)
    else:
        sys.exit(code if isinstance(code, int) else 0)


class _Echo(logging.Handler):
    """Warnings of the workbench, one line each on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(f"{record.levelname.lower()}: {record.getMessage()}", err=True)


def _warn_on_stderr() -> None:
    log = logging.getLogger("recast")
    if not any(isinstance(handler, _Echo) for handler in log.handlers):
        log.addHandler(_Echo(logging.WARNING))


def _fail(message: str, code: int) -> NoReturn:
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in " ".join(message.split()))
    click.echo(line, err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()

"""The `recast` command: one module of `workbench.commands` per command, put together here.

A command's module is imported when it is called, so that help and mistakes cost no time. Errors a
user can cause are one line and exit code 2; a disk that refuses a write is exit code 3.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
from importlib import import_module
from typing import NamedTuple, NoReturn

import click

from recast.quoting import nearest, one_line, quoted
from workbench.spec.limits import lifted


class _Row(NamedTuple):
    """Where a command lives in `workbench.commands`, and what it is for."""

    place: str
    purpose: str


COMMANDS = {
    "app": _Row("app:app", "Serve the app on this machine alone"),
    "calibrate": _Row("calibrate:calibrate", "Find the start whose groups are mixed as asked"),
    "claims": _Row("claims:claims", "Check the paper's claims C1..C12"),
    "compare": _Row("compare:compare", "Paired difference A minus B per metric"),
    "diagnose": _Row("diagnose:diagnose", "Diagnose a training log: what is wrong"),
    "exact": _Row("exact:exact", "Exact bias and variance of each signal"),
    "fields": _Row("fields:fields", "List every field that --set FIELD=VALUE"),
    "forecast": _Row("forecast:forecast", "Forecast a run's end from its first part"),
    "lm": _Row("lm:lm", "Real causal language models: check data, train, evaluate"),
    "phase-map": _Row("phase_map:phase_map", "Which strategy wins where, at equal budget"),
    "predict": _Row("predict:predict", "Which strategy would win on a language model"),
    "presets": _Row("run:presets", "List the packaged presets"),
    "prove": _Row("prove:prove", "Does supervision that trusts unlikely targets less hold"),
    "questions": _Row("questions:questions", "The rows that answer a question beyond the paper"),
    "report": _Row("report:report", "Write one self-contained HTML FILE"),
    "rollouts": _Row("rollouts:rollouts", "Train one run in the simulator and write its rollouts"),
    "run": _Row("run:run", "Train strategies side by side and print what each of them reached"),
    "search": _Row("search:search", "Does any strategy dominate both supervised fine-tuning"),
    "store": _Row("store:store", "Look after the folder of finished runs"),
    "strategies": _Row("strategies:strategies", "List every strategy: what it does"),
    "sweep": _Row("sweep:sweep", "Run what is missing of SWEEP"),
    "sweeps": _Row("sweep:sweeps", "List the packaged sweeps"),
    "watch": _Row("watch:watch", "Follow a growing log"),
}
"""Every command; the purpose is how its own help begins."""

LONGEST_ARGUMENT = 100_000
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG, errno.EROFS)


class _Commands(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        if cmd_name in ("diagnose", "watch"):
            # Read when Polars is loaded: memory that it has freed goes back soon.
            os.environ.setdefault(
                "_RJEM_MALLOC_CONF", "dirty_decay_ms:50,muzzy_decay_ms:0,narenas:2"
            )
        module, name = COMMANDS[cmd_name].place.split(":")
        found: click.Command = getattr(import_module(f"workbench.commands.{module}"), name)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            ctx.fail(f"no command {quoted(args[0])}; {nearest(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name].purpose) for name in sorted(COMMANDS)])


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--no-limits",
    is_flag=True,
    help="Start even what is estimated to take more than 2 GiB in a worker, 100,000 runs, 5,000 "
    "cells or 2,000 hours of one core.",
)
@click.pass_context
def cli(context: click.Context, no_limits: bool) -> None:
    """Find out what sparse-hit RL for generative recommenders really buys."""
    if no_limits:
        context.with_resource(lifted())


def main() -> None:
    """Entry point: every foreseeable failure is one line.

    Exit code 2 for what a user can put right, 3 when the disk refuses, 130 after an interruption.
    """
    _warn_on_stderr()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        _check_arguments(sys.argv[1:])
        code = cli.main(standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):
        _fail("interrupted; finished runs are kept, the same command resumes", 130)
    except click.ClickException as problem:
        _fail(f"error: {problem.format_message()}", 2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as problem:
        place = "" if problem.filename is None else f"{quoted(str(problem.filename))}: "
        _fail(f"error: {place}{problem.strerror or problem}", 3 if problem.errno in _FULL else 2)
    except MemoryError:
        _fail("error: not enough memory; finished runs are kept. Ask for less", 3)
    except Exception as problem:
        _fail_if_foreseen(problem)
        raise
    else:
        sys.exit(code if isinstance(code, int) else 0)


def _check_arguments(arguments: list[str]) -> None:
    """Raise UsageError for an argument that is empty, no text, or endless."""
    before = ""
    for text in arguments:
        name, equals, value = text.partition("=")
        where = name if equals and name.startswith("-") else before
        after = f" after {quoted(where)[1:-1]}" if where.startswith("-") else ""
        if not text or (equals and name.startswith("--") and not value):
            raise click.UsageError(f"an empty argument{after}; expected a value")
        if any("\ud800" <= letter <= "\udfff" or letter == "\0" for letter in text):
            raise click.UsageError(f"{quoted(text)}: no Unicode text; expected UTF-8")
        if len(text) > LONGEST_ARGUMENT:
            raise click.UsageError(
                f"an argument of {len(text):,} characters{after}; expected at most "
                f"{LONGEST_ARGUMENT:,}"
            )
        before = text


def _fail_if_foreseen(problem: Exception) -> None:
    """End with one line where it is an error of the workbench's own kinds."""
    from workbench.errors import DiskError, UserError

    if isinstance(problem, DiskError):
        _fail(f"error: {problem}; finished runs are kept, the same command resumes", 3)
    if isinstance(problem, UserError):
        _fail(f"error: {problem}", 2)


class _Echo(logging.Handler):
    """Warnings of the workbench, one line each on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        # Long enough for any path: a file that is named is named whole.
        line = one_line(f"{record.levelname.lower()}: {record.getMessage()}", 5_000)
        click.echo(line, err=True)


def _warn_on_stderr() -> None:
    log = logging.getLogger("recast")
    if not any(isinstance(handler, _Echo) for handler in log.handlers):
        log.addHandler(_Echo(logging.WARNING))


def _fail(message: str, code: int) -> NoReturn:
    click.echo(one_line(message), err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()

"""`recast watch`: findings of a log as they begin, for a terminal and for scripts."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

import click

from workbench.commands.bounds import SECONDS, Finite
from workbench.commands.log_options import LogOptions, reading_options
from workbench.commands.output import html_target
from workbench.diagnosis.counterfactual import DEFAULT
from workbench.diagnosis.findings import CHECKS
from workbench.diagnosis.findings.scalar_checks import SCALAR_CHECKS
from workbench.diagnosis.watch import Seen, follow
from workbench.errors import UserError

NAMES = (*CHECKS, *(check.name for check in SCALAR_CHECKS if check.name not in CHECKS))

REST = 3.0
"""A pause takes so many times what the look before it took: a quarter of a core at most."""


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@reading_options
@click.option("--every", default=10.0, show_default=True, type=Finite(0.1, 86_400), help="Seconds"
              " between two glances at the files.")  # fmt: skip
@click.option("--idle", default=0.0, type=SECONDS, help="End after so many seconds "
              "without a change; 0: never.")  # fmt: skip
@click.option("--once", is_flag=True, help="Look once and end.")
@click.option(
    "--fail-on",
    "failing",
    multiple=True,
    metavar="FINDING",
    help="End with exit code 1 as soon as it begins; repeat; `problem` stands for every problem.",
)
@click.option("--html", "target", type=click.Path(path_type=Path), default=None, metavar="FILE",
              help="Rewrite this report at every change; an open browser shows it.")  # fmt: skip
def watch(
    paths: tuple[Path, ...],
    reading: LogOptions,
    every: float,
    idle: float,
    once: bool,
    failing: tuple[str, ...],
    target: Path | None,
) -> int:
    """Follow a growing log: print each finding when it begins, and when it is over.

    PATHS: as `recast diagnose` takes them. Ends with Ctrl-C, --idle, --once or --fail-on; with exit
    code 2 where nothing was readable until then. After a look it pauses three times as long as that
    took, --every at least.
    """
    unknown = [name for name in failing if name not in (*NAMES, "problem")]
    if unknown:
        near = get_close_matches(unknown[0], NAMES, cutoff=0.4)
        known = ", ".join(near) or "problem, or a finding of docs/diagnose.md"
        raise UserError(f"--fail-on {unknown[0]}: no such finding; {known}")
    if target is not None:
        html_target(target)
    reading.grows = not once
    try:
        return _follow(paths, reading, Pace(every, idle, once), failing, target)
    except KeyboardInterrupt:
        click.echo("stopped", err=True)
        return 130


@dataclass
class Pace:
    """When to look again: seconds between two glances; after how many without a change to end, 0
    never; or not at all."""

    every: float
    idle: float
    once: bool
    quiet: float = 0.0
    awake: float = field(default_factory=time.monotonic)

    def wait(self) -> bool:
        """Sleep until the next glance; False to end."""
        pause = max(self.every, REST * (time.monotonic() - self.awake))
        if self.idle:
            pause = max(self.every, min(pause, self.idle))
        self.quiet += pause
        if self.once or (self.idle and self.quiet > self.idle):
            return False
        time.sleep(pause)
        self.awake = time.monotonic()
        return True


def _follow(
    paths: tuple[Path, ...],
    reading: LogOptions,
    pace: Pace,
    failing: tuple[str, ...],
    target: Path | None,
) -> int:
    answered, why = False, ""
    for seen in follow(paths, reading.look, pace.wait):
        pace.quiet = 0.0
        _say(seen)
        answered |= seen.answer is not None
        why = seen.why
        hit = [one.name for one in seen.began if _fails(one.name, one.level, failing)]
        if target is not None and seen.answer is not None:
            ends = bool(hit) or pace.once
            _report(reading, target, 0 if ends else math.ceil(pace.every))
        if hit:
            click.echo(f"failing on {', '.join(hit)}", err=True)
            return 1
    if not answered:
        raise UserError(f"nothing to diagnose until now: {why}")
    return 0


def _report(reading: LogOptions, target: Path, refresh: int) -> None:
    """Write the log's HTML file, which a browser loads again; charts are imported only here."""
    from workbench.report.log import write_log_report, write_scalar_report

    if reading.found is not None:
        write_log_report(reading.found, DEFAULT, 0.5, target, refresh)
    elif reading.scalars is not None:
        write_scalar_report(reading.scalars, 0.5, target, refresh)


def _fails(name: str, level: str, failing: tuple[str, ...]) -> bool:
    return name in failing or (level == "problem" and "problem" in failing)


def _say(seen: Seen) -> None:
    if seen.answer is None:
        click.echo(f"waiting: {seen.why}", err=True)
        return
    click.echo(seen.answer.read[0])
    for one in seen.began:
        click.echo(f"begins: {one.level}: {one.name}\n  {one.says}\n  Do: {one.do}")
    for name in seen.over:
        click.echo(f"over: {name}")
    if not seen.began and not seen.over:
        click.echo("nothing new")

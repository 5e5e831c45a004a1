"""How a log is read: the options that every command on a log has, and what they come to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any

import click

from workbench.commands.bounds import VALUE, Finite
from workbench.diagnosis.answer import DiagnosisSummary, answer, answer_of_scalars
from workbench.diagnosis.counterfactual import DEFAULT
from workbench.diagnosis.diagnosis import Diagnosis, diagnose
from workbench.diagnosis.findings.scalars import ScalarRun, take_apart
from workbench.diagnosis.logs.layout import FIELDS, Choice
from workbench.diagnosis.logs.mapping import choice_of
from workbench.diagnosis.logs.read import FORMATS, Log
from workbench.diagnosis.logs.scalars import Scalars
from workbench.jobs.log_reading import HowToRead, read_guarded

OPTIONS = (
    click.option("--log-format", type=click.Choice(list(FORMATS)), default=None, help="Whose log."),
    click.option("--reward", "rewards", multiple=True, metavar="COLUMN",
                 help="Repeatable: added up."),
    click.option("--outcome", default="", metavar="COLUMN", help="The raw outcome, unshaped."),
    click.option("--map", "fields", multiple=True, metavar="FIELD=COLUMN",
                 help=f"Which column holds what, by commas; fields: {', '.join(FIELDS)}."),
    click.option("--threshold", type=VALUE, default=None,
                 help="A hit is an outcome above it; found out by default."),
    click.option("--tolerance", type=Finite(0, 1e30), default=1e-6, show_default=True,
                 help="Rewards this near are equal."),
    click.option("--group", type=click.IntRange(2, 1_000_000), default=None,
                 help="G of a log of scalars."),
)  # fmt: skip


@dataclass
class LogOptions:
    """The options as given. found, scalars: the last log of each kind that was taken apart."""

    form: str
    choice: Choice
    threshold: float | None
    tolerance: float
    group: int | None
    found: Diagnosis | None = field(default=None)
    scalars: ScalarRun | None = field(default=None)

    def rollouts(self, files: Sequence[Path]) -> Diagnosis:
        """Read and take apart a log of rollouts, warnings on stderr. Raises LogError."""
        found = read_guarded(files, HowToRead(self.form, self.choice))
        assert isinstance(found, Log)
        return self._taken(found)

    def _taken(self, log: Log) -> Diagnosis:
        for line in log.problems.lines():
            click.echo(f"warning: {line}", err=True)
        if log.problems.summary():
            click.echo(f"warning: {log.problems.summary()}", err=True)
        self.found = diagnose(log, self.threshold, self.tolerance)
        return self.found

    def any(self, files: Sequence[Path]) -> Diagnosis | ScalarRun:
        """Rollouts where there are any, else a tracker's scalars. Raises LogError."""
        found = read_guarded(files, HowToRead(self.form, self.choice, scalars=True))
        if isinstance(found, Scalars):
            self.scalars = take_apart(found, self.group)
            return self.scalars
        return self._taken(found)

    def look(self, files: Sequence[Path]) -> DiagnosisSummary:
        """The answer to a log. Raises LogError."""
        said = self.any(files)
        if isinstance(said, ScalarRun):
            return answer_of_scalars(said, 0.5)
        return answer(said, DEFAULT, 0.5)


def reading_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `OPTIONS` to a command, which gets them as one argument, `reading`."""

    @wraps(command)
    def wrapped(
        log_format: str | None,
        rewards: tuple[str, ...],
        outcome: str,
        fields: tuple[str, ...],
        threshold: float | None,
        tolerance: float,
        group: int | None,
        **more: Any,
    ) -> Any:
        choice = choice_of(fields, rewards, outcome)
        reading = LogOptions(log_format or "", choice, threshold, tolerance, group)
        return command(reading=reading, **more)

    for option in reversed(OPTIONS):
        wrapped = option(wrapped)
    return wrapped

"""How a log is read: the options that every command on a log has, and what they come to.

What takes a log apart loads PyTorch and SciPy, some 250 MB. It is imported once a log was read, so
that it does not stand beside the process that reads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from workbench.commands.bounds import VALUE, Finite
from workbench.diagnosis.logs.layout import FIELDS, Choice
from workbench.diagnosis.logs.mapping import choice_of
from workbench.diagnosis.logs.problems import CUT_LINE
from workbench.diagnosis.logs.read import FORMATS, Log
from workbench.diagnosis.logs.scalars import Scalars
from workbench.jobs.log_reading import HowToRead, read_guarded

if TYPE_CHECKING:
    from workbench.diagnosis.answer import DiagnosisSummary
    from workbench.diagnosis.diagnosis import Diagnosis
    from workbench.diagnosis.findings.scalars import ScalarRun

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
    click.option("--prompts", type=click.IntRange(1, 10_000_000), default=None,
                 help="Prompts per step of scalars that count groups (slime)."),
)  # fmt: skip


@dataclass
class LogOptions:
    """The options as given. found, scalars: the log that was taken apart last, of either kind;
    grows: its files are still written, so a last line without an end is no fault."""

    form: str
    choice: Choice
    threshold: float | None
    tolerance: float
    group: int | None
    prompts: int | None = None
    found: Diagnosis | None = field(default=None)
    scalars: ScalarRun | None = field(default=None)
    grows: bool = False
    warned: set[str] = field(default_factory=set)

    def rollouts(self, files: Sequence[Path]) -> Diagnosis:
        """Read and take apart a log of rollouts, warnings on stderr. Raises LogError."""
        found = read_guarded(files, HowToRead(self.form, self.choice))
        assert isinstance(found, Log)
        return self._rollouts(found)

    def read(self, files: Sequence[Path]) -> Log | Scalars:
        """Rollouts where there are any, else a tracker's scalars. Raises LogError."""
        self.found = self.scalars = None  # two logs at once take twice the memory
        return read_guarded(files, HowToRead(self.form, self.choice, scalars=True))

    def taken_apart(self, read: Log | Scalars) -> Diagnosis | ScalarRun:
        """What a log says, warnings on stderr."""
        from workbench.diagnosis.findings.scalars import take_apart

        if isinstance(read, Log):
            return self._rollouts(read)
        self.scalars = take_apart(read, self.group, self.prompts)
        return self.scalars

    def _rollouts(self, log: Log) -> Diagnosis:
        from workbench.diagnosis.diagnosis import diagnose

        self._warn(log)
        self.found = diagnose(log, self.threshold, self.tolerance)
        return self.found

    def _warn(self, log: Log) -> None:
        """What could not be read; of a log that grows each line once."""
        lines = log.problems.lines()
        if self.grows:
            lines = [one for one in lines if one not in self.warned and not one.endswith(CUT_LINE)]
            self.warned.update(lines)
        if not lines:
            return
        for line in (*lines, log.problems.summary()):
            if line:
                click.echo(f"warning: {line}", err=True)

    def any(self, files: Sequence[Path]) -> Diagnosis | ScalarRun:
        """Read and take apart. Raises LogError."""
        return self.taken_apart(self.read(files))

    def look(self, files: Sequence[Path]) -> DiagnosisSummary:
        """The answer to a log. Raises LogError."""
        said = self.any(files)
        from workbench.diagnosis.answer import answer, answer_of_scalars
        from workbench.diagnosis.counterfactual import DEFAULT
        from workbench.diagnosis.diagnosis import Diagnosis

        if isinstance(said, Diagnosis):
            return answer(said, DEFAULT, 0.5)
        return answer_of_scalars(said, 0.5)


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
        prompts: int | None,
        **more: Any,
    ) -> Any:
        choice = choice_of(fields, rewards, outcome)
        reading = LogOptions(log_format or "", choice, threshold, tolerance, group, prompts)
        return command(reading=reading, **more)

    for option in reversed(OPTIONS):
        wrapped = option(wrapped)
    return wrapped

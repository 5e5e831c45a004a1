"""Work in a process of its own, as the app sees it: how it stands, and how it is called off.

There is one way to stop: the process ends after the work in flight, and what is finished stays.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, Self, TypeVar

from workbench.jobs.process import Child

JobState = Literal["running", "paused", "finished", "stopped", "refused", "lost"]


@dataclass(kw_only=True)
class Standing:
    """How some work stands. text: one line for the reader; stopping: it was called off and is about
    to end."""

    state: JobState = "running"
    text: str = "Starting"
    stopping: bool = False

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""
        return self.state not in ("running", "paused")

    def says(self, text: str) -> None:
        """What it is doing now, unless it is about to end."""
        if not self.stopping:
            self.text = text

    def call_off(self) -> None:
        """It was asked to end after the work in flight."""
        if not self.over:
            self.says("Stopping after the work in flight")
            self.stopping = True

    def end(self, state: JobState, text: str) -> None:
        """It is over, unless it was before."""
        if not self.over:
            self.state, self.text = state, text

    def take_in(self, event: Mapping[str, Any]) -> None:
        """Note one event of the process."""
        match event["kind"]:
            case "phase":
                self.says(event["text"])
            case "refused":
                self.end("refused", event["text"])
            case "stopped":
                self.end("stopped", "Stopped; finished runs are kept.")

    def gone(self, code: int) -> None:
        """Its process has ended, with this code."""
        if self.stopping:
            self.take_in({"kind": "stopped"})
        self.end("lost", f"The process ended unexpectedly (code {code}).")


Told = TypeVar("Told", bound=Standing | None)


class Job(Generic[Told]):
    """A process of `python -m MODULE` that waits for one order, and how its work stands by what it
    says. told: None where there is no order yet."""

    def __init__(self, module: str, told: Told) -> None:
        self.told = told
        self._child = Child(module)

    @property
    def pid(self) -> int:
        """Process id."""
        return self._child.pid

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._child.alive

    def order(self, content: Mapping[str, Any]) -> None:
        """Send it off; once per process."""
        self._child.say(json.dumps(content))

    def look(self) -> Self:
        """Take in what the process has said since the last look."""
        for event in self._child.heard():
            if self.told is None:
                continue
            if event is not None:
                self.told.take_in(event)
            elif not self.told.over:
                self.told.gone(self._child.code())
        return self

    def stop(self) -> None:
        """Call it off after the work in flight; what is finished stays."""
        if self.told is not None:
            self.told.call_off()
        self._child.say("stop")

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._child.close()

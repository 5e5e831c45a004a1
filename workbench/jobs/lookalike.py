"""A simulation of a log's regimes as the app sees it: a process of its own, watched and stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import polars as pl

from workbench.diagnosis.lookalike import Ranking, Wanted
from workbench.jobs.process import Child

State = Literal["running", "finished", "stopped", "refused", "lost"]


class Lookalike:
    """One order. state, text and share (0 to 1) say how it stands; ranking is there when it is
    finished."""

    def __init__(self, wanted: Wanted, store: Path) -> None:
        self.wanted = wanted
        self.state: State = "running"
        self.text, self.share = "Starting", 0.0
        self.ranking: Ranking | None = None
        self._child = Child("workbench.jobs.lookalike_worker")
        self._child.say(json.dumps({"wanted": wanted.order(), "store": str(store)}))

    @property
    def pid(self) -> int:
        """Process id."""
        return self._child.pid

    def look(self) -> Lookalike:
        """Take in what the process has said."""
        for event in self._child.heard():
            if event is not None:
                self._take_in(event)
            elif self.state == "running":
                self.state = "lost"
                self.text = f"The process ended unexpectedly (code {self._child.code()})."
        return self

    def stop(self) -> None:
        """Call it off; runs that are finished stay in the store."""
        if self.state == "running":
            self.state, self.text = "stopped", "Stopped; finished runs are kept."
        self._child.say("stop")

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._child.close()

    def _take_in(self, event: dict[str, Any]) -> None:
        match event["kind"]:
            case "progress" if self.state == "running":
                self.text, self.share = event["text"], event["done"] / max(event["total"], 1)
            case "end" if self.state == "running":
                self.state, self.text, self.share = "finished", "Done", 1.0
                regimes, table = (
                    pl.DataFrame(event[name], infer_schema_length=None)
                    for name in ("regimes", "table")
                )
                self.ranking = Ranking(regimes, table, tuple(event["notes"]))
            case "refused":
                self.state, self.text = "refused", event["text"]

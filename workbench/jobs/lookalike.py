"""A simulation of a log's regimes as the app sees it: a process of its own, watched and stopped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from workbench.diagnosis.lookalike import Ranking, Wanted
from workbench.jobs.job import Job, Standing


@dataclass
class Simulation(Standing):
    """One order. share: of the work, 0 to 1; ranking: there when it is finished."""

    share: float = 0.0
    ranking: Ranking | None = None

    def take_in(self, event: Mapping[str, Any]) -> None:
        """Note one event of the worker."""
        match event["kind"]:
            case "progress":
                self.says(event["text"])
                self.share = event["done"] / max(event["total"], 1)
            case "end":
                regimes, table = (
                    pl.DataFrame(event[name], infer_schema_length=None)
                    for name in ("regimes", "table")
                )
                self.ranking = Ranking(regimes, table, tuple(event["notes"]))
                self.end("finished", "Done")
            case _:
                super().take_in(event)


class Lookalike(Job[Simulation]):
    """The process of one simulation."""

    def __init__(self, wanted: Wanted, store: Path) -> None:
        super().__init__("workbench.jobs.lookalike_worker", Simulation())
        self.order({"wanted": wanted.order(), "store": str(store)})

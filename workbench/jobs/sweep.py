"""Sweeps as the app sees them: checked from edited text, planned, watched, and resumed."""

from __future__ import annotations

import json
import logging
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from recast.quoting import nearest
from workbench.errors import UserError
from workbench.jobs.job import Job, Standing
from workbench.spec.experiment import PRESETS, preset_names
from workbench.spec.plain_data import parsed_toml
from workbench.spec.sweep import SWEEPS, Sweep, load_sweep, sweep_names
from workbench.store.runs import Store
from workbench.store.soundness import sweep_record

LONGEST = 20_000
_log = logging.getLogger("recast")


def packaged() -> dict[str, str]:
    """The text of every packaged sweep and preset, by name."""
    found = {name: SWEEPS / f"{name}.toml" for name in sweep_names()}
    found |= {name: PRESETS / f"{name}.toml" for name in preset_names()}
    return {name: path.read_text(encoding="utf-8") for name, path in found.items()}


def check_sweep(text: str) -> Sweep:
    """A sweep from edited TOML.

    Raises UserError, one line: what is wrong, where, and what would be right; also for a base that
    is not packaged and for a data folder other than the one that RECAST_DATA names.
    """
    if len(text) > LONGEST:
        raise UserError(f"sweep: {len(text)} characters; expected at most {LONGEST}")
    try:
        raw = parsed_toml(text)
    except ValueError as problem:
        raise UserError(f"sweep: not readable TOML: {problem}") from None
    base = raw.get("base")
    if base is not None and base not in preset_names():
        raise UserError(
            f"base: {base!r}: not a packaged preset; {nearest(str(base), preset_names())}"
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sweep.toml"
        path.write_bytes(text.encode("utf-8", "replace"))
        try:
            plan = load_sweep(str(path))
        except UserError as problem:
            raise UserError(str(problem).replace(str(path), "sweep")) from None
    folders = {plan.world.data, *plan.grid.get("world.data", ())}
    folders |= {folder for rule in plan.include for folder in rule.get("world.data", ())}
    allowed = os.environ.get("RECAST_DATA")
    if folders - {None, allowed}:
        raise UserError(
            "world.data: the app reads no folder but the one that RECAST_DATA names; use "
            "`recast sweep` for others"
        )
    return plan


def missing(plan: Sweep, store: Store) -> tuple[int, int]:
    """Runs of a sweep, and how many of them the store lacks."""
    keys = [run.key for run in plan.runs()]
    return len(keys), sum(not store.has(key) for key in keys)


def recorded(store: Store) -> pl.DataFrame:
    """Sweeps that a store has seen end: name, strategies, runs, missing, failed, why (the
    first failure), sweep as JSON.

    A record that cannot be read is left out and named on the log.
    """
    rows = []
    for path in sorted((store.root / "sweeps").glob("*.json")):
        try:
            content = sweep_record(path)
            rows.append(
                {
                    "name": path.stem,
                    "strategies": ", ".join(content["sweep"]["strategies"]),
                    "runs": len(content["runs"]),
                    "missing": sum(not store.has(str(key)) for key in content["runs"]),
                    "failed": len(content["failures"]),
                    "why": next(iter(content["failures"].values()), ""),
                    "sweep": json.dumps(content["sweep"]),
                }
            )
        except (OSError, ValueError, KeyError, TypeError) as problem:
            _log.warning("%s: %s; left out, `recast store check` sets it aside", path, problem)
    return pl.DataFrame(
        rows,
        schema={
            "name": pl.String,
            "strategies": pl.String,
            "runs": pl.Int64,
            "missing": pl.Int64,
            "failed": pl.Int64,
            "why": pl.String,
            "sweep": pl.String,
        },
    )


@dataclass
class Sweeping(Standing):
    """A sweep at work. share: of the steps of this round, 0 to 1; rounds: how often further rates
    were added; began: when the round began, in seconds of `time.monotonic`."""

    share: float = 0.0
    rounds: int = 1
    began: float = field(default_factory=time.monotonic)

    def left(self) -> float | None:
        """Seconds that this round takes from here at its pace so far; None before it has one."""
        if self.share < 0.02:
            return None
        return (time.monotonic() - self.began) * (1 - self.share) / self.share

    def take_in(self, event: Mapping[str, Any]) -> None:
        """Note one event of the worker."""
        match event["kind"]:
            case "progress":
                share = event["done"] / max(event["total"], 1)
                if share < self.share:
                    self.rounds, self.began = self.rounds + 1, time.monotonic()
                self.share = share
                self.says(event["text"])
            case "end":
                text = f"{event['trained']} runs trained, {event['reused']} were there before."
                if event["failures"]:
                    text += f" Failed: {'; '.join(event['failures'][:3])}"
                self.end("finished", text)
            case _:
                super().take_in(event)


class Watch(Job[Sweeping]):
    """The process of one sweep."""

    def __init__(self, plan: Sweep, store: Path) -> None:
        super().__init__("workbench.jobs.sweep_worker", Sweeping())
        self.plan, self.store = plan, store
        self.order({"sweep": plan.model_dump(mode="json"), "store": str(store)})

"""What commands on packaged sweeps share: train what is missing, or read, or foretell."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import click
import polars as pl

from workbench.commands.bounds import of_field
from workbench.commands.dry_run import DRY_RUN, forecast_packaged
from workbench.commands.output import (
    EXECUTOR,
    SAVE,
    STORE,
    WORKERS,
    existing_store,
    progress_bar,
)
from workbench.store.runs import Store
from workbench.studies import packaged
from workbench.studies.evidence import SweepFrames, conditions, gather, run_and_gather

OPTIONS = (
    click.option(
        "--seeds", type=of_field("seeds"), default=None, help="Other paired seeds than packaged."
    ),
    click.option(
        "--steps",
        type=of_field("train.steps"),
        default=None,
        help="Another number of optimizer steps.",
    ),
    click.option("--no-run", is_flag=True, help="Read what is stored; train nothing."),
    DRY_RUN,
    SAVE,
    EXECUTOR,
    WORKERS,
    STORE,
)


@dataclass(frozen=True)
class PackagedOptions:
    """The options as given."""

    seeds: int | None
    steps: int | None
    no_run: bool
    dry_run: bool
    save: str | None
    executor: str
    workers: int | None
    store_path: str

    def evidence(self, names: Collection[str]) -> SweepFrames | None:
        """The rows of packaged sweeps; None after a dry run, which has said all that there is.

        Raises UserError when a run cannot be done and DiskError when the disk refuses.
        """
        changes = {"seeds": self.seeds, "train.steps": self.steps}
        if self.dry_run:
            forecast_packaged(names, changes, self.store_path, self.executor, self.workers)
            return None
        if self.no_run:
            return gather(names, existing_store(self.store_path), changes)
        store = Store(Path(self.store_path)).prepare()
        with progress_bar() as progress:
            return run_and_gather(names, store, changes, progress, self.executor, self.workers)

    def keep(self, tables: Mapping[str, pl.DataFrame], evidence: SweepFrames) -> None:
        """Write the tables to the file that --save names, with what stands behind them."""
        if self.save is not None:
            whole = {**tables, "conditions": conditions(evidence)}
            packaged.save(Path(self.save), {k: t for k, t in whole.items() if t.height})


def packaged_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `OPTIONS` to a command, which gets them as one argument, `packaged`."""

    @wraps(command)
    def wrapped(
        seeds: int | None,
        steps: int | None,
        no_run: bool,
        dry_run: bool,
        save: str | None,
        executor: str,
        workers: int | None,
        store_path: str,
        **more: Any,
    ) -> Any:
        given = PackagedOptions(seeds, steps, no_run, dry_run, save, executor, workers, store_path)
        return command(packaged=given, **more)

    for option in reversed(OPTIONS):
        wrapped = option(wrapped)
    return wrapped

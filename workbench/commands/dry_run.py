"""What sweeps would do and how long it would take, said before anything is trained."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import click

from workbench.execution.forecast import estimate
from workbench.execution.processes import cores
from workbench.plurals import number_of
from workbench.spec.sweep import Sweep, load_sweep
from workbench.store.runs import Store

DRY_RUN = click.option(
    "--dry-run", is_flag=True, help="Say how many runs are missing and about how long they take."
)


def slots(executor: str, workers: int | None) -> int:
    """Batches in flight at once."""
    return 1 if executor == "serial" else workers or cores()


def forecast(plan: Sweep, store: Store, workers: int) -> None:
    """Print a sweep's size, what of it is missing, and about how long that takes."""
    runs = plan.runs()
    missing = [run for run in runs if not store.has(run.key)]
    cells = len({run.config["cell"] for run in runs})
    click.echo(
        f"{plan.name}: {number_of(len(runs), 'run')} in {number_of(cells, 'cell')}, "
        f"{len(missing):,} missing in {store.root}"
    )
    if plan.tune and plan.tune.extend:
        click.echo(
            f"Up to {plan.tune.extend} more rates are tried where the best is on the edge of its "
            "grid; they are not counted here."
        )
    if missing:
        click.echo(estimate(missing, store, workers).text(workers))


def forecast_packaged(
    names: Collection[str],
    changes: Mapping[str, Any],
    folder: str,
    executor: str,
    workers: int | None,
) -> None:
    """`forecast` for packaged sweeps, one after the other. A run that two of them share is counted
    in both."""
    for name in names:
        forecast(load_sweep(name, changes), Store(Path(folder)), slots(executor, workers))

"""`recast diagnose`: what a training log says about its groups, and what to do."""

from __future__ import annotations

from pathlib import Path

import click

from workbench.commands.bounds import Finite
from workbench.commands.log_options import LogOptions, reading_options
from workbench.commands.output import FORMAT, STORE, html_target
from workbench.diagnosis.logs.read import files_of
from workbench.errors import UserError

TABLES = ("findings", "regimes", "training", "predictions", "savings", "again", "strategies")


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@reading_options
@click.option("--strategy", "strategies", multiple=True, help="What if it had been used; repeat.")
@click.option(
    "--learnable",
    "share",
    type=Finite(0, 1, min_open=True, max_open=True),
    default=0.5,
    show_default=True,
    help="Share of learnable groups that G should reach.",
)
@click.option("--table", type=click.Choice(TABLES), default="findings", help="What json/csv hold.")
@click.option(
    "--html",
    "target",
    type=click.Path(path_type=Path),
    default=None,
    metavar="FILE",
    help="Write one self-contained HTML file as well.",
)
@click.option("--details", is_flag=True, help="All tables below the answer.")
@click.option(
    "--against",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Another run's log: what differs, with intervals; repeat for its files.",
)
@click.option("--simulate", is_flag=True, help="Rank strategies in a world with these regimes.")
@STORE
@FORMAT
def diagnose(
    paths: tuple[Path, ...],
    reading: LogOptions,
    strategies: tuple[str, ...],
    share: float,
    table: str,
    target: Path | None,
    details: bool,
    against: tuple[Path, ...],
    simulate: bool,
    store_path: str,
    style: str,
) -> None:
    """Diagnose a training log: what is wrong, which G is worth paying for, what strategies change.

    PATHS: files or folders of one log, of any trainer in docs/diagnose.md, as its generic table, or
    a tracker's scalars; folders are walked.
    """
    if strategies:
        from workbench.spec.strategy_texts import parsed

        parsed(strategies)
    if target is not None:
        html_target(target)
    if against:
        _alone(table, html=target, details=details, simulate=simulate)
    found = reading.read(files_of(paths))
    other = reading.read(files_of(against)) if against else None
    # Only now: see log_options.
    from workbench.commands.diagnosis_output import DiagnosisRequest, show, show_apart

    if other is not None:
        show_apart(reading.taken_apart(found), reading.taken_apart(other), table, style)
        return
    store = Path(store_path) if simulate else None
    asked = DiagnosisRequest(strategies, share, table, style, target, details, store)
    show(reading.taken_apart(found), asked)


def _alone(table: str, **options: object) -> None:
    """Raises UserError for what two runs side by side have not got."""
    given = [name for name, value in options.items() if value]
    if given:
        raise UserError(
            f"--against: no --{given[0]} beside it; it prints findings and shares alone"
        )
    if table not in ("findings", "regimes"):
        raise UserError(f"--against: no --table {table}; expected findings or regimes")

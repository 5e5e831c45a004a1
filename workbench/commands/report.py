"""`recast report`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import click
import polars as pl

from workbench.commands.bounds import of_field
from workbench.commands.output import EFFICIENCY, existing_store
from workbench.errors import UserError
from workbench.plurals import number_of
from workbench.real.efficiency import read_efficiency
from workbench.report.figures import figures
from workbench.report.html import FORMATS, Format, Report, export_charts, write_report
from workbench.store.arithmetic import apart
from workbench.store.runs import Store
from workbench.studies import phase_map as phases
from workbench.studies import search
from workbench.studies.claims import CLAIMS, SWEEPS, check, claims_table, settings_table
from workbench.studies.evidence import SweepFrames, conditions, gather
from workbench.studies.measures import BASELINE, METRIC


@click.command()
@click.argument("target", metavar="FILE")
@click.option(
    "--store", "store_path", default="runs", show_default=True, help="Folder of finished runs."
)
@click.option("--charts", "folder", default=None, help="Also write every chart to this folder.")
@click.option(
    "--as",
    "formats",
    multiple=True,
    type=click.Choice(get_args(Format)),
    help="Formats for --charts; repeatable. Default: all of them.",
)
@EFFICIENCY
@click.option("--seeds", type=of_field("seeds"), default=None, help="As given to `recast claims`.")
@click.option(
    "--steps", type=of_field("train.steps"), default=None, help="As given to `recast claims`."
)
def report(
    target: str,
    store_path: str,
    folder: str | None,
    formats: tuple[Format, ...],
    efficiency: str | None,
    seeds: int | None,
    steps: int | None,
) -> None:
    """Write one self-contained HTML FILE: verdicts, charts, their data and their commands.

    Nothing is trained: what the store lacks is named, with the command that adds it.
    """
    path = _target(target)
    if formats and folder is None:
        raise UserError("--as: names formats of --charts DIR, which is not given")
    measured = read_efficiency(efficiency) if efficiency is not None else pl.DataFrame()
    store = existing_store(store_path)
    names = [*SWEEPS, phases.SWEEP, search.SWEEP]
    evidence = gather(names, store, {"seeds": seeds, "train.steps": steps})
    if not evidence.sweeps:
        raise UserError(
            f"store {store_path!r}: holds none of the packaged sweeps; "
            f"first: recast claims --store {store_path}"
        )
    whole = _whole(replace(evidence, efficiency=measured), store)
    write_report(whole, path)
    click.echo(f"{path}: {len(whole.figures)} charts, {path.stat().st_size / 1e6:.1f} MB")
    if folder is not None:
        written = export_charts(whole.figures, Path(folder), formats or FORMATS)
        click.echo(f"{folder}: {number_of(len(written), 'file')}")
    for gap in evidence.gaps:
        click.echo(f"note: {gap}")


def _target(named: str) -> Path:
    """The file to write. Raises UserError for one that is no HTML file, or in no folder."""
    path = Path(named)
    if path.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"report {named!r}: expected a file that ends in .html")
    if path.is_dir() or not path.parent.is_dir():
        raise UserError(f"report {named!r}: expected a file in a folder that exists")
    return path


def _whole(evidence: SweepFrames, store: Store) -> Report:
    """Verdicts, what stands behind them, and every chart."""
    behind = {run for rows in evidence.sweeps.values() for run in rows["run"].unique()}
    machines = apart(store.provenances(behind))
    checked = [check(claim, evidence) for claim in CLAIMS]
    verdicts, measured = claims_table(checked), settings_table(checked)
    judged = pl.col("decides") & (pl.col("verdict") != "shown, not judged")
    shown = ("claim", "says", "paper", "verdict", "where", "measured", "beside")
    rule = ("claim", "statistic", "threshold", "analogue", "sweeps")
    settings = "recast claims --show settings"
    return Report(
        f"Runs: {store.root}",
        [
            *map(str, evidence.gaps),
            *([f"runs {machines}"] if machines else []),
            *evidence.warnings(METRIC, BASELINE),
        ],
        [
            ("Which claims hold?", verdicts.select(shown), "recast claims"),
            ("How is each claim judged?", verdicts.select(rule), "recast claims --format csv"),
            ("What was run?", conditions(evidence), "recast sweep NAME --show tuning"),
            (
                "What was measured in each setting?",
                measured.filter(judged).drop("beside", "decides"),
                settings,
            ),
        ],
        figures(evidence),
        summary=_counted(verdicts["verdict"]),
        folded=[
            ("What stands beside, and what is not judged?", measured.filter(~judged), settings)
        ],
    )


def _counted(verdicts: pl.Series) -> str:
    counts = verdicts.value_counts(sort=True)
    listed = ", ".join(f"{count} {verdict}" for verdict, count in counts.iter_rows())
    return f"Of {len(verdicts)} claims: {listed}."

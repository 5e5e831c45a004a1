"""`recast questions`."""

from __future__ import annotations

import click

from recast.quoting import nearest
from workbench.commands.bounds import of_field
from workbench.commands.output import FORMAT, emit, existing_store
from workbench.errors import UserError
from workbench.stats.p_values import least_said
from workbench.studies.evidence import gather
from workbench.studies.questions import QUESTIONS, SWEEP


@click.command()
@click.argument("name", type=click.Choice(list(QUESTIONS)))
@click.option("--setting", default=None, help="A cell of the sweep, as its label says; the first.")
@click.option("--seeds", type=of_field("seeds"), default=None, help="As given to `recast claims`.")
@click.option(
    "--steps", type=of_field("train.steps"), default=None, help="As given to `recast claims`."
)
@click.option(
    "--store", "store_path", default="runs", show_default=True, help="Folder of finished runs."
)
@FORMAT
def questions(
    name: str,
    setting: str | None,
    seeds: int | None,
    steps: int | None,
    store_path: str,
    style: str,
) -> None:
    """The rows that answer a question beyond the paper; nothing is trained.

    They come from the sweep that `recast claims` runs first. Bias and variance of the gradient:
    `recast exact`.
    """
    changes = {"seeds": seeds, "train.steps": steps}
    evidence = gather([SWEEP], existing_store(store_path), changes)
    settings = evidence.settings(SWEEP)
    if not settings:
        raise UserError(f"store {store_path!r}: {evidence.gaps[0]}")
    if setting is not None and setting not in settings:
        raise UserError(f"--setting: unknown {setting!r}; {nearest(setting, settings)}")
    asks, table = QUESTIONS[name]
    here = setting or settings[0]
    found = table(evidence, here)
    emit(found, style, f"{asks} ({SWEEP}, {here})")
    if style == "table" and found.height and "p" in found.columns:
        click.echo(least_said(int(found["seeds"].to_numpy().max()), found.height, "p"))

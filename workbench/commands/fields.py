"""`recast fields`."""

from __future__ import annotations

from dataclasses import asdict

import click
import polars as pl

from workbench.commands.output import emit
from workbench.spec.fields import fields_page, spec_fields


@click.command()
@click.option(
    "--format",
    "style",
    type=click.Choice(["table", "json", "csv", "markdown"]),
    default="table",
    help="How to print the table.",
)
def fields(style: str) -> None:
    """List every field that --set FIELD=VALUE and a TOML file can change.

    \b
    Columns:
      name      the field, for --set
      default   its value where a preset does not say otherwise
      accepts   type and bounds
      meaning   what it is, with its unit
      sweep     true for what only a sweep has
    """
    if style == "markdown":
        click.echo(fields_page(), nl=False)
        return
    emit(pl.DataFrame([asdict(field) for field in spec_fields()]), style, "Fields")

"""`recast strategies`."""

from __future__ import annotations

import click
import polars as pl

from recast.strategies import STRATEGIES
from workbench.commands.output import FORMAT, emit

GROUP = 32


@click.command()
@FORMAT
def strategies(style: str) -> None:
    """List every strategy: what it does, where it comes from, what an all-zero group gets.

    \b
    Columns:
      strategy     its name, for --strategy
      all_zero     effect on a group without hits: zero, negative, anchored, supervised, shaped
      depends_on   what a group's signal looks at: the group, the batch, a state kept over batches
      needs        inputs beside rewards
      width        most rows of a group of 32 that reach the actor
      meaning, source
      composition  its stages, as --strategy reads them; write your own the same way
    """
    rows = [
        {
            "strategy": name,
            "all_zero": s.all_zero,
            "depends_on": s.coupling,
            "needs": ", ".join(sorted(s.needs)),
            "width": s.width(GROUP),
            "meaning": s.meaning,
            "source": s.source,
            "composition": s.text,
        }
        for name, s in STRATEGIES.items()
    ]
    emit(pl.DataFrame(rows), style, f"{len(rows)} strategies")

"""`recast strategies`."""

from __future__ import annotations

import click
import polars as pl

from recast.strategies import STRATEGIES
from workbench.commands.output import FORMAT, emit


@click.command()
@FORMAT
def strategies(style: str) -> None:
    """List every strategy: what it does, where it comes from, what an all-zero group gets."""
    rows = [
        {
            "strategy": name,
            "all_zero": s.all_zero,
            "composition": f"repair={s.repair}, select={s.select}, credit={s.credit}, "
            f"supervised={s.supervised:g}, update={s.update}, denominator={s.denominator}",
            "needs": "tie_key" if s.needs_tie_key else "",
            "meaning": s.meaning,
            "source": s.source,
        }
        for name, s in STRATEGIES.items()
    ]
    emit(pl.DataFrame(rows), style, "Strategies")

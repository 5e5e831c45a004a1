"""Frame of regime shares against the search width; free of torch, so that a page draws at once."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from recast.regimes import beta_regimes


def regime_frame(mean: float, cv: float, widths: Sequence[int]) -> pl.DataFrame:
    """group, regime, share: one row per width and regime."""
    return pl.DataFrame(
        [
            {"group": group, "regime": regime, "share": share}
            for group in widths
            for regime, share in beta_regimes(mean, cv, group).items()
        ]
    )

"""Which answers were cut off by the length limit: as logged, by lengths, or by how texts end.

Where no reason to stop is logged, a limit shows as a pile-up of lengths at one maximum; and where
only texts are logged, as answers that end in the middle of a sentence, are the longest, and are
never right.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from workbench.diagnosis.diagnosis import Diagnosis

NOBODY = pl.lit(None, pl.Float64)
FEWEST = 20
LONGEST = {"words": 32, "chars": 160}
"""A largest length below these is an answer of fixed form."""

ALIKE = 0.25
"""Standard deviation over mean of the lengths of answers that one limit cut."""


def truncated(found: Diagnosis) -> pl.Expr:
    """Of each rollout 1 where it was cut off, by what is logged or by its tokens; null where nobody
    can say."""
    rows = found.rollouts
    if rows["truncated"].count():
        return pl.col("truncated").cast(pl.Float64)
    limit = pile_up(rows["tokens"].drop_nulls().to_numpy())
    return NOBODY if limit is None else (pl.col("tokens") >= limit).cast(pl.Float64)


def unended(found: Diagnosis) -> pl.Expr:
    """Of each rollout 1 where its text looks cut off; null where texts are short or missing."""
    rows = found.rollouts
    if rows["open"].count() < FEWEST:
        return NOBODY
    known = pl.col("open").is_not_null()
    cut = pl.lit(value=False)
    if (by_limit := _at_one_length(found)) is not None:
        cut = by_limit
    elif _ends_badly(found):
        cut = pl.col("open")
    return pl.when(known).then(cut.cast(pl.Float64))


def _hit(found: Diagnosis) -> pl.Expr:
    """Whether a rollout was worth anything."""
    if found.known:
        return pl.col("outcome") > found.threshold + found.tolerance
    low = found.rollouts["reward"].to_numpy().min()
    return pl.col("reward") > float(low) + found.tolerance


def _at_one_length(found: Diagnosis) -> pl.Expr | None:
    """Rollouts of the largest length in words, or characters, that do not end; None where lengths
    do not pile up there, or answers of other lengths end no better."""
    rows = found.rollouts.select("open", *LONGEST, "outcome", "reward").drop_nulls("open")
    for unit, least in LONGEST.items():
        counted = rows.drop_nulls(unit)
        limit = pile_up(counted[unit].to_numpy(), least)
        if limit is None:
            continue
        at = counted.filter(pl.col(unit) >= limit)
        below = counted.filter(pl.col(unit) < limit)
        if _share(at["open"]) < 0.6:
            continue
        alone = below.height < FEWEST
        if (alone and at.filter(_hit(found)).height) or (not alone and _share(below["open"]) > 0.3):
            continue
        return (pl.col(unit) >= limit) & pl.col("open")
    return None


def _ends_badly(found: Diagnosis) -> bool:
    """Whether answers without an end are the longest, of nearly one length, and never right, while
    those with an end are; or nearly all have none, and nothing is right."""
    rows = found.rollouts.select("open", "chars", hit=_hit(found)).drop_nulls("open")
    cut, whole = rows.filter("open"), rows.filter(~pl.col("open"))
    if cut.height < max(FEWEST, 0.1 * rows.height):
        return False
    size = cut["chars"].to_numpy().astype(np.float64)
    if size.std() > ALIKE * size.mean():
        return False
    if not rows["hit"].any():
        alike = size.std() < 0.1 * size.mean() and size.mean() >= LONGEST["chars"]
        return bool(whole.height < 0.1 * rows.height and alike)
    if whole.height < 3 or _share(cut["hit"]) > 0.1 * _share(whole["hit"]):
        return False
    if whole.height < FEWEST and _share(whole["hit"]) < 0.5:
        return False
    return bool(np.median(size) >= np.quantile(whole["chars"].to_numpy(), 0.9))


def _share(those: pl.Series) -> float:
    return int(those.sum()) / max(1, len(those))


def pile_up(lengths: npt.NDArray[np.int32], least: int = 32) -> int | None:
    """The length at which rollouts are cut off: the largest, where far more of them have it than
    have the lengths below; None where lengths do not pile up.

    A largest length below `least` is an answer of fixed form, a semantic ID or a label.
    """
    if len(lengths) < FEWEST or int(lengths.max()) < least:
        return None
    top = int(lengths.max())
    at = float((lengths == top).mean())
    # A tail that ends by itself has about as many rollouts just below its end.
    below = float(((lengths < top) & (lengths >= 0.9 * top)).mean()) / max(1.0, 0.1 * top)
    return top if at >= 0.02 and at > 10 * below else None

"""Two runs told apart: findings that only one of them has, and shares with their difference."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.special import stdtrit

from workbench.diagnosis.diagnosis import Diagnosis
from workbench.diagnosis.findings import CHECKS, Examined, examine
from workbench.diagnosis.findings.curves import Curve, Curves, curves_of
from workbench.diagnosis.findings.scalar_checks import SCALAR_CHECKS, SILENT
from workbench.diagnosis.findings.scalars import HELPERS, ScalarRun
from workbench.diagnosis.logs.groups import TEACHES

LoggedRun = Diagnosis | ScalarRun

Floats = npt.NDArray[np.float64]


def _examined(run: LoggedRun) -> Examined:
    return run.examined if isinstance(run, ScalarRun) else examine(run)


def findings_apart(one: LoggedRun, other: LoggedRun) -> pl.DataFrame:
    """One row per finding that either run has, in order of weight; of rollouts or of scalars.

    Columns: finding, a and b (its level, "-" where a run has not got it, "not checked" where its
    column is missing, "explained" where a weightier finding of that run stands for it), a_says,
    b_says.
    """
    said = [_examined(run) for run in (one, other)]
    named = [{finding.name: finding for finding in each.findings} for each in said]
    missing = [{name for gap in each.unchecked for name in gap.names} for each in said]
    covered = [_explained(mine) for mine in named]
    rows = []
    for name in dict.fromkeys((*CHECKS, *(check.name for check in SCALAR_CHECKS))):
        if name not in named[0] and name not in named[1]:
            continue
        row: dict[str, str] = {"finding": name}
        for letter, mine, gaps, known in zip("ab", named, missing, covered, strict=True):
            silent = "not checked" if name in gaps else "explained" if name in known else "-"
            row[letter] = mine[name].level if name in mine else silent
            row[f"{letter}_says"] = mine[name].says if name in mine else ""
        rows.append(row)
    return pl.DataFrame(
        rows, schema=dict.fromkeys(("finding", "a", "b", "a_says", "b_says"), pl.String)
    )


def _explained(findings: Iterable[str]) -> frozenset[str]:
    """What is left out beside these findings."""
    checks = {check.name: check for check in (*SCALAR_CHECKS, *CHECKS.values())}
    return frozenset().union(*(checks[name].explains for name in findings if name in checks))


SHARES: Mapping[str, pl.Expr] = {
    "all_zero": pl.col("regime") == "all_zero",
    "learnable": TEACHES,
    "saturated": pl.col("regime") == "saturated",
    "equal_rewards": pl.col("constant"),
    "pass_at_1": pl.col("hits") / pl.col("size"),
    "pass_at_g": pl.col("hits") > 0,
    "reward": pl.col("reward"),
    "entropy": pl.col("entropy"),
}


def shares_apart(one: LoggedRun, other: LoggedRun) -> pl.DataFrame:
    """Means over the groups of the last third of the steps of both runs, and B less A; where either
    has only scalars, over the steps of its last third.

    Columns: what, a, b, difference, low, high (95%, of independent groups or steps), apart (whether
    the interval leaves 0 out). Quantities that either log lacks are left out; groups of one prompt
    that come back, and steps that resemble the one before, make intervals too narrow.
    """
    pairs: dict[str, tuple[Floats, Floats]] = {}
    if isinstance(one, Diagnosis) and isinstance(other, Diagnosis):
        pairs = {name: (_values(one, what), _values(other, what)) for name, what in SHARES.items()}
    else:
        mine, theirs = _curves(one), _curves(other)
        pairs = {
            name: (_late(mine[name]), _late(theirs[name]))
            for name in mine
            if name in theirs and name not in HELPERS and not name.startswith(SILENT)
        }
    rows = []
    for name, (first, last) in pairs.items():
        if min(len(first), len(last)) < 2:
            continue
        gap, half = difference(first, last)
        rows.append(
            {
                "what": name,
                "a": float(first.mean()),
                "b": float(last.mean()),
                "difference": gap,
                "low": gap - half,
                "high": gap + half,
                "apart": "yes" if abs(gap) > half else "no",
            }
        )
    return pl.DataFrame(rows, infer_schema_length=None)


def difference(first: Floats, last: Floats) -> tuple[float, float]:
    """Mean of `last` less mean of `first`, and half the width of Welch's 95% interval; two values
    or more each, independent draws."""
    counts = np.array([len(first), len(last)])
    errors = np.array([first.var(ddof=1), last.var(ddof=1)]) / counts
    total = errors.sum()
    if total == 0:
        return float(last.mean() - first.mean()), 0.0
    freedom = total**2 / (errors**2 / (counts - 1)).sum()
    return float(last.mean() - first.mean()), float(stdtrit(freedom, 0.975) * np.sqrt(total))


def _curves(run: LoggedRun) -> Curves:
    return run.curves if isinstance(run, ScalarRun) else curves_of(run)


def _late(one: Curve) -> Floats:
    return one.last(1 / 3)


def _values(found: Diagnosis, what: pl.Expr) -> Floats:
    return found.late().select(v=what)["v"].cast(pl.Float64).drop_nulls().to_numpy()

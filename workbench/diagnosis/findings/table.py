"""Findings as a table, one row each."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from workbench.diagnosis.diagnosis import Diagnosis
from workbench.diagnosis.findings import Finding, examine


def findings_table(found: Diagnosis) -> pl.DataFrame:
    """One row per finding: name, level, says, do."""
    return table_of(examine(found).findings)


def table_of(findings: Sequence[Finding]) -> pl.DataFrame:
    """These findings as rows: name, level, says, do."""
    return pl.DataFrame(
        [vars(one) for one in findings],
        schema={"name": pl.String, "level": pl.String, "says": pl.String, "do": pl.String},
    )

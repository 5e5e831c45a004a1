"""A selection of runs to take away: a report as one HTML file, and a notebook that opens on it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from workbench import charts
from workbench.analysis.runs import labelled, ledger, settings
from workbench.plurals import number_of
from workbench.report.figures import Figure
from workbench.report.html import Report, page
from workbench.spec.metrics import COMPARED, UNORDERED


def selection_report(frame: pl.DataFrame, keys: Sequence[str], source: str) -> str:
    """HTML of these runs' curves, settings and ledger. Raises UserError without
    vl-convert-python."""
    rows = labelled(frame, keys)
    known = [
        name for name in (*COMPARED, *UNORDERED) if name in rows.columns and rows[name].count()
    ]
    figures = [
        Figure(
            f"curves-{metric}",
            charts.run_curves(rows, metric),
            rows.select("label", "step", metric, "run"),
            "",
            "Test users, one line per run.",
        )
        for metric in known
    ]
    differing = settings(frame, keys, differing=True)
    return page(
        Report(
            source,
            [],
            [
                ("What did each run spend?", ledger(frame, keys), ""),
                ("In what do they differ?", differing, ""),
            ],
            figures,
            heading=f"How did {'this run' if len(keys) == 1 else f'these {len(keys)} runs'} go?",
            scope="Small policies in a simulator; chosen by hand, so no comparison is corrected.",
            folded=[("Every setting", settings(frame, keys, differing=False), "")],
        )
    )


def notebook(keys: Sequence[str], store: Path | None) -> str:
    """A Jupyter notebook that opens these runs; store: their folder, None for the packaged
    example."""
    where = "packaged_example()[0]" if store is None else f"workbench.Store({str(store)!r}).load()"
    lines = [
        "import polars as pl",
        "import workbench",
        "from workbench import charts",
        *(["from workbench.analysis.example import packaged_example"] if store is None else []),
        "from workbench.analysis.runs import labelled, ledger, settings",
        "",
        f"keys = {json.dumps(list(keys), indent=4)}",
        f"frame = {where}",
        "runs = labelled(frame, keys)",
        "runs.select('label', 'step', 'c_at_1', 'hr_at_10')",
    ]
    cells = [
        _cell("markdown", f"# {number_of(len(keys), 'run')} of the ReCast Workbench"),
        _cell("code", "\n".join(lines)),
        _cell("code", "charts.run_curves(runs, 'c_at_1')"),
        _cell("code", "ledger(frame, keys)"),
        _cell("code", "settings(frame, keys, differing=True)"),
    ]
    return json.dumps(
        {
            "cells": cells,
            "metadata": {
                "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}
            },
            "nbformat": 4,
            "nbformat_minor": 5,
        },
        indent=1,
    )


def _cell(kind: str, text: str) -> dict[str, Any]:
    cell: dict[str, Any] = {
        "cell_type": kind,
        "id": f"{kind}-{len(text)}",
        "metadata": {},
        "source": text.splitlines(keepends=True),
    }
    return cell | ({"execution_count": None, "outputs": []} if kind == "code" else {})

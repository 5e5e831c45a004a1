"""Sweeps that were started and have not ended: a note in the store that outlives the tab.

The process that trains a sweep writes `STORE/started/<name>-<hash>.json` before its first run and
removes it at the end; what is left there was stopped, refused, or cut off with its tab.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Literal

import polars as pl

from workbench.spec.sweep import Sweep
from workbench.store.files import replace, sha256
from workbench.store.runs import Store

Ended = Literal["started", "stopped", "refused"]
WORDS = {"started": "cut off", "stopped": "stopped", "refused": "refused"}


def note(sweep: Sweep, store: Store, state: Ended, reason: str = "") -> None:
    """Write down how a sweep stands. Raises DiskError."""
    content = {
        "schema_version": 1,
        "state": state,
        "reason": reason,
        "sweep": sweep.model_dump(mode="json"),
        "runs": [run.key for run in sweep.runs()],
    }
    replace(json.dumps(content).encode(), _place(sweep, store))


def forget(sweep: Sweep, store: Store) -> None:
    """The sweep has ended, or nobody wants to go on with it."""
    with contextlib.suppress(OSError):
        _place(sweep, store).unlink()


def started(store: Store) -> pl.DataFrame:
    """Notes of a store: name, strategies, runs, missing (of the runs as written), state, reason,
    sweep as JSON. A note that cannot be read is left out."""
    rows = []
    for path in sorted((store.root / "started").glob("*.json")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            rows.append(
                {
                    "name": path.stem,
                    "strategies": ", ".join(content["sweep"]["strategies"]),
                    "runs": len(content["runs"]),
                    "missing": sum(not store.has(str(key)) for key in content["runs"]),
                    "state": WORDS[content["state"]],
                    "reason": str(content["reason"]),
                    "sweep": json.dumps(content["sweep"]),
                }
            )
        except (OSError, ValueError, KeyError, TypeError):
            continue
    words = ("name", "strategies", "runs", "missing", "state", "reason", "sweep")
    numbers = ("runs", "missing")
    return pl.DataFrame(
        rows, schema={word: pl.Int64 if word in numbers else pl.String for word in words}
    )


def _place(sweep: Sweep, store: Store) -> Path:
    digest = sha256(sweep.model_dump_json().encode())[:8]
    return store.root / "started" / f"{sweep.name}-{digest}.json"

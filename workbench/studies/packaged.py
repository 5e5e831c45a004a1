"""Results of the long studies as the package ships them: tables with what printed them.

One JSON file per study under `workbench/example/`: date, generation of the simulator's numbers, the
command, and tables by name. `recast claims`, `search`, `phase-map` and `prove` write one with
`--save FILE`.
"""

from __future__ import annotations

import datetime
import json
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from recast.quoting import quoted
from workbench.errors import UserError
from workbench.spec.keys import ENGINE
from workbench.store.files import replace

FOLDER = Path(__file__).parents[1] / "example"
_LARGEST = 5_000_000


@dataclass(frozen=True)
class Packaged:
    """date: ISO day; generation: of the simulator's numbers (`spec.keys.ENGINE`); command: what
    prints the tables again; tables: by name."""

    date: str
    generation: int
    command: str
    tables: Mapping[str, pl.DataFrame]

    @property
    def current(self) -> bool:
        """Whether this package's simulator still gives these numbers."""
        return self.generation == ENGINE

    @property
    def source(self) -> str:
        """Date, generation and command, in one line."""
        old = "" if self.current else f" (this package trains generation {ENGINE})"
        return f"{self.date}, generation {self.generation}{old}, printed by: {self.command}"


def packaged(study: str) -> Packaged | None:
    """The shipped results of a study, named as its command; None where the package has none."""
    path = FOLDER / f"{study}.json"
    return read(path) if path.exists() else None


def read(path: Path) -> Packaged:
    """Raises UserError for a file that is no saved study."""
    try:
        if path.stat().st_size > _LARGEST:
            raise ValueError(f"larger than {_LARGEST:,} bytes")
        raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        tables = {
            str(name): pl.DataFrame(rows, infer_schema_length=None)
            for name, rows in raw["tables"].items()
        }
        return Packaged(str(raw["date"]), int(raw["generation"]), str(raw["command"]), tables)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
        reason = " ".join(str(problem).split())[:80]
        raise UserError(f"not a saved study ({reason}): {quoted(str(path))}") from None


def save(path: Path, tables: Mapping[str, pl.DataFrame], command: str = "") -> None:
    """Write a study's tables, with today's date; command: as it was called, by default.

    Raises DiskError when the disk refuses.
    """
    content = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "generation": ENGINE,
        "command": command or called(sys.argv[1:]),
        "tables": {name: json.loads(table.write_json()) for name, table in tables.items()},
    }
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    replace(text.encode(), path)


def called(arguments: list[str]) -> str:
    """The command as a reader would type it: without where its results went and how they were
    computed, which change no figure."""
    kept: list[str] = []
    skip = False
    for argument in arguments:
        name = argument.partition("=")[0]
        if skip:
            skip = False
        elif name in ("--store", "--save", "--chart", "--workers", "--executor"):
            skip = "=" not in argument
        elif name != "--no-run":
            kept.append(argument)
    return shlex.join(["recast", *kept])

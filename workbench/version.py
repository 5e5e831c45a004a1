"""The version of this software, installed or run from its source tree."""

from __future__ import annotations

import importlib.metadata
import tomllib
from pathlib import Path


def version() -> str:
    """Of the installed package; without one what the source tree's `pyproject.toml` says."""
    try:
        return importlib.metadata.version("recast-workbench")
    except importlib.metadata.PackageNotFoundError:
        declared = Path(__file__).parents[1] / "pyproject.toml"
        if not declared.is_file():
            return "unknown"
        return str(tomllib.loads(declared.read_text(encoding="utf-8"))["project"]["version"])

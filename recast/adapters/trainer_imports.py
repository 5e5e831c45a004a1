"""Trainers that adapters need: one line that says how to get them, never a bare ImportError."""

from __future__ import annotations

import importlib
from types import ModuleType


def needed(adapter: str, name: str, install: str) -> ModuleType:
    """A trainer's module, for an adapter's module of that name. install: what pip is given.

    Raises ImportError, one line: the package is missing, or it does not import beside what is
    installed (the package that it lacks, or the name that it does not find).
    """
    package = name.partition(".")[0]
    try:
        return importlib.import_module(name)
    except ImportError as problem:
        if problem.name == package and isinstance(problem, ModuleNotFoundError):
            said = f"needs the package {package!r}"
        elif isinstance(problem, ModuleNotFoundError) and not _inside(problem.name, package):
            said = f"{package} needs the package {problem.name!r}"
        else:
            said = f"the {package} that is installed does not serve it ({lacking(problem)})"
    raise ImportError(
        f"{adapter}: {said}; install it with: pip install {install}, in an environment of its own "
        "where it does not fit beside what is installed"
    )


def lacking(problem: Exception) -> str:
    """What an import did not find, in words."""
    if isinstance(problem, ModuleNotFoundError) and problem.name:
        return f"there is no {problem.name}"
    return " ".join(str(problem).split()).split(" (")[0][:120]


def _inside(name: str | None, package: str) -> bool:
    return (name or "").partition(".")[0] == package

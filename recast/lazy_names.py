"""Names of a package whose modules load when they are first used (PEP 562)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def lazily(package: str, homes: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """A package's `__getattr__`. homes: module inside the package -> the names it lends.

    The package says the same to type checkers, with imports under `if TYPE_CHECKING`.
    """
    where = {name: f"{package}.{home}" for home, names in homes.items() for name in names}

    def look_up(name: str) -> Any:
        if name not in where:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(where[name]), name)

    return look_up

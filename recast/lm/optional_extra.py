"""The optional extra: one-line hint when it is missing, one-line errors of the real-model path."""

from __future__ import annotations

import importlib
from types import ModuleType

HINT = (
    "install the extra in the project's folder: "
    "pip install -c constraints.txt -c constraints-lm.txt -e '.[lm]'"
)


class LMError(ValueError):
    """Something a user can put right; the message is one line."""


def require(name: str) -> ModuleType:
    """Import a package of the extra. Raises LMError with the install command without it."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as problem:
        missing = problem.name or name
        raise LMError(f"the real-model path needs the package {missing!r}; {HINT}") from None
    except ImportError as problem:
        reason = " ".join(str(problem).split()).split(" (")[0][:120]
        raise LMError(f"{name} does not import here ({reason}); {HINT}") from None

"""Whether this machine can compile; nothing here needs numba."""

from __future__ import annotations

from functools import cache


@cache
def why_not_compiled() -> str | None:
    """Why numba cannot be used on this machine, in one line; None where it can."""
    try:
        import sim.kernel.step  # noqa: F401
    except ImportError as problem:
        return str(problem).splitlines()[0]
    return None

"""The training kernel is compiled in the background, so that a first race does not wait for it."""

from __future__ import annotations

import subprocess
import sys
import threading
from functools import cache

PRECISION = "float64"
"""Of a race, and of every run that asks for no other."""


@cache
def warm_up() -> None:
    """Once per process: look whether this machine has the kernel's code, and else start a process
    that compiles it. Returns at once."""
    threading.Thread(target=compile_missing, daemon=True).start()


def load_compiled() -> None:
    """Load the kernel's code into this process where this machine has it, so that the first step of
    a race does not wait for it."""
    from sim.kernel.available import why_not_compiled

    if why_not_compiled() is None:
        from sim.kernel.machine_code import is_compiled
        from sim.shortcuts.compile_ahead import kinds, warm

        if all(is_compiled(kind) for kind in kinds(PRECISION)):
            warm(PRECISION)


def compile_missing() -> bool:
    """Compile what this machine does not have yet; whether there was anything to do."""
    from sim.kernel.available import why_not_compiled

    if why_not_compiled() is not None:
        return False
    from sim.kernel.machine_code import is_compiled
    from sim.shortcuts.compile_ahead import kinds

    if all(is_compiled(kind) for kind in kinds(PRECISION)):
        return False
    command = [sys.executable, "-m", "sim.shortcuts.compile_ahead", PRECISION]
    subprocess.run(command, check=False, capture_output=True)
    return True

"""verl's own program with the trainer `recast_sync`, in each release that the trainer works with.

    python -m recast.adapters.verl_main +trainer.v1.recast_sync.strategy=recast [verl's settings]

It names the trainer in the settings, and this library in the variable by which every process of
verl imports it. Processes on other machines of a Ray cluster need that variable as well.
"""

from __future__ import annotations

import importlib
import os
import sys

ADAPTER, VARIABLE = "recast.adapters.verl_trainer", "VERL_USE_EXTERNAL_MODULES"


def main() -> None:
    """Start verl with the settings of the command line. Exits with one line where the verl that
    is installed does not serve the trainer."""
    others = [name for name in os.environ.get(VARIABLE, "").split(",") if name]
    os.environ[VARIABLE] = ",".join(dict.fromkeys([*others, ADAPTER]))
    try:
        trainer = importlib.import_module(ADAPTER)
    except ImportError as problem:
        sys.stderr.write(f"{problem}\n")
        sys.exit(2)
    # Beside the other settings: verl's reader takes them in one piece.
    settings = [i for i, word in enumerate(sys.argv) if "=" in word and not word.startswith("-")]
    sys.argv.insert(min(settings, default=1), f"++trainer.v1.trainer_mode={trainer.MODE}")
    importlib.import_module(trainer.PROGRAM).main()


if __name__ == "__main__":
    main()

"""Training curves to where people look at them, through accelerate's trackers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recast.lm.optional_extra import LMError, require


def open_tracker(name: str, run: str, folder: Path) -> Any:
    """A tracker of accelerate (tensorboard, wandb, trackio), started: log(values, step=...) and
    finish().

    run: the name shown there; folder: where TensorBoard's files go. Raises LMError, one line, when
    the tracker's package is missing.
    """
    require("accelerate").PartialState()
    kind = require("accelerate.tracking").LOGGER_TYPE_TO_CLASS[name]
    where = {"logging_dir": str(folder)} if kind.requires_logging_directory else {}
    try:
        tracker = kind(run, **where)
        tracker.start()
    except ImportError as problem:
        raise LMError(
            f"--report-to {name}: {problem}; install it with: pip install {name}"
        ) from None
    return tracker

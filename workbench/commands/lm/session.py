"""What the `lm` commands share: one-line errors, quiet libraries, options."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from recast.lm.extra import LMError
from workbench.spec.experiment import SpecError

CODEBOOK = click.option(
    "--codebook",
    type=click.IntRange(1),
    default=None,
    help="Codes per level. Default: 256 (RecIF: 8192).",
)
DATA = click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))


@contextmanager
def one_line(*packages: str) -> Iterator[None]:
    """Import the optional packages or say how to get them; turn what a user can put right into one
    line. Raises SpecError."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    try:
        from recast.lm.extra import require

        for package in packages:
            require(package)
        if "transformers" in packages:
            logging = importlib.import_module("transformers.utils.logging")
            logging.disable_progress_bar()
        yield
    except MemoryError:
        raise SpecError("too little memory; lower --batch, --group or --micro-rows") from None
    except RuntimeError as problem:
        # torch raises a bare RuntimeError when an allocation fails on the CPU.
        if "allocate memory" not in str(problem) and "out of memory" not in str(problem):
            raise
        raise SpecError("too little memory; lower --batch, --group or --micro-rows") from None
    except LMError as problem:
        raise SpecError(str(problem)) from None

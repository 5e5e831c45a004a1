"""Warm starts on disk, so that a resumed sweep does not train them again.

`STORE/starts/<key>/<sha256>.npz`, written like a run and read with pickling disallowed; a damaged
file is named, set aside and made again.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from sim.evaluate import Snapshot
from workbench.errors import StoreError
from workbench.execution.tasks import Start
from workbench.store.files import publish, set_aside
from workbench.store.soundness import start_content

_PARAMETER = "param/"
_log = logging.getLogger("recast")


@dataclass(frozen=True)
class Starts:
    """The warm starts of one store."""

    root: Path

    def has(self, key: str) -> bool:
        """Whether this warm start is kept."""
        return (self.root / "starts" / key).is_dir()

    def save(self, key: str, start: Start) -> None:
        """Keep one warm start. Raises DiskError."""
        buffer = io.BytesIO()
        params = {f"{_PARAMETER}{name}": value for name, value in start.params.items()}
        np.savez(
            buffer,
            allow_pickle=False,
            all_zero=np.float64(start.all_zero),
            steps=np.int64(start.steps),
            opening=np.str_(_written(start.opening)),
            **params,
        )
        publish(buffer.getvalue(), self.root / "starts" / key, ".npz", self.root)

    def load(self, key: str) -> Start | None:
        """One warm start; None when it is missing, or damaged, which is named on the log and set
        aside. Raises DiskError when it cannot be moved, StoreError when it may not be read."""
        folder = self.root / "starts" / key
        if not folder.is_dir():
            return None
        try:
            content = start_content(folder)
        except PermissionError as problem:
            raise StoreError(
                f"{folder}: this user may not read it ({problem.strerror}); ask its owner for "
                "`chmod -R a+rX`"
            ) from None
        except (OSError, ValueError) as problem:
            fault = str(problem)
        else:
            try:
                return _start_of(content)
            except (OSError, KeyError, ValueError, TypeError, RecursionError):
                fault = "not a warm start"
        _log.warning("%s: %s; set aside, it is made again", folder, fault)
        with contextlib.suppress(FileNotFoundError):
            set_aside(folder, self.root / "quarantine")
        return None


def _start_of(content: bytes) -> Start:
    """A warm start from its file. Raises KeyError or ValueError for anything else."""
    with np.load(io.BytesIO(content), allow_pickle=False) as held:
        params = {
            name.removeprefix(_PARAMETER): held[name]
            for name in held.files
            if name.startswith(_PARAMETER)
        }
        return Start(
            params, float(held["all_zero"]), int(held["steps"]), _read(str(held["opening"]))
        )


def _written(opening: Snapshot) -> str:
    """An evaluation of one run as text; JSON gives floats back bit for bit."""
    return json.dumps(
        {
            "found": opening.found,
            "temperature": opening.temperature.tolist(),
            "entropy": opening.entropy.tolist(),
        }
    )


def _read(text: str) -> Snapshot:
    held = json.loads(text)
    temperature, entropy = (
        torch.tensor(held[name], dtype=torch.float64) for name in ("temperature", "entropy")
    )
    return Snapshot(held["found"], temperature, entropy)

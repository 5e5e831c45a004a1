"""What determines a run, and the names that follow from it.

A run's key is a hash of its full configuration: world, policy, start, training, strategy with its
composition, learning rate and seed. It does not depend on the grid, the executor, the batch or the
place of a data folder, so that adding a value to a grid changes no existing run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from sim.worlds.synthetic import SyntheticWorld
from workbench.errors import UserError
from workbench.spec.experiment import Experiment
from workbench.spec.later_fields import dumped
from workbench.spec.row_names import strategy_of

ENGINE = 6
"""Generation of the simulator's numbers. Raise it whenever the same configuration gives other
numbers than before (other draws, another formula), so that old and new runs are never mixed. What
two kinds of processor differ by, a part in a million, is not another number."""

_DERIVED = ("cell", "world", "group")


def run_config(spec: Experiment, strategy: str, lr: float, seed: int) -> dict[str, Any]:
    """Everything that determines one run, JSON-serialisable, with three derived columns: `cell`
    (the name of everything but strategy, rate and seed), `world` and `group`.

    A data folder stands in it as a fingerprint of its content. Raises UserError when it cannot be
    read.
    """
    chosen = strategy_of(strategy)
    left_out = {"lr", "tune_metric"} | (set() if _several_targets(spec) else {"targets"})
    cell = {
        "engine": ENGINE,
        **_prepared(spec),
        "train_spec": dumped(spec.train, "train_spec", left_out),
    }
    return {
        **cell,
        "strategy": strategy,
        "composition": chosen.composition,
        "lr": lr,
        "seed": seed,
        "cell": _digest(cell)[:8],
        "world": spec.world.kind,
        "group": spec.train.group,
    }


def run_key(config: Mapping[str, Any]) -> str:
    """Name of a run: a hash of everything that determines it, and of nothing else."""
    return _digest({k: v for k, v in config.items() if k not in _DERIVED})[:20]


def start_key(spec: Experiment, seed: int) -> str:
    """Name of a warm start: a hash of everything that determines it."""
    shared: dict[str, Any] = {
        "group": spec.train.group,
        "temperature": spec.train.temperature,
        "curve_prompts": spec.train.curve_prompts,
    }
    if spec.train.decoding != "trie":
        shared["decoding"] = spec.train.decoding
    return _digest({"engine": ENGINE, **_prepared(spec), **shared, "seed": seed})[:20]


def _prepared(spec: Experiment) -> dict[str, Any]:
    world = dumped(spec.world, "world_spec")
    if spec.world.data is not None:
        world["data"] = folder_fingerprint(spec.world.data)
    return {
        "world_spec": world,
        "policy_spec": spec.policy.model_dump(mode="json"),
        "start_spec": spec.start.model_dump(mode="json"),
    }


def _several_targets(spec: Experiment) -> bool:
    """Whether prompts of this world may have several targets; where none has, `train.targets`
    changes nothing and stands in no run's name."""
    world = spec.world
    if world.kind == "replay":
        return False
    return any(task.draws > 1 for task in SyntheticWorld(task=world.task).tasks().values())


def folder_fingerprint(folder: str) -> str:
    """SHA-256 over the names and bytes of a data folder's index, train, valid and test files.

    Raises UserError when there is no such folder or a file cannot be read.
    """
    try:
        root = Path(folder)
        if not root.is_dir():
            raise UserError(f"world.data: {folder!r}: no such folder")
        files = [
            path
            for pattern in ("index/*.json", "train/*.csv", "valid/*.csv", "test/*.csv")
            for path in sorted(root.glob(pattern))
        ]
        for path in files:
            if not path.is_file():
                raise UserError(f"world.data: {str(path)!r}: no regular file")
        stamps = tuple(
            (str(path.relative_to(root)), path.stat().st_size, path.stat().st_mtime_ns)
            for path in files
        )
        return _content(str(root.resolve()), stamps)
    except (OSError, ValueError) as problem:
        raise UserError(f"world.data: {folder!r}: cannot be read ({problem})") from None


@lru_cache(maxsize=16)
def _content(root: str, stamps: tuple[tuple[str, int, int], ...]) -> str:
    digest = hashlib.sha256()
    for name, size, _ in stamps:
        digest.update(f"{name}\0{size}\0".encode())
        digest.update((Path(root) / name).read_bytes())
    return f"sha256:{digest.hexdigest()[:32]}"


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

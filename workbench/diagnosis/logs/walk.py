"""The files of a log: those named, and everything below a named folder that may hold rollouts."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from workbench.diagnosis.logs.packed import plain_suffix
from workbench.diagnosis.logs.problems import plain_line
from workbench.errors import LogError

SUFFIXES = (".parquet", ".jsonl", ".csv", ".tsv", ".json", ".ndjson", ".pt", ".db", ".zst")
MOST_FILES = 200_000
EVALUATIONS = ("eval", "evals", "evaluation", "validation", "val", "valid", "test")
NO_ROLLOUTS = re.compile(
    r"^(?:.*config|generation_config|tokenizer|tokenizer_config|special_tokens_map|vocab|added_tokens|"
    r"trainer_state|training_args|adapter_.*|.*\.index|wandb-metadata|wandb-summary|metadata|"
    r"dataset_info|state|all_results|train_results|eval_results|expected)\.json$|"
    r"^(?:metrics|checkpoints|timing_spans|trace_events|logging)\.jsonl$|"
    r"^(?:optimizer|scheduler|rng_state.*|pytorch_model.*|training_args|.*dataloader)\.pt$"
)
"""Files beside rollouts that trainers write and that hold none."""

COPIES = {"prime-rl": ("all", "effective"), "slime": ("rollout_data", "train_data")}
"""Folders whose second holds rollouts of the first again; slime's are joined with them."""


def files_of(paths: Sequence[Path]) -> list[Path]:
    """Named files, and below a named folder (below its `completions`, where it has one) every file
    with a known suffix, numbers in their natural order. Hidden folders, evaluations beside
    training, and copies (`COPIES`) are passed over.

    Raises LogError for a path that does not exist and a folder without such files.
    """
    found: list[Path] = []
    for path in paths:
        try:
            is_folder, is_file = path.is_dir(), path.exists()
        except (OSError, ValueError):
            is_folder = is_file = False
        if is_folder:
            inside = _below(path / "completions") or _below(path)
            if not inside:
                raise LogError(
                    f"{plain_line(path)}: no log in this folder or below it; expected files that "
                    f"end in {', '.join(SUFFIXES)}, or such a name and .gz"
                )
            found += inside
        elif is_file:
            found.append(path)
        else:
            raise LogError(f"{plain_line(path)}: no such file or folder")
    return found


def _below(folder: Path) -> list[Path]:
    found: list[Path] = []
    if not folder.is_dir():
        return found
    for here, folders, names in os.walk(folder):
        folders[:] = sorted((f for f in folders if not f.startswith(".")), key=natural)
        for name in names:
            path = Path(here) / name
            if plain_suffix(name) in SUFFIXES and not NO_ROLLOUTS.match(name.lower()):
                found.append(path)
        if len(found) > MOST_FILES:
            break
    found = [path for path in found if path.is_file()]
    found = [path for path in found if "token_exports" not in path.parts] or found
    training = [path for path in found if not _evaluation(path, folder)]
    found = training or found
    parts = [set(path.relative_to(folder).parts) for path in found]
    for whole, copy in COPIES.values():
        if any(whole in part for part in parts) and any(copy in part for part in parts):
            found = [p for p in found if copy not in p.relative_to(folder).parts]
    return sorted(found, key=lambda path: [natural(one) for one in path.relative_to(folder).parts])


def _evaluation(path: Path, folder: Path) -> bool:
    inside = path.relative_to(folder)
    words = [part.lower() for part in inside.parts[:-1]]
    words += [re.split(r"[_.\-]", part)[0] for part in words if not part.startswith("test")]
    name = re.split(r"[_.\-]", inside.name.lower())[0]
    return any(word in EVALUATIONS for word in words) or name in ("eval", "validation", "val")


def natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts numbers inside names by their value."""
    return [
        (int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)
    ]


__all__ = ["SUFFIXES", "files_of"]

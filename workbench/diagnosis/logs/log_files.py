"""The files of a log: those named, and everything below a named folder that may hold rollouts."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from recast.quoting import plain_line
from workbench.diagnosis.logs.packed import SUFFIXES as PACKED
from workbench.diagnosis.logs.packed import plain_suffix, unpacked_name
from workbench.diagnosis.logs.scalar_stores import metric_files
from workbench.errors import LogError
from workbench.store.files import read_regular, walked

SUFFIXES = (".parquet", ".jsonl", ".csv", ".tsv", ".json", ".ndjson", ".pt", ".db",
            ".sqlite", ".sqlite3", ".arrow")  # fmt: skip
OTHERS = (".zip", ".tar", ".tgz", ".7z", ".wandb", ".pkl", ".pickle", ".npy",
          ".npz", ".h5", ".hdf5", ".xlsx", ".xls", ".ods")  # fmt: skip
"""Files from which a log can be made: named where a folder holds nothing else."""

MOST_FILES = 200_000
CACHES = (".git", ".ipynb_checkpoints", ".cache", ".venv", ".tox", ".mypy_cache", ".Trash")
EVALUATIONS = ("eval", "evals", "evaluation", "validation", "val", "valid", "test")
NO_ROLLOUTS = re.compile(
    r"^(?:.*config|generation_config|tokenizer|tokenizer_config|special_tokens_map|vocab|added_tokens|"
    r"trainer_state|training_args|adapter_.*|.*\.index|wandb-metadata|wandb-summary|metadata|"
    r"dataset_info|state|all_results|train_results|eval_results|expected|args|run_info|"
    r"aggregated_results)\.jsonl?$|"
    r"^(?:metrics|checkpoints|timing_spans|trace_events|logging)\.jsonl$|"
    r"^cache-.*\.arrow$|"
    r"^(?:optimizer|scheduler|rng_state.*|pytorch_model.*|training_args|.*dataloader)\.pt$"
)
"""Files beside rollouts that trainers write and that hold none."""

SCALARS = (
    re.compile(r"^(?:trainer_state\.json|(?:metrics|logging|trainer_log)\.jsonl|.*tfevents.*)$"),
    re.compile(r"^(?!(?:requirements|readme|licen[cs]e)).*\.(?:log|out|txt)$"),
)
"""Files that hold a tracker's scalars at most, the better first: taken where a folder holds no
other log. What a trainer printed comes last."""

ROTATED = re.compile(r"(\.(?:jsonl|ndjson|csv|tsv|log|out|txt))[.-]\d{1,8}$")

SMALL = 100_000
"""Bytes of a file of settings at most."""

ASKED = frozenset(("prompt", "prompt_id", "input", "question", "query", "task", "group"))

COPIES = {"prime-rl": ("all", "effective"), "slime": ("rollout_data", "train_data")}
"""Folders whose second holds rollouts of the first again; slime's are joined with them."""


def files_of(paths: Sequence[Path]) -> list[Path]:
    """Named files, and below a named folder (below its `completions`, where it has one) every file
    with a known suffix, numbers in their natural order. Hidden folders beside others, evaluations
    beside training, and copies (`COPIES`) are passed over. Where there is no such file, a tracker's
    files (`SCALARS`).

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
            if all(map(_settings, inside)):
                inside = (
                    _scalars(path)
                    or inside
                    or metric_files(path)
                    or _walked(path, _is_other)
                    or _walked(path, _is_nameless)
                )
            if not inside:
                raise LogError(
                    f"{plain_line(path)}: no log in this folder or below it; expected files that "
                    f"end in {', '.join(SUFFIXES)}, or such a name and {', '.join(PACKED)}"
                )
            found += inside
        elif is_file:
            found.append(path)
        else:
            raise LogError(f"{plain_line(path)}: no such file or folder")
    return found


def _below(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    found = _walked(folder, _may_hold_rollouts) or _walked(folder, _may_hold_rollouts, hidden=True)
    found = [path for path in found if "token_exports" not in path.parts] or found
    training = [path for path in found if not _evaluation(path, folder)]
    found = training or found
    parts = [set(path.relative_to(folder).parts) for path in found]
    for whole, copy in COPIES.values():
        if any(whole in part for part in parts) and any(copy in part for part in parts):
            found = [p for p in found if copy not in p.relative_to(folder).parts]
    return sorted(found, key=lambda path: [natural(one) for one in path.relative_to(folder).parts])


def _settings(path: Path) -> bool:
    """Whether a file is a small JSON object that can be no rollouts: settings of some program."""
    if path.suffix.lower() != ".json":
        return False
    try:
        said = json.loads(read_regular(path, SMALL))
    except (OSError, ValueError, RecursionError):
        return False
    lists = isinstance(said, dict) and any(isinstance(one, list) for one in said.values())
    return isinstance(said, dict) and not lists and not ASKED & set(said)


def _scalars(folder: Path) -> list[Path]:
    """Files of a tracker's scalars below a folder: the first of `SCALARS` that are there."""
    for names in SCALARS:
        if found := _walked(folder, names.search):
            return sorted(found, key=lambda path: [natural(part) for part in path.parts])
    return []


def _may_hold_rollouts(name: str) -> bool:
    return plain_suffix(name) in SUFFIXES and not NO_ROLLOUTS.match(name)


def _is_other(name: str) -> bool:
    return plain_suffix(name) in OTHERS


def _is_nameless(name: str) -> bool:
    return "." not in name


def _walked(folder: Path, wanted: Callable[[str], object], hidden: bool = False) -> list[Path]:
    """Files below a folder whose name, in lower case, is wanted. hidden: also in hidden folders,
    but not in those of version control and caches."""
    found: list[Path] = []
    for here, folders, names in walked(folder):
        skipped = CACHES if hidden else (".",)
        folders[:] = sorted((f for f in folders if not f.startswith(skipped)), key=natural)
        found += [here / name for name in names if wanted(_unrotated(name.lower()))]
        if len(found) > MOST_FILES:
            break
    return [path for path in found if _is_file(path)]


def _is_file(path: Path) -> bool:
    """Whether it is a file now; one in a folder that may be listed and not entered is none."""
    try:
        return path.is_file()
    except OSError:
        return False


def _unrotated(name: str) -> str:
    """The name that a text file had before it was packed, and before its writer, or logrotate, put
    it aside under a number or a date."""
    return ROTATED.sub(r"\1", unpacked_name(name))


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

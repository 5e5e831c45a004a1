"""Checkpoints: a folder in Hugging Face's layout plus `recast.json`, published by one rename.

`recast.json` is written last and lists every file with its SHA-256, so a half-written or damaged
folder is recognised. Weights and optimizer state are safetensors; nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from recast.lm.extra import LMError, require
from recast.lm.prefix import CausalLM
from recast.lm.vocabulary import Vocabulary, vocabulary_from

MANIFEST = "recast.json"
STATE = "state.safetensors"
FORMAT = 1


@dataclass(frozen=True)
class Checkpoint:
    """model in eval mode; tokenizer or None for the small model; meta: what the writer noted;
    state: tensors beside the weights (optimizer moments)."""

    model: CausalLM
    tokenizer: Any
    vocabulary: Vocabulary
    fingerprint: str
    meta: Mapping[str, Any]
    state: Mapping[str, Tensor]


def save(
    folder: Path,
    model: CausalLM,
    vocabulary: Vocabulary,
    fingerprint: str,
    meta: Mapping[str, Any],
    *,
    tokenizer: Any = None,
    state: Mapping[str, Tensor] | None = None,
) -> Path:
    """Write a checkpoint beside its final name and rename it there; an older one is replaced.

    A kill at any moment leaves the older or the newer one complete (between the two renames the
    older one waits as `.NAME.old`, where `load` finds it). Raises LMError when the disk refuses.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.tmp-"))
    old = folder.parent / f".{folder.name}.old"
    try:
        model.save_pretrained(draft, safe_serialization=True)
        if tokenizer is not None:
            tokenizer.save_pretrained(draft)
        if state:
            require("safetensors.torch").save_file(
                {name: value.detach().contiguous() for name, value in state.items()}, draft / STATE
            )
        files = sorted(path for path in draft.rglob("*") if path.is_file())
        manifest = {
            "format": FORMAT,
            "fingerprint": fingerprint,
            "vocabulary": vocabulary.as_config(),
            "meta": dict(meta),
            "files": {path.relative_to(draft).as_posix(): _digest(path) for path in files},
        }
        (draft / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
        for path in (*files, draft / MANIFEST, draft):
            _fsync(path)
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
        draft.rename(folder)
        _fsync(folder.parent)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as problem:
        raise LMError(f"{folder}: cannot write a checkpoint ({problem.strerror})") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def exists(folder: Path) -> bool:
    """Whether a checkpoint was published here."""
    return _published(folder) is not None


def load(folder: Path, fingerprint: str | None = None) -> Checkpoint:
    """Read a checkpoint. fingerprint: the catalogue's (`LMData.fingerprint`), None = any.

    Raises LMError, one line: missing, half-written, damaged, or of another catalogue.
    """
    manifest = read_manifest(folder)
    if fingerprint is not None and manifest["fingerprint"] != fingerprint:
        raise LMError(
            f"{folder}: trained on another catalogue (index {manifest['fingerprint']}, the data's "
            f"is {fingerprint}); use the data folder that the model was trained on"
        )
    place = _published(folder)
    if place is None:
        raise LMError(f"{folder}: no checkpoint here")
    transformers = require("transformers")
    try:
        model = transformers.AutoModelForCausalLM.from_pretrained(place, use_safetensors=True)
        tokenizer = (
            transformers.AutoTokenizer.from_pretrained(place)
            if (place / "tokenizer_config.json").exists()
            else None
        )
        state = (
            require("safetensors.torch").load_file(place / STATE)
            if (place / STATE).exists()
            else {}
        )
    except (OSError, ValueError) as problem:
        raise LMError(f"{folder}: unreadable checkpoint: {' '.join(str(problem).split())}") from None
    return Checkpoint(
        model.eval(),
        tokenizer,
        vocabulary_from(manifest["vocabulary"]),
        manifest["fingerprint"],
        manifest["meta"],
        state,
    )


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a complete, undamaged checkpoint. Raises LMError otherwise."""
    place = _published(folder)
    if place is None:
        reason = "half-written, it has no" if folder.is_dir() else "no checkpoint here, expected a"
        raise LMError(f"{folder}: {reason} {MANIFEST}; train one with: recast lm sft")
    try:
        manifest: dict[str, Any] = json.loads((place / MANIFEST).read_text(encoding="utf-8"))
        listed = manifest["files"]
        manifest["fingerprint"], manifest["vocabulary"], manifest["meta"]
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise LMError(f"{folder}/{MANIFEST}: unreadable ({problem!r}); train again") from None
    for name, digest in listed.items():
        path = place / name
        if not path.is_file() or _digest(path) != digest:
            raise LMError(f"{path}: missing or damaged, its checksum does not match; train again")
    return manifest


def _published(folder: Path) -> Path | None:
    for place in (folder, folder.parent / f".{folder.name}.old"):
        if (place / MANIFEST).is_file():
            return place
    return None


def _digest(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

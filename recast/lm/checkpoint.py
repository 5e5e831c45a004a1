"""Checkpoints: a folder plus `recast.json`, published by one rename.

`recast.json` is written last and lists every file with its SHA-256, so a half-written or damaged
folder is recognised. A model is saved in Hugging Face's layout; what a resumed run needs is saved
as named tensors. Both are safetensors; nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from recast.lm.device import CPU, Placement
from recast.lm.folder_checks import loading
from recast.lm.models import placed
from recast.lm.optional_extra import LMError, require
from recast.lm.prefix import CausalLM
from recast.lm.vocabulary import Vocabulary, vocabulary_from

MANIFEST = "recast.json"
STATE = "state.safetensors"
FORMAT = 1


@dataclass(frozen=True)
class Checkpoint:
    """model in eval mode; tokenizer or None for the small model; meta: what the writer noted."""

    model: CausalLM
    tokenizer: Any
    vocabulary: Vocabulary
    fingerprint: str
    meta: Mapping[str, Any]


def save_model(
    folder: Path,
    model: CausalLM,
    vocabulary: Vocabulary,
    fingerprint: str,
    meta: Mapping[str, Any],
    tokenizer: Any = None,
) -> None:
    """Publish a model; LoRA adapters are merged into a copy of the weights.

    Raises LMError when the disk refuses.
    """
    if hasattr(model, "merge_and_unload"):
        model = model.merge_and_unload()

    def write(draft: Path) -> None:
        model.save_pretrained(draft)
        if tokenizer is not None:
            tokenizer.save_pretrained(draft)

    head = {"fingerprint": fingerprint, "vocabulary": vocabulary.as_config(), "meta": dict(meta)}
    _publish(folder, write, head)


def _codes(manifest: Any) -> int:
    return len(vocabulary_from(manifest.get("vocabulary")).tokens[0])


def load_model(
    folder: Path,
    fingerprint: str | None = None,
    placement: Placement = CPU,
    *,
    trust_remote_code: bool = False,
) -> Checkpoint:
    """Read a model. fingerprint: the catalogue's (`LMData.fingerprint`), None = any;
    trust_remote_code: run code that the folder brings, which it may have from its base.

    Raises LMError, one line: missing, half-written, damaged, or of another catalogue.
    """
    place, manifest = read_manifest(folder)
    known = manifest.get("fingerprint")
    if not isinstance(known, str):
        raise LMError(f"{folder}/{MANIFEST}: names no catalogue; train again")
    if fingerprint is not None and known != fingerprint:
        raise LMError(
            f"{folder}: trained on another catalogue (index {known[:40]}, the data's "
            f"is {fingerprint}); use the data folder that the model was trained on, with the same "
            f"--codebook ({_codes(manifest)})"
        )
    transformers, trust = require("transformers"), {"trust_remote_code": trust_remote_code}
    vocabulary = vocabulary_from(manifest.get("vocabulary"))
    with loading(str(folder)):
        model = transformers.AutoModelForCausalLM.from_pretrained(
            place, use_safetensors=True, dtype=placement.dtype, **trust
        )
        spelled = (place / "tokenizer_config.json").exists()
        tokenizer = transformers.AutoTokenizer.from_pretrained(place, **trust) if spelled else None
    if vocabulary.largest >= model.get_input_embeddings().weight.shape[0]:
        raise LMError(f"{folder}: its vocabulary names tokens that the model lacks; train again")
    return Checkpoint(
        placed(model, placement).eval(),
        tokenizer,
        vocabulary,
        known,
        manifest["meta"],
    )


def is_ours(folder: Path) -> bool:
    """Whether a folder holds a checkpoint that this project published, whole or damaged."""
    return _published(folder) is not None


def save_state(folder: Path, state: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
    """Publish named tensors of any shapes and what belongs to them.

    Raises LMError when the disk refuses.
    """
    tensors = require("safetensors.torch")

    def write(draft: Path) -> None:
        plain = {name: value.detach().clone().contiguous() for name, value in state.items()}
        tensors.save_file(plain, draft / STATE)

    _publish(folder, write, {"meta": dict(meta)})


def load_state(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """What `save_state` published, shapes kept, or None. Raises LMError for a damaged folder."""
    if _published(folder) is None:
        return None
    place, manifest = read_manifest(folder)
    state: dict[str, Tensor] = require("safetensors.torch").load_file(place / STATE)
    return state, manifest["meta"]


def unfinished(
    place: Path, wanted: Any, out: Path
) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """`load_state(place)`, shapes kept, of an unfinished run of the settings `wanted`, or None.

    out: the folder that a person named. Raises LMError for the run of other settings.
    """
    saved = load_state(place)
    if saved is not None and saved[1]["wanted"] != wanted:
        raise LMError(
            f"{out}: an unfinished run with other settings lives here; finish it with its own "
            "settings, delete the folder, or choose another --out"
        )
    return saved


def read_manifest(folder: Path) -> tuple[Path, dict[str, Any]]:
    """Where a complete, undamaged checkpoint lies, and its manifest. Raises LMError otherwise."""
    place = _published(folder)
    if place is None:
        reason = "half-written, it has no" if folder.is_dir() else "no checkpoint here, expected a"
        raise LMError(f"{folder}: {reason} {MANIFEST}; train one with: recast lm sft")
    try:
        manifest: dict[str, Any] = json.loads((place / MANIFEST).read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT:
            said = repr(manifest["format"])[:40]
            raise LMError(f"{folder}: format {said}; this version reads {FORMAT}")
        listed = manifest["files"].items()
        if not isinstance(manifest["meta"], dict):
            raise ValueError("no notes in it")
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as problem:
        if isinstance(problem, LMError):
            raise
        reason = repr(problem)[:100]
        raise LMError(f"{folder}/{MANIFEST}: unreadable ({reason}); train again") from None
    for name, digest in listed:
        path = place / name
        if not path.is_file() or _digest(path) != digest:
            raise LMError(f"{path}: missing or damaged, its checksum does not match; train again")
    return place, manifest


def _publish(folder: Path, write: Callable[[Path], None], head: Mapping[str, Any]) -> None:
    """Write a draft beside the final name and rename it there; an older one is replaced.

    A kill at any moment leaves the older or the newer one complete: between the two renames the
    older one waits as `.NAME.old`, where readers find it.
    """
    old = folder.parent / f".{folder.name}.old"
    draft = folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        for stale in folder.parent.glob(f".{folder.name}.tmp-*"):
            shutil.rmtree(stale, ignore_errors=True)
        # Made by hand: what tempfile makes is closed to others, whatever the umask says.
        draft = folder.parent / f".{folder.name}.tmp-{secrets.token_hex(8)}"
        draft.mkdir()
        write(draft)
        files = sorted(path for path in draft.rglob("*") if path.is_file())
        digests = {path.relative_to(draft).as_posix(): _digest(path) for path in files}
        text = json.dumps({"format": FORMAT, **head, "files": digests})
        (draft / MANIFEST).write_text(text, encoding="utf-8")
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
        if draft != folder:
            shutil.rmtree(draft, ignore_errors=True)


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

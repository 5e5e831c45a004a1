"""Anyone's causal LM: a folder or a hub name, with or without `recast.json`.

Weights are read as safetensors only; remote code runs only when the user asks for it. What would
change which row of the embedding a token means is refused: a folder without its tokenizer, a
tokenizer of another size, codes that have no token. Tokens are added only when asked, and then the
likelihood of old tokens is compared before and after.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recast.lm import checkpoint
from recast.lm.checkpoint import Checkpoint
from recast.lm.dataset import LMData
from recast.lm.device import CPU, Placement
from recast.lm.engine_check import check_engine
from recast.lm.folder_checks import (
    TOKENIZER_FILES,
    check_files,
    check_plain,
    check_whole,
    has_tokenizer,
    loading,
    no_weights,
)
from recast.lm.lora_folder import adapted, check_base, merged
from recast.lm.memory import TrainedPart, check_memory
from recast.lm.models import context, placed, zero_dropout
from recast.lm.optional_extra import LMError, require
from recast.lm.prefix import CausalLM
from recast.lm.spelling import Spelling, find_spelling, plain
from recast.lm.vocabulary import PLAIN, Vocabulary, Wording, tokenizer_vocabulary

SAMPLES = ("The user bought, oldest first: ", "\nNext item: ", "### User Input: \n3 x 4")
"""Texts by which two readings of one tokenizer are told apart."""
SPARE_ROWS = 1024
"""Rows of an embedding without a token that are no surprise: tables are padded to round sizes."""
HUB_FILES = ("*.safetensors", "*.gguf", "*.json", "*.jinja", "*.py", *TOKENIZER_FILES)
"""What is fetched of a hub's model."""


@dataclass(frozen=True)
class ModelReading:
    """How to read a model that this project did not write. add_tokens: give it the codes that it
    lacks; gguf: a GGUF file inside the folder, which transformers converts; trained, copies: what
    will be trained, and further copies of the weights that will be held, for the memory check."""

    wording: Wording = PLAIN
    trust_remote_code: bool = False
    add_tokens: bool = False
    gguf: str | None = None
    trained: TrainedPart = "adam"
    copies: int = 0


AS_IT_IS = ModelReading()


def open_model(
    name: str, data: LMData, placement: Placement = CPU, how: ModelReading = AS_IT_IS
) -> Checkpoint:
    """The model of a folder or hub name, ready for this catalogue; in eval mode.

    A folder with `recast.json` brings its vocabulary and must have been trained on this catalogue;
    any other one brings its tokenizer, in which the codes are found. Raises LMError, one line.
    """
    folder = _place(name)
    if checkpoint.is_ours(folder):
        check_memory(folder, placement, how.trained, how.copies)
        return checkpoint.load_model(
            folder, data.fingerprint, placement, trust_remote_code=how.trust_remote_code
        )
    model, tokenizer = _load(name, folder, placement, how)
    rows = model.get_input_embeddings().weight.shape[0]
    _check_tokenizer(name, tokenizer, rows)
    try:
        spelling = find_spelling(tokenizer.get_vocab(), data.sids, data.depth, data.names)
    except LMError:
        if not how.add_tokens:
            raise
        spelling = plain(data.depth)
        add_codes(model, tokenizer, spelling, data.codebook)
    vocabulary = tokenizer_vocabulary(tokenizer, spelling, data.codebook, how.wording)
    _check_context(name, model, vocabulary, data)
    check_engine(model)
    model = placed(model, placement).eval()
    note = {"base": name, "spelling": spelling.described()}
    return Checkpoint(model, tokenizer, vocabulary, data.fingerprint, note)


def identity(name: str) -> dict[str, str]:
    """What tells a start from another: the SHA-256 of its files.

    Raises LMError for a folder without weights, and for a hub name that leads nowhere.
    """
    folder = _place(name)
    if checkpoint.is_ours(folder):
        files: dict[str, str] = checkpoint.read_manifest(folder)[1]["files"]
        return files
    found = sorted([*folder.glob("*.safetensors"), *folder.glob("*.gguf")])
    if not found:
        raise LMError(no_weights(name, folder))
    for path in found:
        if not path.is_file():
            raise LMError(f"{path}: no regular file")
    own = {path.name: _digest(path) for path in found}
    base = adapted(folder)
    return own if base is None else {f"base {n}": d for n, d in identity(base).items()} | own


def example(start: Checkpoint, data: LMData) -> str:
    """What a prompt looks like to the model, for people to check; its end where it is long."""
    prompts = start.vocabulary.prompts([data.sft[0].history])
    ids = prompts.ids[0, : int(prompts.length[0])].tolist()
    if start.tokenizer is None:
        return f"{len(ids)} codes and special tokens of the small model"
    text = start.tokenizer.decode(ids)
    return text if len(text) < 300 else f"...{text[-300:]}"


def add_codes(model: CausalLM, tokenizer: Any, spelling: Spelling, codebook: int) -> int:
    """Give the tokenizer the codes that it lacks and the model rows for them; how many.

    Raises LMError when the likelihood of old tokens changes by it.
    """
    known = tokenizer.get_vocab()
    levels = range(len(spelling.levels))
    names = [spelling.name(level, code) for level in levels for code in range(codebook)]
    names = [name for name in names if name not in known]
    rows = model.get_input_embeddings().weight.shape[0]
    before = _likelihood(model, rows)
    added = int(tokenizer.add_tokens(names))
    if len(tokenizer) > rows:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model.resize_token_embeddings(len(tokenizer))
    if not torch.allclose(before, _likelihood(model, rows), atol=1e-3, rtol=1e-3):
        raise LMError(
            "adding the codes changed what the model says of its old tokens; use its own tokenizer"
        )
    return added


@torch.no_grad()
def _likelihood(model: CausalLM, rows: int) -> Tensor:
    """Logits over the first `rows` tokens after a fixed sequence of them, less their mean."""
    count = min(8, rows)
    ids = torch.arange(0, rows, max(1, rows // count), device=model.device)[:count]
    logits: Tensor = model(input_ids=ids.unsqueeze(0)).logits[0, :, :rows].float()
    return logits - logits.mean(-1, keepdim=True)


def _load(name: str, folder: Path, placement: Placement, how: ModelReading) -> tuple[CausalLM, Any]:
    """The model in a folder, which people know by this name, and its tokenizer."""
    transformers = require("transformers")
    if how.gguf is None:
        check_files(name, folder)
        base = adapted(folder)
        if base is not None:
            return _load_adapters(folder, base, placement, how)
        if not has_tokenizer(folder):
            raise LMError(
                f"{name}: no tokenizer here (tokenizer.json or the like), so nothing says which "
                "row a token means; copy its files from the model that this was trained from"
            )
    elif not (folder / how.gguf).is_file():
        found = ", ".join(sorted(path.name for path in folder.glob("*.gguf"))[:5]) or "none"
        raise LMError(f"--gguf {how.gguf}: no such file in {name}; GGUF files there: {found}")
    weights = folder / how.gguf if how.gguf else folder
    check_memory(weights, placement, how.trained, how.copies)
    extra: dict[str, Any] = {"use_safetensors": True}
    known: dict[str, Any] = {"trust_remote_code": how.trust_remote_code}
    if how.gguf:
        extra, known = {}, {**known, "gguf_file": how.gguf}
    with loading(name, "its tokenizer"):
        tokenizer = _tokenizer(folder, known)
    with loading(name):
        model, found = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=placement.dtype, output_loading_info=True, **known, **extra
        )
    if not how.gguf:
        check_plain(name, getattr(model.config, "quantization_config", None))
    check_whole(name, model, found)
    if how.gguf:
        # The converted weights are plain tensors; what says otherwise forbids saving them.
        model.hf_quantizer, model.is_quantized = None, False
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
    zero_dropout(model)
    return model.eval(), tokenizer


def _load_adapters(
    folder: Path, base: str, placement: Placement, how: ModelReading
) -> tuple[CausalLM, Any]:
    """The model that adapters belong to with them merged in, and the tokenizer beside them, or the
    model's where there is none."""
    check_base(folder, base)
    model, tokenizer = _load(base, _place(base), placement, how)
    if has_tokenizer(folder):
        with loading(str(folder), "its tokenizer"):
            tokenizer = _tokenizer(folder, {"trust_remote_code": how.trust_remote_code})
    with loading(str(folder)):
        model = merged(folder, model)
    return model.requires_grad_(True).eval(), tokenizer


def _tokenizer(folder: Path, known: dict[str, Any]) -> Any:
    """The tokenizer as its tokenizer.json has it.

    The class that a model's type stands for may build another one from the same words; where the
    two differ, the file counts.
    """
    transformers = require("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **known)
    if not (folder / "tokenizer.json").is_file():
        return tokenizer
    written = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    # What stands before and after an added token is where the two differ most often.
    added = sorted(written.get_added_vocab())
    among = [
        "".join(f"x y{token}\nz {token}w" for token in part) for part in (added[:4], added[-4:])
    ]
    same = tokenizer.get_vocab() == written.get_vocab() and all(
        tokenizer.encode(text, add_special_tokens=False)
        == written.encode(text, add_special_tokens=False)
        for text in (*SAMPLES, *among)
    )
    return tokenizer if same else written


def _check_context(name: str, model: CausalLM, vocabulary: Vocabulary, data: LMData) -> None:
    """Raise LMError where a prompt and its item are longer than what the model attends to."""
    rows = (data.sft, data.learning, data.tuning, data.test)
    longest = max((len(row.history) for split in rows for row in split), default=0)
    around = (vocabulary.opening, vocabulary.closing, vocabulary.between)
    item = vocabulary.depth + sum(map(len, around))
    need = len(vocabulary.before) + len(vocabulary.after) + vocabulary.depth
    need += item * min(longest, vocabulary.recent)
    have = context(model.config)
    if have is not None and need > have:
        raise LMError(
            f"{name}: prompts of up to {need} tokens, and the model attends to {have}; lower "
            "--recent or shorten --prompt"
        )


def _check_tokenizer(name: str, tokenizer: Any, rows: int) -> None:
    """Raise LMError when tokenizer and embedding cannot belong together."""
    size = len(tokenizer)
    highest = max(tokenizer.get_vocab().values(), default=-1)
    if highest >= rows:
        raise LMError(
            f"{name}: the tokenizer has a token with id {highest}, the model {rows} rows; they do "
            "not belong together"
        )
    if rows - size > max(SPARE_ROWS, rows // 20):
        raise LMError(
            f"{name}: the tokenizer knows {size} tokens, the model has {rows} rows; they do not "
            "belong together"
        )


def _place(name: str) -> Path:
    """The folder of that name, or where the hub's files of that name lie once they are fetched.

    From there on a hub's model is a folder like any other, held to the same checks. Raises LMError
    for a path, which no hub name is, to nothing, and for a name that leads nowhere.
    """
    folder = Path(name)
    if folder.is_dir() or checkpoint.is_ours(folder):
        return folder
    if folder.is_file():
        reads = f" (--gguf {folder.name} of `recast lm sft`)" if folder.suffix == ".gguf" else ""
        raise LMError(f"{name}: a file; name the folder that it lies in: {folder.parent}{reads}")
    if folder.is_absolute() or name.startswith(".") or len(folder.parts) > 2:
        raise LMError(f"{name}: no checkpoint here; train one with: recast lm sft")
    try:
        found = require("huggingface_hub").snapshot_download(
            name, allow_patterns=list(HUB_FILES), ignore_patterns=["*/*", "consolidated*"]
        )
    except (OSError, ValueError) as problem:
        reason = " ".join(str(problem).split())[:200]
        raise LMError(f"{name}: no folder, and no model that can be reached: {reason}") from None
    return Path(found)


def _digest(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()

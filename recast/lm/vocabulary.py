"""Which token stands for which code, and how a history becomes a prompt.

A semantic ID is L tokens, one per level. The small model's vocabulary is the codes and three
special tokens; a pre-trained tokenizer gets one added token per code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from recast.lm.extra import LMError

Codes = tuple[int, ...]
PAD, BEGIN, END = 0, 1, 2
SPECIAL = 3
RECENT = 10
LEVELS = "abcdefgh"


@dataclass(frozen=True)
class Prompts:
    """A padded batch: ids `[B, P]` int64, padded on the right; length `[B]` int64."""

    ids: Tensor
    length: Tensor

    def __len__(self) -> int:
        return self.ids.shape[0]

    def __getitem__(self, index: Tensor | slice) -> Prompts:
        """Some of the prompts, trimmed to the longest of them."""
        length = self.length[index]
        longest = int(length.max()) if length.numel() else 0
        return Prompts(self.ids[index][:, :longest], length)

    def to(self, device: torch.device) -> Prompts:
        """The same batch on another device."""
        return Prompts(self.ids.to(device), self.length.to(device))


@dataclass(frozen=True)
class Vocabulary:
    """`tokens[l][c]`: the token of code c at level l. before, after: token ids around the codes of
    the last `recent` items of a history, oldest first. pad: any id, never attended to."""

    tokens: tuple[tuple[int, ...], ...]
    before: tuple[int, ...]
    after: tuple[int, ...] = ()
    pad: int = PAD
    recent: int = RECENT

    @property
    def depth(self) -> int:
        """Codes per semantic ID, L."""
        return len(self.tokens)

    def table(self, device: torch.device | None = None) -> Tensor:
        """Token ids, int64 `[L, K]`."""
        return torch.tensor(self.tokens, dtype=torch.int64, device=device)

    def prompts(self, histories: Sequence[Sequence[Codes]]) -> Prompts:
        """Histories (oldest item first) as a padded batch."""
        rows = []
        for history in histories:
            codes = [
                self.tokens[level][code]
                for sid in history[-self.recent :]
                for level, code in enumerate(sid)
            ]
            rows.append([*self.before, *codes, *self.after])
        longest = max((len(row) for row in rows), default=0)
        ids = torch.full((len(rows), longest), self.pad, dtype=torch.int64)
        for place, row in enumerate(rows):
            ids[place, : len(row)] = torch.tensor(row, dtype=torch.int64)
        return Prompts(ids, torch.tensor([len(row) for row in rows], dtype=torch.int64))

    def as_config(self) -> dict[str, Any]:
        """JSON-serialisable form; `vocabulary_from` reads it back."""
        return asdict(self)


def vocabulary_from(config: dict[str, Any]) -> Vocabulary:
    """The inverse of `Vocabulary.as_config`. Raises LMError for a damaged one."""
    try:
        return Vocabulary(
            tokens=tuple(tuple(int(t) for t in level) for level in config["tokens"]),
            before=tuple(config["before"]),
            after=tuple(config["after"]),
            pad=int(config["pad"]),
            recent=int(config["recent"]),
        )
    except (KeyError, TypeError, ValueError) as problem:
        raise LMError(f"vocabulary of the checkpoint is unreadable: {problem!r}") from None


def small_vocabulary(depth: int, codebook: int, recent: int = RECENT) -> Vocabulary:
    """The small model's vocabulary: pad, begin, end, then depth x codebook codes."""
    tokens = tuple(
        tuple(SPECIAL + level * codebook + code for code in range(codebook))
        for level in range(depth)
    )
    return Vocabulary(tokens=tokens, before=(BEGIN,), recent=recent)


def code_name(level: int, code: int) -> str:
    """The text of one code, as MiniOneRec writes it: `<a_7>`."""
    return f"<{LEVELS[level]}_{code}>"


def tokenizer_vocabulary(
    tokenizer: Any, depth: int, codebook: int, *, chat: bool = False, recent: int = RECENT
) -> Vocabulary:
    """The vocabulary of a tokenizer that knows every code as one token.

    chat: put the history into the tokenizer's chat template as a user's message.
    Raises LMError for a code that the tokenizer does not know or splits, and for chat without a
    template.
    """
    tokens = []
    for level in range(depth):
        row = []
        for code in range(codebook):
            name = code_name(level, code)
            ids = tokenizer.encode(name, add_special_tokens=False)
            if len(ids) != 1:
                raise LMError(
                    f"the tokenizer splits {name} into {len(ids)} tokens; add the codes as tokens "
                    "(recast lm sft --model ... does) or use the model's own tokenizer"
                )
            if ids[0] == tokenizer.unk_token_id:
                raise LMError(f"the tokenizer does not know {name}; expected one token per code")
            row.append(int(ids[0]))
        tokens.append(tuple(row))
    question = "The user bought, oldest first: "
    before, after = question, "\nNext item: "
    if chat:
        if not getattr(tokenizer, "chat_template", None):
            raise LMError("the model has no chat template; leave out --chat")
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": f"{question}@@"}],
            tokenize=False,
            add_generation_prompt=True,
        )
        before, _, after = text.partition("@@")
    first = [] if chat or tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    return Vocabulary(
        tokens=tuple(tokens),
        before=(*first, *tokenizer.encode(before, add_special_tokens=False)),
        after=tuple(tokenizer.encode(after, add_special_tokens=False)),
        pad=int(pad),
        recent=recent,
    )

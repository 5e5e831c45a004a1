"""Which token stands for which code, and how a history becomes a prompt.

A semantic ID is L tokens, one per level. The small model's vocabulary is the codes and three
special tokens; a pre-trained tokenizer gets one added token per code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from recast.items import Codes
from recast.lm.optional_extra import LMError
from recast.lm.spelling import Spelling

PAD, BEGIN, END = 0, 1, 2
SPECIAL = 3
RECENT = 10
LEVELS = "abcdefgh"


@dataclass(frozen=True)
class PromptTokens:
    """A padded batch: ids `[B, P]` int64, padded on the right; length `[B]` int64."""

    ids: Tensor
    length: Tensor

    def __len__(self) -> int:
        return self.ids.shape[0]

    def __getitem__(self, index: Tensor | slice) -> PromptTokens:
        """Some of the prompts, trimmed to the longest of them."""
        length = self.length[index]
        longest = int(length.max()) if length.numel() else 0
        return PromptTokens(self.ids[index][:, :longest], length)

    def to(self, device: torch.device) -> PromptTokens:
        """The same batch on another device."""
        return PromptTokens(self.ids.to(device), self.length.to(device))


@dataclass(frozen=True)
class Vocabulary:
    """`tokens[l][c]`: the token of code c at level l (`pad`: no item has it). before, after:
    token ids around the last `recent` items of a history, oldest first; opening, closing: around
    each item (`after` ends with `opening`, as codes come next); between: two items. pad: any id,
    never attended to."""

    tokens: tuple[tuple[int, ...], ...]
    before: tuple[int, ...]
    after: tuple[int, ...] = ()
    pad: int = PAD
    recent: int = RECENT
    opening: tuple[int, ...] = ()
    closing: tuple[int, ...] = ()
    between: tuple[int, ...] = ()

    @property
    def depth(self) -> int:
        """Codes per semantic ID, L."""
        return len(self.tokens)

    @property
    def largest(self) -> int:
        """The largest token id that it names."""
        around = (self.before, self.after, self.opening, self.closing, self.between)
        return max(self.pad, *chain.from_iterable((*self.tokens, *around)))

    def table(self, device: torch.device | None = None) -> Tensor:
        """Token ids, int64 `[L, K]`."""
        return torch.tensor(self.tokens, dtype=torch.int64, device=device)

    def prompts(self, histories: Sequence[Sequence[Codes]]) -> PromptTokens:
        """Histories (oldest item first) as a padded batch."""
        rows = []
        for history in histories:
            items: list[int] = []
            for sid in history[-self.recent :]:
                codes = (self.tokens[level][code] for level, code in enumerate(sid))
                items += [*(self.between if items else ()), *self.opening, *codes, *self.closing]
            rows.append([*self.before, *items, *self.after])
        longest = max((len(row) for row in rows), default=0)
        ids = torch.full((len(rows), longest), self.pad, dtype=torch.int64)
        for place, row in enumerate(rows):
            ids[place, : len(row)] = torch.tensor(row, dtype=torch.int64)
        return PromptTokens(ids, torch.tensor([len(row) for row in rows], dtype=torch.int64))

    def as_config(self) -> dict[str, Any]:
        """JSON-serialisable form; `vocabulary_from` reads it back."""
        return asdict(self)


def vocabulary_from(config: Any) -> Vocabulary:
    """The inverse of `Vocabulary.as_config`. Raises LMError for a damaged one."""
    try:
        found = Vocabulary(
            tokens=tuple(map(_token_ids, config["tokens"])),
            before=_token_ids(config["before"]),
            after=_token_ids(config["after"]),
            pad=int(config["pad"]),
            recent=int(config["recent"]),
            **{
                name: _token_ids(config.get(name, ())) for name in ("opening", "closing", "between")
            },
        )
        if len(set(map(len, found.tokens))) != 1 or not found.tokens[0] or found.recent < 1:
            raise ValueError("levels of different sizes, or none")
        return found
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as problem:
        reason = repr(problem)[:100]
        raise LMError(f"vocabulary of the checkpoint is unreadable: {reason}") from None


def _token_ids(listed: Any) -> tuple[int, ...]:
    found = tuple(int(token) for token in listed)
    if any(token < 0 for token in found):
        raise ValueError("a token below 0")
    return found


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


HISTORY = "{history}"
_TASK = (
    "Below is an instruction that describes a task, paired with an input that provides further "
    "context. Write a response that appropriately completes the request. \n\n### Instruction:\n"
    "Can you predict the next possible item that the user may expect?\n\n"
)
_ASKED = (
    "### User Input: \nThe user has interacted with items {history} in chronological order. "
    "Can you predict the next possible item that the user may expect?\n\n### Response:\n"
)
_EVALUATED = (
    "### User Input: \nCan you predict the next possible item the user may expect, given the "
    "following chronological interaction history: {history}\n\n### Response:\n"
)
PROMPTS = {
    "plain": ("The user bought, oldest first: {history}\nNext item: ", ""),
    "minionerec": (_ASKED, ", "),
    "minionerec_sft": (_TASK + _ASKED, ", "),
    "minionerec_eval": (_TASK + _EVALUATED, ", "),
}
"""Prompts by name, and the text between two items: ours, and those of MiniOneRec's RL, of its
supervised training and of its evaluation, which ask in three ways."""


@dataclass(frozen=True)
class Wording:
    """How a history becomes text. prompt: a name of `PROMPTS` or a text with `{history}` in it;
    chat: as a user's message in the tokenizer's chat template; wrap: tokens around items where the
    tokenizer has them; recent: items of a history."""

    prompt: str = "plain"
    chat: bool = False
    wrap: bool = True
    recent: int = RECENT

    def parts(self) -> tuple[str, str, str]:
        """What comes before the items, between two, and after. Raises LMError without a place."""
        text, between = PROMPTS.get(self.prompt, (self.prompt, ""))
        before, place, after = text.partition(HISTORY)
        if not place:
            raise LMError(
                f"--prompt: {self.prompt[:40]!r} is none of {', '.join(PROMPTS)}, nor a text with "
                "{history} in it"
            )
        return before, between, after


PLAIN = Wording()


def tokenizer_vocabulary(
    tokenizer: Any, spelling: Spelling, codebook: int, wording: Wording = PLAIN
) -> Vocabulary:
    """The vocabulary of a tokenizer that knows codes as one token each, spelt in this way.

    Codes that it does not know are `pad`; the trie never asks for them (`find_spelling` checks
    that). Raises LMError for a code that the tokenizer splits, for chat without a template, and
    for a prompt without a place for the history.
    """
    known = tokenizer.get_vocab()
    pad = int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0)
    spelt = [
        [spelling.name(level, code) for code in range(codebook)]
        for level in range(len(spelling.levels))
    ]
    tokens = []
    for names in spelt:
        for name in names:
            if name in known and len(found := _ids(tokenizer, name)) != 1:
                raise LMError(
                    f"the tokenizer splits {name} into {len(found)} tokens; add the codes as "
                    "tokens (recast lm sft --add-tokens) or use the model's own tokenizer"
                )
        tokens.append(tuple(int(known.get(name, pad)) for name in names))
    item = [next(c for c, name in enumerate(row) if name in known) for row in spelt]
    text = spelling.item(item) if wording.wrap else spelling.joined(item)
    before, between, after = wording.parts()
    if wording.chat:
        before, after = _in_chat(tokenizer, before, after, text)
    opening, closing = (
        tuple(_ids(tokenizer, text)) if wording.wrap and text else ()
        for text in (spelling.opening, spelling.closing)
    )
    around = _around(
        tokenizer,
        [before, between, after + (spelling.opening if wording.wrap else "")],
        text,
        (*opening, *(row[code] for row, code in zip(tokens, item, strict=True)), *closing),
        bare=wording.chat,
    )
    return Vocabulary(
        tokens=tuple(tokens),
        before=around[0],
        after=around[2],
        pad=pad,
        recent=wording.recent,
        opening=opening,
        closing=closing,
        between=around[1],
    )


def _in_chat(tokenizer: Any, before: str, after: str, item: str) -> tuple[str, str]:
    """What the chat template puts before and after the items of a user's message.

    item: a text to try it with. Raises LMError without a template, and for one that fails or does
    not show the items once, as they are.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise LMError("the model has no chat template; leave out --chat")
    content = f"{before}{HISTORY}{after}".strip()
    try:
        text, tried = (
            tokenizer.apply_chat_template(
                [{"role": "user", "content": said}], tokenize=False, add_generation_prompt=True
            )
            for said in (content, content.replace(HISTORY, item))
        )
    except Exception as problem:  # noqa: BLE001  # whatever a template does is its model's
        reason = " ".join(str(problem).split())[:120]
        raise LMError(f"the model's chat template fails: {reason}; leave out --chat") from None
    if text.count(HISTORY) != 1 or tried != text.replace(HISTORY, item):
        raise LMError(
            "the model's chat template does not show a user's items once, as they are; leave out "
            "--chat"
        )
    start, _, end = text.partition(HISTORY)
    return start, end


def _around(
    tokenizer: Any, texts: Sequence[str], text: str, item: tuple[int, ...], *, bare: bool
) -> tuple[tuple[int, ...], ...]:
    """The tokens before, between and after two items, as the tokenizer reads the whole text.

    It may join a text with its neighbours, or put a token where a text begins; piece by piece the
    model would read another one. bare: the text says itself how it begins. What some put after a
    text has no place before the codes. Raises LMError where the items are not found in it.
    """
    whole = texts[0] + text + texts[1] + text + texts[2]
    ids = [int(token) for token in tokenizer.encode(whole, add_special_tokens=not bare)]
    plain, own = _ids(tokenizer, ":"), [int(token) for token in tokenizer.encode(":")]
    places = range(len(own) - len(plain) + 1)
    first = next((i for i in places if plain and own[i : i + len(plain)] == plain), 0)
    added = len(own) - len(plain) - first
    ids = ids if bare or added <= 0 else ids[:-added]
    size = len(item)
    found = [i for i in range(len(ids) - size + 1) if tuple(ids[i : i + size]) == item]
    if len(found) != 2:
        raise LMError(
            f"in a text the tokenizer does not read {text[:60]} as {size} tokens; add the codes as "
            "tokens (recast lm sft --add-tokens) or use the model's own tokenizer"
        )
    one, two = found
    return tuple(ids[:one]), tuple(ids[one + size : two]), tuple(ids[two + size :])


def _ids(tokenizer: Any, text: str) -> list[int]:
    return [int(token) for token in tokenizer.encode(text, add_special_tokens=False)]

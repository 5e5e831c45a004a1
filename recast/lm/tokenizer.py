"""A tokenizer for the small model: text such as `<begin><a_1><b_2>`, one token per code."""

from __future__ import annotations

from typing import Any

from recast.lm.optional_extra import LMError, require
from recast.lm.vocabulary import BEGIN, END, PAD, Vocabulary, code_name


def code_tokenizer(vocabulary: Vocabulary) -> Any:
    """A fast tokenizer whose ids are the vocabulary's; pad, begin and end included.

    Raises LMError for a vocabulary that is not the small model's, or without transformers.
    """
    if vocabulary.before != (BEGIN,) or vocabulary.after or vocabulary.pad != PAD:
        raise LMError("this vocabulary belongs to a pre-trained model; use that model's tokenizer")
    tokenizers, transformers = require("tokenizers"), require("transformers")
    words = {"<pad>": PAD, "<begin>": BEGIN, "<end>": END}
    for level, row in enumerate(vocabulary.tokens):
        words |= {code_name(level, code): token for code, token in enumerate(row)}
    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<pad>"))
    inner.pre_tokenizer = tokenizers.pre_tokenizers.Split(
        tokenizers.Regex("<[^>]+>"), behavior="isolated"
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<pad>",
        bos_token="<begin>",
        eos_token="<end>",
        padding_side="left",
        model_input_names=["input_ids", "attention_mask"],
    )


def prompt_text(vocabulary: Vocabulary, history: tuple[tuple[int, ...], ...]) -> str:
    """The text that `code_tokenizer` turns into `vocabulary.prompts`' ids."""
    recent = history[-vocabulary.recent :]
    return "<begin>" + "".join(code_name(lv, c) for sid in recent for lv, c in enumerate(sid))

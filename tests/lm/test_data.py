"""Data of the real-model path: roles, leakage, RecIF, vocabulary errors."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny
import tokenizers
import transformers

from recast.items import Interaction
from recast.lm import dataset
from recast.lm.datareport import describe, popularity_hit_rate
from recast.lm.dataset import RECIF_NAMES, load_data, read_any, tunes
from recast.lm.optional_extra import LMError
from recast.lm.spelling import find_spelling, plain
from recast.lm.tokenizer import code_tokenizer, prompt_text
from recast.lm.vocabulary import (
    Wording,
    small_vocabulary,
    tokenizer_vocabulary,
    vocabulary_from,
)


def values(data):
    return {row["quantity"]: row["value"] for row in describe(data)}


def test_the_report_of_the_made_up_folder_by_hand(data_folder):
    found = values(read_any(data_folder))
    assert (found["items"], found["distinct_sids"], found["collisions"]) == (19, 18, 1)
    assert found["rows_test"] == 60
    assert found["users_of_test_in_train"] == 60
    assert found["rows_of_test_in_train"] < 60
    shares = [found[f"test_targets_{k}"] for k in ("seen", "new_but_in_valid", "nowhere_before")]
    assert sum(shares) == pytest.approx(1.0)


def test_the_shared_data_is_reported_as_it_is(real_data):
    found = values(read_any(real_data))
    assert (found["items"], found["distinct_sids"], found["collisions"]) == (3459, 3444, 15)
    assert found["users_of_test_in_valid"] == 588
    assert found["test_targets_new_but_in_valid"] == pytest.approx(0.126, abs=5e-4)


def test_popularity_by_hand():
    a, b, c = (0, 0, 0), (0, 0, 1), (1, 0, 0)

    def rows(*targets):
        return tuple(Interaction("u", (), target) for target in targets)

    assert popularity_hit_rate(rows(a, b, b, c), rows(b, b, a, c), 1) == 0.5
    assert popularity_hit_rate(rows(a, b, b, c), rows(b, b, a, c), 2) == 0.75  # a before c: tie


def test_a_users_rows_all_have_one_role(data_folder):
    data = load_data(data_folder)
    learning, tuning = ({row.user for row in rows} for rows in (data.learning, data.tuning))
    assert not learning & tuning
    assert len(data.learning) + len(data.tuning) == 60
    share = sum(tunes(f"user{i}", 0) for i in range(4000)) / 4000
    assert share == pytest.approx(0.2, abs=0.02)


def test_slices_split_the_rows_by_what_train_holds(data_folder):
    data = load_data(data_folder)
    flags = data.slices(data.test)
    for seen, new, popular, rare in zip(*flags.values(), strict=True):
        assert seen != new
        assert seen == (popular or rare)
        assert not (popular and rare)


def recif(folder: Path, messages: object, split: str = "train") -> None:
    table = pa.table({"uuid": ["u1"], "source": ["s"], "metadata": ["{}"], "messages": [messages]})
    pq.write_table(table, folder / f"{split}.parquet")


ASKED = "bought <|sid_begin|><s_a_1><s_b_2><s_c_3><|sid_end|>, next?"
ANSWER = (
    "<|sid_begin|><s_a_4><s_b_5><s_c_6><|sid_end|><|sid_begin|><s_a_1><s_b_2><s_c_3><|sid_end|>"
)


THOUGHT = "<think>not <|sid_begin|><s_a_7><s_b_7><s_c_7><|sid_end|></think>"


@pytest.mark.parametrize(
    ("as_text", "thought", "asked"),
    [
        (True, "", [("user", ASKED)]),
        (False, "", [("user", ASKED)]),
        (True, THOUGHT, [("user", ASKED)]),
        (True, "", [("user", "first?"), ("assistant", THOUGHT + ASKED), ("user", "next?")]),
    ],
)
def test_recif_rows_keep_their_targets_and_train_has_one_row_for_each(
    as_text, thought, asked, tmp_path
):
    said = [*asked, ("assistant", thought + ANSWER)]
    messages = [{"role": role, "content": text} for role, text in said]
    for split in ("train", "valid", "test"):
        recif(tmp_path, json.dumps(messages) if as_text else messages, split)
    data = read_any(tmp_path)
    assert data.sids == ((1, 2, 3), (4, 5, 6))
    assert data.train == (
        Interaction("u1", ((1, 2, 3),), (4, 5, 6), "s"),
        Interaction("u1", ((1, 2, 3),), (1, 2, 3), "s"),
    )
    assert data.test == (Interaction("u1", ((1, 2, 3),), (4, 5, 6), "s", ((1, 2, 3),)),)
    assert data.test[0].targets == ((4, 5, 6), (1, 2, 3))
    assert data.names == RECIF_NAMES
    with pytest.raises(LMError, match=r"no rows of valid to tune on; valid has 1 users"):
        load_data(tmp_path)


def test_each_task_of_several_is_a_slice_of_its_own(data_folder):
    data = load_data(data_folder)
    rows = [replace(row, task=f"t{i % 2}") for i, row in enumerate(data.test[:5])]
    found = data.slices(rows)
    assert found["task t0"] == [True, False, True, False, True]
    assert found["task t1"] == [False, True, False, True, False]
    assert list(data.slices(data.test)) == ["seen", "new", "popular", "rare"]


@pytest.mark.parametrize(
    ("asked", "answer", "message"),
    [
        (ASKED, "none", "row 0: the assistant's message holds no"),
        (ASKED, f"<think>cut off {ANSWER}", "row 0: the assistant's message holds no"),
        (ASKED, "<|sid_begin|><s_b_1><s_a_1><|sid_end|>", "levels out of order"),
        (ASKED, "<|sid_begin|><s_a_9999><s_b_1><s_c_1><|sid_end|>", "outside the codebook 0..8191"),
        (ASKED, "<|sid_begin|><s_a_9><s_b_1><|sid_end|>", "different depths"),
    ],
)
def test_bad_recif_is_one_line(asked, answer, message, tmp_path):
    messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
    for split in ("train", "valid", "test"):
        recif(tmp_path, json.dumps(messages), split)
    with pytest.raises(LMError, match=message) as caught:
        read_any(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("bound", "most", "says"),
    [
        ("_SMALL", 1000, "rows of more than 7 bytes each"),
        ("_MOST_VALUES", 1, "far larger than it is in the file"),
    ],
)
def test_recif_that_becomes_large_is_refused_before_it_is(bound, most, says, tmp_path, monkeypatch):
    """Bounds on what is decoded at once, and on what the file's own notes say of its columns."""
    monkeypatch.setattr(dataset, bound, most)
    messages = [{"role": "user", "content": ASKED * 20}, {"role": "assistant", "content": ANSWER}]
    recif(tmp_path, messages)
    with pytest.raises(LMError, match=says):
        read_any(tmp_path)


def test_recif_without_messages_is_one_line(tmp_path):
    pq.write_table(pa.table({"uuid": ["u1"]}), tmp_path / "train.parquet")
    with pytest.raises(LMError, match="no column messages"):
        read_any(tmp_path)


def test_prompts_hold_the_last_items_and_are_padded_on_the_right():
    vocab = small_vocabulary(2, 4, recent=2)
    prompts = vocab.prompts([[(0, 1), (2, 3), (1, 0)], [(3, 3)]])
    assert prompts.ids.tolist() == [[1, 5, 10, 4, 7], [1, 6, 10, 0, 0]]
    assert prompts.length.tolist() == [5, 3]
    assert prompts[1:].ids.shape == (1, 3)
    assert vocabulary_from(json.loads(json.dumps(vocab.as_config()))) == vocab


def test_the_small_models_tokenizer_gives_the_prompts_ids():
    vocab, trie = tiny.vocabulary(), tiny.catalogue(0)
    tokenizer = code_tokenizer(vocab)
    rows = tiny.interactions(trie, 5)
    prompts = vocab.prompts([row.history for row in rows])
    for row, ids, length in zip(rows, prompts.ids, prompts.length, strict=True):
        text = prompt_text(vocab, row.history)
        assert tokenizer(text)["input_ids"] == ids[:length].tolist()


def word_tokenizer(words: list[str], unknown: str | None = "<unk>"):
    inner = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({w: i for i, w in enumerate(words)}, unk_token=unknown)
    )
    inner.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=inner, unk_token=unknown)


def test_a_tokenizer_that_splits_codes_is_refused():
    tokenizer = word_tokenizer(["<unk>", "<", "a_0", ">", "<a_0>"])
    with pytest.raises(LMError, match=r"splits <a_0> into 3 tokens"):
        tokenizer_vocabulary(tokenizer, plain(1), 1)


def test_a_code_that_no_item_has_needs_no_token():
    tokenizer = word_tokenizer(["<unk>"])
    tokenizer.add_tokens(["<a_0>"])
    assert tokenizer_vocabulary(tokenizer, plain(1), 2).tokens == ((1, 0),)
    with pytest.raises(LMError, match="does not know <a_1>"):
        find_spelling(tokenizer.get_vocab(), [(0,), (1,)], 1)


def test_chat_without_a_template_is_refused():
    tokenizer = word_tokenizer(["<unk>"])
    tokenizer.add_tokens(["<a_0>"])
    with pytest.raises(LMError, match="has no chat template; leave out --chat"):
        tokenizer_vocabulary(tokenizer, plain(1), 1, Wording(chat=True))
    tokenizer.chat_template = "{% for m in messages %}U {{ m['content'] }} {% endfor %}A"
    assert tokenizer_vocabulary(tokenizer, plain(1), 1, Wording(chat=True)).after


def test_a_folder_of_several_categories_names_them_and_reads_the_one_asked_for(data_folder):
    for path in [*data_folder.glob("*/*.csv"), *data_folder.glob("index/*")]:
        (path.parent / path.name.replace("tiny", "other_5_2016")).write_bytes(path.read_bytes())
    for path in data_folder.glob("index/other*"):
        path.rename(path.parent / "other.index.json")
    with pytest.raises(
        LMError,
        match=r"several categories \(other, tiny\); expected exactly one, or choose one with --cat",
    ):
        load_data(data_folder, 3)
    assert load_data(data_folder, 3, category="tiny").name.endswith("/tiny")
    assert (
        load_data(data_folder, 3, category="other").sids
        == load_data(data_folder, 3, category="tiny").sids
    )
    with pytest.raises(LMError, match="'nothing' is none of them"):
        load_data(data_folder, 3, category="nothing")

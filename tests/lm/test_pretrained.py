"""Anyone's checkpoint: codes are found as the tokenizer spells them, and no row changes meaning."""

from __future__ import annotations

import json
import random
import shutil
from string import ascii_letters, digits

import pytest
import tiny
import tokenizers
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from test_commands import recast as run

from recast.code_names import CodeNames
from recast.lm.dataset import load_data
from recast.lm.models import with_lora
from recast.lm.optional_extra import LMError
from recast.lm.prefix import reencoded_logp
from recast.lm.pretrained import ModelReading, add_codes, open_model
from recast.lm.spelling import Spelling, find_spelling, plain
from recast.lm.vocabulary import PLAIN, Wording

ONEREC = Spelling("<s_", "_", ">", ("a", "b", "c"), 0, "<|sid_begin|>", "<|sid_end|>")
WORDS = ["The", "user", "bought", ",", "oldest", "first", ":", "Next", "item", "with", "items"]


def recast(capsys, *words):
    code = run(*words)
    return code, capsys.readouterr()


def checkpoint_of(folder, spelling, codes=3, extra=()):
    """A Llama with a tokenizer of its own: words, wrappers, then codes in a shuffled order."""
    names = [spelling.name(level, code) for level in range(3) for code in range(codes)]
    random.Random(0).shuffle(names)
    around = [text for text in (spelling.opening, spelling.closing) if text]
    words = ["<unk>", *WORDS, *around, *names, *extra]
    inner = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>")
    )
    inner.pre_tokenizer = tokenizers.pre_tokenizers.Split(
        tokenizers.Regex(r"<[^<>]+>|\w+|[^\w\s]"), behavior="isolated"
    )
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(words), hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, bos_token_id=None, eos_token_id=None,
        initializer_range=0.5,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config).eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model, tokenizer


TEXT = st.text("<>|[]_-sidxyz27", min_size=1, max_size=6)


@given(
    before=TEXT,
    middle=st.sampled_from(["_", "-", "", ":", "__"]),
    after=st.sampled_from([">", "|>", "]", "_>"]),
    levels=st.sampled_from(["abcd", "ABCD", "0123", "1234"]),
    depth=st.integers(1, 4),
    data=st.data(),
)
@settings(max_examples=150, deadline=None)
def test_any_regular_spelling_is_found_among_other_tokens(
    before, middle, after, levels, depth, data
):
    if levels[0].isdigit() and not middle:
        middle = "_"  # "11" would not say where the level ends
    if any(before[-1] in kind and levels[0] in kind for kind in (ascii_letters, digits)):
        before += "_"  # a level's letter that runs into a word is none, nor is a number's digit
    spelling = Spelling(before, middle, after, tuple(levels[:depth]))
    sids = data.draw(
        st.lists(st.tuples(*[st.integers(0, 300)] * depth), min_size=1, max_size=20, unique=True)
    )
    words = ["the", "a", "B2", "item_3", "<x>", "2024", "v1.5", "<|im_start|>"]
    names = [spelling.name(level, sid[level]) for sid in sids for level in range(depth)]
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys([*words, *names]))}
    found = find_spelling(vocabulary, sids, depth)
    for sid in sids:
        for level in range(depth):
            assert found.name(level, sid[level]) in vocabulary
    assert len({found.name(level, 7) for level in range(depth)}) == depth


def test_letters_with_a_number_are_codes_where_the_data_spells_so_alone():
    vocabulary = {
        f"{level}{code}": 9 * i + code for i, level in enumerate("abc") for code in (1, 7)
    }
    bare = CodeNames("", "", "", tuple("abc"))
    assert find_spelling(vocabulary, [(1, 7, 1)], 3, bare).joined((1, 7, 1)) == "a1b7c1"
    with pytest.raises(LMError, match="no tokens for codes of 3 levels"):
        find_spelling(vocabulary, [(1, 7, 1)], 3)


def test_the_wrappers_of_onerec_are_found_and_a_missing_code_is_named():
    names = [ONEREC.name(level, code) for level in range(3) for code in range(4)]
    vocabulary = {n: i for i, n in enumerate([*names, "<|sid_begin|>", "<|sid_end|>", "<a_1>"])}
    sids = [(0, 1, 2), (3, 3, 3)]
    assert find_spelling(vocabulary, sids, 3) == ONEREC
    with pytest.raises(LMError, match="does not know <s_a_9> and 2 other codes"):
        find_spelling(vocabulary, [*sids, (9, 9, 9)], 3)
    with pytest.raises(LMError, match="no tokens for codes of 4 levels"):
        find_spelling(vocabulary, [(0, 0, 0, 0)], 4)


@pytest.mark.parametrize("spelling", [ONEREC, plain(3)], ids=["onerec", "minionerec"])
def test_a_foreign_checkpoint_scores_items_as_its_own_tokenizer_and_forward_call_do(
    spelling, tmp_path, data_folder
):
    model, tokenizer = checkpoint_of(tmp_path / "m", spelling)
    data = load_data(data_folder, 3)
    start = open_model(str(tmp_path / "m"), data)
    row = data.test[0]
    history = "".join(spelling.item(sid) for sid in row.history)
    text = f"The user bought, oldest first: {history}\nNext item: {spelling.opening}"
    ids = tokenizer.encode(text, add_special_tokens=False)
    prompts = start.vocabulary.prompts([row.history])
    assert prompts.ids[0].tolist() == ids
    for level, code in enumerate(row.target):
        ids.append(tokenizer.convert_tokens_to_ids(spelling.name(level, code)))
    logits = model(input_ids=torch.tensor([ids])).logits[0, -4:-1]
    wanted = torch.log_softmax(logits, -1)[torch.arange(3), torch.tensor(ids[-3:])]
    codes = torch.tensor([[row.target]])
    found = reencoded_logp(start.model, start.vocabulary, prompts, codes)[0, 0]
    assert torch.allclose(found, wanted, atol=1e-4)


ITEMS = "<a_0><b_0><c_0>, <a_1><b_2><c_0>"
ASKED = (
    f"### User Input: \nThe user has interacted with items {ITEMS} in chronological order. Can you "
    "predict the next possible item that the user may expect?\n\n### Response:\n"
)
TASK = (
    "Below is an instruction that describes a task, paired with an input that provides further "
    "context. Write a response that appropriately completes the request. \n\n### Instruction:\n"
    "Can you predict the next possible item that the user may expect?\n\n"
)
EVALUATED = (
    "### User Input: \nCan you predict the next possible item the user may expect, given the "
    f"following chronological interaction history: {ITEMS}\n\n### Response:\n"
)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("minionerec", ASKED),
        ("minionerec_sft", TASK + ASKED),
        ("minionerec_eval", TASK + EVALUATED),
    ],
)
def test_minionerecs_prompts_have_its_words_and_commas(name, text, tmp_path, data_folder):
    _, tokenizer = checkpoint_of(tmp_path / "m", plain(3))
    how = ModelReading(Wording(name))
    start = open_model(str(tmp_path / "m"), load_data(data_folder, 3), how=how)
    ids = start.vocabulary.prompts([[(0, 0, 0), (1, 2, 0)]]).ids[0].tolist()
    assert ids == tokenizer.encode(text, add_special_tokens=False)
    with pytest.raises(LMError, match=r"none of plain, minionerec, .* nor a text with"):
        Wording("no place").parts()


@pytest.mark.parametrize("command", ["sft", "rl", "evaluate", "study"])
def test_a_folder_without_its_tokenizer_is_refused_in_one_line(
    command, tmp_path, data_folder, capsys
):
    checkpoint_of(tmp_path / "m", plain(3))
    for path in (tmp_path / "m").glob("tokenizer*"):
        path.unlink()
    words = {
        "sft": ["--model", tmp_path / "m", "--out", tmp_path / "out", "--add-tokens"],
        "rl": ["--start", tmp_path / "m", "--strategy", "grpo", "--store", tmp_path / "runs"],
        "evaluate": ["--model", tmp_path / "m"],
        "study": ["--start", tmp_path / "m", "--out", tmp_path / "out"],
    }[command]
    code, said = recast(capsys, command, data_folder, "--codebook", 3, *words)
    assert code == 2
    assert "no tokenizer here" in said.err
    assert "Traceback" not in said.err


def test_a_tokenizer_of_another_model_is_refused(tmp_path, data_folder):
    data = load_data(data_folder, 3)
    checkpoint_of(tmp_path / "m", plain(3))
    checkpoint_of(tmp_path / "larger", plain(3), extra=[f"w{i}" for i in range(2000)])
    for path in (tmp_path / "larger").glob("tokenizer*"):
        shutil.copy(path, tmp_path / "m" / path.name)
    with pytest.raises(LMError, match="a token with id 2020, the model 21 rows"):
        open_model(str(tmp_path / "m"), data)
    checkpoint_of(tmp_path / "n", plain(3))
    for path in (tmp_path / "n").glob("tokenizer*"):
        shutil.copy(path, tmp_path / "larger" / path.name)
    with pytest.raises(LMError, match="knows 21 tokens, the model has 2021 rows"):
        open_model(str(tmp_path / "larger"), data)


def test_added_codes_leave_what_the_model_says_of_old_tokens_alone(tmp_path):
    model, tokenizer = checkpoint_of(tmp_path / "m", plain(3), codes=2)
    ids = torch.arange(1, 9).unsqueeze(0)
    before = torch.log_softmax(model(input_ids=ids).logits, -1)
    rows = before.shape[-1]
    assert add_codes(model, tokenizer, plain(3), 4) == 3 * 2
    after = model(input_ids=ids).logits[..., :rows]
    assert torch.allclose(before, torch.log_softmax(after, -1), atol=1e-5)
    assert add_codes(model, tokenizer, plain(3), 4) == 0
    real = tokenizer.add_tokens

    def spoil(names):
        model.get_input_embeddings().weight.data.copy_(
            model.get_input_embeddings().weight.data.roll(1, 0)
        )
        return real(names)

    tokenizer.add_tokens = spoil
    with pytest.raises(LMError, match="changed what the model says of its old tokens"):
        add_codes(model, tokenizer, plain(3), 5)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_rl_evaluation_and_study_take_a_foreign_folder_and_adapters(tmp_path, data_folder, capsys):
    checkpoint_of(tmp_path / "m", ONEREC)
    data = [data_folder, "--codebook", 3]
    code, said = recast(capsys, "evaluate", *data, "--model", tmp_path / "m", "--limit", 8)
    assert code == 0, said.err
    assert "codes <s_a_0> ... <s_c_0>, items between <|sid_begin|> and <|sid_end|>" in said.err
    short = ["--steps", 1, "--batch", 4, "--group", 4, "--eval-prompts", 8]
    rl = ["rl", *data, "--start", tmp_path / "m", "--strategy", "grpo", *short]
    rl += ["--store", tmp_path / "runs", "--out", tmp_path / "out", "--format", "json"]
    code, said = recast(capsys, *rl)
    assert code == 0, said.err
    first = json.loads(said.out)
    code, said = recast(capsys, *rl, "--lora", 2, "--kl", 0.1)
    assert code == 0, said.err
    assert json.loads(said.out) != first
    kept = next((tmp_path / "out").iterdir())
    again = transformers.AutoTokenizer.from_pretrained(kept)
    assert len(again) == len(transformers.AutoTokenizer.from_pretrained(tmp_path / "m"))
    code, said = recast(capsys, "evaluate", *data, "--model", kept, "--limit", 8)
    assert code == 0, said.err
    study = ["study", *data, "--start", tmp_path / "m", "--out", tmp_path / "study"]
    study += ["--strategy", "rank_penalty", "--search", "beam", "--lr", 1e-3, "--stops", 1]
    code, said = recast(
        capsys, *study, "--seeds", 2, "--tuning-seeds", 1, "--steps", 1, "--batch", 4, "--group", 4,
        "--eval-prompts", 8,
    )  # fmt: skip
    assert code == 0, said.err
    assert "note: 1 start behind 2 seeds" in said.out
    assert said.err.index("codes <s_a_0> ... <s_c_0>, items between") < said.err.index("runs to do")


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
def test_fresh_adapters_change_nothing_with_a_bias_in_the_head_either(monkeypatch):
    def phi():
        torch.manual_seed(0)
        sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
        heads = {"num_attention_heads": 2, "pad_token_id": 0, "tie_word_embeddings": False}
        model = transformers.PhiForCausalLM(
            transformers.PhiConfig(vocab_size=20, **sizes, **heads)
        ).eval()
        model.lm_head.bias.data.normal_()
        return model

    ids = torch.arange(9).unsqueeze(0)
    vocab = tiny.small_vocabulary(3, 5)
    found = with_lora(phi(), vocab, 2).eval()
    assert torch.allclose(found(input_ids=ids).logits, phi()(input_ids=ids).logits, atol=1e-5)
    peft = pytest.importorskip("peft")
    real = peft.get_peft_model

    def spoilt(model, config):
        model.lm_head.bias.data.zero_()
        return real(model, config)

    monkeypatch.setattr(peft, "get_peft_model", spoilt)
    with pytest.raises(LMError, match="with fresh adapters it says other things than without"):
        with_lora(phi(), vocab, 2)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_adapters_begin_alike_whatever_was_drawn_before():
    starts = []
    for draws in (0, 3):
        model = tiny.model("llama", tiny.vocabulary())
        torch.rand(draws)
        wrapped = with_lora(model, tiny.vocabulary(), 2)
        starts.append({k: v for k, v in wrapped.named_parameters() if "lora_A" in k})
    assert starts[0]
    assert all(torch.equal(value, starts[1][name]) for name, value in starts[0].items())


def test_what_a_row_of_the_study_needs_is_asked_before_anything_is_trained(
    tmp_path, data_folder, capsys
):
    words = ["study", data_folder, "--codebook", 3, "--out", tmp_path / "s"]
    code, said = recast(capsys, *words, "--found", "rank_penalty")
    assert code == 2
    assert said.err.count("\n") == 1
    assert "beam_rank" in said.err or "beam" in said.err
    assert not (tmp_path / "s").exists()
    code, said = recast(capsys, *words, "--strategy", "grp")
    assert code == 2
    assert "did you mean 'grpo'" in said.err


def test_the_default_wording_is_the_plain_one():
    assert PLAIN.parts() == ("The user bought, oldest first: ", "", "\nNext item: ")
    assert tiny.vocabulary().between == ()

"""Folders that other people publish: read as their own tokenizer and weights say, or one line.

Covers `recast.lm.folder_checks`, `recast.lm.lora_folder` and how a whole prompt is read.
"""

from __future__ import annotations

import json

import huggingface_hub
import peft
import pytest
import tokenizers
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken
from tokenizers import pre_tokenizers as pre

from recast.lm import folder_checks, lora_folder, pretrained
from recast.lm.dataset import LMData
from recast.lm.engine_check import check_engine
from recast.lm.models import zero_dropout
from recast.lm.optional_extra import LMError
from recast.lm.pretrained import identity, open_model
from recast.lm.spelling import Spelling, find_spelling, plain
from recast.lm.vocabulary import Wording, tokenizer_vocabulary

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

CODES = [f"<{level}_{code}>" for level in "abc" for code in range(4)]
SIDS = ((0, 1, 2), (1, 1, 1), (3, 0, 2))
PROMPT = Wording(prompt="Bought: {history}\nNext: ")
CHAT = "{% for m in messages %}U {{ m.content }}{% endfor %} A"


def byte_tokenizer(splits=None, **flags):
    """Bytes and codes; the flags are those of the added tokens."""
    tok = tokenizers.Tokenizer(tokenizers.models.BPE())
    tok.pre_tokenizer = splits or pre.ByteLevel(add_prefix_space=False)
    alphabet = [*pre.ByteLevel.alphabet(), "\u2581"]
    tok.train_from_iterator(
        ["Bought: Next: history"] * 3,
        tokenizers.trainers.BpeTrainer(
            vocab_size=290, special_tokens=["<pad>"], initial_alphabet=alphabet, show_progress=False
        ),
    )
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tok, pad_token="<pad>")
    fast.add_tokens([AddedToken(code, normalized=False, **flags) for code in CODES])
    return fast


@pytest.mark.parametrize(
    "tokenizer",
    [
        byte_tokenizer(),
        byte_tokenizer(lstrip=True),
        byte_tokenizer(rstrip=True),
        byte_tokenizer(pre.Metaspace(prepend_scheme="first")),
        byte_tokenizer(pre.ByteLevel(add_prefix_space=True)),
    ],
    ids=["bytes", "lstrip", "rstrip", "metaspace", "prefix space"],
)
def test_a_prompt_is_read_as_the_tokenizer_reads_its_whole_text(tokenizer):
    vocabulary = tokenizer_vocabulary(tokenizer, plain(3), 4, PROMPT)
    prompts = vocabulary.prompts([SIDS, SIDS[:1]])
    for history, ids, length in zip((SIDS, SIDS[:1]), prompts.ids, prompts.length, strict=True):
        text = PROMPT.prompt.format(history="".join(map(plain(3).joined, history)))
        assert ids[:length].tolist() == tokenizer(text)["input_ids"]


def test_the_file_counts_where_the_class_reads_a_text_between_codes_in_another_way(tmp_path):
    """An older Llama's file puts its mark after each code, what its class builds today does not."""
    tok = tokenizers.Tokenizer(
        tokenizers.models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )
    tok.normalizer = tokenizers.normalizers.Sequence(
        [
            tokenizers.normalizers.Prepend("\u2581"),
            tokenizers.normalizers.Replace(" ", "\u2581"),
        ]
    )
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tok.train_from_iterator(
        ["Bought Next"], tokenizers.trainers.BpeTrainer(special_tokens=special, show_progress=False)
    )
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tok, unk_token="<unk>")
    fast.add_tokens(CODES)
    fast.save_pretrained(tmp_path)
    set_json(tmp_path / "tokenizer_config.json", tokenizer_class="LlamaTokenizer")
    text = "Bought <a_0><b_1><c_2>Next <a_1>"
    built = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert built.encode(text, add_special_tokens=False) != fast.encode(text)
    assert pretrained._tokenizer(tmp_path, {}).encode(text) == fast.encode(text)


def test_codes_that_are_tokens_alone_and_not_in_a_text_are_refused():
    words = {word: place for place, word in enumerate(["<unk>", "Bought:", "Next:", *CODES])}
    tok = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<unk>"))
    tok.pre_tokenizer = pre.WhitespaceSplit()
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tok, unk_token="<unk>")
    with pytest.raises(LMError, match="does not read <a_0><b_0><c_0> as 3 tokens"):
        tokenizer_vocabulary(fast, plain(3), 4, PROMPT)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (CHAT.replace("m.content", "'hello'"), "does not show a user's items once"),
        (CHAT.replace("{{ m.content }}", "{{ m.content }}{{ m.content }}"), "items once"),
        (CHAT.replace("m.content", "m.content | upper"), "items once, as they are"),
        (CHAT.replace("m.content", "m.content | replace('_', '-')"), "items once, as they are"),
        ("{{ raise_exception('no system') }}", "template fails: no system; leave out --chat"),
        ("{% for m in", "template fails: .*; leave out --chat"),
    ],
)
def test_a_chat_template_that_does_not_show_the_items_is_refused(template, message):
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = template
    with pytest.raises(LMError, match=message):
        tokenizer_vocabulary(tokenizer, plain(3), 4, Wording(chat=True))


def test_of_two_spellings_the_datas_own_is_taken():
    other = Spelling("<|", "_", "|>", ("a", "b", "c"))
    names = [other.name(level, code) for level in range(3) for code in range(30)]
    vocabulary = {name: place for place, name in enumerate([*names, *CODES])}
    assert find_spelling(vocabulary, SIDS, 3) == other
    assert find_spelling(vocabulary, SIDS, 3, plain(3)) == plain(3)
    assert find_spelling(vocabulary, SIDS, 3, other) == other


def test_codes_filled_with_zeros_are_found():
    zeros = Spelling("<", "_", ">", ("a", "b", "c"), 3)
    names = [zeros.name(level, code) for level in range(3) for code in (7, 80, 123)]
    vocabulary = {name: place for place, name in enumerate(names)}
    assert find_spelling(vocabulary, [(7, 80, 123), (80, 7, 7)], 3, plain(3)) == zeros


DATA = LMData("made", SIDS, 4, (), (), (), (), frozenset(), frozenset())


@pytest.fixture
def folder(tmp_path):
    tokenizer, place = byte_tokenizer(), tmp_path / "model"
    config = transformers.Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        tie_word_embeddings=False,
    )
    torch.manual_seed(0)
    transformers.Qwen3ForCausalLM(config).save_pretrained(place)
    tokenizer.save_pretrained(place)
    return place


def rewritten(place, change):
    weights = place / "model.safetensors"
    save_file(change(load_file(weights)), weights, {"format": "pt"})


def set_json(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def int8(held):
    return {k: v.to(torch.int8) if "mlp" in k else v for k, v in held.items()}


FAULTS = {
    "a bias of the head": (
        lambda f: rewritten(f, lambda held: held | {"lm_head.bias": torch.ones(3)}),
        "weights that a Qwen3ForCausalLM of this config.json has no place for, such as lm_head",
    ),
    "a layer more": (
        lambda f: set_json(f / "config.json", num_hidden_layers=1, layer_types=["full_attention"]),
        r"no place for, such as model.layers.1",
    ),
    "integers": (lambda f: rewritten(f, int8), "is stored as I8"),
    "an encoder": (
        lambda f: set_json(f / "config.json", architectures=["TIGER"], is_encoder_decoder=True),
        "TIGER is an encoder and a decoder",
    ),
    "a classifier": (
        lambda f: set_json(f / "config.json", architectures=["Qwen3ForSequenceClassification"]),
        "Qwen3ForSequenceClassification is no causal LM",
    ),
    "no heads": (
        lambda f: set_json(f / "config.json", num_attention_heads=0),
        "cannot load.*ZeroDivision",
    ),
    "a tokenizer cut off": (
        lambda f: (f / "tokenizer.json").write_text("{"),
        "tokenizer.json: damaged, not a JSON object",
    ),
    "an index of nothing": (
        lambda f: (f / "model.safetensors.index.json").write_text("[]"),
        "index.json: damaged, not a JSON object",
    ),
    "adapters that are gone": (
        lambda f: (f / "adapter_config.json").write_text('{"base_model_name_or_path": "a/b"}'),
        "adapter_config.json without adapter_model.safetensors",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_folder_that_would_be_another_model_is_one_line(fault, folder):
    spoil, message = FAULTS[fault]
    spoil(folder)
    with pytest.raises(LMError, match=message) as caught:
        open_model(str(folder), DATA)
    assert "\n" not in str(caught.value)


def test_a_critics_head_is_passed_over(folder):
    rewritten(folder, lambda held: held | {"v_head.summary.weight": torch.zeros(1, 16)})
    assert open_model(str(folder), DATA).vocabulary.depth == 3


def adapters(folder, conf):
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    wrapped = peft.get_peft_model(model, conf)
    place = folder.parent / "adapters"
    wrapped.save_pretrained(place)
    return place


LORA = {"r": 2, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM"}


def test_adapters_of_another_model_are_refused(folder):
    place = adapters(folder, peft.LoraConfig(**LORA))
    assert open_model(str(place), DATA).vocabulary.depth == 3
    named = json.loads((place / "adapter_config.json").read_text()) | {
        "base_model_name_or_path": f"../{folder.name}"
    }
    (place / "adapter_config.json").write_text(json.dumps(named))
    assert open_model(str(place), DATA).vocabulary.depth == 3  # from the adapters' own folder
    weights = place / "adapter_model.safetensors"
    held = {k.replace("layers.1", "layers.7"): v for k, v in load_file(weights).items()}
    save_file(held, weights)
    with pytest.raises(LMError, match=r"adapters lack .*layers\.1.*belong to another model"):
        open_model(str(place), DATA)


ENDS = ("embed_tokens", "lm_head")


def single(*places, least=0):
    """Rows of single tokens, behind those that the model has."""
    return lambda have: {
        "trainable_token_indices": {key: list(range(have + least, have + 2)) for key in places}
    }


@pytest.mark.parametrize(
    ("trained", "in_full", "says"),
    [
        (single(*ENDS), True, None),
        (single(*ENDS), False, None),
        (lambda _: {"target_modules": ["q_proj", *ENDS]}, True, None),
        (single(ENDS[0]), False, "brings none of the output layer"),
        (lambda _: {"target_modules": ["q_proj", ENDS[1]]}, True, "brings none of the embedding"),
        (single(*ENDS, least=1), False, r"token \d+, and some before it are neither here"),
    ],
)
def test_rows_of_tokens_that_adapters_add_are_theirs_or_refused(trained, in_full, says, folder):
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    have = len(tokenizer)
    tokenizer.add_tokens(["<new_1>", "<new_2>"])
    model.resize_token_embeddings(len(tokenizer))
    wrapped = peft.get_peft_model(model, peft.LoraConfig(**LORA | trained(have)))
    for weight in wrapped.parameters():
        if weight.requires_grad:
            torch.nn.init.normal_(weight)
    place = folder.parent / "adapters"
    wrapped.save_pretrained(place, save_embedding_layers=in_full)
    tokenizer.save_pretrained(place)
    if says:
        with pytest.raises(LMError, match=says):
            open_model(str(place), DATA)
        return
    ids = torch.tensor([[1, 5, have, have + 1, 2]])
    torch.testing.assert_close(
        open_model(str(place), DATA).model(ids).logits,
        wrapped.merge_and_unload().eval()(ids).logits,
    )


def test_a_hub_name_is_held_to_what_a_folder_is(folder, monkeypatch):
    place = adapters(folder, peft.LoraConfig(**LORA))
    set_base = json.loads((place / "adapter_config.json").read_text())
    set_base["base_model_name_or_path"] = "me/model"
    (place / "adapter_config.json").write_text(json.dumps(set_base))
    cached = {"me/model": folder, "me/adapters": place}

    def fetched(name, **_):
        if name not in cached:
            raise FileNotFoundError("no net\nand no cache")
        return str(cached[name])

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetched)
    assert open_model("me/model", DATA).meta["base"] == "me/model"
    assert open_model("me/adapters", DATA).vocabulary.depth == 3
    assert identity("me/model") == identity(str(folder))
    assert "base model.safetensors" in identity("me/adapters")
    with pytest.raises(LMError, match="no model that can be reached: no net and no cache"):
        open_model("me/gone", DATA)
    for path in folder.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(LMError, match="me/model: no tokenizer here"):
        open_model("me/model", DATA)


def test_adapters_that_cannot_be_merged_and_bases_that_are_gone_are_refused(folder):
    conf = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    place = adapters(folder, conf)
    with pytest.raises(LMError, match="PROMPT_TUNING cannot be merged"):
        open_model(str(place), DATA)
    for gone in ("./gone", "/gone", "a/b/c"):
        with pytest.raises(LMError, match="which is not here"):
            lora_folder.check_base(place, gone)


def test_dropout_under_any_name_is_off_or_the_model_is_refused():
    """OPT keeps it as a number of its layers, not as a module."""
    torch.manual_seed(0)
    config = transformers.OPTConfig(
        vocab_size=20, hidden_size=16, ffn_dim=16, num_hidden_layers=2, num_attention_heads=2,
        word_embed_proj_dim=16, max_position_embeddings=64, dropout=0.3, pad_token_id=None,
        bos_token_id=None, eos_token_id=None, init_std=0.5,
    )  # fmt: skip
    model = transformers.OPTForCausalLM(config)
    with pytest.raises(LMError, match=r"says other things while it is trained than after"):
        check_engine(model)
    zero_dropout(model)
    check_engine(model)
    assert model.config.dropout == 0.0


def test_what_a_library_raises_is_one_line():
    for problem in (ZeroDivisionError("a\nb"), KeyError("k"), Exception("rust")):
        with (
            pytest.raises(LMError, match="x: cannot load a causal LM") as caught,
            folder_checks.loading("x"),
        ):
            raise problem
        assert "\n" not in str(caught.value)

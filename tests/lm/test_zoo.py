"""Checkpoints as people have them: architectures, vocabularies, files, adapters; and broken ones.

A folder either scores items as transformers' own forward call does, or is refused in one line.
"""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import replace

import peft
import pytest
import safetensors.torch
import tokenizers
import torch
import transformers
from test_commands import recast

from recast.lm import engine_check
from recast.lm.dataset import load_data
from recast.lm.engine_check import check_engine
from recast.lm.optional_extra import LMError
from recast.lm.prefix import packed_logp, reencoded_logp
from recast.lm.pretrained import identity, open_model
from recast.lm.spelling import Spelling, plain

# PEFT still asks transformers by names that it will drop.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`:UserWarning"),
]

PATTERNS = {
    "minionerec": plain(3),
    "onerec": Spelling("<s_", "_", ">", ("a", "b", "c"), 0, "<|sid_begin|>", "<|sid_end|>"),
    "pipes": Spelling("<|sid_", "_", "|>", ("1", "2", "3")),
    "brackets": Spelling("[", "", "]", ("A", "B", "C")),
}
SIZES = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 512,
}  # fmt: skip
FAMILIES = {
    "Llama": {}, "Mistral": {"sliding_window": 128}, "Qwen2": {}, "Qwen3": {}, "Gemma": {},
    "GPT2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 512}, "Phi3": {},
    "Qwen3Moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
}  # fmt: skip


def tokenizer_of(spelling, words=False):
    """Byte-level BPE with added codes in a shuffled order, as of Qwen; or whole words."""
    names = [spelling.name(level, code) for level in range(3) for code in range(3)]
    random.Random(0).shuffle(names)
    names += [text for text in (spelling.opening, spelling.closing) if text]
    if words:
        every = ["<unk>", "The", "user", "bought", ",", "oldest", "first", ":", "Next", "item"]
        model = tokenizers.models.WordLevel(
            {word: i for i, word in enumerate([*every, *names])}, unk_token="<unk>"
        )
        inner = tokenizers.Tokenizer(model)
        inner.pre_tokenizer = tokenizers.pre_tokenizers.Split(
            tokenizers.Regex(r"<[^<>]+>|\[[^\]]+\]|\w+|[^\w\s]"), behavior="isolated"
        )
        return transformers.PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>")
    letters = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    inner = tokenizers.Tokenizer(
        tokenizers.models.BPE(vocab={letter: i for i, letter in enumerate(letters)}, merges=[])
    )
    inner.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = tokenizers.decoders.ByteLevel()
    made = transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="<|endoftext|>", pad_token="<|endoftext|>"
    )
    made.add_tokens(names)
    return made


def model_of(family, rows, tied=False, **more):
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(
        **{
            "vocab_size": rows, "bos_token_id": None, "eos_token_id": None, "pad_token_id": None,
            "initializer_range": 0.5, "tie_word_embeddings": tied,
            **({} if family == "GPT2" else SIZES), **FAMILIES[family], **more,
        }
    )  # fmt: skip
    kind = "GPT2LMHeadModel" if family == "GPT2" else f"{family}ForCausalLM"
    return getattr(transformers, kind)(config).eval()


def saved(folder, model, tokenizer, **how):
    model.save_pretrained(folder, **how)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    return folder


def check_scores(folder, data, model, tokenizer, spelling, tolerance=1e-4):
    """Scores of an opened folder, both ways, equal those of the model's own forward call."""
    start, row = open_model(str(folder), data), data.test[0]
    text = "".join(spelling.item(sid) for sid in row.history)
    text = f"The user bought, oldest first: {text}\nNext item: {spelling.opening}"
    ids = tokenizer.encode(text, add_special_tokens=False)
    prompts = start.vocabulary.prompts([row.history])
    paths = [other.target for other in data.test[:5]]
    with torch.no_grad():
        wanted = []
        for path in paths:
            names = [spelling.name(level, code) for level, code in enumerate(path)]
            whole = [*ids, *tokenizer.convert_tokens_to_ids(names)]
            logits = model(input_ids=torch.tensor([whole])).logits.float()[0, -4:-1]
            wanted.append(torch.log_softmax(logits, -1)[torch.arange(3), torch.tensor(whole[-3:])])
        for score in (reencoded_logp, packed_logp):
            found = score(start.model, start.vocabulary, prompts, torch.tensor([paths]))[0]
            assert torch.allclose(found, torch.stack(wanted), atol=tolerance), score.__name__
    assert start.tokenizer.encode(text, add_special_tokens=False) == ids
    return start


@pytest.fixture
def data(data_folder):
    return load_data(data_folder, 3)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tied", [False, True])
def test_a_folder_of_any_family_scores_as_its_own_forward_call_does(family, tied, data, tmp_path):
    tied = tied or family == "GPT2"
    tokenizer = tokenizer_of(PATTERNS["minionerec"])
    model = model_of(family, len(tokenizer) + (7 if tied else 0), tied)
    shards = {"max_shard_size": "8KB"} if tied else {}
    folder = saved(tmp_path / "m", model, tokenizer, **shards)
    assert len(list(folder.glob("*.safetensors"))) > (1 if tied else 0)
    check_scores(folder, data, model, tokenizer, PATTERNS["minionerec"])


@pytest.mark.parametrize("words", [False, True], ids=["bytes", "words"])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_codes_are_found_in_the_tokenizer_as_its_file_has_it(pattern, words, data, tmp_path):
    """With and without its configuration: the class that a model's type stands for would build
    another tokenizer from the same words."""
    tokenizer = tokenizer_of(PATTERNS[pattern], words)
    model = model_of("Qwen2", len(tokenizer) + 3)
    folder = saved(tmp_path / "m", model, tokenizer)
    check_scores(folder, data, model, tokenizer, PATTERNS[pattern])
    (folder / "tokenizer_config.json").unlink()
    check_scores(folder, data, model, tokenizer, PATTERNS[pattern])


def test_weights_in_bfloat16_are_loaded_as_they_are(data, tmp_path):
    tokenizer = tokenizer_of(PATTERNS["minionerec"])
    model = model_of("Qwen3", len(tokenizer)).to(torch.bfloat16)
    folder = saved(tmp_path / "m", model, tokenizer)
    wide = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    check_scores(folder, data, wide, tokenizer, PATTERNS["minionerec"])


def change(path, **fields):
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def drop_weights(folder):
    path = folder / "model.safetensors"
    state = safetensors.torch.load_file(path)
    kept = {name: value for name, value in state.items() if "layers.1.mlp" not in name}
    safetensors.torch.save_file(kept, path, metadata={"format": "pt"})


def spoil(folder):
    path = folder / "model.safetensors"
    state = safetensors.torch.load_file(path)
    state["model.norm.weight"][0] = float("nan")
    safetensors.torch.save_file(state, path, {"format": "pt"})


def inner(folder):
    files = sorted(folder.iterdir())
    (folder / "checkpoint-9").mkdir()
    return files


def cut(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


BROKEN = {
    "weights are lacking": (drop_weights, "lack 3 weights that config.json asks for"),
    "a layer too many": (
        lambda d: change(d / "config.json", num_hidden_layers=3),
        "lack 9 weights that config.json asks for",
    ),
    "another width": (
        lambda d: change(d / "config.json", intermediate_size=48),
        "its weights have other shapes than config.json says",
    ),
    "cut weights": (cut, "file not fully covered"),
    "pickled weights": (
        lambda d: (d / "model.safetensors").rename(d / "pytorch_model.bin"),
        "no *.safetensors file here",
    ),
    "no configuration": (lambda d: (d / "config.json").unlink(), "cannot load a causal LM"),
    "half a tokenizer": (
        lambda d: (d / "tokenizer.json").write_text("{"),
        "tokenizer.json: damaged, not a JSON object",
    ),
    "a short context": (
        lambda d: change(d / "config.json", max_position_embeddings=32),
        "prompts of up to 55 tokens, and the model attends to 32; lower --recent",
    ),
    "a narrow window": (
        lambda d: change(d / "config.json", model_type="mistral", sliding_window=8),
        "the model attends to 8",
    ),
    "capped logits": (
        lambda d: change(d / "config.json", model_type="granite", logits_scaling=3.0),
        "changes its logits after the output embedding",
    ),
    "quantised weights": (
        lambda d: change(d / "config.json", quantization_config={"quant_method": "unheard of"}),
        "its weights are quantised (unheard of)",
    ),
    "weights that are no numbers": (lambda d: spoil(d), "its logits are no finite numbers"),
    "a trainer's output": (
        lambda d: [p.rename(d / "checkpoint-9" / p.name) for p in inner(d)],
        "name one of the folders in it: checkpoint-9",
    ),
    "code of its own": (
        lambda d: change(
            d / "config.json",
            model_type="own",
            auto_map={"AutoConfig": "own.C", "AutoModelForCausalLM": "own.M"},
        ),
        "it brings code of its own; --trust-remote-code would run that",
    ),
    "adapters of nothing": (
        lambda d: (d / "adapter_config.json").write_text("{}"),
        "expected the adapters of a model",
    ),
    "adapters of themselves": (
        lambda d: (d / "adapter_config.json").write_text(
            json.dumps({"base_model_name_or_path": str(d)})
        ),
        "is the folder of the adapters itself",
    ),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_folder_is_refused_in_one_line_and_never_filled_with_random_weights(
    how, data, tmp_path
):
    spoil, message = BROKEN[how]
    tokenizer = tokenizer_of(PATTERNS["minionerec"])
    folder = saved(tmp_path / "m", model_of("Llama", len(tokenizer)), tokenizer)
    spoil(folder)
    with pytest.raises(LMError) as caught:
        open_model(str(folder), data)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


STRANGE = {
    "attention by distance": ("BloomForCausalLM", {"hidden_size": 16, "n_layer": 1, "n_head": 2}),
    "a state from token to token": (
        "MambaForCausalLM", {"hidden_size": 16, "num_hidden_layers": 1, "state_size": 4},
    ),
    "capped logits": ("Gemma2ForCausalLM", {**SIZES, "final_logit_softcapping": 1.0}),
    "attention both ways": (
        "BertLMHeadModel",
        {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1,
         "num_attention_heads": 2},
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", STRANGE)
def test_a_model_that_the_engine_would_misread_is_refused_in_one_line(how):
    name, sizes = STRANGE[how]
    kind = getattr(transformers, name)
    model = kind(kind.config_class(vocab_size=20, pad_token_id=0, **sizes)).eval()
    before = torch.get_rng_state()
    with pytest.raises(LMError, match=r"this engine|no finite numbers") as caught:
        check_engine(model)
    assert "\n" not in str(caught.value)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("spoilt", ["packed_logp", "reencoded_logp", "sample"])
def test_each_way_of_the_engine_is_held_to_the_models_own(spoilt, monkeypatch):
    model = model_of("Qwen3", 20)
    check_engine(model)
    right = getattr(engine_check, spoilt)

    def wrong(*args, **options):
        found = right(*args, **options)
        return replace(found, logp=found.logp + 0.01) if spoilt == "sample" else found + 0.01

    monkeypatch.setattr(engine_check, spoilt, wrong)
    with pytest.raises(LMError, match=r"says other things of a text than this engine"):
        check_engine(model)


@pytest.mark.parametrize("begins", [True, False])
def test_a_text_begins_as_the_tokenizer_itself_begins_it(begins, data, tmp_path):
    """A token for the beginning alone says nothing; one for the end never stands before codes."""
    tokenizer = tokenizer_of(PATTERNS["minionerec"])
    tokenizer.bos_token = tokenizer.eos_token
    mark, number = tokenizer.eos_token, tokenizer.eos_token_id
    single = f"{mark} $A {mark}" if begins else f"$A {mark}"
    tokenizer._tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single=single, special_tokens=[(mark, number)]
    )
    model = model_of("Llama", len(tokenizer))
    start = open_model(str(saved(tmp_path / "m", model, tokenizer)), data)
    assert (start.vocabulary.before[0] == number) is begins
    assert number not in start.vocabulary.before[1:] + start.vocabulary.after


def adapted(folder, base, rows, **how):
    """Random adapters of a saved model; the model with them."""
    model = transformers.AutoModelForCausalLM.from_pretrained(base)
    if rows != model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(rows, mean_resizing=False)
    config = peft.LoraConfig(r=2, init_lora_weights=False, task_type="CAUSAL_LM", **how)
    with_adapters = peft.get_peft_model(model, config).eval()
    with_adapters.save_pretrained(folder)
    return with_adapters


@pytest.mark.parametrize("beside", [True, False], ids=["tokenizer", "no tokenizer"])
def test_adapters_are_merged_into_the_model_that_they_name(beside, data, tmp_path):
    tokenizer = tokenizer_of(PATTERNS["minionerec"])
    base = saved(tmp_path / "base", model_of("Llama", len(tokenizer)), tokenizer)
    model = adapted(tmp_path / "a", base, len(tokenizer), target_modules="all-linear")
    if beside:
        tokenizer.save_pretrained(tmp_path / "a")
    start = check_scores(tmp_path / "a", data, model, tokenizer, PATTERNS["minionerec"])
    assert all(weight.requires_grad for weight in start.model.parameters())
    before = identity(str(tmp_path / "a"))
    saved(base, model_of("Llama", len(tokenizer), attention_bias=True), tokenizer)
    assert identity(str(tmp_path / "a")) != before
    shutil.rmtree(base)
    with pytest.raises(LMError, match=r"holds adapters of .*/base, which is not here"):
        open_model(str(tmp_path / "a"), data)


def test_adapters_with_tokens_of_their_own_bring_their_rows(data, tmp_path):
    few = tokenizer_of(Spelling("<x", "_", ">", ("a", "b", "c")))
    base = saved(tmp_path / "base", model_of("Qwen2", len(few) - 9), few)
    tokenizer = tokenizer_of(PATTERNS["minionerec"])
    full = {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head"]}
    model = adapted(tmp_path / "a", base, len(tokenizer), **full)
    tokenizer.save_pretrained(tmp_path / "a")
    check_scores(tmp_path / "a", data, model, tokenizer, PATTERNS["minionerec"])
    adapted(tmp_path / "b", base, len(tokenizer), **{**full, "modules_to_save": ["embed_tokens"]})
    tokenizer.save_pretrained(tmp_path / "b")
    path = tmp_path / "b" / "adapter_model.safetensors"
    state = safetensors.torch.load_file(path)
    inner = {name: value for name, value in state.items() if "lm_head" not in name}
    safetensors.torch.save_file(inner, path)
    with pytest.raises(LMError, match="none of the output layer for them"):
        open_model(str(tmp_path / "b"), data)


def test_rl_starts_from_adapters_of_gpt2_and_keeps_a_model_of_its_own(
    data_folder, tmp_path, capsys
):
    tokenizer = tokenizer_of(PATTERNS["pipes"])
    base = saved(tmp_path / "base", model_of("GPT2", len(tokenizer), True), tokenizer)
    adapted(tmp_path / "a", base, len(tokenizer), target_modules=["c_attn"], fan_in_fan_out=True)
    words = ["rl", data_folder, "--codebook", 3, "--start", tmp_path / "a", "--strategy", "recast"]
    words += ["--steps", 2, "--batch", 4, "--group", 4, "--eval-prompts", 8, "--kl", 0.1]
    words += ["--store", tmp_path / "runs", "--out", tmp_path / "out", "--format", "json"]
    assert recast(*words) == 0, capsys.readouterr().err
    full = json.loads(capsys.readouterr().out)
    kept = next((tmp_path / "out").iterdir())
    assert recast(*words, "--lora", 2) == 0, capsys.readouterr().err
    assert json.loads(capsys.readouterr().out) != full
    shutil.rmtree(base)
    test = ["evaluate", data_folder, "--codebook", 3, "--model", kept, "--limit", 8]
    assert recast(*test) == 0, capsys.readouterr().err

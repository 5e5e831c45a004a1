"""Checkpoints: whole or not at all, recognised when damaged, safetensors only."""

from __future__ import annotations

import json
import os
import shutil
import struct
from pathlib import Path

import pytest
import tiny
import torch
import transformers

from recast.lm import checkpoint, containers
from recast.lm.dataset import load_data
from recast.lm.device import CPU, Placement
from recast.lm.gguf_files import gguf_weights
from recast.lm.memory import available, check_memory, tensors
from recast.lm.optional_extra import LMError
from recast.lm.prefix import packed_logp
from recast.lm.pretrained import ModelReading, open_model


def saved(folder: Path, seed: int = 0) -> Path:
    vocab = tiny.vocabulary()
    checkpoint.save_model(folder, tiny.model("qwen3", vocab, seed), vocab, "abc", {"note": 1})
    return folder


def test_a_model_comes_back_as_it_was(tmp_path):
    place = saved(tmp_path / "model")
    found = checkpoint.load_model(place, "abc")
    trie, vocab = tiny.catalogue(0), tiny.vocabulary()
    prompts, codes = tiny.prompts(vocab, trie, 0, 2), tiny.paths(trie, 0, 2, 3)
    with torch.no_grad():
        wanted = packed_logp(tiny.model("qwen3", vocab), vocab, prompts, codes, trie)
        assert torch.equal(packed_logp(found.model, found.vocabulary, prompts, codes, trie), wanted)
    assert found.meta == {"note": 1}
    assert not list(place.glob("*.bin"))
    assert not list(tmp_path.glob(".*"))


def test_code_that_a_model_brought_runs_only_when_asked(tmp_path, monkeypatch):
    place, asked = saved(tmp_path / "model"), []

    def from_pretrained(folder, *, trust_remote_code=None, **_):
        asked.append((Path(folder), trust_remote_code))
        if not trust_remote_code:
            raise ValueError("contains custom code; pass `trust_remote_code=True`")
        return tiny.model("qwen3", tiny.vocabulary())

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", from_pretrained)
    with pytest.raises(LMError, match="it brings code of its own; --trust-remote-code would run"):
        checkpoint.load_model(place)
    checkpoint.load_model(place, trust_remote_code=True)
    assert asked == [(place, False), (place, True)]  # None would ask the terminal


def damage(place: Path, how: str) -> None:
    weights = place / "model.safetensors"
    if how == "truncated":
        weights.write_bytes(weights.read_bytes()[:-10])
    elif how == "missing file":
        weights.unlink()
    elif how == "half-written":
        (place / "recast.json").unlink()
    elif how == "manifest":
        (place / "recast.json").write_text("{")
    elif how == "format":
        manifest = json.loads((place / "recast.json").read_text())
        (place / "recast.json").write_text(json.dumps({**manifest, "format": 99}))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("truncated", r"model.safetensors: missing or damaged, its checksum"),
        ("missing file", r"model.safetensors: missing or damaged"),
        ("half-written", r"half-written, it has no recast.json"),
        ("manifest", r"recast.json: unreadable"),
        ("format", r"format 99; this version reads 1"),
    ],
)
def test_a_damaged_checkpoint_is_named_in_one_line(how, message, tmp_path):
    place = saved(tmp_path / "model")
    damage(place, how)
    with pytest.raises(LMError, match=message) as caught:
        checkpoint.load_model(place)
    assert "\n" not in str(caught.value)


AROUND = {"before": [], "after": [], "pad": 0, "recent": 1}
FORGED = {
    "deep": "[" * 100_000,
    "a list": "[1]",
    "no notes": {"meta": 1},
    "no catalogue": {"fingerprint": None},
    "a format of its own": {"format": "x" * 5000},
    "files as a list": {"files": ["model.safetensors"]},
    "no vocabulary": {"vocabulary": None},
    "ragged": {"vocabulary": {**AROUND, "tokens": [[1], [1, 2]]}},
    "endless": {"vocabulary": {**AROUND, "tokens": [[1e400]]}},
    "beyond": {"vocabulary": {**AROUND, "tokens": [[99999]]}},
}


def test_a_forged_note_of_a_checkpoint_is_one_short_line(tmp_path):
    note = saved(tmp_path / "model") / "recast.json"
    whole = json.loads(note.read_text())
    for said in FORGED.values():
        note.write_text(said if isinstance(said, str) else json.dumps(whole | said))
        with pytest.raises(LMError) as caught:
            checkpoint.load_model(tmp_path / "model")
        assert len(str(caught.value)) < 300 + len(str(tmp_path))


@pytest.mark.parametrize(
    "header", [b"[" * 100_000, b'{"a": {"dtype": "F32", "shape": [1e999]}}', b""]
)
def test_weights_with_a_forged_header_or_none_are_named(header, tmp_path):
    if header:
        content = len(header).to_bytes(8, "little") + header
        (tmp_path / "model.safetensors").write_bytes(content)
    else:
        os.mkfifo(tmp_path / "model.safetensors")
    with pytest.raises(LMError, match=r"its header is unreadable|no regular file"):
        tensors(tmp_path)


def test_an_index_that_does_not_match_the_model_is_refused(tmp_path):
    with pytest.raises(LMError, match=r"trained on another catalogue \(index abc"):
        checkpoint.load_model(saved(tmp_path / "model"), "other")


def test_a_missing_checkpoint_says_how_to_make_one(tmp_path):
    with pytest.raises(LMError, match=r"no checkpoint here.*recast lm sft"):
        checkpoint.load_model(tmp_path / "nothing")


def test_a_kill_between_the_two_renames_loses_nothing(tmp_path, monkeypatch):
    place = saved(tmp_path / "model", seed=0)
    real = Path.rename

    def rename(self, target):
        if self.name.startswith(".model.tmp-"):
            raise KeyboardInterrupt
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(KeyboardInterrupt):
        saved(place, seed=1)
    monkeypatch.undo()
    assert not place.exists()  # the older one waits under its other name ...
    found = checkpoint.load_model(place, "abc")
    want = tiny.model("qwen3", tiny.vocabulary(), 0)
    assert torch.equal(found.model.lm_head.weight, want.lm_head.weight)
    saved(place, seed=2)  # ... and the next save tidies up
    assert not list(tmp_path.glob(".*"))


def test_a_full_disk_is_one_line_and_keeps_the_older_checkpoint(tmp_path, monkeypatch):
    place = saved(tmp_path / "model")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "_fsync", full)
    with pytest.raises(LMError, match=r"cannot write a checkpoint \(No space left on device\)"):
        saved(place, seed=1)
    monkeypatch.undo()
    assert checkpoint.load_model(place).meta == {"note": 1}


def test_state_comes_back_bit_for_bit(tmp_path):
    state = {"a": torch.randn(3, 2).t(), "b": torch.tensor(1.5)}
    checkpoint.save_state(tmp_path / "state", state, {"step": 3})
    found, meta = checkpoint.load_state(tmp_path / "state")
    assert meta == {"step": 3}
    assert all(torch.equal(found[k], v) for k, v in state.items())
    assert checkpoint.load_state(tmp_path / "none") is None


def test_pickled_weights_are_not_read(tmp_path, data_folder):
    model = tiny.model("llama", tiny.vocabulary())
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(LMError, match=r"no \*.safetensors file"):
        open_model(str(tmp_path), load_data(data_folder, 3))


def header(folder, shape):
    """A safetensors file whose header alone says what is in it."""
    body = json.dumps({"w": {"dtype": "BF16", "shape": shape, "data_offsets": [0, 0]}}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(body)) + body)


@pytest.mark.parametrize(
    ("dtype", "trained", "copies", "message"),
    [
        ("float32", "adam", 0, "need 29.8 GiB for weights, gradient and Adam in float32, cpu has "
         "4.0 GiB; use --lora --dtype bfloat16 or a smaller model"),
        ("bfloat16", "adam", 0, "need 29.8 GiB for .* in bfloat16, .* use --lora or a small"),
        ("float32", "adapters", 0, "need 7.5 GiB for weights in float32, .* use --dtype bfloat"),
        ("bfloat16", "sgd", 0, "need 7.5 GiB for weights and gradient in .* GiB; use a small"),
        ("bfloat16", "nothing", 1, "need 7.5 GiB for 2 times its weights in bfloat16, .*; use a"),
        ("bfloat16", "adapters", 0, None),
        ("bfloat16", "nothing", 0, None),
    ],
)  # fmt: skip
def test_memory_is_counted_as_it_will_be_loaded_and_no_option_that_was_given_is_advised(
    dtype, trained, copies, message, tmp_path, monkeypatch
):
    """Two billion parameters in files of bfloat16, on a machine of 4 GiB; and the same again in a
    file that transformers does not read."""
    header(tmp_path, [2000, 1_000_000])
    shutil.copy(tmp_path / "model.safetensors", tmp_path / "consolidated.safetensors")
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 2**20}.get)
    monkeypatch.setattr(containers, "GROUPS", tmp_path / "none")
    placement = Placement(torch.device("cpu"), getattr(torch, dtype))
    if message is None:
        check_memory(tmp_path, placement, trained, copies)
        return
    with pytest.raises(LMError, match=message):
        check_memory(tmp_path, placement, trained, copies)


@pytest.mark.parametrize(
    ("groups", "limits", "gib"),
    [
        ("0::/", {"memory.max": "2147483648\n"}, 2),
        ("0::/", {"memory.max": "max\n"}, 4),
        ("0::/pod/one", {"pod/memory.max": "1073741824", "pod/one/memory.max": "2147483648"}, 1),
        ("0::/host/docker/abc", {"memory.max": "3221225472"}, 3),
        ("0::/", {"memory.max": "8589934592"}, 4),
        ("9:cpu:/a\n4:cpuset,memory:/a\n0::/", {"memory/a/memory.limit_in_bytes": "2147483648"}, 2),
        ("4:memory:/a", {"memory/a/memory.limit_in_bytes": "9223372036854771712"}, 4),
        ("4:memory:/a\n0::/b", {"unified/b/memory.max": "1073741824"}, 1),
        ("0::/../../up", {"memory.max": "2147483648"}, 2),
        ("nonsense", {"memory.max": "1"}, 4),
    ],
)
def test_the_lowest_limit_of_a_container_counts_on_a_machine_of_four_gib(
    groups, limits, gib, tmp_path, monkeypatch
):
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 2**20}.get)
    monkeypatch.setattr(containers, "GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(containers, "MOUNTS", tmp_path / "mount")
    (tmp_path / "cgroup").write_text(groups)
    for name, text in limits.items():
        path = tmp_path / "mount" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert available(CPU.device) == gib * 2**30
    header(tmp_path, [2000, 1_000_000])
    said = "4.0 GiB; use" if gib == 4 else rf"{gib}.0 GiB \(the limit of its container\); use"
    with pytest.raises(LMError, match=said):
        check_memory(tmp_path, CPU)


def gguf(path: Path, shapes: list[list[int]], version: int = 3) -> Path:
    """A GGUF file's header, with a value of every kind before its tensors."""

    def text(said: str) -> bytes:
        return struct.pack("<Q", len(said)) + said.encode()

    values = [
        text("a.number") + struct.pack("<II", 4, 7),
        text("a.text") + struct.pack("<I", 8) + text("qwen3"),
        text("tokens") + struct.pack("<IIQ", 9, 8, 2) + text("<a_1>") + text("x"),
        text("scores") + struct.pack("<IIQ2f", 9, 6, 2, 0.5, 1.5),
    ]
    body = struct.pack("<4sIQQ", b"GGUF", version, len(shapes), len(values)) + b"".join(values)
    for number, shape in enumerate(shapes):
        body += text(f"blk.{number}.weight") + struct.pack("<I", len(shape))
        body += struct.pack(f"<{len(shape)}Q", *shape) + struct.pack("<IQ", 2, 0)
    path.write_bytes(body)
    return path


def test_the_weights_of_a_gguf_file_are_counted_by_its_header(tmp_path, monkeypatch):
    path = gguf(tmp_path / "model.Q4_0.gguf", [[2000, 1_000_000], [2000]])
    assert gguf_weights(path) == 2_000_002_000
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 2**20}.get)
    with pytest.raises(LMError, match=r"2\.00 billion parameters need 29\.8 GiB"):
        check_memory(path, CPU)
    whole = path.read_bytes()
    for damaged in (b"", whole[:-8], b"GGML" + whole[4:], gguf(path, [[1]], 1).read_bytes()):
        path.write_bytes(damaged)
        with pytest.raises(LMError, match=r"model.Q4_0.gguf: damaged, its header is unreadable"):
            gguf_weights(path)


def test_a_folder_of_gguf_files_alone_says_what_reads_them(tmp_path, data_folder):
    gguf(tmp_path / "b.gguf", [[4]])
    data = load_data(data_folder, 3)
    with pytest.raises(LMError) as caught:
        open_model(str(tmp_path), data)
    assert f"--model {tmp_path} --gguf b.gguf` reads one, other commands" in str(caught.value)
    with pytest.raises(LMError, match=r"^--gguf c.gguf: no such file in .*; GGUF files there: b.g"):
        open_model(str(tmp_path), data, how=ModelReading(gguf="c.gguf"))
    with pytest.raises(LMError, match=r"b.gguf: a file; name the folder .* \(--gguf b.gguf of"):
        open_model(str(tmp_path / "b.gguf"), data)

"""The page on published checkpoints, followed on stand-ins of the same vocabulary and layout."""

from __future__ import annotations

import json
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_commands import recast
from test_pretrained import ONEREC, checkpoint_of

from recast.lm.spelling import plain
from workbench.commands.lm.recipe import RECIPES
from workbench.store.runs import Store

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "published-models.md").read_text(encoding="utf-8")
SHORT = {
    "data": [],
    "evaluate": ["--limit", "8"],
    "predict": ["--group", "8"],
    "rl": ["--steps", "1", "--batch", "4", "--group", "4", "--eval-prompts", "8"],
    "study": shlex.split(
        "--steps 1 --batch 4 --group 4 --eval-prompts 8 --stops 1 --seeds 2 --tuning-seeds 1"
    ),
}
CHAT = "{% for m in messages %}{{ m['content'] }}{% endfor %}"


def commands(part: str) -> list[list[str]]:
    """The `recast lm` commands of one section of the page."""
    text = PAGE.split(f"## {part}\n")[1].split("\n## ")[0].replace("\\\n", " ")
    return [shlex.split(line) for line in re.findall(r"^    recast lm (.*)$", text, re.MULTILINE)]


def follow(part: str, names: dict[str, object], capsys: pytest.CaptureFixture[str]) -> None:
    for words in commands(part):
        filled = [str(names.get(word, word)) for word in words]
        filled += ["--out", f"{names['OUT']}-predictions"] if words[0] == "predict" else []
        code = recast(*filled, *SHORT[words[0]])
        assert code == 0, (filled, capsys.readouterr().err)


def item(codes: tuple[int, ...]) -> str:
    return (
        "<|sid_begin|>"
        + "".join(f"<s_{x}_{c}>" for x, c in zip("abc", codes, strict=True))
        + ("<|sid_end|>")
    )


def recif(folder: Path) -> None:
    """Files as `prepare_rl.sh` leaves them: train and test, messages as text, several targets."""
    folder.mkdir()
    sids = [(a, b, c) for a in range(3) for b in range(3) for c in range(2)]
    for split, users in (("train", 60), ("test", 12)):
        rows = []
        for user in range(users):
            past = "".join(item(sids[(user + k) % 12]) for k in range(3))
            right = "".join(item(sids[(user + k) % 18]) for k in (4, 7)[: 1 + user % 2])
            thought = f"<think>not {item(sids[17])}</think>" if user % 3 == 0 else ""
            messages = [
                {"role": "user", "content": [{"type": "text", "text": f"bought {past}"}]},
                {"role": "assistant", "content": [{"type": "text", "text": thought + right}]},
            ]
            rows.append({"uuid": f"{split}{user}", "source": "ad", "messages": str(messages)})
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{split}.parquet")


@pytest.mark.drill
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_reader_with_minionerecs_checkpoint_gets_to_a_comparison(data_folder, tmp_path, capsys):
    for path in [*data_folder.glob("*/*.csv"), *data_folder.glob("index/*")]:
        end = path.name.removeprefix("tiny")
        for name in ("Office_Products", "Industrial_and_Scientific"):
            (path.parent / f"{name}{end}").write_bytes(path.read_bytes())
        path.unlink()
    checkpoint_of(tmp_path / "m", plain(3), 256)
    names = {"DIR": data_folder, "CHECKPOINT": tmp_path / "m"}
    names |= {"RUNS": tmp_path / "runs", "OUT": tmp_path / "out"}
    follow("MiniOneRec", names, capsys)
    said = capsys.readouterr()
    assert "codes <a_0> ... <c_0>" in said.err
    for name in ("rank_penalty", "grpo_trl", "recast", "repair_only", "sft"):
        assert name in said.out


@pytest.mark.drill
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_reader_with_onerecs_checkpoint_gets_to_a_comparison(tmp_path, capsys, monkeypatch):
    recif(tmp_path / "recif")
    _, tokenizer = checkpoint_of(tmp_path / "m", ONEREC, 8192, extra=["bought", "<|im_end|>"])
    tokenizer.chat_template, tokenizer.eos_token = CHAT, "<|im_end|>"
    tokenizer.save_pretrained(tmp_path / "m")
    names = {"DIR": tmp_path / "recif", "CHECKPOINT": tmp_path / "m", "OUT": tmp_path / "out"}
    names |= {"RUNS": tmp_path / "runs"}
    follow("OpenOneRec", names, capsys)
    said = capsys.readouterr()
    assert "items between <|sid_begin|> and <|sid_end|>" in said.err
    assert "target_power" in said.out
    words = [sys.executable, "examples/recif_to_verl.py", str(tmp_path / "recif" / "test.parquet")]
    words += [str(tmp_path / "verl.parquet"), str(tmp_path / "m"), "--think"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = pq.read_table(tmp_path / "verl.parquet").to_pylist()
    assert len(rows) == 12
    known = tokenizer.get_vocab()
    codes = ("<|sid_begin|>", "<s_a_0>", "<s_b_2>", "<s_c_0>", "<|sid_end|>", "<|im_end|>")
    assert rows[0]["target_ids"] == [[known[token] for token in codes]]
    assert len(rows[1]["target_ids"]) == 2
    assert rows[1]["reward_model"]["ground_truth"].count("<|sid_begin|>") == 2
    assert rows[0]["prompt"][0]["content"].endswith("/think")
    for changed, says in (
        ([*words[1:], "--most", "11"], "--most: every prompt is longer than 1 tokens"),
        ([words[1], str(tmp_path / "gone.parquet"), *words[3:]], "gone.parquet"),
    ):
        monkeypatch.setattr(sys, "argv", changed)
        with pytest.raises(SystemExit, match=says) as caught:
            runpy.run_path(words[1], run_name="__main__")
        assert "\n" not in str(caught.value)


def test_the_recipes_of_the_page_are_the_commands(data_folder, tmp_path, capsys):
    """Defaults of a recipe reach the run; what is given beside it wins."""
    listed = re.findall(r"^\| `(minionerec\w*)` \| .* \| `([^`]+)` \|$", PAGE, re.MULTILINE)
    assert dict(listed) == {name: recipe["strategies"][0] for name, recipe in RECIPES.items()}
    checkpoint_of(tmp_path / "m", plain(3), 256)
    vectors = np.random.default_rng(0).normal(size=(19, 5)).astype("float32")
    np.save(tmp_path / "items.npy", vectors)
    common = ["rl", data_folder, "--start", tmp_path / "m", "--store", tmp_path / "runs"]
    common += ["--steps", 1, "--batch", 4, "--eval-prompts", 8, "--format", "json"]
    code = recast(*common, "--recipe", "minionerec", "--group", 6)
    said = capsys.readouterr()
    assert code == 0, said.err
    rows = json.loads(said.out)
    assert {row["strategy"] for row in rows} == {"start", "rank_penalty"}
    assert {row["lr"] for row in rows if row["strategy"] != "start"} == {1e-5}
    stored = Store(tmp_path / "runs").load()
    for name, value in (("search", "beam"), ("free_logp", True), ("kl_weight", 1e-3), ("group", 6)):
        assert stored[f"train.{name}"].unique().to_list() == [value]
    assert json.loads(stored["start.wording"][0])["prompt"] == "minionerec"
    semantic = [*common, "--recipe", "minionerec_semantic", "--group", 6]
    assert recast(*semantic, "--similarity", tmp_path / "items.npy") == 0
    capsys.readouterr()
    np.save(tmp_path / "items.npy", vectors[:5])
    assert recast(*semantic, "--similarity", tmp_path / "items.npy") == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "expected floating point [19, d], a row per item" in said

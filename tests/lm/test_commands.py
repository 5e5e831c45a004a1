"""The `recast lm` commands as a user meets them, on the made-up folder."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from pathlib import Path

import polars as pl
import pytest
import tiny
import torch
import transformers
from test_data import word_tokenizer

from recast.lm import pretrained
from recast.lm.optional_extra import LMError
from recast.lm.vocabulary import code_name
from workbench.cli import main
from workbench.commands.bounds import RATE
from workbench.store.runs import Store

LM = ["lm"]


def recast(*words: object, group: list[str] = LM) -> int:
    """Run the command in this process; the exit code."""
    before = sys.argv
    sys.argv = ["recast", *group, *map(str, words)]
    try:
        main()
    except SystemExit as done:
        return int(done.code or 0)
    finally:
        sys.argv = before
    return 0


@pytest.fixture
def started(data_folder: Path, tmp_path: Path) -> Path:
    """A small model after one epoch."""
    assert recast("sft", data_folder, "--out", tmp_path / "sft", "--epochs", 1) == 0
    return tmp_path / "sft" / "model"


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_data_prints_the_report_in_three_formats(data_folder, capsys):
    assert recast("data", data_folder, "--format", "json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert {"quantity": "collisions", "value": 1.0}.items() <= rows[2].items()
    assert recast("data", data_folder, "--format", "csv") == 0
    assert table(capsys.readouterr().out)[0]["quantity"] == "items"
    assert recast("data", data_folder) == 0
    assert "Splits follow time, not users" in capsys.readouterr().out


def test_sft_then_rl_then_evaluate_and_the_store_reads_like_a_simulated_one(
    started, data_folder, tmp_path, capsys
):
    capsys.readouterr()
    store = tmp_path / "store"
    words = ["rl", data_folder, "--start", started, "--strategy", "recast", "--strategy", "sft"]
    words += ["--steps", 2, "--evaluations", 1, "--batch", 8, "--group", 4, "--seeds", 2]
    words += ["--eval-prompts", 16, "--store", store, "--out", tmp_path / "kept"]
    assert recast(*words, "--format", "csv") == 0
    rows = table(capsys.readouterr().out)
    assert [row["strategy"] for row in rows if row["slice"] == "all"] == ["start", "recast", "sft"]
    frame = Store(store).load()
    assert frame["run"].n_unique() == 4
    assert set(frame["world"]) == {"lm:data"}
    last = frame.filter((pl.col("strategy") == "recast") & (pl.col("step") == 2))
    assert set(last["rollouts"]) == {2 * 8 * 4}
    assert not list((store / ".lm-progress").glob("*"))
    assert recast(*words, "--format", "csv") == 0  # everything is there: nothing is trained again
    assert table(capsys.readouterr().out) == rows
    assert recast("recast", "sft", "--store", store, "--format", "csv", group=["compare"]) == 0
    assert "hr_at_1" in capsys.readouterr().out
    other = tmp_path / "kept" / "recast-0.0002-0"
    words = ["evaluate", data_folder, "--model", other, "--against", started, "--format", "csv"]
    assert recast(*words) == 0
    found = {(r["slice"], r["metric"]): r for r in table(capsys.readouterr().out)}
    row = found["all", "pass_at_1"]
    assert float(row["difference"]) == pytest.approx(float(row["value"]) - float(row["other"]))
    assert float(row["difference_low"]) <= float(row["difference"]) <= float(row["difference_high"])
    assert (
        int(found["seen", "hr_at_10"]["prompts"]) + int(found["new", "hr_at_10"]["prompts"]) == 60
    )


def test_a_killed_sft_continues_and_ends_at_the_same_weights(data_folder, tmp_path, monkeypatch):
    words = ["sft", data_folder, "--epochs", 3, "--patience", 3, "--batch", 16]
    assert recast(*words, "--out", tmp_path / "whole") == 0
    from recast.lm import checkpoint

    real, seen = checkpoint.save_state, []

    def killed(*args, **kwargs):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(real(*args, **kwargs))

    monkeypatch.setattr(checkpoint, "save_state", killed)
    assert recast(*words, "--out", tmp_path / "cut") == 130
    monkeypatch.undo()
    assert not (tmp_path / "cut" / "model").exists()
    assert recast(*words, "--out", tmp_path / "cut") == 0
    one, two = (
        (tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("whole", "cut")
    )
    assert one == two


@pytest.mark.filterwarnings("ignore::FutureWarning")  # peft 0.21 asks transformers 5.23 an old name
def test_a_local_pretrained_model_learns_with_lora(data_folder, tmp_path, capsys):
    base = tmp_path / "base"
    words = ["<unk>", "The", "user", "bought", ",", "oldest", "first", ":", "Next", "item"]
    tokenizer = word_tokenizer(words)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(words), hidden_size=16, intermediate_size=24, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(base)
    tokenizer.save_pretrained(base)
    words = ["sft", data_folder, "--codebook", 3, "--model", base, "--out", tmp_path / "out"]
    assert recast(*words, "--lora", 2) == 2
    assert "no tokens for codes of 3 levels" in capsys.readouterr().err
    words.append("--add-tokens")
    assert recast(*words, "--lora", 2, "--epochs", 1) == 0
    saved = transformers.AutoTokenizer.from_pretrained(tmp_path / "out" / "model")
    assert len(saved.encode(code_name(2, 1), add_special_tokens=False)) == 1
    evaluated = ["evaluate", data_folder, "--codebook", 3, "--model", tmp_path / "out" / "model"]
    assert recast(*evaluated, "--limit", 8) == 0
    assert recast(*words, "--chat", "--out", tmp_path / "chat") == 2
    assert "has no chat template" in capsys.readouterr().err


def test_a_checkpoint_of_ours_says_that_it_keeps_its_prompt(started, data_folder, capsys):
    words = ["evaluate", data_folder, "--model", started, "--limit", 8]
    capsys.readouterr()
    assert recast(*words) == 0
    assert "keeps the prompt" not in capsys.readouterr().err
    assert recast(*words, "--recent", 2) == 0
    assert "keeps the prompt that it was trained with; --prompt" in capsys.readouterr().err


def test_training_curves_go_to_the_tracker_that_is_asked_for(
    started, data_folder, tmp_path, monkeypatch, capsys
):
    from accelerate import tracking

    words = ["rl", data_folder, "--start", started, "--strategy", "recast", "--steps", 2]
    words += ["--evaluations", 1, "--batch", 8, "--group", 4, "--eval-prompts", 8]
    words += ["--report-to", "tensorboard", "--store", tmp_path / "store"]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    capsys.readouterr()
    assert recast(*words) == 2
    assert "install it with: pip install tensorboard" in capsys.readouterr().err

    seen: list[tuple[int, str]] = []

    class Kept(tracking.TensorBoardTracker):
        def start(self):
            assert Path(self.logging_dir_param) == tmp_path / "store" / "tracking"

        def log(self, values, step=None, **_):
            seen.extend((step, name) for name in values)

        def finish(self):
            seen.append((-1, "finished"))

    monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, "tensorboard", Kept)
    assert recast(*words) == 0
    assert {(1, "train/update_width"), (2, "train/repaired"), (2, "test/hr_at_10")} <= set(seen)
    assert (0, "validation/pass_at_1") in seen
    assert seen[-1] == (-1, "finished")


def test_an_unknown_semantic_id_is_named_with_its_row(data_folder, tmp_path, capsys):
    path = next((data_folder / "train").glob("*.csv"))
    lines = path.read_text().splitlines()
    lines[3] = lines[3].rsplit(",", 1)[0] + ",<a_2><b_2><c_7>"
    path.write_text("\n".join(lines) + "\n")
    assert recast("sft", data_folder, "--out", tmp_path / "o") == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "row 4: <a_2><b_2><c_7> is not in the index" in line


def test_the_study_states_its_time_and_stops_when_asked(started, data_folder, tmp_path, capsys):
    words = ["study", data_folder, "--start", started, "--batch", 8, "--group", 4, "--time-only"]
    assert recast(*words, "--eval-prompts", 8, "--out", tmp_path / "s", "--steps", 4) == 0
    assert "66 tuning and 110 reporting runs to do, about" in capsys.readouterr().err
    assert not Store(tmp_path / "s" / "store").files()


def test_efficiency_prints_ratios_and_draws_the_chart(tmp_path, capsys):
    words = ["efficiency", "--group", 4, "--group", 8, "--batch", 2, "--repeats", 1]
    words += ["--micro-rows", 0, "--prompt-tokens", 10, "--chart", tmp_path / "e.html"]
    assert recast(*words, "--format", "csv") == 0
    rows = table(capsys.readouterr().out)
    assert len(rows) == 8
    shared = next(
        r for r in rows if (r["strategy"], r["prefix"], r["group"]) == ("recast", "shared", "8")
    )
    assert float(shared["token_ratio"]) == pytest.approx((10 + 2 * 8) / (10 + 2 * 2))
    again = next(
        r for r in rows if (r["strategy"], r["prefix"], r["group"]) == ("recast", "reencoded", "8")
    )
    assert float(again["token_ratio"]) == 8 / 2
    assert float(shared["peak_mib"]) > 0
    assert "vega" in (tmp_path / "e.html").read_text(encoding="utf-8")


@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"
)
def test_efficiency_inside_trl_prints_ratios_and_nothing_else(capsys):
    words = ["efficiency", "--engine", "trl", "--group", 4, "--batch", 2, "--micro-rows", 4]
    words += ["--repeats", 1, "--prompt-tokens", 10]
    assert recast(*words, "--format", "csv") == 0
    grpo, ours = table(capsys.readouterr().out)
    assert (grpo["rows"], ours["rows"]) == ("8", "4")
    assert float(ours["ratio"]) > 1
    assert recast(*words, "--chart", "x.html") == 2
    assert "leave out --engine trl" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data", "{tmp}/none"], "no such folder"),
        (["sft", "{data}", "--out", "{tmp}/o", "--model", "{tmp}/none"], "no checkpoint here"),
        (["rl", "{data}", "--start", "{tmp}/none", "--strategy", "grpo"], "no checkpoint here"),
        (["rl", "{data}", "--start", "{tmp}", "--strategy", "grp"], "did you mean 'grpo'"),
        (
            ["rl", "{data}", "--start", "{tmp}", "--strategy", "grpo", "--lr", "-1"],
            "-1.0 is not in",
        ),
        (["evaluate", "{data}", "--model", "{tmp}/none"], "no checkpoint here"),
        (["efficiency", "--strategy", "grp"], "did you mean 'grpo'"),
        (["efficiency", "--chart", "x.bmp"], "expected a file name ending in .html"),
    ],
)
def test_what_a_user_can_put_right_is_one_line(words, message, data_folder, tmp_path, capsys):
    filled = [w.format(data=data_folder, tmp=tmp_path) for w in words]
    assert recast(*filled) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert message in lines[0]


def test_a_model_of_another_catalogue_is_refused(started, data_folder, capsys):
    index = next((data_folder / "index").glob("*.json"))
    listed = json.loads(index.read_text())
    listed["99"] = ["<a_2>", "<b_2>", "<c_7>"]
    index.write_text(json.dumps(listed))
    assert recast("evaluate", data_folder, "--model", started) == 2
    assert "trained on another catalogue" in capsys.readouterr().err
    assert recast("evaluate", data_folder, "--model", started, "--codebook", 8) == 2
    assert re.search(r"with the same --codebook \(\d+\)\n$", capsys.readouterr().err)


def test_a_command_counts_what_it_will_hold_of_a_model(
    started, data_folder, tmp_path, capsys, monkeypatch
):
    """No gradient where nothing is trained; a frozen reference, and the weights that a study puts
    back, beside it."""

    def counted(_, placement, trained, copies):
        raise LMError(f"{trained} {copies}")

    monkeypatch.setattr(pretrained, "check_memory", counted)
    rl = ["rl", "--start", started, "--strategy", "recast", "--store", tmp_path / "s"]
    study = ["study", "--start", started, "--start", started, "--out", tmp_path / "o"]
    for words, held in (
        (["evaluate", "--model", started], "nothing 0"),
        (["evaluate", "--model", started, "--against", started], "nothing 1"),
        (["sft", "--model", started, "--lora", 2, "--out", tmp_path / "l"], "adapters 0"),
        (rl, "adam 1"),
        ([*rl, "--kl", 0], "adam 0"),
        ([*rl, "--kl", 0, "--lora", 2], "adapters 0"),
        ([*study, "--strategy", "sft"], "adam 3"),
        ([*study, "--strategy", "sft", "--lora", 2], "adapters 1"),
    ):
        assert recast(words[0], data_folder, *words[1:]) == 2
        assert f"error: {held}\n" in capsys.readouterr().err


def test_a_loss_that_explodes_is_one_line_and_nothing_is_stored(
    started, data_folder, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(RATE, "max", 1e31)
    words = ["rl", data_folder, "--start", started, "--strategy", "sft", "--lr", "1e30"]
    words += ["--batch", 8, "--steps", 6, "--eval-prompts", 8, "--store", tmp_path / "s"]
    assert recast(*words) == 2
    assert "lower --lr" in capsys.readouterr().err
    assert not Store(tmp_path / "s").files()
    assert tiny.ARCHITECTURES

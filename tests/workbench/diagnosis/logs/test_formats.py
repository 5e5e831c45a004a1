"""Every trainer's log, written after its own source, is recognised and counted as planted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from planted_logs import rollouts as planted
from planted_logs import trainers as trainer_logs

from recast import REGIMES
from workbench.diagnosis.diagnosis import diagnose, regime_table
from workbench.diagnosis.logs.formats import FORMATS
from workbench.diagnosis.logs.mapping import choice_of
from workbench.diagnosis.logs.read import files_of, read_log
from workbench.errors import LogError, UserError

ROWS = planted.log(5, steps=4, batch=6, group=4)


def built(name: str, folder: Path):
    form, make = trainer_logs.BUILDERS[name]
    return form, read_log(files_of([make(ROWS, folder / name)]))


@pytest.mark.parametrize("name", trainer_logs.BUILDERS)
def test_a_trainers_log_is_recognised_and_its_groups_are_counted(name, tmp_path):
    form, log = built(name, tmp_path)
    found = diagnose(log)
    assert log.form == form
    assert not log.problems.lines()
    assert found.steps == [1, 2, 3, 4]
    assert found.groups["size"].to_list() == [4] * 24
    assert found.known
    table = regime_table(found).row(0, named=True)
    assert {name: table[name] for name in REGIMES} == pytest.approx(planted.regimes_of(ROWS))


def test_every_format_has_a_builder_and_says_whose_source_was_read():
    assert {form for form, _ in trainer_logs.BUILDERS.values()} == set(FORMATS)
    assert all(form.versions for form in FORMATS.values())


def test_numbers_that_reward_functions_only_wrote_down_are_no_rewards(tmp_path):
    _, log = built("trl_parquet", tmp_path)
    assert log.reading.functions == {"answer_reward": 1.0}
    assert "weights solved" in log.words


def test_what_else_a_trainer_logs_is_read(tmp_path):
    _, log = built("nemo_rl", tmp_path)
    assert log.rollouts["mismatch"].mean() == pytest.approx(0.05)
    assert log.rollouts["advantage"].to_list() == pytest.approx([r["advantage"] for r in ROWS])
    _, log = built("slime", tmp_path)
    assert log.rollouts["truncated"].to_list() == [True, False, False, False] * 24
    assert log.rollouts["logp"].mean() == pytest.approx(-0.75)
    _, log = built("openonerec", tmp_path)
    assert log.reading.outcome_column in ("", "pass_at_1")
    assert set(log.rollouts["depth"]) == {3}
    hits = [bool(row["reward"]) for row in ROWS]
    assert (log.rollouts["matched"] == 3).to_list() == hits
    _, log = built("verl_v1", tmp_path)
    assert any("the last output counts" in note for note in log.reading.notes)


def test_a_log_of_an_unknown_format_says_its_columns_and_the_mapping_that_reads_it(tmp_path):
    path = tmp_path / "mine.jsonl"
    rows = [
        {"iter": row["step"], "user": row["prompt"], "ndcg": row["reward"], "list": "x"}
        for row in ROWS
    ]
    planted.as_jsonl(rows, path)
    with pytest.raises(LogError, match="its columns are iter, user, ndcg, list") as caught:
        read_log([path])
    assert "--map step=iter,prompt=user,reward=ndcg" in str(caught.value)
    assert caught.value.columns == ("iter", "user", "ndcg", "list")
    log = read_log([path], choice=choice_of(["step=iter,prompt=user", "reward=ndcg"]))
    table = regime_table(diagnose(log)).row(0, named=True)
    assert {name: table[name] for name in REGIMES} == pytest.approx(planted.regimes_of(ROWS))
    with pytest.raises(LogError, match="no column usr; the log has iter"):
        read_log([path], choice=choice_of(["prompt=usr,reward=ndcg"]))


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("step", "expected FIELD=COLUMN"),
        ("step=", "expected FIELD=COLUMN"),
        ("stp=iter", "no field stp; expected one of step, prompt"),
        ("step=a,step=b", "step is mapped twice"),
    ],
)
def test_a_mapping_that_cannot_be_meant_is_one_line(said, why):
    with pytest.raises(UserError, match=why):
        choice_of([said])


def test_a_pytorch_file_is_never_unpickled(tmp_path):
    import torch

    (tmp_path / "0.pt").write_bytes(b"PK\x03\x04 no archive")
    torch.save({"weight": torch.ones(3)}, tmp_path / "1.pt")
    torch.save({"rollout_id": 1, "samples": [Path("x")]}, tmp_path / "2.pt")
    for name, why in (("0", "zip archive"), ("1", "without rollouts"), ("2", "more than tensors")):
        with pytest.raises(LogError, match=why):
            read_log([tmp_path / f"{name}.pt"])


@pytest.mark.parametrize("column", ["split", "type"])
def test_evaluation_rows_in_training_files_are_left_out(column, tmp_path):
    rows = [{**row, column: "train"} for row in ROWS]
    rows += [{**row, column: "eval", "reward": 1.0} for row in ROWS[:40]]
    log = read_log([planted.as_jsonl(rows, tmp_path / "log.jsonl")])
    assert log.rollouts.height == len(ROWS)
    assert "40 rows of evaluations are left out" in log.reading.notes
    only = [{**row, column: "val"} for row in ROWS]
    assert read_log([planted.as_jsonl(only, tmp_path / "v.jsonl")]).rollouts.height == len(ROWS)


def test_files_beside_rollouts_are_passed_over(tmp_path):
    trainer_logs.BUILDERS["tinker"][1](ROWS, tmp_path / "run")
    (tmp_path / "run" / "config.json").write_text(json.dumps({"lr": 1}))
    names = {path.name for path in files_of([tmp_path / "run"])}
    assert names == {"train_rollout_summaries.jsonl"}


@pytest.mark.parametrize("said", [(2, 2), (2, 3)], ids=["same", "other"])
def test_slimes_rollouts_get_the_advantages_of_the_training_data_beside_them(said, tmp_path):
    for folder in ("rollout_data", "train_data"):
        (tmp_path / folder).mkdir()
    samples = [
        {"group_index": 0, "index": g, "prompt": "p", "response": f"r{g}", "response_length": 2,
         "reward": float(g), "status": "completed"}
        for g in range(2)
    ]  # fmt: skip
    torch.save({"rollout_id": 7, "samples": samples}, tmp_path / "rollout_data" / "7.pt")
    columns = {
        "tokens": [torch.arange(2 + one) for one in said],
        "response_lengths": list(said),
        "advantages": [torch.full((one,), value) for one, value in zip(said, (-1, 1), strict=True)],
        "partition": [0, 1],
    }
    trained = {"rollout_id": 7, "rollout_data": columns}
    torch.save(trained, tmp_path / "train_data" / "7_0.pt")
    log = read_log(files_of([tmp_path]))
    known = said == (2, 2)
    assert log.rollouts["advantage"].to_list() == ([-1, 1] if known else [None, None])
    assert log.problems.files == (not known)

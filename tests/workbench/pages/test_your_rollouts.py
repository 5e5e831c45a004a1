"""The page Your rollouts: what goes in, what it says, and what it does with hostile files."""

from __future__ import annotations

import io
import json
import os
import re
import threading
import zipfile
from pathlib import Path

import polars as pl
import pytest
from planted_logs import rollouts as planted
from streamlit.testing.v1 import AppTest

import workbench.jobs.log_reading as guarded
from recast import STRATEGIES
from workbench.diagnosis.logs.layout import Choice
from workbench.diagnosis.snippets import TRAINERS, mind, snippet
from workbench.pages import log_on_disk, log_reading

PAGE = Path(__file__).parents[3] / "workbench" / "pages" / "your_rollouts.py"
ROWS = planted.log(mean=0.02, batch=32, steps=6)


@pytest.fixture(autouse=True)
def _store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RECAST_STORE", str(tmp_path / "store"))


def page() -> AppTest:
    return healthy(AppTest.from_file(str(PAGE), default_timeout=120).run())


def healthy(app: AppTest) -> AppTest:
    assert not app.exception
    return app


def upload(app: AppTest, *files: tuple[str, bytes]) -> AppTest:
    given = [(name, content, "application/octet-stream") for name, content in files]
    app.file_uploader[0].set_value(given)
    return healthy(app.run())


def part(app: AppTest, name: str) -> AppTest:
    app.session_state["part"] = name
    return healthy(app.run())


def jsonl(rows: planted.Rows, folder: Path) -> bytes:
    return planted.as_jsonl(rows, folder / "x.jsonl").read_bytes()


def said(app: AppTest) -> str:
    parts = [*app.warning, *app.info, *app.error, *app.success, *app.markdown, *app.caption]
    return "\n".join(part.value.replace("\\", "") for part in parts)


def test_an_empty_page_says_what_to_do():
    app = page()
    assert "press the example" in said(app)
    assert not app.header


def test_the_example_is_one_click_away_and_answers_the_four_questions():
    app = page()
    app.button(key="preset Show me an example: a stuck TRL run").click()
    healthy(app.run())
    assert dict(app.query_params) == {"example": "yes"}
    words = said(app)
    assert "Starved." in words
    assert "does not move beyond chance" in words
    parts = {
        "groups": ("How many groups can teach anything?", 1),
        "width": ("What G is worth paying for?", 1),
        "strategies": ("What would each strategy change?", 1),
        "group": ("Which rollouts of one group would be pushed?", 1),
        "world": ("Which strategy would learn most from here?", 0),
        "plug": ("How do I plug it in?", 0),
    }
    for name, (head, pictures) in parts.items():
        app = part(app, name)
        heads = [header.value for header in app.header]
        assert heads == ["What is wrong?", "What would it buy?", head]
        assert len(app.get("vega_lite_chart")) == pictures
        if name == "width":
            words = said(app)
            assert "is the smallest that makes 50% of the groups learnable" in words
        if name == "world":
            assert "How often theory was right before" in said(app)
            assert app.selectbox(key="predicted").value == "area"
    assert "RecastGRPOTrainer" in app.code[-1].value


def test_an_uploaded_log_is_diagnosed_and_its_options_are_in_the_address(tmp_path):
    app = upload(page(), ("log.jsonl", jsonl(ROWS, tmp_path)))
    assert "192 groups of usually 8 independent rollouts" in said(app)
    assert "Starved." in said(app)
    app.text_input(key="threshold").set_value("1.0")
    healthy(app.run())
    assert app.query_params["threshold"] == "1.0"
    assert app.metric[0].value == "100%"
    app = part(app, "plug")
    app.selectbox(key="trainer").set_value("pytorch")
    app.selectbox(key="strategy").set_value("maxrl")
    healthy(app.run())
    assert "parse_strategy('maxrl')" in app.code[-1].value
    assert app.query_params["strategy"] == "maxrl"


def test_a_saturated_log_has_other_advice(tmp_path):
    app = upload(page(), ("l.jsonl", jsonl(planted.log(mean=0.97, batch=32), tmp_path)))
    assert "Saturated." in said(app)
    assert "Starved." not in said(app)


def test_the_weightiest_findings_are_told_in_full_and_all_others_named(tmp_path):
    rows = [
        row
        | {"completion": f"item {row['step'] % 3}", "truncated": place % 3 > 0, "kl": row["step"]}
        for place, row in enumerate(planted.log(mean=0.02, batch=32, steps=20))
        if place % 5
    ]
    app = upload(page(), ("log.jsonl", jsonl(rows, tmp_path)))
    boxes = [box.value for box in (*app.warning, *app.info) if "What to do" in box.value]
    more = next(one for one in app.expander if " more: " in one.label)
    count, _, names = more.label.partition(" more: ")
    assert len(names.split(", ")) == int(count) == len(boxes) - 2 > 1
    assert len([one for one in (*more.warning, *more.info) if "What to do" in one.value]) > 1
    assert "Give the rollouts" not in said(app)


def test_a_clean_log_is_told_so(tmp_path):
    app = upload(page(), ("l.jsonl", jsonl(planted.log(), tmp_path)))
    assert "Nothing that is looked for is wrong" in said(app)


def test_a_page_of_trl_files_is_one_log(tmp_path):
    folder = planted.as_trl(ROWS, tmp_path / "log")
    files = [(path.name, path.read_bytes()) for path in sorted(folder.iterdir())]
    app = upload(page(), *files)
    assert "trl log: 192 groups" in said(app)
    assert "6 steps from 1 to 6" in said(app)


def test_hostile_files_are_text_and_one_line(tmp_path):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as inside:
        inside.writestr("../../evil.jsonl", "{}")
    name = "<img src=x onerror=alert(1)>.jsonl"
    for content, words in (
        (archive.getvalue(), "evil.jsonl: row 1: no prompt"),
        (b"", "the file is empty"),
        (b"\x00\x01\x02", "neither parquet, JSONL nor CSV"),
        (b'{"prompt": ', "truncated line"),
    ):
        app = upload(page(), (name, content))
        (problem,) = app.error
        assert words in problem.value.replace("\\", "")
        assert "\\<img" in problem.value  # Markdown shows it as text
        assert not app.header


def test_what_is_readable_beside_hostile_rows_is_diagnosed(tmp_path):
    text = "</script><script>alert(1)</script> [x](javascript:alert(1)) **bold**"
    rows = [{**row, "task": text, "prompt": text + row["prompt"]} for row in ROWS]
    content = jsonl(rows, tmp_path) + b'{"prompt": "\xff"}\n{"step": 1}\n'
    app = upload(page(), ("log.jsonl", content))
    assert "2 of 1,538 rows" in said(app)
    assert "row 1537: no UTF-8 text" in app.code[0].value
    assert not [part for part in app.markdown if "<script>" in part.value]


def test_an_outcome_column_can_be_named(tmp_path):
    rows = [{**row, "mine": 1 - row["reward"]} for row in ROWS]
    app = upload(page(), ("log.jsonl", jsonl(rows, tmp_path)))
    app.text_input(key="outcome").set_value("mine")
    healthy(app.run())
    assert "outcome: mine" in said(app)
    assert "Starved." not in said(app)


def test_a_simulation_starts_runs_and_can_be_called_off(tmp_path):
    app = part(upload(page(), ("log.jsonl", jsonl(ROWS, tmp_path))), "world")
    app.button(key="simulate").click()
    healthy(app.run())
    assert not app.button(key="cancel-simulation").disabled
    app.button(key="cancel-simulation").click()
    for _ in range(400):  # the process ends after the work in flight
        if "Stopped; finished runs are kept." in said(app):
            break
        healthy(app.run())
    assert "Stopped; finished runs are kept." in said(app)
    assert app.button(key="cancel-simulation").disabled


@pytest.mark.parametrize("trainer", TRAINERS)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_snippet_is_a_program_that_names_the_strategy(trainer, strategy):
    text = snippet(trainer, strategy, 16, 0.9)
    assert strategy in text
    if trainer in ("trl", "pytorch"):
        compile(text, "snippet", "exec")
    assert "\n" not in mind(trainer, strategy)


def test_the_verl_snippet_names_options_that_the_adapter_documents():
    documented = (PAGE.parents[2] / "docs" / "adapters.md").read_text(encoding="utf-8")
    example = (PAGE.parents[2] / "examples" / "verl_openonerec.sh").read_text(encoding="utf-8")
    for option in re.findall(r"\+?([\w.]+)=", snippet("verl", "recast", 16, 0.9)):
        assert option in example or option == "trainer.rollout_data_dir"
    assert "recast_sync" in documented


def test_the_pytorch_snippet_runs():
    import torch

    reward = torch.tensor([[0.0, 0, 0, 0], [0, 1, 0, 0]])
    score = torch.tensor([[0.01, 0.1, 0, 0.01], [0.1, 1, 0.01, 0]])
    weight = torch.zeros((), requires_grad=True)

    def log_probs(policy, index):
        return weight - 2 * torch.ones(*index.shape, 3)

    for name in ("recast", "grpo", "repair_only", "maxrl", "dynamic_sampling"):
        here = {"reward": reward, "score": score, "log_probs": log_probs, "policy": None}
        exec(compile(snippet("pytorch", name, 4, 0.9), name, "exec"), here)
        assert torch.isfinite(weight.grad)


def test_the_frame_of_the_example_has_no_surprise():
    frame = pl.read_parquet(PAGE.parents[1] / "example" / "rollouts.parquet")
    assert frame.columns == ["step", "prompt", "completion", "hit_reward", "target", "advantage"]
    assert frame["prompt"].str.starts_with("simulated user ").all()


def test_a_log_of_an_unknown_format_is_read_by_the_columns_that_a_person_names(tmp_path):
    rows = [
        {"iter": r["step"], "user": r["prompt"], "usefulness": r["reward"], "<b>": "x"}
        for r in ROWS
    ]
    app = upload(page(), ("mine.jsonl", jsonl(rows, tmp_path)))
    assert "its columns are iter, user, usefulness" in said(app)
    assert app.selectbox(key="column of prompt").value == "user"
    assert app.button[-1].disabled
    app.selectbox(key="column of reward").set_value("usefulness")
    healthy(app.run())
    app.button[-1].click()
    healthy(app.run())
    assert app.query_params["map"] == "step=iter,prompt=user,reward=usefulness"
    assert "192 groups of usually 8 independent rollouts" in said(app)


def test_a_log_whose_hits_nobody_knows_says_what_to_ask_for(tmp_path):
    rows = [{**r, "reward": 5.0 + (place * 7 % 11)} for place, r in enumerate(ROWS)]
    rows = [{k: v for k, v in r.items() if k != "advantage"} for r in rows]
    app = upload(page(), ("log.jsonl", jsonl(rows, tmp_path)))
    assert "--threshold" in said(app)
    assert "Saturated." not in said(app)
    assert [metric.label for metric in app.metric] == ["Groups of equal rewards, whole log"]
    app.text_input(key="threshold").set_value("ten")
    healthy(app.run())
    assert "expected a number" in said(app)
    app.text_input(key="threshold").set_value("10")
    healthy(app.run())
    assert "Groups without a hit, now" in [metric.label for metric in app.metric]


def test_a_trackers_scalars_are_answered_without_rollouts():
    history = [
        {"step": step, "reward": 0.3, "frac_reward_zero_std": 0.4, "entropy": 2.0 * 0.9**step}
        for step in range(1, 61)
    ]
    state = json.dumps({"log_history": history}).encode()
    app = upload(page(), ("trainer_state.json", state))
    assert "Entropy collapse." in said(app)
    assert "say --group" in said(app)
    app.number_input(key="scalar_group").set_value(8)
    healthy(app.run())
    assert "now, G = 8" in said(app)


def test_a_log_on_this_machine_is_read_by_its_path_and_followed_while_it_grows(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(log_reading, "OTHERS", 1_000_000)  # without processes of their own
    monkeypatch.setenv("RECAST_LOGS", str(tmp_path))
    good = planted.as_jsonl(planted.log(mean=0.5, batch=16, steps=6), tmp_path / "good.jsonl")
    lines = good.read_bytes()
    (tmp_path / "run").mkdir()
    log = tmp_path / "run" / "rollouts.jsonl"
    log.write_bytes(lines + b'{"step": 7, "pro')
    app = page()
    app.text_input(key="path").set_value("run")
    app.toggle(key="follow").set_value(True)
    healthy(app.run())
    assert app.query_params["path"] == "run"
    assert "Nothing that is looked for is wrong" in said(app)
    # The line that is still being written is no fault of the log.
    assert "could not be read" not in said(app)
    dead = planted.log(mean=0.002, batch=16, steps=12)
    for row in dead:
        row["step"] += 6
    log.write_bytes(lines + planted.as_jsonl(dead, tmp_path / "dead.jsonl").read_bytes())
    healthy(app.run())
    assert "began:" in said(app)
    assert "starved" in said(app)
    log.write_bytes(lines)
    healthy(app.run())
    assert "over: " in said(app)


@pytest.mark.parametrize("path", ["/etc", "../", "nothing-here", "\0", "~nobody-here/x", "fifo"])
def test_a_path_outside_the_folder_of_logs_or_to_nothing_costs_one_line(
    path, tmp_path, monkeypatch
):
    monkeypatch.setenv("RECAST_LOGS", str(tmp_path))
    os.mkfifo(tmp_path / "fifo")
    app = page()
    app.text_input(key="path").set_value(path)
    app.toggle(key="follow").set_value(True)
    healthy(app.run())
    (problem,) = app.error
    assert re.search("outside|no such file|no regular file", problem.value)
    # What is not there yet, or is just being put aside, is looked for again.
    assert "Followed: " in said(app)


def test_what_takes_long_to_find_is_not_found_anew_for_every_control(monkeypatch):
    looks = []

    def look(said: str) -> log_on_disk.DiskLog:
        looks.append(said)
        return log_on_disk.DiskLog(said, [], (), "no such file", 1000.0)

    monkeypatch.setattr(log_on_disk, "look_at", look)
    app = page()
    for path in ("runs", "runs", "others"):
        app.text_input(key="path").set_value(path)
        healthy(app.run())
    assert looks == ["runs", "others"]


def test_a_log_is_read_when_its_turn_comes_and_no_longer_than_its_visitor_stays(monkeypatch):
    class Gone(BaseException):
        pass

    def leave(*_: object) -> None:
        raise Gone

    monkeypatch.setattr(log_reading, "_go_on", leave)
    monkeypatch.setattr(log_reading, "HEARTBEAT", 0.001)
    monkeypatch.setattr(guarded, "HEARTBEAT", 0.001)
    places = threading.Semaphore(1)
    monkeypatch.setattr(log_reading, "_places", lambda: places)
    how = log_reading.Choices("", Choice(), None)
    example = PAGE.parents[1] / "example" / "rollouts.parquet"
    with pytest.raises(Gone):  # while it is read
        log_reading.read_in_turn([example], how, ["x"], ours=True)
    assert places.acquire(blocking=False)
    with pytest.raises(Gone):  # while it waits
        log_reading.read_in_turn([], how, [], ours=True)
    assert not places.acquire(blocking=False)


def test_a_link_below_the_folder_of_logs_leads_nowhere_else(tmp_path, monkeypatch):
    inside = tmp_path / "logs"
    inside.mkdir()
    good = planted.as_jsonl(ROWS, tmp_path / "rollouts.jsonl")
    (inside / "rollouts.jsonl").symlink_to(good)
    monkeypatch.setenv("RECAST_LOGS", str(inside))
    app = page()
    # What is read beside a file counts as well: slime's data of training.
    for folder in (inside / "rollout_data", tmp_path / "train_data"):
        folder.mkdir()
        (folder / "1.pt").touch()
    (inside / "train_data").symlink_to(tmp_path / "train_data")
    for path in (".", "rollouts.jsonl", "rollout_data/1.pt"):
        app.text_input(key="path").set_value(path)
        healthy(app.run())
        assert "outside" in app.error[0].value


def test_scalars_that_count_groups_are_shares_once_the_prompts_of_a_step_are_said(tmp_path):
    app = page()
    rows = [
        {"rollout/step": step, "rollout/raw_reward": 0.02, "rollout/zero_std/count_0.0": 28.0,
         "rollout/zero_std/count_1.0": 0.0, "train/entropy_loss": 0.5}
        for step in range(1, 41)
    ]  # fmt: skip
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    upload(app, ("metrics.jsonl", lines))
    assert "need the number of prompts per step" in said(app)
    app.number_input(key="scalar_prompts").set_value(32)
    app.number_input(key="scalar_group").set_value(8)
    healthy(app.run())
    assert "need the number of prompts per step" not in said(app)

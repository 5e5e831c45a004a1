"""Reading logs: every format, every kind of bad input, and counts against a slow oracle."""

from __future__ import annotations

import json
import math
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from planted_logs import rollouts as planted
from planted_logs.rollouts import shares

from workbench.diagnosis.diagnosis import diagnose, over_training
from workbench.diagnosis.logs import rows as log_rows
from workbench.diagnosis.logs.column_values import number
from workbench.diagnosis.logs.layout import Choice
from workbench.diagnosis.logs.read import FORMATS, files_of, read_log, recognise
from workbench.diagnosis.logs.semantic_ids import CODE, agreement, agreements, codes, targets
from workbench.errors import LogError

ROOT = Path(__file__).parents[4]


@pytest.mark.parametrize("write", ["jsonl", "csv", "parquet", "trl", "verl", "lists"])
def test_every_format_gives_the_regimes_that_a_slow_count_gives(write, rows, tmp_path):
    path = tmp_path / f"log.{write}"
    form = write if write in FORMATS else "generic"
    match write:
        case "jsonl":
            planted.as_jsonl(rows, path)
        case "csv":
            pl.DataFrame(rows).write_csv(path)
        case "parquet":
            pl.DataFrame(rows).write_parquet(path)
        case "trl":
            planted.as_trl(rows, path)
        case "verl":
            planted.as_verl(rows, path)
        case "lists":
            groups = pl.DataFrame(rows).group_by("step", "prompt", maintain_order=True)
            whole = groups.agg(output="prediction", reward="reward", label=pl.col("target").first())
            planted.as_jsonl(whole.to_dicts(), path)
    log = read_log(files_of([path]))
    assert log.form == form
    assert log.total == len(rows)
    assert not log.problems.lines()
    assert shares(log) == pytest.approx(planted.regimes_of(rows))
    assert diagnose(log).steps == [1, 2, 3, 4, 5, 6]


def test_trl_logs_of_several_versions_are_read(rows, tmp_path):
    old = planted.changed(rows, lambda row: {"completion": row["prediction"]})
    frame = pl.DataFrame(old).select("step", "prompt", "completion", "reward")
    frame.write_parquet(tmp_path / "old.parquet")
    talk = frame.with_columns(
        prompt=pl.concat_list(
            pl.struct(role=pl.lit("system"), content=pl.lit("be brief")),
            pl.struct(role=pl.lit("user"), content="prompt"),
        ),
        completion=pl.concat_list(pl.struct(role=pl.lit("assistant"), content="completion")),
        accuracy_reward="reward",
        format_reward=pl.lit(0.5),
        advantage=pl.lit(0.1),
    ).drop("reward")
    talk.write_parquet(tmp_path / "talk.parquet")
    for name, words in (
        ("old", "reward: reward; outcome: the reward"),
        ("talk", "reward: accuracy_reward + format_reward; outcome: accuracy_reward"),
    ):
        log = read_log([tmp_path / f"{name}.parquet"])
        assert log.form == "trl"
        assert log.words == words
        assert shares(log) == pytest.approx(planted.regimes_of(rows))
    assert log.rollouts["reward"].max() == 1.5


def test_the_raw_outcome_goes_before_the_shaped_reward(rows, tmp_path):
    shaped = planted.changed(
        rows, lambda row: {"outcome": row["reward"], "reward": row["reward"] * 0.5 + 0.1}
    )
    for log in (
        read_log([planted.as_jsonl(shaped, tmp_path / "log.jsonl")]),
        read_log(files_of([planted.as_verl(shaped, tmp_path / "verl")])),
    ):
        assert shares(log) == pytest.approx(planted.regimes_of(rows))
        assert diagnose(log).shaped
    other = read_log(
        [tmp_path / "log.jsonl"], choice=Choice(reward=("tokens", "reward"), outcome="tokens")
    )
    assert shares(other)["saturated"] == 1
    assert other.words == "reward: tokens + reward; outcome: tokens"


@pytest.mark.parametrize("choice", [Choice(reward=("rewrad",)), Choice(outcome="rewrad")])
def test_a_column_that_no_row_has_is_refused_by_name(choice, rows, tmp_path):
    path = planted.as_jsonl(rows[:64], tmp_path / "log.jsonl")
    with pytest.raises(LogError, match=r"^no column rewrad; the log has step, prompt, .*reward"):
        read_log([path], choice=choice)


def test_verls_uid_tells_groups_apart_that_share_a_prompt(tmp_path):
    entries = [
        {"input": "same", "output": f"{u}{g}", "score": float(u == 0), "step": 1,
         "uid": f"ab-{u}_{g}_0"}
        for g in range(4)
        for u in range(2)
    ]  # fmt: skip
    log = read_log([planted.as_jsonl(entries, tmp_path / "1.jsonl")])
    assert log.form == "verl"
    assert sorted(diagnose(log).groups["hits"]) == [0, 4]


def test_two_groups_of_one_prompt_in_a_trl_batch_are_two_groups(rows, tmp_path):
    first = [row for row in rows if row["step"] == 1]
    twice = [
        {**row, "prompt": first[0]["prompt"]} if 8 <= place < 16 else row
        for place, row in enumerate(first)
    ]
    log = read_log(files_of([planted.as_trl(twice, tmp_path / "log")]))
    assert set(diagnose(log).groups["size"]) == {8}
    assert shares(log) == pytest.approx(planted.regimes_of(first))


def test_a_step_comes_from_the_file_where_rows_have_none(rows, tmp_path):
    for step, part in ((2, rows[:16]), (10, rows[16:32])):
        mine = [{k: v for k, v in row.items() if k != "step"} for row in part]
        planted.as_jsonl(mine, tmp_path / f"{step}.jsonl")
    files = files_of([tmp_path])
    assert [path.name for path in files] == ["2.jsonl", "10.jsonl"]
    assert diagnose(read_log(files)).steps == [2, 10]


def test_schemas_may_change_between_steps(rows, tmp_path):
    mixed = [
        {("reward" if row["step"] % 2 else "score") if k == "reward" else k: v
         for k, v in row.items() if k != "tokens" or row["step"] > 3}
        for row in rows
    ]  # fmt: skip
    log = read_log([planted.as_jsonl(mixed, tmp_path / "log.jsonl")])
    assert not log.problems.lines()
    assert shares(log) == pytest.approx(planted.regimes_of(rows))
    lacking = [{k: v for k, v in row.items() if row["step"] > 1 or k != "reward"} for row in rows]
    log = read_log([planted.as_jsonl(lacking, tmp_path / "lacking.jsonl")])
    first = [row for row in rows if row["step"] > 1]
    assert log.problems.unreadable == len(rows) - len(first)
    assert shares(log) == pytest.approx(planted.regimes_of(first))


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    groups=st.lists(
        st.tuples(
            st.integers(0, 5),
            st.text(max_size=3),
            st.lists(st.sampled_from([0.0, 1.0, 0.5, -1.0]), min_size=1, max_size=6),
        ),
        min_size=1,
        max_size=12,
        unique_by=lambda group: group[:2],
    ),
    order=st.randoms(use_true_random=False),
)
def test_any_groups_in_any_order_are_counted_right(groups, order, tmp_path):
    """Groups of unequal size, rewards of any sign, rows shuffled; counted the slow way."""
    rows = [
        {"step": step, "prompt": prompt, "reward": reward}
        for step, prompt, rewards in groups
        for reward in rewards
    ]
    order.shuffle(rows)
    log = read_log([planted.as_jsonl(rows, tmp_path / "log.jsonl")])
    found = diagnose(log, 0.0)
    assert shares(log, 0.0) == pytest.approx(planted.regimes_of(rows))
    assert sorted(found.groups["size"]) == sorted(len(rewards) for _, _, rewards in groups)
    assert found.groups["hits"].sum() == sum(row["reward"] > 0 for row in rows)
    flat = found.groups.filter("constant").height
    assert flat == sum(max(r) - min(r) <= 1e-6 for _, _, r in groups)


@pytest.mark.parametrize("ids", ["none", "of groups", "of rollouts"])
def test_a_log_beyond_the_limit_is_sampled_by_whole_groups(ids, tmp_path):
    rows = planted.log(steps=60, batch=16)
    if ids != "none":
        for place, row in enumerate(rows):
            last = f"-{place % 8}" if ids == "of rollouts" else ""
            row["uid"] = str(row["prompt"]).replace("-", "x") + last
    path = planted.as_jsonl(rows, tmp_path / "log.jsonl")
    log = read_log([path], most=2000)
    assert log.total == len(rows)
    assert log.rollouts.height <= 2000
    found = diagnose(log)
    assert set(found.groups["size"]) == {8}
    assert log.kept in (0.5, 0.25, 0.125)
    assert found.groups.height == pytest.approx(960 * log.kept, rel=0.25)
    whole = planted.regimes_of(rows)
    for name, share in shares(log).items():
        error = math.sqrt(whole[name] * (1 - whole[name]) / found.groups.height)
        assert share == pytest.approx(whole[name], abs=4 * error)


@pytest.mark.parametrize(("name", "size"), [("BATCH", 7), ("BLOCK", 2000), ("BLOCK", 100)])
def test_the_size_of_batches_and_blocks_does_not_matter(name, size, rows, tmp_path, monkeypatch):
    """Lines longer than a block, blocks that end inside a line, no end of the last one."""
    path = planted.as_jsonl(rows[:64], tmp_path / "log.jsonl")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().removesuffix(b"\n"))
    whole = read_log([path])
    monkeypatch.setattr(log_rows, name, size)
    found = read_log([path])
    assert found.rollouts.equals(whole.rollouts)
    assert found.problems == whole.problems


def test_over_training_adds_up_to_the_whole(rows, tmp_path):
    found = diagnose(read_log([planted.as_jsonl(rows, tmp_path / "log.jsonl")]))
    training = over_training(found, windows=4)
    assert set(training["task"]) == {"all", "ad", "video"}
    whole = training.filter(pl.col("task") == "all")
    assert whole["groups"].sum() == found.groups.height
    mean = (whole["all_zero"] * whole["groups"]).sum() / found.groups.height
    assert mean == pytest.approx(planted.regimes_of(rows)["all_zero"])
    assert whole["step"].to_list() == [1, 3, 5]


def test_beam_sets_are_recognised(tmp_path):
    draws = planted.log(items=30)
    log = read_log([planted.as_jsonl(draws, tmp_path / "log.jsonl")])
    assert not diagnose(log).beam
    beams = [
        {**row, "prediction": planted.semantic_id((place // 8 * 11 + place % 8) % 40)}
        for place, row in enumerate(draws)
    ]
    log = read_log([planted.as_jsonl(beams, tmp_path / "beams.jsonl")])
    assert diagnose(log).beam
    free = [{**row, "prediction": f"long answer {place}"} for place, row in enumerate(draws)]
    log = read_log([planted.as_jsonl(free, tmp_path / "free.jsonl")])
    assert not diagnose(log).beam
    ranked = [{**row, "beam_rank": place % 8} for place, row in enumerate(draws)]
    log = read_log([planted.as_jsonl(ranked, tmp_path / "ranked.jsonl")])
    assert diagnose(log).beam


def test_a_batch_that_is_logged_again_counts_once(rows, tmp_path):
    again = rows + [{**row, "step": 7} for row in rows if row["step"] == 6]
    found = diagnose(read_log([planted.as_jsonl(again, tmp_path / "log.jsonl")]))
    assert found.repeats == [7]
    assert found.groups.height == len(rows) // 8


def test_codes_agree_from_the_left():
    assert codes("<a_1><b_2><c_3>") == ("<a_1>", "<b_2>", "<c_3>")
    assert codes(" forty-two ") == ("forty-two",)
    assert agreement("<a_1><b_2><c_9>", ["<a_1><b_2><c_3>"]) == (2, 3)
    assert agreement("<a_1><b_2>", ["<a_1><b_2><c_3>"]) == (2, 3)
    assert agreement("<a_1><b_2><c_3><d_4>", ["<a_1><b_2><c_3>"]) == (2, 3)
    assert agreement("<a_9><b_2><c_3>", ["<a_1><b_2><c_3>", "<a_9><b_2><c_4>"]) == (2, 3)
    assert agreement("yes", ["no"]) == (0, 1)
    assert agreement("yes", []) == (None, None)


IDS = st.one_of(
    st.lists(st.sampled_from(["<a_1>", "<a_2>", "<b_1>", "<7>", " or ", "<|sid_begin|>"])).map(
        "".join
    ),
    st.integers(0, 10).map(lambda size: "".join(f"<{'abcdefghij'[i]}_1>" for i in range(size))),
)
WANTED = st.one_of(IDS, st.none(), st.lists(IDS, min_size=1, max_size=3).map(json.dumps))


@given(st.lists(st.tuples(st.one_of(IDS, st.none()), WANTED), min_size=1, max_size=20))
def test_answers_of_a_block_agree_with_their_targets_as_one_by_one(rows):
    """The loop is the oracle of what reads all rows at once."""
    said, wanted = (pl.Series(column, dtype=pl.String) for column in zip(*rows, strict=True))
    if not wanted.str.contains(CODE).fill_null(False).any():
        return
    found = agreements(said, wanted).select("matched", "depth").rows()
    assert found == [agreement(one, targets(there)) for one, there in rows]


def test_numbers_are_finite_or_nothing():
    assert number("0.5") == 0.5
    assert number(True) == 1.0
    for value in ("", "x", None, float("nan"), float("inf"), [], 10**400, "1e999"):
        assert number(value) is None


def test_a_format_is_recognised_by_its_columns():
    assert recognise(["step", "prompt", "completion", "r", "advantage"]).name == "trl"
    assert recognise(["input", "output", "gts", "score", "step"]).name == "verl"
    assert recognise(["prompt", "output", "reward"]).name == "generic"
    assert recognise(["step", "prompt", "reward"]).name == "generic"


def test_the_packaged_example_is_a_stuck_run_and_nothing_else():
    found = diagnose(read_log([ROOT / "workbench" / "example" / "rollouts.parquet"]))
    assert found.log.form == "trl"
    assert not found.beam
    assert json.dumps(shares(found.log))
    assert shares(found.log)["all_zero"] > 0.85

"""Reading logs: every format, every kind of bad input, and counts against a slow oracle."""

from __future__ import annotations

import gzip
import json
import math
import zipfile
from pathlib import Path

import planted
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recast import REGIMES
from workbench.diagnosis.diagnosis import diagnose, over_training, regime_table
from workbench.diagnosis.logs import rows as log_rows
from workbench.diagnosis.logs.layout import Choice
from workbench.diagnosis.logs.problems import plain_line
from workbench.diagnosis.logs.read import FORMATS, files_of, read_log, recognise
from workbench.diagnosis.logs.semantic_ids import agreement, codes
from workbench.diagnosis.logs.values import number
from workbench.errors import LogError

ROOT = Path(__file__).parents[4]


def shares(log, threshold: float | None = None) -> dict[str, float]:
    table = regime_table(diagnose(log, threshold)).row(0, named=True)
    return {name: table[name] for name in REGIMES}


@pytest.fixture(scope="module")
def rows() -> planted.Rows:
    return planted.log(3, steps=6)


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


BAD = {
    "truncated": b'{"step": 1, "prompt": "p", "rew',
    "no object": b"[1, 2]\n",
    "no JSON": b"nonsense\n",
    "no UTF-8": b'{"step": 1, "prompt": "\xff\xfe", "reward": 1}\n',
    "NaN": b'{"step": 1, "prompt": "p", "reward": NaN}\n',
    "infinite": b'{"step": 1, "prompt": "p", "reward": 1e999}\n',
    "a text as reward": b'{"step": 1, "prompt": "p", "reward": "good"}\n',
    "no reward": b'{"step": 1, "prompt": "p"}\n',
    "no prompt": b'{"step": 1, "reward": 1}\n',
    "half a step": b'{"step": 1.5, "prompt": "p", "reward": 1}\n',
    "a huge step": b'{"step": 1e300, "prompt": "p", "reward": 1}\n',
    "deep": b"[" * 100_000 + b"\n",
    "null": b"null\n",
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_row_costs_one_line_and_the_rest_is_diagnosed(what, rows, tmp_path):
    path = planted.as_jsonl(rows, tmp_path / "log.jsonl")
    content = path.read_bytes().splitlines(keepends=True)
    place = len(content) if what == "truncated" else 100
    content.insert(place, BAD[what])
    path.write_bytes(b"".join(content))
    log = read_log([path])
    assert log.problems.unreadable == 1
    (line,) = log.problems.lines()
    assert line.startswith(f"log.jsonl: row {place + 1}: ")
    assert line.count("\n") == 0
    assert log.problems.share == pytest.approx(1 / (len(rows) + 1))
    assert shares(log) == pytest.approx(planted.regimes_of(rows))


def test_many_bad_rows_are_counted_and_only_the_first_are_listed(rows, tmp_path):
    path = planted.as_jsonl(rows, tmp_path / "log.jsonl")
    with path.open("ab") as stream:
        stream.write(b"nonsense\n" * 500)
    log = read_log([path])
    assert log.problems.unreadable == 500
    assert len(log.problems.lines()) == 21
    assert log.problems.lines()[-1] == "and 480 more: no valid JSON"


def test_a_line_without_end_is_skipped_and_the_next_is_read(rows, tmp_path, monkeypatch):
    monkeypatch.setattr(log_rows, "LONGEST_LINE", 1000)
    path = planted.as_jsonl(rows, tmp_path / "log.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    lines.insert(5, b'{"prompt": "' + b"x" * 5000 + b'"}\n')
    path.write_bytes(b"".join(lines))
    log = read_log([path])
    assert log.problems.lines() == ["log.jsonl: row 6: a line of more than 1,000 bytes"]
    assert log.total == len(rows)


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


def test_csv_rows_with_other_fields_are_named(rows, tmp_path):
    path = tmp_path / "log.csv"
    pl.DataFrame(rows).write_csv(path)
    with path.open("a") as stream:
        stream.write("1,2,3\n")
    log = read_log([path])
    fields = len(rows[0])
    assert log.problems.lines() == [
        f"log.csv: row {len(rows) + 2}: 3 fields; the header has {fields}"
    ]


def unreadable(tmp_path: Path) -> dict[str, tuple[Path, str]]:
    """Files of which nothing can be read, and what is said of each."""
    files = {
        "empty.jsonl": (b"", "empty"),
        "blank.jsonl": (b"\n\n  \n", "empty"),
        "gz.jsonl": (gzip.compress(b"{}"), "no prompt"),
        "cut.jsonl.gz": (gzip.compress(bytes(range(250)))[:40], "gzip"),
        "array.json": (b'[{"step": 1}]', "no prompt"),
        "binary.parquet": (bytes(range(256)), "neither"),
        "prose.csv": (b"Dear reader\n", "neither"),
        "damaged.parquet": (b"PAR1" + b"\x00" * 100, "damaged parquet"),
        "header.csv": (b"step,prompt,reward\n", "no file"),
        "other.jsonl": (b'{"loss": 1}\n', "no prompt"),
    }
    found = {}
    for name, (content, said) in files.items():
        (tmp_path / name).write_bytes(content)
        found[name] = (tmp_path / name, said)
    with zipfile.ZipFile(tmp_path / "log.zip", "w") as archive:
        archive.writestr("log.jsonl", "{}")
    found["log.zip"] = (tmp_path / "log.zip", "zip archive")
    return found


def test_a_file_of_which_nothing_is_readable_is_one_line(tmp_path):
    for name, (path, said) in unreadable(tmp_path).items():
        with pytest.raises(LogError, match="nothing readable") as caught:
            read_log([path])
        assert "\n" not in str(caught.value)
        assert said in str(caught.value), name


def test_readable_files_beside_unreadable_ones_are_diagnosed(rows, tmp_path):
    bad = unreadable(tmp_path)
    good = planted.as_jsonl(rows, tmp_path / "good.jsonl")
    log = read_log([*(path for path, _ in bad.values()), good])
    assert log.files == 1
    assert shares(log) == pytest.approx(planted.regimes_of(rows))
    assert sum("log.zip" in line for line in log.problems.lines()) == 1


def test_a_parquet_that_breaks_off_is_one_line(rows, tmp_path):
    path = tmp_path / "log.parquet"
    pl.DataFrame(rows).write_parquet(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(LogError, match="damaged parquet"):
        read_log([path])


def test_a_path_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(LogError, match="no such file"):
        files_of([tmp_path / "nowhere"])
    with pytest.raises(LogError, match="no such file"):
        files_of([Path("a\0b")])
    with pytest.raises(LogError, match="no log in this folder"):
        files_of([tmp_path])


HOSTILE = [
    "<script>alert(1)</script>",
    "../../etc/passwd",
    "[red]bold[/red]",
    "\x1b[31mred\x1b[0m",
    "a\nb",
    "\u202eevil",
    "=HYPERLINK(1)",
    "\ud83d",
    "x" * 10_000,
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_text(text, tmp_path):
    rows = [
        {**row, "prompt": text + row["prompt"], "task": text, "prediction": text, text: text}
        for row in planted.log(steps=2)
    ]
    log = read_log([planted.as_jsonl(rows, tmp_path / "log.jsonl")])
    (task,) = set(diagnose(log).groups["task"])
    assert task.isprintable()
    assert len(task) <= 60
    assert plain_line(text).isprintable()


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


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_are_read_or_refused_in_one_line(content):
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log"
        path.write_bytes(content)
        said = ""
        try:
            read_log([path])
        except LogError as problem:
            said = str(problem)
        assert said.isprintable()


def test_a_log_beyond_the_limit_is_sampled_by_whole_groups(tmp_path):
    rows = planted.log(steps=60, batch=16)
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


def test_the_number_of_batches_does_not_matter(rows, tmp_path, monkeypatch):
    path = planted.as_jsonl(rows, tmp_path / "log.jsonl")
    whole = read_log([path]).rollouts
    monkeypatch.setattr(log_rows, "BATCH", 7)
    assert read_log([path]).rollouts.equals(whole)


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

"""Which rollouts are one group, where the log does not say it plainly."""

from __future__ import annotations

import polars as pl
import pytest
from planted_logs import rollouts as planted

from workbench.diagnosis.diagnosis import diagnose
from workbench.diagnosis.findings import examine
from workbench.diagnosis.logs.read import files_of, read_log

ROWS = planted.log(11, steps=6, batch=8)
HITS = [int(sum(r["reward"] for r in ROWS[at : at + 8])) for at in range(0, len(ROWS), 8)]


def taken(rows, path):
    return diagnose(read_log([planted.as_jsonl(rows, path)]))


def mixed(found) -> bool:
    return "groups_mixed" in {one.name for one in examine(found).findings}


def without(row, *names):
    return {name: value for name, value in row.items() if name not in names}


@pytest.mark.parametrize("name", ["math_train_{}_{}", "{}-{}", "run/{}:{}"])
def test_ids_of_rollouts_are_ids_of_groups_without_their_last_number(name, tmp_path):
    rows = [{**row, "uid": name.format(place // 8, place % 8)} for place, row in enumerate(ROWS)]
    found = taken(rows, tmp_path / "log.jsonl")
    assert found.groups["hits"].to_list() == HITS
    assert any("ids are of rollouts" in note for note in found.log.reading.notes)


@pytest.mark.parametrize("name", ["math_train_{}", "set_12_{}", "{}", "a-b_c {}", "2-{}"])
def test_ids_of_groups_with_underscores_stay_as_they_are(name, tmp_path):
    rows = [{**row, "uid": name.format(place // 8)} for place, row in enumerate(ROWS)]
    found = taken(rows, tmp_path / "log.jsonl")
    assert found.groups["hits"].to_list() == HITS
    assert not found.log.reading.notes


def test_sizes_that_vary_by_step_or_task_are_a_setting(tmp_path):
    by_step = [row for place, row in enumerate(ROWS) if row["step"] % 2 or place % 8 < 4]
    found = taken([without(r, "advantage") for r in by_step], tmp_path / "a.jsonl")
    assert set(found.groups["size"]) == {4, 8}
    assert (found.groups["size"] == found.groups["usual"]).all()
    assert not mixed(found)
    by_task = [r for place, r in enumerate(ROWS) if r["task"] == "ad" or place % 8 < 4]
    assert not mixed(taken([without(r, "advantage") for r in by_task], tmp_path / "b.jsonl"))


def test_a_group_that_stands_at_two_steps_is_one_group(tmp_path):
    rows = [
        {**without(row, "advantage"), "uid": f"u{place // 8}",
         "step": row["step"] + (place // 8 % 3 == 0 and place % 8 > 4 and row["step"] < 6)}
        for place, row in enumerate(ROWS)
    ]  # fmt: skip
    found = taken(rows, tmp_path / "log.jsonl")
    assert set(found.groups["size"]) == {8}
    assert sorted(found.groups["hits"]) == sorted(HITS)
    assert any("two steps in a row" in note for note in found.log.reading.notes)
    prompts = [without(row, "uid") for row in rows]
    assert set(taken(prompts, tmp_path / "p.jsonl").groups["size"]) == {8}


def test_a_prompt_that_comes_back_at_the_next_step_is_another_group(tmp_path):
    rows = planted.log(3, steps=6, repeat=True)
    found = taken(rows, tmp_path / "log.jsonl")
    assert found.groups.height == 6 * 16
    assert not found.log.reading.notes


def test_a_resumed_run_in_another_folder_keeps_its_groups_apart(tmp_path):
    first = [row for row in ROWS if row["step"] <= 4]
    second = [{**row, "prediction": row["prediction"] + "!"} for row in ROWS if row["step"] >= 3]
    for name, part in (("run1", first), ("run2", second)):
        for step in {row["step"] for row in part}:
            (tmp_path / name).mkdir(exist_ok=True)
            planted.as_jsonl(
                [r for r in part if r["step"] == step], tmp_path / name / f"{step}.jsonl"
            )
    found = diagnose(read_log(files_of([tmp_path / "run1", tmp_path / "run2"])))
    assert found.groups.height == 8 * 8
    assert set(found.groups["size"]) == {8}
    assert any("2 steps are in several files" in note for note in found.log.reading.notes)


def test_ranks_that_share_the_rows_of_a_step_are_put_together(tmp_path):
    (tmp_path / "run").mkdir()
    for rank in range(2):
        part = [row for place, row in enumerate(ROWS) if place % 2 == rank]
        planted.as_jsonl(part, tmp_path / "run" / f"rank_{rank}.jsonl")
    found = diagnose(read_log(files_of([tmp_path / "run"])))
    assert sorted(found.groups["hits"]) == sorted(HITS)


def test_equal_prompts_of_other_images_are_told_apart_by_their_targets(tmp_path):
    rows = [
        {**without(row, "advantage"), "prompt": f"how many? {place // 8 % 2}",
         "target": f"target {place // 8}"}
        for place, row in enumerate(ROWS)
    ]  # fmt: skip
    found = taken(rows, tmp_path / "log.jsonl")
    assert sorted(found.groups["hits"]) == sorted(HITS)
    assert not mixed(found)
    assert any("told apart" in note for note in found.log.reading.notes)


def test_prompts_with_other_images_are_other_prompts(tmp_path):
    rows = [
        {**without(row, "advantage", "target"),
         "prompt": [{"role": "user", "content": [{"type": "image", "image": f"{place // 8}.png"},
                                                 {"type": "text", "text": "how many?"}]}]}
        for place, row in enumerate(ROWS)
    ]  # fmt: skip
    assert taken(rows, tmp_path / "a.jsonl").groups["hits"].to_list() == HITS
    pl.DataFrame(rows).write_parquet(tmp_path / "a.parquet")
    assert diagnose(read_log([tmp_path / "a.parquet"])).groups["hits"].to_list() == HITS


def test_steps_that_hold_an_evaluation_in_the_place_of_training_are_left_out(tmp_path):
    """TRL before 1.16 writes an evaluation's completions over the training's of the same step."""
    rows = planted.log(2, steps=12, batch=6)
    checks = planted.log(9, steps=1, batch=5)
    kept = [r for r in rows if r["step"] % 4]
    for step in (4, 8, 12):
        kept += [{**r, "step": step, "prompt": f"eval {r['prompt']}"} for r in checks]
    found = taken(kept, tmp_path / "log.jsonl")
    assert found.steps == [1, 2, 3, 5, 6, 7, 9, 10, 11]
    assert found.groups.height == 9 * 6
    assert any("3 steps (first: 4) hold evaluations" in note for note in found.log.reading.notes)
    epochs = planted.log(3, steps=9, batch=6, repeat=True)
    again = [{**r, "prompt": f"{r['step'] % 3} {r['prompt']}"} for r in epochs]
    assert taken(again, tmp_path / "epochs.jsonl").steps == list(range(1, 10))

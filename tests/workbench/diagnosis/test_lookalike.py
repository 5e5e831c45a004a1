"""A simulated world with a log's regimes: what is asked, what is found, and its process."""

from __future__ import annotations

from dataclasses import asdict

import pytest
from command_line import recast
from planted_logs import rollouts as planted

from workbench.diagnosis.diagnosis import diagnose
from workbench.diagnosis.logs.read import read_log
from workbench.diagnosis.lookalike import RIVALS, SEEDS, WARNING, Wanted, rank, wanted_of
from workbench.errors import UserError
from workbench.execution.imitation import imitate
from workbench.jobs.lookalike import Lookalike


def taken_apart(rows, tmp_path):
    return diagnose(read_log([planted.as_jsonl(rows, tmp_path / "log.jsonl")]))


def test_what_is_asked_is_the_last_third_of_the_log(tmp_path):
    rows = planted.log(mean=0.9, steps=8) + [
        {**row, "step": row["step"] + 8} for row in planted.log(1, mean=0.05, steps=4)
    ]
    wanted = wanted_of(taken_apart(rows, tmp_path))
    late = planted.regimes_of([row for row in rows if row["step"] > 8])
    assert wanted.all_zero == pytest.approx(late["all_zero"])
    assert wanted.several == pytest.approx(late["multi_hit"] + late["saturated"])
    assert wanted.group == 8
    assert wanted.low < wanted.all_zero < wanted.high


def test_a_group_of_one_cannot_be_imitated(tmp_path):
    with pytest.raises(UserError, match="groups of 1; expected 2 to 128"):
        wanted_of(taken_apart(planted.log(group=1), tmp_path))


def test_the_simulated_start_has_the_regimes_of_the_log():
    found, spec, notes = imitate(0.85, 0.02, 16, RIVALS, SEEDS)
    assert notes == []
    assert spec.start.all_zero == 0.85
    assert spec.train.temperature == pytest.approx(found.temperature, abs=1e-4)
    assert found.solved["all_zero"] == pytest.approx(0.85, abs=0.01)
    assert found.solved["multi_hit"] + found.solved["saturated"] == pytest.approx(0.02, abs=0.03)
    assert found.held_out["all_zero"] == pytest.approx(0.85, abs=0.05)


def test_a_log_that_is_sparser_than_the_first_world_gets_a_larger_one():
    found, spec, _ = imitate(0.95, 0.01, 32, RIVALS, SEEDS)
    assert spec.world.items > 512
    assert found.solved["all_zero"] == pytest.approx(0.95, abs=0.01)


def test_a_simulation_is_a_process_that_ends_when_it_is_called_off(tmp_path):
    one = Lookalike(Wanted(0.85, 0.02, 16, 0.8, 0.9), tmp_path)
    assert one.look().told.state == "running"
    one.stop()
    assert one.told.stopping
    one._child.code()
    one._child._collector.join()
    assert one.look().told.state == "stopped"
    one.close()


def test_a_killed_simulation_is_reported(tmp_path):
    one = Lookalike(Wanted(0.85, 0.02, 16, 0.8, 0.9), tmp_path)
    one._child._process.kill()
    one._child._collector.join()
    assert one.look().told.state == "lost"
    assert "code -9" in one.told.text
    one.close()


def test_what_the_process_says_becomes_a_ranking(tmp_path):
    wanted = Wanted(0.85, 0.02, 16, 0.8, 0.9)
    one = Lookalike(wanted, tmp_path)
    one.told.take_in({"kind": "progress", "done": 1, "total": 4, "text": "sft"})
    assert (one.told.share, one.told.text) == (0.25, "sft")
    row = {"strategy": "sft", "lr": 0.1}
    one.told.take_in({"kind": "end", "regimes": [asdict(wanted)], "table": [row], "notes": ["x"]})
    assert one.told.state == "finished"
    assert one.told.ranking is not None
    assert one.told.ranking.table.to_dicts() == [row]
    assert one.told.ranking.notes == ("x",)
    one.close()


@pytest.mark.drill
def test_strategies_are_ranked_with_paired_differences(tmp_path):
    rows = planted.log(mean=0.02, group=8, batch=32, spread=0.02)
    path = planted.as_jsonl(rows, tmp_path / "log.jsonl")
    done = recast("diagnose", str(path), "--simulate", "--store", str(tmp_path / "s"))
    assert done.returncode == 0, done.stderr
    assert WARNING in done.stdout
    wanted = wanted_of(taken_apart(rows, tmp_path))
    ranking = rank(wanted, tmp_path / "s", executor="serial")  # every run is in the store
    table = ranking.table
    assert set(table["strategy"]) == {"start", *RIVALS}
    assert table["area"].is_sorted(descending=True)
    assert table.drop_nulls("difference").height == len(RIVALS) - 1
    grpo = table.filter(strategy="grpo")["area"][0]
    for row in table.drop_nulls("difference").iter_rows(named=True):
        assert row["difference"] == pytest.approx(row["area"] - grpo)
    said = [note for note in ranking.notes if "edge of the grid" in note]
    # A grid grows past its edge: best at the least are only rows that gain nothing.
    level = dict(table.select("strategy", "area").iter_rows())
    for name in said[0].partition(": ")[2].split(", ") if said else []:
        assert level[name] < level["start"] + 0.002
    assert level["grpo"] > level["start"] - 0.01
    (least,) = [note for note in ranking.notes if "no corrected p can be below" in note]
    assert "see intervals" not in least
    shares = {row["groups"]: row["all_zero"] for row in ranking.regimes.iter_rows(named=True)}
    assert shares["simulated start"] == pytest.approx(shares["log"], abs=0.05)

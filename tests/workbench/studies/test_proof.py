"""The proof: what is judged against what, and that its runs choose nothing for themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from command_line import recast

from workbench.errors import UserError
from workbench.spec.keys import ENGINE
from workbench.spec.sweep import Sweep
from workbench.store.runs import Store
from workbench.studies import packaged, proof

ROWS = (*proof.SUPERVISED, *proof.GRPO, proof.START, *proof.CANDIDATES)


def judged(better: dict[tuple[str, float, str], float], noise: float = 0.001) -> pl.DataFrame:
    """Rows of two worlds and ten seeds; better: (row, share, metric) -> what is added."""
    rng = np.random.default_rng(0)
    found = []
    for share in (0.0, 0.2):
        for world in (100, 101):
            for seed in range(10):
                common = rng.normal(0, 0.05)
                for row in ROWS:
                    values = {
                        m: 0.3 + common + better.get((row, share, m), 0.0) + rng.normal(0, noise)
                        for m in proof.METRICS
                    }
                    known = {"row": row, "unlearnable": share, "world": world, "seed": seed}
                    found.append({**known, "lr": 0.01, "idle": False, "inside": True, **values})
    return pl.DataFrame(found)


GOOD = {
    (row, share, metric): 0.02
    for row in proof.CANDIDATES
    for share in (0.0, 0.2)
    for metric in ("area", "c_at_1", "c_at_32")
}


def holds(table: pl.DataFrame, **where: object) -> list[bool]:
    return table.filter(**where)["holds"].to_list()


def test_a_candidate_that_is_better_where_asked_and_no_worse_elsewhere_passes_every_test():
    table = proof.tests_table(judged(GOOD))
    assert table["holds"].all()
    area = table.filter(test="better in area than supervision")
    assert area["unlearnable"].unique().to_list() == [0.2]
    assert set(table["control"]) == {*proof.SUPERVISED, *proof.GRPO, proof.START}
    assert all("every test holds" in line for line in proof.verdicts(table))


@pytest.mark.parametrize(("fall", "passes"), [(0.003, True), (0.007, False)])
def test_not_worse_means_within_the_margin_of_every_supervised_row(fall, passes):
    worse = GOOD | {("sft averaged", 0.0, "hr_at_10"): fall}
    table = proof.tests_table(judged(worse))
    asked = {"test": "not worse in HR@10 than supervision", "unlearnable": 0.0}
    assert all(holds(table, control="sft", **asked))
    assert set(holds(table, control="sft averaged", **asked)) == {passes}
    assert any("fails" in line for line in proof.verdicts(table)) != passes


def test_a_wide_interval_is_no_evidence_of_being_no_worse():
    table = proof.tests_table(judged({}, noise=0.05))
    assert sum(holds(table, test="not worse in HR@10 than supervision")) <= 2  # of 8, by chance


@pytest.mark.parametrize("stronger", ["grpo averaged", proof.START])
def test_a_gain_over_one_row_of_grpo_is_no_gain_over_grpo_or_over_not_training(stronger):
    planted = GOOD | {(stronger, s, "c_at_1"): 0.03 for s in (0.0, 0.2)}
    table = proof.tests_table(judged(planted)).filter(metric_of("C(1)"))
    assert all(holds(table, control="grpo"))
    assert set(holds(table, control=stronger)) == {False}


def metric_of(name: str) -> pl.Expr:
    return pl.col("test").str.contains(name, literal=True)


def test_every_row_stands_against_averaged_supervision_in_one_family():
    table = proof.gaps_table(judged(GOOD))
    assert table.height == 2 * 2 * (len(ROWS) - 1)
    assert "sft averaged" not in set(table["row"])
    apart = table.filter((pl.col("metric") == "area") & pl.col("row").is_in(proof.CANDIDATES))
    assert (apart["p"] < 0.001).all()
    assert table.filter(metric="hr_at_10")["p"].min() > 0.01


def tiny(name: str, changes: object = None) -> Sweep:
    del changes
    both = {"world.unlearnable": [0.0, 0.3], "world.seed": [100]}
    return Sweep.model_validate(
        {
            "name": name, "strategies": ["sft", "grpo"], "seeds": 1, "grid": both,
            "include": [{**both, "train.iterate": "mean", "strategy": ["sft", "target_power"]}],
            "world": {"items": 64, "test_prompts": 16, "validation_prompts": 16},
            "policy": {"width": 4}, "start": {"all_zero": 0.9},
            "train": {"steps": 4, "batch": 8, "group": 4, "evaluations": 1, "curve_prompts": 8},
            "tune": {"lr": [0.003, 0.01], "extend": 0},
        }
    )  # fmt: skip


def test_what_is_judged_is_trained_on_further_seeds_at_rates_that_others_chose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(proof, "load_sweep", tiny)
    monkeypatch.setattr(proof, "TEST_PROMPTS", 32)
    store = Store(tmp_path / "s").prepare()
    with pytest.raises(UserError, match="that choose the rates are missing"):
        proof.rows(proof.tuning_plan(), store, 2)
    found = proof.prove(store, lambda *_: None, "serial", seeds=2)
    assert found["seed"].unique().sort().to_list() == [1, 2]
    # Four rows and the start, at two shares, of two seeds.
    assert found.height == 2 * 5 * 2
    assert found.select("row", "unlearnable").n_unique() == 10
    begun = found.filter(row=proof.START)
    assert begun["lr"].unique().to_list() == [0.0]
    # The start that is judged is what the runs began with, on all test users.
    held = store.load().filter(split="test_all", slice="all", step=0, strategy="sft", seed=1)
    assert set(begun.filter(seed=1)["area"]) <= set(held["area"])
    assert found["area"].is_finite().all()
    again = proof.rows(proof.tuning_plan(), store, 2)
    assert again.equals(found)
    saved = tmp_path / "prove.json"
    command = ["prove", "--no-run", "--seeds", "2", "--store", str(tmp_path / "s")]
    done = recast(*command, "--save", str(saved))
    assert done.returncode == 0, done.stderr
    assert "none can be below" in done.stdout
    kept = packaged.read(saved)
    assert kept.generation == ENGINE
    assert kept.current
    assert set(kept.tables) == {"tests", "means", "gaps"}


def test_a_saved_study_is_read_as_it_was_written_and_says_where_it_comes_from(tmp_path):
    table = pl.DataFrame({"a": ["x", None], "b": [1.5, None], "c": [True, False]})
    packaged.save(tmp_path / "x.json", {"t": table}, "recast prove")
    found = packaged.read(tmp_path / "x.json")
    assert found.tables["t"].equals(table)
    assert found.source.endswith("printed by: recast prove")
    (tmp_path / "y.json").write_text('{"tables": 3}')
    with pytest.raises(UserError, match="not a saved study"):
        packaged.read(tmp_path / "y.json")


def test_the_command_of_a_saved_study_is_what_prints_it_again():
    words = ["claims", "--store", "/tmp/x", "--no-run", "--save=f.json", "--show", "settings"]
    assert packaged.called(words) == "recast claims --show settings"


@pytest.mark.parametrize("study", ["claims", "search", "phase-map", "prove"])
def test_what_the_package_ships_of_a_study_can_be_read(study):
    found = packaged.packaged(study)
    assert found is None or all(table.height for table in found.tables.values())


@pytest.mark.parametrize(
    ("values", "idle", "inside"),
    [
        ((0.2, 0.1, 0.05), False, False),  # the lowest is the best, and better than the start
        ((0.1002, 0.09, 0.05), True, True),  # hardly trained: below it lies the start
        ((0.09, 0.1, 0.05), True, True),
        ((0.1, 0.3, 0.2), False, True),
        ((0.1, 0.2, 0.3), False, False),
    ],
)
def test_below_the_lowest_rate_of_a_row_that_gains_nothing_lies_the_start(values, idle, inside):
    known = {"strategy": "grpo", "train.iterate": "last", "world.unlearnable": 0.2}
    known |= {"world.seed": 100, "split": "validation", "slice": "all"}
    tuning = pl.DataFrame(
        [
            {**known, "run": f"{lr}", "lr": lr, "step": step, "area": area}
            for lr, end in zip((0.001, 0.003, 0.01), values, strict=True)
            for step, area in ((0, 0.1), (4, end))
        ]
    )
    (row,) = proof.grids(tuning).iter_rows(named=True)
    assert (row["idle"], row["inside"]) == (idle, inside)

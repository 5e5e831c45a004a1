"""The page of real models: what it reads, what it refuses, what it says when there is nothing."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from opened import tables
from streamlit.testing.v1 import AppTest

from recast import REGIMES
from recast.ledger import COST, TAUGHT, RunRecord
from workbench.analysis.tuning import mark_tuned
from workbench.real import saved as realmodels
from workbench.real.efficiency import EFFICIENCY
from workbench.spec.metrics import METRICS
from workbench.store.runs import Store

PAGE = Path(__file__).parents[3] / "workbench" / "pages" / "real_models.py"
COSTS = pl.DataFrame(
    [
        dict.fromkeys(EFFICIENCY, 1.0)
        | {"strategy": name, "prefix": prefix, "group": 32, "prompt_tokens": 31, "micro_rows": 0}
        | {"ratio": ratio, "token_ratio": ratio}
        for name, prefix, ratio in (
            ("grpo", "reencoded", 1.0),
            ("grpo", "shared", 1.0),
            ("recast", "reencoded", 14.0),
            ("recast", "shared", 3.0),
        )
    ]
)
SCORES = pl.DataFrame(
    [
        {"slice": part, "strategy": name, "lr": 0.001, "seeds": 10, "greedy": value}
        | {"greedy_low": value - 0.1, "greedy_high": value + 0.1}
        for part in ("all", "new")
        for name, value in (("start", 0.2), ("grpo", 0.3), ("recast", 0.4))
    ]
)
GAPS = pl.DataFrame(
    [
        {"control": control, "strategy": "recast", "metric": "greedy", "difference": 0.1}
        | {"difference_low": 0.0, "difference_high": 0.2, "p_holm": 0.04, "verdict": "above"}
        for control in ("start", "sft")
    ]
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty store without a packaged example; the folder of its saved tables."""
    monkeypatch.setenv("RECAST_STORE", str(tmp_path / "store"))
    monkeypatch.setattr(realmodels, "EXAMPLE", tmp_path / "no-example")
    found = tmp_path / "store" / "real"
    found.mkdir(parents=True)
    return found


def page(**query: str) -> AppTest:
    app = AppTest.from_file(str(PAGE), default_timeout=60)
    for name, value in query.items():
        app.query_params[name] = value
    app.run()
    assert not app.exception
    return app


def test_tables_are_told_apart_by_their_columns_in_csv_and_json(folder: Path) -> None:
    COSTS.write_csv(folder / "a.csv")
    SCORES.write_json(folder / "b.json")
    GAPS.write_csv(folder / "c.csv")
    found, faults = realmodels.saved_tables(folder)
    assert [one.kind for one in found] == ["efficiency", "scores", "differences"]
    assert faults == []


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", b""),
        ("a.csv", b"\x00\xff\xfe\x00broken"),
        ("a.csv", b"strategy,value\ngrpo,1\n"),
        ("a.csv", b"slice,strategy,seeds\nall,grpo,5\n"),
        ("a.json", b"{"),
        ("a.json", b"[1, 2]"),
        ("a.json", b'{"strategy": {"x": [1, {"y": 2}]}}'),
        ("a.csv", b"<script>alert(1)</script>\n<b>\n"),
    ],
)
def test_a_file_that_is_no_table_of_ours_gets_one_line_and_the_others_are_shown(
    folder: Path, name: str, content: bytes
) -> None:
    (folder / name).write_bytes(content)
    COSTS.write_csv(folder / "good.csv")
    found, faults = realmodels.saved_tables(folder)
    assert [one.kind for one in found] == ["efficiency"]
    assert len(faults) == 1
    assert name in faults[0]
    assert "\n" not in faults[0]
    app = page(part="costs")
    assert name in app.warning[0].value.replace("\\", "")
    assert len(app.metric) == 2


def test_a_table_too_large_to_be_one_is_not_read(folder: Path, monkeypatch) -> None:
    monkeypatch.setattr(realmodels, "_LARGEST", 10)
    COSTS.write_csv(folder / "a.csv")
    assert "larger than 10 bytes" in realmodels.saved_tables(folder)[1][0]


def test_without_anything_the_page_gives_the_commands(folder: Path) -> None:
    assert len(page(part="costs").info) == 1
    app = page()
    assert len(app.info) == 1
    commands = app.code[0].value
    for command in ("recast lm data", "recast lm sft", "recast lm rl", "recast lm efficiency"):
        assert command in commands
    assert str(folder) in commands


def test_the_ratio_is_shown_with_and_without_a_shared_prompt(folder: Path) -> None:
    COSTS.write_csv(folder / "a.csv")
    app = page(part="costs")
    assert [metric.value for metric in app.metric] == ["14.0 x", "3.0 x"]


def test_scores_of_a_slice_come_with_their_intervals(folder: Path) -> None:
    SCORES.write_csv(folder / "a.csv")
    GAPS.write_csv(folder / "b.csv")
    app = page(slice="new", control="sft")
    assert not app.warning
    table, gaps = tables(app)[:2]
    assert set(table["strategy"]) == {"start", "grpo", "recast"}
    assert {"greedy", "greedy_low", "greedy_high"} <= set(table.columns)
    assert set(gaps["control"]) == {"sft"}
    assert any("no p is below 0.0001" in one.value for one in app.caption)


def test_a_rate_on_an_edge_of_its_grid_is_said_beside_who_leads(folder: Path) -> None:
    sides = pl.col("strategy").replace_strict({"recast": "lower"}, default=None)
    SCORES.with_columns(edge=sides).write_csv(folder / "a.csv")
    GAPS.write_csv(folder / "b.csv")
    told = " ".join(one.value.replace("\\", "") for one in page().caption)
    assert "on an edge of the grid, where a rate beyond it may do better: recast (lower)" in told
    assert "recast .4000 (.3000 to .5000), grpo .3000" in told


def test_few_seeds_are_said(folder: Path) -> None:
    SCORES.with_columns(seeds=pl.lit(5)).write_csv(folder / "a.csv")
    assert "5 seeds" in page().warning[0].value


def test_runs_of_a_real_model_in_the_store_are_scored_and_simulated_ones_are_not(
    folder: Path,
) -> None:
    store = Store(folder.parent).prepare()
    for world, name in (("lm:office", "grpo"), ("lm:office", "recast"), ("synthetic", "sft")):
        for seed in range(3):
            row = dict.fromkeys((*METRICS, *REGIMES, *TAUGHT, *COST), 0.1 + seed / 100)
            rows = [
                row | {"split": split, "slice": "all", "step": step}
                for split in ("test", "validation")
                for step in (0, 5)
            ]
            config = {"strategy": name, "seed": seed, "lr": 0.1, "cell": world, "world": world}
            store.write(
                f"{name}{seed}", RunRecord(config | {"group": 8}, tuple(rows), {"ceiling": None})
            )
    (found,) = realmodels.stored_scores(mark_tuned(store.load()))
    assert "office" in found.source
    assert set(found.table["strategy"]) == {"start", "grpo", "recast"}
    app = page()
    assert "3 seeds" in app.warning[0].value
    assert set(tables(app)[0]["strategy"]) == {"start", "grpo", "recast"}


def test_what_is_packaged_reads_and_names_its_command() -> None:
    files = {path.name for path in realmodels.EXAMPLE.glob("real-*.csv")}
    assert files <= set(realmodels.EXAMPLE_COMMANDS)
    for one in realmodels.packaged():
        assert one.table.height > 1
        assert one.command.startswith("recast lm ")

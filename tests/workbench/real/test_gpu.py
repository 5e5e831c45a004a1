"""The packaged measurements of a GPU, and how they are made from what the script wrote."""

from __future__ import annotations

import json
from typing import Any

import pytest

from benchmarks.gpu_package import WIDTH, package
from workbench.real import gpu
from workbench.studies.claims import CLAIMS
from workbench.studies.costs import _on_a_gpu


def test_every_packaged_case_sent_the_rows_that_it_was_meant_to():
    rows = gpu.packaged()["costs"]
    assert len(rows) > 20
    for row in rows:
        assert row["rows"] == WIDTH[row["strategy"]] * row["batch"]
        depth = 3
        shared = row["batch"] * row["prompt_tokens"] + (depth - 1) * row["rows"]
        again = row["rows"] * (row["prompt_tokens"] + depth - 1)
        assert row["tokens"] == (shared if row["prefix"] == "shared" else again)
        assert 0 < row["mfu"] < 1
        assert row["card"].startswith("NVIDIA")


def test_ratios_are_quotients_of_grpos_row_of_the_same_case():
    table = gpu.costs()
    for row in table.iter_rows(named=True):
        base = table.filter(
            strategy="grpo",
            model=row["model"],
            prompt_tokens=row["prompt_tokens"],
            prefix=row["prefix"],
        )
        assert row["ratio"] == base["update_seconds"][0] / row["update_seconds"]
        assert row["memory_ratio"] == base["peak_mib"][0] / row["peak_mib"]
        assert row["mfu_ratio"] == row["mfu"] / base["mfu"][0]
    assert set(table.filter(strategy="grpo")["ratio"]) == {1.0}


@pytest.mark.parametrize("name", ["C4", "C5", "C6", "C7", "C8"])
def test_cost_claims_show_the_card_and_judge_nothing(name):
    claim = next(claim for claim in CLAIMS if claim.key == name)
    rows = _on_a_gpu(claim.measure.keywords["column"])
    assert {row.verdict for row in rows} == {"shown, not judged"}
    assert any("qwen3-8b" in row.mode and "H100" in row.mode for row in rows)
    assert all(row.value and row.value > 0 for row in rows)


def run(date: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    parts = {
        "machine": {
            "rows": [{"device": "NVIDIA X"}, {"matrix_product": "bfloat16", "tflops": 7.0}]
        },
        "cost": {"rows": [{"kind": "start"}, *rows]},
        "equality": {"rows": [{"test": "a", "state": "passed"}, {"test": "b", "state": "failure"}]},
    }
    return {"date": date, "command": "benchmarks/gpu.sh", "parts": parts}


def case(strategy: str, rows: int, seconds: float) -> dict[str, Any]:
    known = json.loads(gpu.PACKAGED.read_text())["costs"][0]
    return {
        **known,
        "kind": "cost",
        "strategy": strategy,
        "rows": rows,
        "batch": 2,
        "update_seconds": seconds,
    }


def test_a_later_run_replaces_a_case_and_one_with_other_rows_is_left_out():
    first = run("2026-01-01", [case("grpo", 64, 2.0), case("recast", 3, 9.0)])
    found = package([first])
    assert [row["strategy"] for row in found["costs"]] == ["grpo"]
    assert [row["strategy"] for row in found["left_out"]] == ["recast"]
    assert found["runs"][0]["equality_passed"] == 1
    later = run("2026-02-01", [case("recast", 4, 0.5)])
    found = package([first, later])
    assert {row["strategy"]: row["date"] for row in found["costs"]} == {
        "grpo": "2026-01-01",
        "recast": "2026-02-01",
    }
    assert found["left_out"] == []
    assert found["runs"][1]["bfloat16_tflops"] == 7.0

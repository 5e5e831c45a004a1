"""Questions as tables, on stores that can answer them and on those that cannot."""

from __future__ import annotations

import polars as pl
import pytest
from planted_effects import BETTER, GRPO, SEEDS, frame, main

from workbench.studies import questions
from workbench.studies.evidence import SweepFrames, with_setting


def test_curves_over_temperature_and_k_are_read_from_the_names_of_metrics():
    evidence = main(
        frame({"grpo": {**GRPO, "pass_at_1_t050": 0.4, "pass_at_1_t120": 0.1, "pass_at_4": 0.6}})
    )
    hot = questions.by_temperature(evidence, "the whole sweep")
    assert hot["temperature"].to_list() == [0.5, 1.0, 1.2]
    assert hot["mean"].to_list()[::2] == [0.4, 0.1]
    wide = questions.by_k(evidence, "the whole sweep")
    assert wide["k"].to_list() == [1.0, 4.0, 32.0]


def test_tempered_supervision_meets_its_rivals_at_their_own_temperature():
    cold = {"pass_at_1_t030": 0.5, "pass_at_1_t120": 0.9}
    evidence = main(frame({"grpo": GRPO, "recast": BETTER, "sft": {"greedy": 0.3, **cold}}))
    table = questions.tempered(evidence, "the whole sweep")
    assert table["label"].to_list() == [
        f"{ours} - {theirs}"
        for theirs in ("grpo", "recast")
        for ours in ("sft at T = 0.3", "sft at T = 1", "sft, each at its best T")
    ]
    against = dict(table.select("label", "value").iter_rows())
    assert against["sft at T = 0.3 - grpo"] == pytest.approx(0.25, abs=0.05)
    assert against["sft at T = 1 - recast"] == pytest.approx(0.0, abs=0.05)
    alone = 2 / 2**SEEDS
    assert table["p"][0] == pytest.approx(alone)  # one family, whatever its size


def test_every_question_has_a_table_for_a_store_that_answers_it_and_none_without():
    full = main(
        frame(
            {
                name: {"greedy": 0.3, "pass_at_1_t050": 0.4, "pass_at_4": 0.5, "entropy": 2.0}
                for name in ("grpo", "recast", "sft", "grpo_sft", "repair_only")
            }
        )
    )
    for name, (asks, table) in questions.QUESTIONS.items():
        assert asks.endswith("?")
        assert table(full, "the whole sweep").height, name
        assert table(SweepFrames({}), "the whole sweep").is_empty(), name


def test_settings_are_named_after_the_fields_that_vary():
    table = pl.DataFrame({"world.noise": [0.1], "train.group": [8]})
    assert with_setting(table, ["world.noise", "train.group"])["setting"].to_list() == [
        "noise 0.1, group 8"
    ]

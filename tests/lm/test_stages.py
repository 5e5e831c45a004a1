"""A made-up stage of every kind trains on a real model, without a line that knows its name."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch

from recast import parse_strategy
from recast.groups import Origin
from recast.lm import trainer
from recast.lm.optimizer import AdamW, trainable
from recast.lm.signal import collect, why_not
from recast.lm.update import RLTraining

sys.path.insert(0, str(Path(__file__).parents[1]))
import made_up

HOW = RLTraining(steps=8, batch=8, group=4, lr=1e-2, kl_weight=0.01)


@pytest.fixture(autouse=True)
def _made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    made_up.added(monkeypatch)


REAL = (
    "lens",
    "sibling",
    "spo",
    "gbpo",
    "real",
    "prefix_hint",
    "reinforce_ada",
    "replay",
    "dft",
    "bear",
)
"""Named rows that need what only a trainer has: log-probabilities, codes, rounds or a memory."""


@pytest.mark.parametrize("text", made_up.TEXTS + REAL)
def test_a_stage_of_every_kind_trains_on_a_real_model(text):
    setup, strategy = tiny.setup(), parse_strategy(text)
    assert why_not(strategy, HOW.search, HOW.group) is None
    before = [p.detach().clone() for p in setup.model.parameters()]
    optimizer, memory = AdamW(trainable(setup.model), HOW.lr), trainer.memory_of(setup, strategy)
    spent, last = {"rollouts": 0}, memory
    for step in range(HOW.steps):
        cost, _, memory = trainer.train_step(setup, strategy, HOW, optimizer, step, memory)
        spent["rollouts"] += cost["rollouts"]
    assert bool(spent["rollouts"]) == strategy.needs_rollouts
    after = list(setup.model.parameters())
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert all(value.isfinite().all() for value in after)
    assert set(memory) == set(strategy.start((), len(setup.prompts)))
    if memory:
        assert any(not torch.equal(memory[name], last[name]) for name in memory)


def test_an_item_of_an_earlier_step_is_scored_by_its_own_codes():
    setup, strategy = tiny.setup(), parse_strategy("repair=made_up_replay, credit=grpo")
    wanted = 7
    memory = {"made_up_last": torch.full((len(setup.prompts),), wanted)}
    collected = collect(trainer.roller(setup, replace(HOW, batch=16)), strategy, 0, memory)
    again = collected.signal.groups.origin == int(Origin.REPLAY)
    assert again.any()
    codes = setup.trie.codes[wanted].expand_as(collected.codes[again])
    assert torch.equal(collected.codes[again], codes)

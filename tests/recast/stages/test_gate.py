"""GRESO's gate against a loop: who is skipped, what is remembered, and how the chances move."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recast import RolloutGroups
from recast.stage import bind
from recast.stages.gate import GATES, Visit

PROMPTS, BATCH, WIDTH = 6, 4, 5
VALUES = (0.0, 0.05, 0.1, 0.11, 0.12, 0.5, 0.98, 1.0)
ROWS = {"greso": False, "greso_mean": True}


def rounds(seed: int, count: int) -> list[tuple[Visit, RolloutGroups]]:
    """Visits with ragged groups, most of them constant."""
    rng = torch.Generator().manual_seed(seed)
    found = []
    for number in range(count):
        prompt = torch.randperm(PROMPTS, generator=rng)[:BATCH]
        picked = torch.randint(len(VALUES), (BATCH, WIDTH), generator=rng)
        same = torch.rand(BATCH, 1, generator=rng) < 0.7
        reward = torch.tensor(VALUES, dtype=torch.float64)[torch.where(same, picked[:, :1], picked)]
        width = torch.randint(1, WIDTH + 1, (BATCH, 1), generator=rng)
        draw = torch.rand(BATCH, generator=rng, dtype=torch.float64)
        groups = RolloutGroups.of(reward, valid=torch.arange(WIDTH) < width)
        found.append((Visit(prompt, draw, first_epoch=number < 2), groups))
    return found


class Loop:
    """GRESO prompt by prompt, arXiv 2506.02177: p^n, n the run of constant groups so far."""

    def __init__(self, by_mean: bool) -> None:
        self.by_mean = by_mean
        self.run = {"easy": [0] * PROMPTS, "hard": [0] * PROMPTS}
        self.p = {"easy": 0.5, "hard": 0.5}

    def keeps(self, prompt: int, draw: float, floor: float) -> bool:
        easy, hard = self.run["easy"][prompt], self.run["hard"][prompt]
        chance = self.p["easy"] ** easy if easy else self.p["hard"] ** hard
        return draw < max(chance, floor)

    def learn(self, visit: Visit, groups: RolloutGroups, kept: list[bool]) -> None:
        counts = {"easy": 0, "hard": 0}
        for place, prompt in enumerate(visit.prompt.tolist()):
            if not kept[place]:
                continue
            rewards = groups.reward[place][groups.valid[place]].tolist()
            mean = sum(rewards) / len(rewards)
            same = self.by_mean or len(set(rewards)) == 1
            kinds = {"easy": same and mean >= 0.98, "hard": same and mean <= 0.11}
            for kind, is_one in kinds.items():
                self.run[kind][prompt] = self.run[kind][prompt] + 1 if is_one else 0
                counts[kind] += is_one
        if visit.first_epoch:
            return
        for kind, target in (("easy", 0.083), ("hard", 0.167)):
            share = counts[kind] / max(1, sum(kept))
            moved = self.p[kind] + (-0.01 if share > target else 0.01)
            self.p[kind] = min(0.95, max(0.05, moved))


@pytest.mark.parametrize("name", ROWS)
@settings(max_examples=25)
@given(st.integers(0, 2**31), st.sampled_from([0.0, 0.01, 0.3, 1.0]))
def test_the_gate_skips_remembers_and_moves_as_the_loop_does(name, seed, floor):
    gate = bind("gate", GATES, f"{name}(floor={floor})")
    loop, state = Loop(ROWS[name]), gate.stage.start((), PROMPTS)
    for visit, groups in rounds(seed, 8):
        # The step of .01 is one of float32: chances differ from the loop's by some 1e-9.
        kept = [
            loop.keeps(prompt, draw, floor)
            for prompt, draw in zip(visit.prompt.tolist(), visit.draw.tolist(), strict=True)
        ]
        decision = gate(visit, state=state)
        assert decision.tolist() == kept
        state = gate.carry(visit, groups, decision, state=state)
        loop.learn(visit, groups, kept)
        for kind in ("easy", "hard"):
            assert state[f"{kind}_run"].tolist() == loop.run[kind]
            assert float(state[f"p_{kind}"]) == pytest.approx(loop.p[kind], abs=1e-7)


def test_chances_stay_within_their_bounds_however_long_it_goes_on():
    gate = bind("gate", GATES, "greso")
    hits = RolloutGroups.of(torch.ones(BATCH, WIDTH, dtype=torch.float64))
    visit = Visit(torch.arange(BATCH), torch.zeros(BATCH), first_epoch=False)
    everyone, state = torch.ones(BATCH, dtype=torch.bool), gate.stage.start((), PROMPTS)
    for _ in range(60):
        state = gate.carry(visit, hits, everyone, state=state)
    assert float(state["p_easy"]) == 0.05
    assert float(state["p_hard"]) == 0.95


def test_a_batch_that_nobody_passed_moves_both_chances_up_and_forgets_nothing():
    gate = bind("gate", GATES, "greso")
    groups = RolloutGroups.of(torch.zeros(BATCH, WIDTH, dtype=torch.float64))
    visit = Visit(torch.arange(BATCH), torch.zeros(BATCH), first_epoch=False)
    state = gate.carry(
        visit, groups, torch.ones(BATCH, dtype=torch.bool), state=gate.stage.start((), PROMPTS)
    )
    after = gate.carry(visit, groups, torch.zeros(BATCH, dtype=torch.bool), state=state)
    assert after["hard_run"].tolist() == state["hard_run"].tolist() == [1, 1, 1, 1, 0, 0]
    assert float(after["p_hard"]) == pytest.approx(float(state["p_hard"]) + 0.01)
    assert float(after["p_easy"]) == pytest.approx(float(state["p_easy"]) + 0.01)


@pytest.mark.parametrize("name", ROWS)
def test_several_runs_are_gated_as_each_of_them_alone(name):
    gate, runs = bind("gate", GATES, f"{name}(floor=0.3)"), 2
    state = gate.stage.start((runs,), PROMPTS)
    alone = [gate.stage.start((), PROMPTS) for _ in range(runs)]
    for visits in zip(*(rounds(seed, 6) for seed in range(runs)), strict=True):
        prompt, draw = (torch.stack([getattr(v, x) for v, _ in visits]) for x in ("prompt", "draw"))
        reward, valid = (
            torch.stack([getattr(g, x) for _, g in visits]) for x in ("reward", "valid")
        )
        visit = Visit(prompt, draw, visits[0][0].first_epoch)
        kept = gate(visit, state=state)
        state = gate.carry(visit, RolloutGroups.of(reward, valid=valid), kept, state=state)
        for run, (own, groups) in enumerate(visits):
            passed = gate(own, state=alone[run])
            assert torch.equal(kept[run], passed)
            alone[run] = gate.carry(own, groups, passed, state=alone[run])
            assert all(torch.equal(state[key][run], alone[run][key]) for key in state)

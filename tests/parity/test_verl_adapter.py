"""Strategies as verl's advantage estimators, called the way verl's trainer calls them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from ragged import BINARY, GRADED, draw, many
from verl_reference import Config, advantage, core_algos

from benchmarks import trainers
from recast import STRATEGIES, build_signal, parse_strategy

adapter = pytest.importorskip("recast.adapters.verl")
ROOT = Path(__file__).parents[2]


def estimated(name, batch):
    """The advantage of each response from the estimator that verl has under `name`; `[N]`."""
    per_token, returns = core_algos.get_adv_estimator_fn(name)(
        token_level_rewards=batch.tokens,
        response_mask=batch.mask,
        config=Config({"gamma": 1.0}),
        index=batch.index,
    )
    assert torch.equal(per_token, returns)
    assert torch.equal(per_token, per_token[:, :1] * batch.mask)
    return per_token[:, 0]


def test_every_strategy_is_registered_or_refused_with_a_reason():
    for name, strategy in STRATEGIES.items():
        assert (f"recast.{name}" in core_algos.ADV_ESTIMATOR_REGISTRY) == (
            adapter.why_not(strategy) is None
        ), name
    assert {"grpo", "rloo", "maxrl", "pods", "nsr", "grpo_trl_batch"} <= set(adapter.ESTIMATORS)
    assert "ground truth" in adapter.why_not(STRATEGIES["recast"])
    assert "remembers" in adapter.why_not(STRATEGIES["ha_dw"])
    assert "entropy" in adapter.why_not(STRATEGIES["rl_zvp"])
    assert "structural" in adapter.why_not(STRATEGIES["contrast_only"])
    assert "gate" in adapter.why_not(STRATEGIES["greso"])


def by_prompt(batch, advantage):
    """Prompt, reward and advantage of each response, sorted: which of a prompt's equal responses is
    chosen depends on their order, and verl shuffles it."""
    rewards = batch.flat(batch.groups.reward).tolist()
    rounded = [round(value, 9) + 0.0 for value in advantage.tolist()]
    return sorted(zip(batch.index.tolist(), rewards, rounded, strict=True))


@pytest.mark.parametrize("name", adapter.ESTIMATORS)
def test_an_estimator_gives_shuffled_ragged_responses_the_strategy_s_advantages(name):
    kind = BINARY if STRATEGIES[name].needs_binary else GRADED
    for batch in many(40, kind):
        if batch.groups.reward.shape[1] < STRATEGIES[name].least_group:
            continue
        signal = build_signal(STRATEGIES[name], batch.groups)
        expected = batch.flat(signal.advantage * signal.rows)
        assert by_prompt(batch, estimated(f"recast.{name}", batch)) == by_prompt(batch, expected)


def test_verl_s_own_grpo_and_ours_agree_through_the_same_door():
    for batch in many(50, GRADED):
        theirs = advantage("grpo", batch)
        assert torch.allclose(estimated("recast.grpo", batch), theirs, atol=1e-6)


def test_padding_rows_that_verl_appends_take_no_part():
    batch = draw(3, BINARY)
    plain = estimated("recast.reinforce", batch)
    tokens = torch.cat([batch.tokens, torch.zeros(3, batch.tokens.shape[1])])
    mask = torch.cat([batch.mask, torch.zeros(3, batch.mask.shape[1])])
    index = np.concatenate([batch.index, np.array(["pad"] * 3, dtype=object)])
    found, _ = core_algos.get_adv_estimator_fn("recast.reinforce")(
        token_level_rewards=tokens, response_mask=mask, config=None, index=index
    )
    assert torch.allclose(found[: len(plain), 0], plain)
    assert not found[len(plain) :].any()


def test_a_composition_of_one_s_own_is_registered_once_and_refused_where_it_makes_no_sense():
    adapter.register("credit=grpo, select=pods(2)", "mine")
    batch = draw(5, BINARY)
    strategy = parse_strategy("credit=grpo, select=pods(2)")
    signal = build_signal(strategy, batch.groups)
    expected = batch.flat(signal.advantage * signal.rows)
    assert by_prompt(batch, estimated("mine", batch)) == by_prompt(batch, expected)
    with pytest.raises(ValueError, match="already been registered"):
        adapter.register("grpo", "mine")
    with pytest.raises(ValueError, match="puts the ground truth into groups") as caught:
        adapter.register("repair_only", "other")
    assert "\n" not in str(caught.value)


def test_non_binary_rewards_are_refused_by_a_credit_that_counts_hits():
    batch = draw(1, GRADED)
    with pytest.raises(ValueError, match="needs rewards that are 0 or 1"):
        estimated("recast.maxrl", batch)


def run(code, **env):
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
        capture_output=True,
        text=True,
        check=False,
    )


def test_verl_loads_the_adapter_by_itself_when_told_to():
    code = (
        "import verl\nfrom verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY as r\n"
        "print('recast.pods' in r)"
    )
    done = run(code, VERL_USE_EXTERNAL_MODULES="recast.adapters.verl")
    assert done.returncode == 0, done.stderr[-1500:]
    assert done.stdout.split()[-1] == "True"


def test_a_version_of_verl_before_the_estimators_is_refused_in_one_line():
    code = (
        "import verl\nverl.__version__ = '0.4.1'\n"
        "try:\n    import recast.adapters.verl\nexcept ImportError as e:\n    print(e)"
    )
    done = run(code)
    assert done.stdout.strip().splitlines()[-1] == (
        "recast.adapters.verl works with verl 0.5 and later, found 0.4.1; install it with: "
        "pip install 'verl>=0.5,<1'"
    )


@pytest.mark.filterwarnings("ignore")  # of what verl imports
def test_the_matrix_of_releases_has_a_row_of_verl():
    row = trainers.inside_verl()
    assert set(row) == {"verl", *trainers.VERL}
    assert row["estimators"] == len(adapter.ESTIMATORS)
    assert row[trainers.ESTIMATE].startswith("2.00, -1.00, -1.00, 0.50, 0.50, -1.00, 0.00")
    norms = [float(norm) for norm in row[trainers.STEP].split(", ")]
    assert norms == pytest.approx([29.7923, 2.3927], rel=0.01)

"""Which trainer can serve which strategy: pages, documents and adapters say the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from recast import STRATEGIES, RolloutGroups, build_signal
from recast.adapters.limits import SEEN, why_not_estimator, why_not_trl, why_not_verl
from recast.adapters.sampled import GIVEN
from recast.adapters.verl_batch import refuse
from sim.inputs import why_not
from workbench.diagnosis.snippets import TRAINERS, mind, snippet
from workbench.spec.experiment import Experiment

ROOT = Path(__file__).parents[1]
GROUP = 16
ADAPTERS = {"trl": why_not_trl, "verl": why_not_verl, "estimator": why_not_estimator}


def groups_with(names):
    """Sampled groups that have these inputs and no others."""
    reward = (torch.arange(GROUP) < torch.tensor([[0], [1], [3], [GROUP]])).double()
    have = {
        "tie_key": torch.rand(reward.shape, generator=torch.Generator().manual_seed(0)),
        "length": torch.full_like(reward, 3.0),
        "matched": (3 * reward).long(),
    }
    optional = {name: value for name, value in have.items() if name in names}
    return RolloutGroups.of(reward, depth=3 if "depth" in names else 0, **optional)


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("name", STRATEGIES)
def test_an_adapter_serves_a_strategy_or_says_why_not_in_one_line(adapter, name):
    strategy, reason = STRATEGIES[name], ADAPTERS[adapter](STRATEGIES[name], GROUP)
    if reason is not None:
        assert "\n" not in reason
        assert len(reason) > 10
        return
    given = SEEN if adapter == "estimator" else GIVEN
    signal = build_signal(strategy, groups_with(given))
    assert signal.rows.any() or signal.supervised
    assert signal.rows.shape == signal.sampled.valid.shape
    assert adapter != "estimator" or not signal.supervised


@pytest.mark.parametrize(
    ("adapter", "refused"),
    [
        ("trl", ("luffy", "rl_zvp", "rank_penalty", "s_dpo", "greso", "dynamic_sampling")),
        ("verl", ("luffy", "rl_zvp", "rank_penalty", "s_dpo", "visurf", "greso")),
        ("estimator", ("recast", "ha_dw", "rl_zvp", "contrast_only", "care", "greso", "sft")),
    ],
)
def test_what_an_adapter_cannot_do_is_refused_and_the_rest_is_not(adapter, refused):
    for name in refused:
        assert ADAPTERS[adapter](STRATEGIES[name], GROUP), name
    for name in ("grpo", "dr_grpo", "maxrl", "psr", "pods"):
        assert ADAPTERS[adapter](STRATEGIES[name], GROUP) is None, name
    assert "needs G >= 8, got G = 4" in ADAPTERS[adapter](STRATEGIES["pods"], 4)


class Options(SimpleNamespace):
    def get(self, name, default=None):
        return getattr(self, name, default)


@pytest.mark.parametrize("name", STRATEGIES)
def test_verls_trainer_refuses_what_the_page_says_it_refuses(name):
    actor = Options(use_dynamic_bsz=True)
    rollout = Options(n=GROUP, calculate_log_probs=False)
    config = Options(
        actor_rollout_ref=Options(actor=actor, rollout=rollout),
        algorithm=Options(use_kl_in_reward=False),
    )
    said = mind("verl", name, GROUP)
    if not said:
        refuse(STRATEGIES[name], config)
        return
    with pytest.raises(ValueError, match=r"^recast_sync: ") as caught:
        refuse(STRATEGIES[name], config)
    assert str(caught.value).removeprefix("recast_sync: ") in said


@pytest.mark.parametrize("rollouts", ["sample", "beam"])
@pytest.mark.parametrize("name", STRATEGIES)
def test_the_simulator_refuses_what_it_says_it_refuses(name, rollouts):
    train = {"rollouts": rollouts, "group": GROUP}
    reason = why_not(STRATEGIES[name], rollouts, GROUP)
    if reason is None:
        Experiment(strategies=(name,), train=train)
    else:
        with pytest.raises(ValueError, match="strategy") as caught:
            Experiment(strategies=(name,), train=train)
        assert reason in str(caught.value)


@pytest.mark.parametrize("trainer", TRAINERS)
@pytest.mark.parametrize("name", STRATEGIES)
def test_a_page_never_hands_out_a_snippet_that_its_trainer_refuses_without_saying_so(trainer, name):
    why_nots = {"trl": why_not_trl, "verl": why_not_verl}
    if trainer in why_nots:
        reason = why_nots[trainer](STRATEGIES[name], GROUP)
        assert bool(mind(trainer, name, GROUP)) == (reason is not None)
        assert (reason or "") in mind(trainer, name, GROUP)
    elif trainer == "run":
        beams = "train.rollouts=beam" in snippet(trainer, name, GROUP, 0.5)
        assert why_not(STRATEGIES[name], "beam" if beams else "sample", GROUP) is None
        assert mind(trainer, name, GROUP) == ""


def test_what_a_plain_loop_leaves_to_its_owner_is_said():
    assert "ask the gate" in mind("pytorch", "greso")
    assert "further rounds" in mind("pytorch", "dynamic_sampling")
    assert "signal.state" in mind("pytorch", "ha_dw")
    assert "evidence" in mind("pytorch", "sft")
    assert mind("pytorch", "recast") == ""


def test_asking_needs_no_trainer():
    code = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(('trl', 'verl', 'transformers')))\n"
        "import recast.adapters.limits, recast.lm.signal, sim.inputs\n"
        "import workbench.diagnosis.snippets\n"
        "print(recast.lm.signal.why_not(recast.STRATEGIES['rank_penalty']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "needs `beam_rank`" in done.stdout
    assert "--search beam" in done.stdout

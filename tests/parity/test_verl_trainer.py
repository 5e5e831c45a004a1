"""verl's own synchronous trainer with our signal, on a CPU: everything but the models.

The trainer is built from verl's configuration. Its data plane is a dictionary and its worker group
records what it is asked to do; the methods in between are verl's.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
import warnings
from pathlib import Path

import pytest
import torch

pytest.importorskip("transfer_queue", reason="verl's trainer needs TransferQueue; make parity")
hydra = pytest.importorskip("hydra")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what verl and its packages warn of on import is theirs
    import verl_case as case
    from transfer_queue import KVBatchMeta
    from verl.trainer.ppo.core_algos import agg_loss
    from verl.utils.tensordict_utils import list_of_dict_to_tensordict

    from recast.adapters import verl_main
    from recast.adapters.verl_trainer import PROGRAM, RecastTrainer
    from recast.stages.supervised import Evidence

# verl configures critics, devices and checkpoints with warnings of its own.
pytestmark = pytest.mark.filterwarnings("default")

TARGET, PROMPT, GROUP = [5, 6, 7], [11, 12], 4
# Matched leading tokens of each rollout: a dead group, one with a hit, a saturated one.
MATCHED = [[0, 2, 1, 0], [1, 3, 0, 2], [3, 3, 3, 3]]


class Workers:
    """A worker group of two ranks that records how it was told to update the actor."""

    def __init__(self):
        self._dispatch_info = {"actor": [0, 1]}
        self.asked = []

    def update_actor(self, batch):
        self.asked.append((list(batch.keys), dict(batch.extra_info)))
        return {"metrics": {"mfu": [0.0], "pg_loss": [0.0]}}


@pytest.fixture
def store(monkeypatch):
    made = case.Store()
    case.use(monkeypatch.setattr, made)
    return made


def trainer_of(*overrides):
    trainer = case.trainer_of(*overrides)
    trainer.actor_rollout_wg = Workers()
    return trainer


def sampled(store, answers=TARGET):
    """The batch that verl's replay buffer would hand over: one key per rollout."""
    keys, rows, tags = [], [], []
    for b, group in enumerate(MATCHED):
        for g, matched in enumerate(group):
            response = torch.tensor([*TARGET[:matched], *[1] * (3 - matched)])
            ids = torch.cat([torch.tensor(PROMPT), response])
            scores = torch.zeros(3)
            scores[-1] = float(matched == 3)
            keys.append(f"uid{b}_{g}_0")
            rows.append(
                {
                    "uid": f"uid{b}",
                    "prompts": torch.tensor(PROMPT),
                    "responses": response,
                    "input_ids": ids,
                    "attention_mask": torch.ones_like(ids),
                    "position_ids": torch.arange(len(ids)),
                    "response_mask": torch.ones_like(response),
                    "loss_mask": torch.ones_like(response),
                    "rm_scores": scores,
                    "target_ids": answers,
                }
            )
            tags.append({"prompt_len": 2, "response_len": 3, "seq_len": 5, "status": "success"})
    store.kv_batch_put(keys, "train", list_of_dict_to_tensordict(rows), tags)
    return KVBatchMeta(keys=keys, tags=tags, partition_id="train")


def one_step(trainer, store):
    """Balance, credit and update, as `_step_once` does around the forward passes."""
    metrics: dict = {}
    batch = trainer._balance_batch(sampled(store), metrics)
    batch = trainer._compute_advantage(batch, metrics)
    trainer._update_actor(batch, metrics)
    return batch, metrics


def test_the_trainer_is_registered_and_keeps_verl_s_synchronous_buffer(store):
    trainer = trainer_of()
    assert isinstance(trainer, RecastTrainer)
    assert type(trainer.replay_buffer).__name__ == "ReplayBuffer"
    assert trainer.strategy.text.startswith("repair=anchor, select=pair")


def test_recast_repairs_the_dead_group_and_sends_a_pair_of_each_learnable_one(store):
    trainer = trainer_of()
    batch, metrics = one_step(trainer, store)
    real = [key for key in batch.keys if not key.startswith("pad")]
    assert len(real) == 4
    assert len(batch) % 2 == 0
    assert set(store.rows) == set(batch.keys)  # what was dropped is gone from the queue
    if case.FIRST:
        everyone = {f"uid{b}_{g}_0" for b in range(3) for g in range(4)}
        assert set(trainer.replay_buffer.removed) == everyone - set(batch.keys)
    advantage = {key: store.rows[key]["advantages"].tolist() for key in batch.keys}
    dead = {key: value for key, value in advantage.items() if key.startswith("uid0")}
    # verl divides by the rows at hand, where 12 rollouts are meant.
    low, high = sorted(dead.values())
    assert low == pytest.approx([-len(batch) / 12] * 3)
    assert high == pytest.approx([len(batch) / 12] * 3)
    anchor = next(key for key, value in dead.items() if value[0] > 0)
    row = store.rows[anchor]
    assert row["responses"].tolist() == TARGET
    assert row["input_ids"].tolist() == [*PROMPT, *TARGET]
    assert row["rm_scores"].tolist() == [0.0, 0.0, 1.0]
    assert {"uid1_1_0", "uid1_3_0"} <= set(real)
    assert metrics["recast/all_zero"] == pytest.approx(1 / 3)
    assert metrics["recast/raw_reward"] == pytest.approx(5 / 12)
    assert metrics["recast/repaired"] == pytest.approx(1 / 3)


@pytest.mark.parametrize("strategy", ["recast", "sft"])
def test_one_of_several_right_answers_is_written_or_taught(store, strategy):
    """The rollouts that match TARGET are no more than a code away from the other answer."""
    answers, seen = [TARGET, [5, 6, 8]], set()
    trainer = trainer_of(f"+trainer.v1.recast_sync.strategy={strategy}")
    for step in range(1, 9):
        store.rows.clear()
        trainer.global_steps = step
        batch = trainer._balance_batch(sampled(store, answers), {})
        mine = [key for key in batch.keys if key.startswith("uid0")]
        given = [store.rows[key]["responses"].tolist() for key in mine]
        (taught,) = [response for response in given if response in answers]
        seen.add(tuple(taught))
    assert seen == set(map(tuple, answers))


@pytest.mark.parametrize("mini_batch", [3, 1])
def test_the_actor_takes_as_many_steps_as_verl_would_over_the_rows_that_are_left(store, mini_batch):
    trainer = trainer_of(f"actor_rollout_ref.actor.ppo_mini_batch_size={mini_batch}")
    batch, _ = one_step(trainer, store)
    (keys, info), *more = trainer.actor_rollout_wg.asked
    assert not more
    assert keys == batch.keys
    steps = 12 // (mini_batch * 4)
    assert len(batch) == steps * info["mini_batch_size"]
    assert info["global_batch_size"] == info["mini_batch_size"]
    assert isinstance(trainer.actor_rollout_wg, Workers)


@pytest.mark.parametrize("strategy", ["recast", "grpo", "repair_only", "psr"])
def test_dropping_rows_equals_masking_them_in_verl_s_own_loss(store, strategy):
    trainer = trainer_of(f"+trainer.v1.recast_sync.strategy={strategy}")
    batch, _ = one_step(trainer, store)
    (_, info), *_ = trainer.actor_rollout_wg.asked
    rng = torch.Generator().manual_seed(0)
    logp = {key: torch.randn(3, generator=rng) for key in sorted(trainer._advantage)}

    def loss(advantages, size):
        matrix = torch.stack([-(a * logp[key]) for key, a in advantages.items()])
        mask = torch.ones_like(matrix)
        return float(agg_loss(matrix, mask, "seq-mean-token-sum", global_batch_size=size))

    kept = {key: store.rows[key]["advantages"] for key in batch.keys if key.startswith("uid")}
    everyone = {key: a.expand(3) for key, a in trainer._advantage.items()}
    assert len(everyone) == 12
    assert loss(everyone, 12) != 0
    assert loss(kept, info["global_batch_size"]) == pytest.approx(loss(everyone, 12), abs=1e-6)


def test_the_strategy_s_own_denominator_is_a_sum_per_prompt(store):
    trainer = trainer_of("+trainer.v1.recast_sync.divisor=strategy")
    batch, _ = one_step(trainer, store)
    pushes = [float(store.rows[k]["advantages"].abs().max()) for k in batch.keys if k[0] == "u"]
    assert pushes == pytest.approx([len(batch) / 3] * 4)


def test_a_batch_that_teaches_nothing_still_gives_verl_a_row_without_advantage(store):
    trainer = trainer_of("+trainer.v1.recast_sync.strategy=nsr")
    metrics: dict = {}
    batch = sampled(store)
    saturated = batch.select_keys([key for key in batch.keys if key.startswith("uid2")])
    kept = trainer._balance_batch(saturated, metrics)
    kept = trainer._compute_advantage(kept, metrics)
    assert len(kept) >= 1
    assert not any(store.rows[key]["advantages"].any() for key in kept.keys)


@pytest.mark.parametrize("divisor", ["verl", "strategy"])
@pytest.mark.parametrize("strategy", ["grpo_sft", "target_power", "chord"])
def test_a_supervised_term_is_a_row_whose_pull_in_verl_s_loss_is_the_library_s(
    store, strategy, divisor
):
    """verl's own aggregation of -A logp, ratio 1, against `strategy_loss`, by their gradients."""
    trainer = trainer_of(
        f"+trainer.v1.recast_sync.strategy={strategy}", f"+trainer.v1.recast_sync.divisor={divisor}"
    )
    batch = trainer._balance_batch(sampled(store), {})
    rng = torch.Generator().manual_seed(0)
    logp = {
        key: -torch.rand(len(store.rows[key]["responses"]), generator=rng) for key in batch.keys
    }
    for key in batch.keys:
        store.rows[key]["old_log_probs"] = logp[key]
    batch = trainer._compute_advantage(batch, {})
    trainer._update_actor(batch, {})
    (_, info), *_ = trainer.actor_rollout_wg.asked
    rows = [key for key in batch.keys if key.startswith("uid")]
    targets = {f"uid{b}": key for b in range(3) for key in rows if key == f"uid{b}_4_0"}
    assert len(targets) == 3
    assert store.rows[targets["uid0"]]["input_ids"].tolist() == [*PROMPT, *TARGET]
    given = torch.stack([store.rows[key]["advantages"] for key in rows])
    scale = float(agg_loss(torch.ones(1, 3), torch.ones(1, 3), "seq-mean-token-sum",
                           global_batch_size=info["global_batch_size"])) / 3  # fmt: skip
    plan, advantage = trainer.strategy, trainer._advantage
    divisors = {"verl": 12.0, "strategy": trainer._sampled[2]}
    whole = trainer._sampled[2] / divisors[divisor]
    for key, mine in zip(rows, given * scale, strict=True):
        if key in targets.values():
            leaf = logp[key].clone().requires_grad_()
            hits = torch.tensor([sum(m == 3 for m in MATCHED[int(key[3])])])
            known = Evidence(leaf.unsqueeze(0), progress=0.0, hits=hits, valid=torch.tensor([4]))
            plan.stage("supervised")(known).sum().backward()
            wanted = -leaf.grad / 3 * whole
        else:
            wanted = (plan.policy_weight * advantage[key] / divisors[divisor]).expand(3)
        assert mine.tolist() == pytest.approx(wanted.tolist(), abs=1e-6)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("+trainer.v1.recast_sync.divisor=mean", "expected verl or strategy"),
        ("+trainer.v1.recast_sync.strategy=recats", "did you mean 'recast'"),
        ("+trainer.v1.recast_sync.strategy=s_dpo", "supervised=s_dpo.* needs `reference`"),
        ("actor_rollout_ref.actor.use_dynamic_bsz=False", "use_dynamic_bsz"),
    ],
)
def test_what_cannot_work_is_one_line_before_anything_starts(store, override, message):
    with pytest.raises(ValueError, match=message) as caught:
        trainer_of(override)
    assert "\n" not in str(caught.value)


def test_the_launch_file_s_settings_are_verl_s_and_build_the_trainer(store, monkeypatch):
    text = (Path(__file__).parents[2] / "examples" / "verl_openonerec.sh").read_text()
    settings = re.findall(r"^\t([+\w.]+=\S+) \\$", text, re.MULTILINE)
    assert len(settings) > 20
    filled = [re.sub(r'"\$\{\w+:-(\w+)\}"', r"\1", s) for s in settings]
    filled = [re.sub(r'"\$\w+"', "somewhere", s) for s in filled]
    given: list[list[str]] = []
    monkeypatch.setattr(importlib.import_module(PROGRAM), "main", lambda: given.append(sys.argv))
    monkeypatch.setattr(sys, "argv", ["verl_main", "--cfg", "job", *filled])
    monkeypatch.setenv("VERL_USE_EXTERNAL_MODULES", "another")
    verl_main.main()
    assert given[0][:4] == ["verl_main", "--cfg", "job", "++trainer.v1.trainer_mode=recast_sync"]
    assert os.environ["VERL_USE_EXTERNAL_MODULES"] == "another,recast.adapters.verl_trainer"
    with hydra.initialize_config_module("verl.trainer.config", version_base=None):
        composed = hydra.compose("ppo_trainer", overrides=given[0][3:])
    trainer = case.trainer_from(composed)
    assert trainer.strategy.text.startswith("repair=anchor, select=pair")
    assert trainer.divisor == "strategy"

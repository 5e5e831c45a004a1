"""One PPO step of verl's synchronous trainer on a CPU with a real, tiny Qwen3: it samples, is
scored, repaired, credited by our trainer, and updated through verl's own policy loss.

The queue is a dictionary and the worker group runs in this process: verl 0.9 registers its engines
for GPUs and NPUs alone, and takes rollouts from vLLM, SGLang or TensorRT-LLM servers.
"""

from __future__ import annotations

import warnings

import pytest
import torch

pytest.importorskip("transfer_queue", reason="verl's trainer needs TransferQueue; make parity")
from test_verl_trainer import Store, trainer_of
from transformers import Qwen3Config, Qwen3ForCausalLM

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from transfer_queue import KVBatchMeta
    from verl.trainer.ppo import padding_utils
    from verl.trainer.ppo.core_algos import get_policy_loss_fn
    from verl.trainer.ppo.v1 import trainer_base
    from verl.utils.config import omega_conf_to_dataclass
    from verl.utils.tensordict_utils import list_of_dict_to_tensordict

pytestmark = pytest.mark.filterwarnings("default")
PROMPTS = [[11, 12], [13, 14, 15], [12, 16]]
TARGETS = [[5, 6, 7], [5, 8, 9], [6, 6, 8]]
GROUP = 4


class Queue(Store):
    """The dictionary, whose rows come back as nested tensors, as TransferQueue's do."""

    def kv_batch_get(self, keys, partition_id, select_fields=None):
        found = super().kv_batch_get(keys, partition_id, select_fields)
        for name in list(found.keys()):
            value = found[name]
            if isinstance(value, torch.Tensor) and not value.is_nested and value.ndim == 2:
                rows = list(value.unbind(0))
                found[name] = torch.nested.as_nested_tensor(rows, layout=torch.jagged)
        return found


def policy() -> Qwen3ForCausalLM:
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=20, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, head_dim=8, initializer_range=0.5,
        tie_word_embeddings=True, bos_token_id=None, eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    return Qwen3ForCausalLM(config).eval()


def logp_of(model, ids):
    """Log-probability of each next token of one row, `[T]`; the last place holds 0."""
    logits = model(input_ids=ids.unsqueeze(0)).logits[0, :-1]
    found = logits.log_softmax(-1).gather(-1, ids[1:].unsqueeze(-1)).squeeze(-1)
    return torch.cat([found, found.new_zeros(1)])


class Workers:
    """A worker group of one rank with a model of its own; what it is asked, it does."""

    def __init__(self, store, config, lr=0.05):
        self._dispatch_info, self.store = {"actor": [0]}, store
        self.model, self.config = policy(), omega_conf_to_dataclass(config)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=lr)
        self.norm = 0.0

    def compute_log_prob(self, batch):
        with torch.no_grad():
            rows = [logp_of(self.model, self.store.rows[k]["input_ids"]) for k in batch.keys]
        fields = [{"log_probs": row, "entropy": torch.zeros_like(row)} for row in rows]
        return self.store.kv_batch_put(
            batch.keys, batch.partition_id, list_of_dict_to_tensordict(fields)
        )

    def update_actor(self, batch):
        size = batch.extra_info["global_batch_size"]
        self.config.global_batch_info.update(
            dp_size=1, batch_num_tokens=None, global_batch_size=size, loss_scale_factor=None
        )
        assert size == len(batch)
        rows = [self.store.rows[key] for key in batch.keys]

        def padded(name, values=None):
            listed = [row[name] for row in rows] if values is None else values
            return torch.nn.utils.rnn.pad_sequence(listed, batch_first=True)

        new = []
        for row in rows:
            width = len(row["responses"])
            new.append(logp_of(self.model, row["input_ids"])[-width - 1 : -1])
        loss, _ = get_policy_loss_fn("vanilla")(
            old_log_prob=padded("old_log_probs"),
            log_prob=padded("", new),
            advantages=padded("advantages"),
            response_mask=padded("response_mask").bool(),
            loss_agg_mode=self.config.loss_agg_mode,
            config=self.config,
        )
        self.optimizer.zero_grad()
        loss.backward()
        self.norm = torch.cat([p.grad.flatten() for p in self.model.parameters()]).norm().item()
        self.optimizer.step()
        return {"metrics": {"mfu": [0.0], "pg_loss": [loss.item()]}}


def sampled(store, model):
    """Rollouts that the model draws, in the columns that verl's replay buffer hands over."""
    keys, rows, tags = [], [], []
    torch.manual_seed(1)
    for b, (prompt, target) in enumerate(zip(PROMPTS, TARGETS, strict=True)):
        ids = torch.tensor(prompt)
        drawn = model.generate(
            ids.unsqueeze(0), attention_mask=torch.ones(1, len(ids), dtype=torch.int64),
            do_sample=True, num_return_sequences=GROUP, max_new_tokens=3, min_new_tokens=3, top_k=0,
        )  # fmt: skip
        for g, whole in enumerate(drawn):
            response, scores = whole[len(ids) :], torch.zeros(3)
            scores[-1] = float(response.tolist() == target)
            ones = torch.ones(3, dtype=torch.int64)
            keys.append(f"uid{b}_{g}_0")
            rows.append(
                {
                    "uid": f"uid{b}", "prompts": ids, "responses": response, "input_ids": whole,
                    "attention_mask": torch.ones_like(whole),
                    "position_ids": torch.arange(len(whole)), "response_mask": ones,
                    "loss_mask": ones, "rm_scores": scores, "target_ids": target,
                }
            )  # fmt: skip
            tags.append({"prompt_len": len(ids), "response_len": 3, "seq_len": len(whole)})
    store.kv_batch_put(keys, "train", list_of_dict_to_tensordict(rows), tags)
    meta = KVBatchMeta(keys=keys, tags=tags, partition_id="train")
    meta.extra_info["temperature"] = 1.0
    return meta


@pytest.mark.drill
@pytest.mark.parametrize("strategy", ["recast", "repair_only", "grpo_sft", "target_power"])
def test_a_step_on_a_real_model_makes_the_targets_likelier(strategy, monkeypatch):
    store = Queue()
    monkeypatch.setattr(trainer_base, "tq", store)
    monkeypatch.setattr(padding_utils, "tq", store)
    trainer = trainer_of(
        f"+trainer.v1.recast_sync.strategy={strategy}", "+trainer.v1.recast_sync.divisor=strategy"
    )
    trainer.actor_rollout_wg = workers = Workers(store, trainer.config.actor_rollout_ref.actor)

    def likelihood():
        with torch.no_grad():
            return sum(
                logp_of(workers.model, torch.tensor([*p, *t]))[-4:-1].sum().item()
                for p, t in zip(PROMPTS, TARGETS, strict=True)
            )

    before, metrics = likelihood(), {}
    batch = trainer._balance_batch(sampled(store, workers.model), metrics)
    batch.extra_info["temperature"] = 1.0
    batch = trainer._compute_old_log_prob(batch, metrics)
    batch = trainer._compute_advantage(batch, metrics)
    trainer._update_actor(batch, metrics)
    assert metrics["recast/all_zero"] > 0
    assert workers.norm > 0
    assert "actor/pg_loss" in metrics
    assert likelihood() > before

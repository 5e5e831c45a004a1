"""verl's synchronous trainer on a CPU with a real, tiny Qwen3, in every release that the adapter
works with; the tests and `benchmarks/trainers.py` use it.

The queue is a dictionary and the worker group runs in this process: verl registers its engines for
GPUs and NPUs alone, and takes rollouts from vLLM, SGLang or TensorRT-LLM servers.
"""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import hydra
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what verl and its packages warn of on import is theirs
    import verl
    from transfer_queue import KVBatchMeta
    from verl.trainer.ppo import padding_utils
    from verl.trainer.ppo.core_algos import get_policy_loss_fn
    from verl.utils.config import omega_conf_to_dataclass
    from verl.utils.tensordict_utils import list_of_dict_to_tensordict

    from recast.adapters.verl_trainer import trainer_base

FIRST = verl.__version__.startswith("0.8.")  # it has one trainer in place of a register
PROMPTS = [[11, 12], [13, 14, 15], [12, 16]]
TARGETS = [[5, 6, 7], [5, 8, 9], [6, 6, 8]]
GROUP = 4


class Store:
    """TransferQueue's key-value calls over a dictionary."""

    def __init__(self):
        self.rows, self.tags = {}, {}

    def kv_batch_get(self, keys, partition_id, select_fields=None):
        names = select_fields or self.rows[keys[0]].keys()
        kept = [n for n in names if all(n in self.rows[k] for k in keys)]
        return list_of_dict_to_tensordict([{n: self.rows[k][n] for n in kept} for k in keys])

    def kv_batch_put(self, keys, partition_id, fields=None, tags=None):
        for i, key in enumerate(keys):
            row = self.rows.setdefault(key, {})
            for name in fields.keys() if fields is not None else ():
                value = fields[name]
                row[name] = value.unbind(0)[i] if isinstance(value, torch.Tensor) else value[i]
            self.tags[key] = tags[i] if tags else self.tags.get(key, {})
        return KVBatchMeta(keys=keys, tags=[self.tags[k] for k in keys], partition_id=partition_id)

    def kv_clear(self, keys, partition_id):
        for key in keys:
            del self.rows[key], self.tags[key]


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


class ReplayBuffer:
    """What verl 0.8's buffer is told to forget, without its thread that asks the queue."""

    def __init__(self):
        self.removed = []

    def remove(self, partition_id, keys):
        self.removed += keys


def use(put, store):
    """Put `store` in the place of verl's queue. put: `setattr`, or a test's that takes it back."""
    put(trainer_base, "tq", store)
    put(padding_utils, "tq", store)
    if FIRST:
        put(trainer_base, "ReplayBuffer", ReplayBuffer)
        for name in ("_init_tokenizer", "_init_dataloader", "_init_dump_executor"):
            put(trainer_base.PPOTrainer, name, lambda self: None)


def config(*overrides):
    with hydra.initialize_config_module("verl.trainer.config", version_base=None):
        return hydra.compose(
            "ppo_trainer",
            overrides=[
                "++trainer.v1.trainer_mode=recast_sync",
                "actor_rollout_ref.rollout.n=4",
                "actor_rollout_ref.actor.ppo_mini_batch_size=3",
                "actor_rollout_ref.actor.use_dynamic_bsz=True",
                "actor_rollout_ref.actor.loss_agg_mode=seq-mean-token-sum",
                "actor_rollout_ref.rollout.calculate_log_probs=False",
                "critic.enable=False",
                *overrides,
            ],
        )


def trainer_from(composed):
    """The trainer that verl would build, by its register or in its one place."""
    if FIRST:
        return trainer_base.PPOTrainer(
            config=composed, role_worker_mapping={}, resource_pool_manager=None
        )
    from verl.trainer.ppo.v1 import get_trainer_cls

    return get_trainer_cls(composed.trainer.v1.trainer_mode)(composed)


def trainer_of(*overrides):
    trainer = trainer_from(config(*overrides))
    trainer.tokenizer = SimpleNamespace(eos_token_id=0, pad_token_id=0)
    trainer.global_steps = 1
    return trainer


def policy() -> Qwen3ForCausalLM:
    torch.manual_seed(0)
    shape = Qwen3Config(
        vocab_size=20, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, head_dim=8, initializer_range=0.5,
        tie_word_embeddings=True, bos_token_id=None, eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    return Qwen3ForCausalLM(shape).eval()


def logp_of(model, ids):
    """Log-probability of each next token of one row, `[T]`; the last place holds 0."""
    logits = model(input_ids=ids.unsqueeze(0)).logits[0, :-1]
    found = logits.log_softmax(-1).gather(-1, ids[1:].unsqueeze(-1)).squeeze(-1)
    return torch.cat([found, found.new_zeros(1)])


class ModelWorkers:
    """A worker group of one rank with a model of its own; what it is asked, it does."""

    def __init__(self, store, actor, lr=0.05):
        self._dispatch_info, self.store = {"actor": [0]}, store
        self.model, self.config = policy(), omega_conf_to_dataclass(actor)
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

    def likelihood(self):
        """Log-probability of the targets."""
        with torch.no_grad():
            return sum(
                logp_of(self.model, torch.tensor([*p, *t]))[-4:-1].sum().item()
                for p, t in zip(PROMPTS, TARGETS, strict=True)
            )


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
                    "num_turns": torch.tensor(2),
                }
            )  # fmt: skip
            steps = {"min_global_steps": 1, "max_global_steps": 1}
            tags.append({"prompt_len": len(ids), "response_len": 3, "seq_len": len(whole), **steps})
    store.kv_batch_put(keys, "train", list_of_dict_to_tensordict(rows), tags)
    meta = KVBatchMeta(keys=keys, tags=tags, partition_id="train")
    meta.extra_info["temperature"] = 1.0
    return meta


def prepared(strategy, put):
    """A trainer whose worker group has a model; `put` as in `use`."""
    store = Queue()
    use(put, store)
    trainer = trainer_of(
        f"+trainer.v1.recast_sync.strategy={strategy}", "+trainer.v1.recast_sync.divisor=strategy"
    )
    trainer.actor_rollout_wg = ModelWorkers(store, trainer.config.actor_rollout_ref.actor)
    return trainer


def step(trainer):
    """One PPO step, from rollouts to the optimizer; returns what verl logs of it."""
    metrics: dict = {}
    workers = trainer.actor_rollout_wg
    batch = trainer._balance_batch(sampled(workers.store, workers.model), metrics)
    batch.extra_info["temperature"] = 1.0
    batch = trainer._compute_old_log_prob(batch, metrics)
    batch = trainer._compute_advantage(batch, metrics)
    batch = trainer._update_actor(batch, metrics)
    trainer.resource_pool_manager = SimpleNamespace(get_n_gpus=lambda: 1)
    times = dict.fromkeys(("step", "gen", "adv", "update_actor"), 1.0)
    trainer._compute_metrics(batch, metrics, times, global_steps=1, epoch=0)
    return metrics

"""Repair and dropping inside verl's synchronous trainer, registered as `recast_sync`.

    python -m recast.adapters.verl_main +trainer.v1.recast_sync.strategy=recast ...

Four methods of verl's synchronous trainer are overridden, `PPOTrainerSync` in 0.9 and `PPOTrainer`
of `main_ppo_sync` in 0.8; other releases are refused at import. 0.9 has a register of trainers; in
0.8 importing this module puts the trainer in the place of verl's.

The methods:

- `_balance_batch`, the first to see a sampled batch: write the ground truth into repaired slots
  and drop the rollouts that do not reach the actor, BEFORE any log-probability is computed;
- `_get_required_batch_multiple` and `_update_actor`: mini-batches of the rows that are left, as
  many optimizer steps as without dropping;
- `_compute_advantage`: the strategy's advantages.

A supervised term is one more row per prompt, whose response is the target and whose advantage is
minus the slope of the term at the log-probabilities that verl computes before the update: the
gradient of the term in the first optimizer step after a rollout phase, a clipped ratio in later
ones, as for rollouts.

The outcome is verl's own reward (`rm_scores`, summed over a response). Structure, for the repair
slot and the hardest negative, is the number of leading tokens that a response shares with the
ground truth, in the column `target_ids` of the data set: token ids as the policy would emit them,
end of sequence included, all of one length L; or a list of several right answers
(`recast.adapters.target_sets`), of which the nearest counts and one, drawn anew in every phase, is
written into a repaired slot. Give verl a reward that is 1 for any of them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from recast.adapters.sampled import described
from recast.adapters.trainer_imports import needed
from recast.adapters.verl_batch import MODE, places, refuse, shape_batch, slopes
from recast.signal import Signal
from recast.stage import State
from recast.strategies import parse_strategy

OLDEST, NEWEST = (0, 8), (0, 9)
"""Releases of verl whose synchronous trainer has the four methods."""

_verl = needed(__name__, "verl", "'verl>=0.8,<0.10'")
_release = tuple(int(part) for part in _verl.__version__.split(".")[:2])
_NEAREST = ".".join(map(str, min(max(_release, OLDEST), NEWEST)))
_INSTALL = f"'verl=={_NEAREST}.*'"
if not OLDEST <= _release <= NEWEST:
    raise ImportError(
        f"recast.adapters.verl_trainer works with verl 0.8.x and 0.9.x, found {_verl.__version__}; "
        f"the nearest is had with: pip install {_INSTALL}; or use the estimators of "
        "recast.adapters.verl, which need verl 0.5 or later"
    )


def _hook(place: Any, name: str) -> Any:
    if not hasattr(place, name):
        raise ImportError(
            f"recast.adapters.verl_trainer: verl {_verl.__version__} has no {name} in "
            f"{place.__name__}; install a release that has it with: pip install {_INSTALL}"
        )
    return getattr(place, name)


if _release == OLDEST:
    # verl's module as the program would have a trainer of its own, which nobody can replace.
    if any(word.startswith("verl.trainer.main_ppo") for word in sys.orig_argv):
        raise ImportError(
            f"recast.adapters.verl_trainer: verl {_verl.__version__} started by its own module "
            "would train without it; start it with: python -m recast.adapters.verl_main"
        )
    PROGRAM = "verl.trainer.main_ppo_sync"
    trainer_base = needed(__name__, PROGRAM, _INSTALL)
    _Synchronous: Any = _hook(trainer_base, "PPOTrainer")
else:
    PROGRAM = "verl.trainer.main_ppo"
    _trainers = needed(__name__, "verl.trainer.ppo.v1", _INSTALL)
    _sync = needed(__name__, "verl.trainer.ppo.v1.trainer_sync", _INSTALL)
    trainer_base = needed(__name__, "verl.trainer.ppo.v1.trainer_base", _INSTALL)
    _register: Any = _hook(_trainers, "register_trainer")
    _Synchronous = _hook(_sync, "PPOTrainerSync")

FIELDS = ("uid", "prompts", "responses", "rm_scores")


class _Resized:
    """A worker group whose actor update runs over mini-batches of another size."""

    def __init__(self, group: Any, size: int) -> None:
        self._group, self._size = group, size

    def __getattr__(self, name: str) -> Any:
        return getattr(self._group, name)

    def update_actor(self, batch: Any) -> Any:
        batch.extra_info.update(global_batch_size=self._size, mini_batch_size=self._size)
        return self._group.update_actor(batch)


class RecastTrainer(_Synchronous):  # type: ignore[misc]  # verl is optional and untyped
    """verl's synchronous trainer, its learning signal a strategy of this library.

    Options under `trainer.v1.recast_sync`: strategy, a name or a composition (default recast);
    target, the column of target token ids (default target_ids); divisor: "verl" keeps verl's
    normalisation over all rollouts, so that dropping rows equals masking them (no KL term),
    "strategy" divides by the strategy's own denominator (loss_agg_mode seq-mean-token-sum);
    seed of the random ties.
    Raises ValueError, one line, for what `refuse` names.
    """

    actor_rollout_wg: Any

    def __init__(self, config: Any, *workers: Any, **named: Any) -> None:
        options = (config.trainer.get("v1") or {}).get(MODE) or {}
        self.strategy = parse_strategy(str(options.get("strategy", "recast")))
        self.target = str(options.get("target", "target_ids"))
        self.divisor = str(options.get("divisor", "verl"))
        self.seed = int(options.get("seed", 0))
        mode = config.actor_rollout_ref.actor.loss_agg_mode
        if self.divisor not in ("verl", "strategy"):
            raise ValueError(f"{MODE}.divisor: {self.divisor!r}; expected verl or strategy")
        if self.divisor == "strategy" and mode != "seq-mean-token-sum":
            raise ValueError(
                f"{MODE}.divisor=strategy needs actor.loss_agg_mode=seq-mean-token-sum, got {mode}"
            )
        refuse(self.strategy, config)
        self._memory: State = {}
        self._advantage: dict[str, Tensor] = {}
        self._sampled = (0, 0, 0.0)  # rollouts, their tokens, the strategy's divisor
        self._taught: dict[
            str, tuple[int, int]
        ] = {}  # row of a target: hits, rollouts of its group
        self._prompts = 0
        super().__init__(config, *workers, **named)

    def _build_replay_buffer(self) -> Any:
        self.trainer_mode = "sync"  # it chooses the buffer of the synchronous trainer
        return super()._build_replay_buffer()

    def _balance_batch(self, batch: Any, metrics: dict[str, Any], **options: Any) -> Any:
        return super()._balance_batch(self._shape(batch, metrics), metrics, **options)

    def _shape(self, batch: Any, metrics: dict[str, Any]) -> Any:
        """Repair and drop; returns the batch of the rows that are left."""
        tq = trainer_base.tq
        data = tq.kv_batch_get(
            keys=batch.keys, partition_id=batch.partition_id, select_fields=[*FIELDS, self.target]
        )
        responses, prompts = _rows(data["responses"]), _rows(data["prompts"])
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.global_steps)
        uid = [str(label) for label in _plain(data["uid"])]
        shaped = shape_batch(
            self.strategy,
            uid,
            responses,
            _plain(data[self.target]),
            torch.stack([scores.float().sum() for scores in _rows(data["rm_scores"])]),
            tie_key=torch.rand(len(batch), generator=generator),
            aim=torch.rand(len(batch), generator=generator),
            state=self._memory,
        )
        targets = shaped.target
        self._memory = shaped.signal.state
        self._write_targets(batch, shaped.repaired, prompts, targets)
        metrics.update(described(shaped.signal))
        kept = [key for key, keep in zip(batch.keys, shaped.keep.tolist(), strict=True) if keep]
        taught = self._add_targets(batch, shaped.signal, uid, prompts, targets)
        # verl needs one row; its advantage is 0.
        kept = kept or ([] if taught else batch.keys[:1])
        dropped = sorted(set(batch.keys) - set(kept))
        tokens = sum(len(response) for response in responses)
        self._sampled = (len(batch), tokens, shaped.divisor)
        self._prompts = len(shaped.signal.rows)
        self._advantage = dict(zip(batch.keys, shaped.advantage, strict=True))
        if dropped:
            tq.kv_clear(keys=dropped, partition_id=batch.partition_id)
            if _release == OLDEST:  # its buffer keeps a list of its own
                self.replay_buffer.remove(batch.partition_id, dropped)
        left = batch.select_keys(kept)
        if not taught:
            return left
        extra = dict(left.extra_info or {})
        both = {**dict(zip(left.keys, left.tags, strict=True)), **taught}
        return type(batch)(
            keys=list(both),
            tags=list(both.values()),
            partition_id=batch.partition_id,
            fields=left.fields,
            extra_info=extra,
        )

    def _write_targets(
        self, batch: Any, repaired: Tensor, prompts: list[Tensor], targets: Sequence[Sequence[int]]
    ) -> None:
        rows, marked = [], repaired.nonzero().flatten().tolist()
        for place in marked:
            rows.append(_answered(prompts[place], targets[place]))
            length = len(targets[place])
            batch.tags[place].update(response_len=length, seq_len=len(rows[-1]["input_ids"]))
        if rows:
            _put(batch, [batch.keys[i] for i in marked], rows, [batch.tags[i] for i in marked])

    def _add_targets(
        self,
        batch: Any,
        signal: Signal,
        uid: Sequence[str],
        prompts: list[Tensor],
        targets: Sequence[Sequence[int]],
    ) -> dict[str, dict[str, Any]]:
        """Rows for the targets of a strategy that learns from them: their keys and tags."""
        self._taught = {}
        if not self.strategy.learns_from_target:
            return {}
        group, place = places(uid)
        width = int(place.max()) + 1
        found, rows = {}, []
        source = [i for i, where in enumerate(place.tolist()) if where == 0]
        data = trainer_base.tq.kv_batch_get(
            keys=[batch.keys[i] for i in source], partition_id=batch.partition_id
        )
        names = sorted(set(data.keys()) - _OF_A_ROLLOUT)
        columns = {name: _rows(data[name]) for name in names}
        for number, i in enumerate(source):
            key, row = f"{uid[i]}_{width}_0", _answered(prompts[i], targets[i])
            rows.append({name: values[number] for name, values in columns.items()} | row)
            sizes = {"response_len": len(targets[i]), "seq_len": len(row["input_ids"])}
            found[key] = {**batch.tags[i], **sizes}
            which = int(group[i])
            self._taught[key] = (int(signal.hits[which]), int(signal.valid[which]))
        _put(batch, list(found), rows, list(found.values()))
        return found

    @property
    def _steps(self) -> int:
        """Optimizer steps that verl would take over all the rollouts of the batch."""
        actor = self.config.actor_rollout_ref
        return int(max(1, self._sampled[0] // (actor.actor.ppo_mini_batch_size * actor.rollout.n)))

    def _get_required_batch_multiple(self, dp_size: int) -> int:
        return int(dp_size * self._steps)

    def _compute_advantage(self, batch: Any, metrics: dict[str, Any]) -> Any:
        del metrics
        tq = trainer_base.tq
        data = tq.kv_batch_get(
            keys=batch.keys, partition_id=batch.partition_id, select_fields=["response_mask"]
        )
        masks = [mask.float() for mask in _rows(data["response_mask"])]
        scale = self._scale(len(batch), int(sum(mask.sum() for mask in masks)))
        known = {key: self.strategy.policy_weight * a for key, a in self._advantage.items()}
        known |= self._taught_by(batch)
        rows = []
        for key, mask in zip(batch.keys, masks, strict=True):
            advantage = known.get(key, torch.zeros(())) * scale
            row = torch.zeros_like(mask)
            row[: len(mask)] = advantage[: len(mask)] if advantage.ndim else advantage
            rows.append(row * mask)
        nested = torch.nested.as_nested_tensor(rows, layout=torch.jagged)
        from tensordict import TensorDict

        fields = TensorDict({"advantages": nested, "returns": nested}, batch_size=len(batch))
        return tq.kv_batch_put(keys=batch.keys, partition_id=batch.partition_id, fields=fields)

    def _taught_by(self, batch: Any) -> dict[str, Tensor]:
        """Advantages `[L]` of the rows of targets, before `_scale`: the policy's rows are summed
        over the strategy's divisor, the targets' over prompts."""
        if not self._taught:
            return {}
        keys = [key for key in batch.keys if key in self._taught]
        data = trainer_base.tq.kv_batch_get(
            keys=keys, partition_id=batch.partition_id, select_fields=["old_log_probs"]
        )
        logp = torch.stack([row.float() for row in _rows(data["old_log_probs"])])
        hits, valid = (torch.tensor([self._taught[key][i] for key in keys]) for i in (0, 1))
        steps = int(getattr(self, "total_training_steps", 0) or 0)
        progress = min(1.0, (self.global_steps - 1) / max(1, steps - 1))
        found = -slopes(self.strategy, logp, hits, valid, progress)
        return dict(zip(keys, found * (self._sampled[2] / self._prompts), strict=True))

    def _scale(self, rows: int, tokens: int) -> float:
        """Factor that turns verl's mean over the rows at hand into the mean that is meant."""
        rollouts, sampled_tokens, divisor = self._sampled
        if self.divisor == "strategy":
            return rows / divisor
        if self.config.actor_rollout_ref.actor.loss_agg_mode == "token-mean":
            return tokens / max(sampled_tokens, 1)
        return rows / rollouts

    def _update_actor(self, batch: Any, metrics: dict[str, Any]) -> Any:
        whole = self.actor_rollout_wg
        self.actor_rollout_wg = _Resized(whole, len(batch) // self._steps)
        try:
            return super()._update_actor(batch, metrics)
        finally:
            self.actor_rollout_wg = whole


if _release == OLDEST:
    trainer_base.PPOTrainer = RecastTrainer  # type: ignore[attr-defined]  # its one place to say so
else:
    _register(MODE)(RecastTrainer)

_OF_A_ROLLOUT = frozenset({"rollout_log_probs", "routed_experts", "multi_modal_inputs"})
"""Columns that say what a rollout was sampled from, which a target was not."""


def _answered(prompt: Tensor, target: Sequence[int]) -> dict[str, Tensor]:
    """The columns of a row whose response is the ground truth, with an outcome of 1."""
    response = torch.tensor(target, dtype=torch.int64)
    ids = torch.cat([prompt, response])
    scores = torch.zeros(len(response))
    scores[-1] = 1.0
    return {
        "responses": response,
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "position_ids": torch.arange(len(ids)),
        "response_mask": torch.ones_like(response),
        "loss_mask": torch.ones_like(response),
        "rm_scores": scores,
    }


def _put(batch: Any, keys: list[str], rows: list[dict[str, Any]], tags: list[Any]) -> None:
    from verl.utils.tensordict_utils import list_of_dict_to_tensordict

    trainer_base.tq.kv_batch_put(
        keys=keys,
        partition_id=batch.partition_id,
        fields=list_of_dict_to_tensordict(rows),
        tags=tags,
    )


def _rows(value: Any) -> list[Any]:
    """The rows of a nested or a plain tensor, or the entries of a stack of anything."""
    return list(value.unbind(0)) if isinstance(value, Tensor) else list(value)


def _plain(value: Any) -> list[Any]:
    """The entries of a field that may be a tensor, a nested tensor, or a stack of anything."""
    if isinstance(value, Tensor):
        return [row.tolist() for row in value.unbind(0)]
    return list(value)

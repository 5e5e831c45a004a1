"""Strategies inside TRL's GRPOTrainer, for accelerate, DDP, FSDP, DeepSpeed, PEFT and vLLM.

Private methods of GRPOTrainer are overridden; a release that lacks one is refused at import, and
what differs between releases is in `recast.adapters.trl_hooks`, what a catalogue's trie changes in
`recast.adapters.trl_trie`:

- `_generate_single_turn`: roll out, score, repair and credit, BEFORE any log-probability;
- `_get_per_token_logps_and_entropies`: without gradient (old and reference policy) score the rows
  that reach the actor alone; with a trie, renormalise over the codes that may follow;
- `_generate_and_score_completions`: put the strategy's advantages in place and keep active rows;
- `_prepare_inputs`: put the kept rows into as few full micro-batches as they need, the last ones of
  the phase, and leave the others empty; `_compute_loss`: 0 for an empty one, without a forward, and
  the strategy's supervised term (`recast.adapters.trl_targets`).

Groups may be split across ranks: outcomes are gathered, every rank builds the same signal with its
own generator (TRL's and torch's are not touched) and takes its slice. `reward` and
`frac_reward_zero_std` in TRL's log are after repair; `recast/...` is the raw outcome. The
completions log says what was sampled: `sampled_completion` and `sampled_outcome` before repair,
`repaired`, `target`, and in `advantage` the strategy's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, Literal

import torch
from torch import Tensor

from recast.adapters.microbatches import EMPTY, marked_first, packed
from recast.adapters.sampled import described
from recast.adapters.target_sets import TokenIds, drawn, nearest, one_length, right_answers
from recast.adapters.trl_hooks import (
    TAKES_IDS,
    GRPOTrainer,
    log_column,
    scored,
    single_turn,
    tokenised,
    whole_model,
)
from recast.adapters.trl_refusals import ROW_MEANS, refuse, refuse_given
from recast.adapters.trl_targets import MARK, attended, reaches, share, term, with_targets
from recast.adapters.trl_trie import items_of, rolled_down, scored_down
from recast.groups import Origin, RolloutGroups
from recast.lm.optional_extra import LMError
from recast.lm.seeds import uniforms
from recast.lm.trie import Trie
from recast.lm.vocabulary import Vocabulary
from recast.loss import denominator
from recast.signal import Signal, build_signal
from recast.stage import State
from recast.strategies import as_strategy
from recast.strategy import Strategy
from recast.structure import level_scores

PHASES = 1024


class RecastGRPOTrainer(GRPOTrainer):  # type: ignore[misc]  # trl is optional and untyped
    """GRPOTrainer whose learning signal is a strategy of this library.

    strategy: a name or a composition. The dataset has `prompt` and `target_ids`, the token ids of
    the ground truth or a list of several right answers (`recast.adapters.target_sets`), all of one
    length L, and `max_completion_length` is L. trie and vocabulary: sample down the catalogue's
    trie and score that policy (on-policy); without them TRL generates freely. divisor: "trl" keeps
    TRL's loss normalisation over all rollouts, so that dropping idle rows equals masking them
    (beta = 0); "strategy" divides by the strategy's own denominator (loss_type "dapo" or "cispo").
    Rewards come from the targets; `reward_funcs` is not accepted.
    A supervised term is the mean over the prompts of an optimizer step; with divisor "trl" it is
    divided as TRL divides the policy term. A strategy without rollouts samples none.

    Raises LMError, one line, for what this adapter cannot do: terms that need a reference, gates,
    appended slots, refilled batches, another clip or ratio, other loss types, fused losses.
    """

    def __init__(
        self,
        *args: Any,
        strategy: str | Strategy = "recast",
        trie: Trie | None = None,
        vocabulary: Vocabulary | None = None,
        divisor: Literal["trl", "strategy"] = "trl",
        **kwargs: Any,
    ) -> None:
        self.strategy = as_strategy(strategy)
        self.trie, self.vocabulary, self.divisor = trie, vocabulary, divisor
        if kwargs.pop("reward_funcs", None) is not None:
            raise LMError("reward_funcs: the outcome comes from target_ids; leave it out")
        config = kwargs.get("args")
        refuse(self.strategy, config, divisor, trie, vocabulary)
        refuse_given(config, args[0] if args else kwargs.get("model"), kwargs)
        self._signal: Signal | None = None
        self._memory: State = {}
        self._right: list[list[TokenIds]] = []
        self._targets: list[TokenIds] = []  # one of the right answers of each row
        self._outcome: list[float] = []
        self._rows: Tensor | None = None
        self._phase = (-1, 0)
        self._unpacked = False
        self._marked: Tensor | None = None  # rows of the micro-batch at hand that carry a target
        self._target_logp: Tensor | None = None
        self._buffered_inputs: Any = None  # TRL's
        self._items = items_of(vocabulary, trie) if vocabulary and trie else None
        super().__init__(*args, reward_funcs=self._reward, **kwargs)

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        if "target_ids" not in self._signature_columns:
            self._signature_columns.append("target_ids")

    def _reward(self, completions: Sequence[Any], **_: Any) -> list[float]:
        return self._outcome[: len(completions)]

    _reward.__name__ = "outcome"

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        self._read_targets(inputs)
        training = self.model.training
        output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        if not training or self._signal is None or self._rows is None:
            return output
        here, signal = self._slice(len(inputs)), self._signal
        credit = _flat(signal.advantage)
        output["advantages"] = (self.strategy.policy_weight * credit[here]).to(output["advantages"])
        credit = credit.sum(-1) if credit.ndim > 1 else credit
        logged = self._logs["advantages"]
        for _ in range(min(len(credit), len(logged))):
            logged.pop()
        logged.extend(credit.tolist())
        if self.divisor == "strategy":
            whole = denominator(signal, self.strategy.denominator, len(self._targets[0]))
            output["num_items_in_batch"] = whole.to(output["num_items_in_batch"].device).float()
        if not self.strategy.learns_from_target:
            return self._keep(output, self._rows)
        first = torch.arange(here.start, here.stop)
        local = (first % self.num_generations == 0).nonzero().squeeze(-1)
        group = first[local] // self.num_generations
        targets = [self._targets[place] for place in local.tolist()]
        output = with_targets(output, local, targets, signal.hits[group], signal.valid[group])
        more = torch.ones(len(local), dtype=torch.bool, device=self._rows.device)
        return self._keep(output, torch.cat([self._rows, more]))

    def _read_targets(self, inputs: list[dict[str, Any]]) -> None:
        try:
            self._right = [right_answers(row["target_ids"]) for row in inputs]
            one_length(self._right)
        except ValueError as problem:
            raise LMError(str(problem)) from None
        self._targets = [answers[0] for answers in self._right]
        for answer in (one for answers in self._right for one in answers):
            if self._items is not None and tuple(answer) not in self._items:
                raise LMError(
                    f"target_ids: {answer} is not an item of the trie; build the trie from the "
                    "data folder that the rows come from"
                )

    def _draw_targets(self) -> None:
        """One of the right answers for each prompt; the same for all rollouts of a group."""
        if all(len(answers) == 1 for answers in self._right):
            return
        here, group = self._slice(len(self._right)), self.num_generations
        prompts = -(-len(self._right) * self.accelerator.num_processes // group)
        draw = uniforms(self.args.seed, "targets", self._counter, (prompts,)).tolist()
        self._targets = [
            drawn(answers, draw[(here.start + row) // group])
            for row, answers in enumerate(self._right)
        ]

    def _keep(self, output: dict[str, Any], rows: Tensor) -> dict[str, Any]:
        """Drop idle rows; every rank keeps the same number, a multiple of steps_per_generation.

        `split_tensor_dict` would drop a remainder, and ranks must agree on the number of steps.
        """
        steps = self.args.steps_per_generation
        most = int(self.accelerator.gather(rows.sum().reshape(1)).max())
        size = max(steps, -(-most // steps) * steps)
        keep, filler = marked_first(rows, size)
        total, sampled = len(rows), len(self._targets)
        for name, value in output.items():
            if isinstance(value, Tensor) and value.ndim and len(value) == total:
                output[name] = value[keep]
        output["advantages"] = output["advantages"].masked_fill(
            filler.view(-1, *[1] * (output["advantages"].ndim - 1)), 0.0
        )
        output["completion_mask"] = output["completion_mask"].masked_fill(filler.unsqueeze(-1), 0)
        if MARK in output:
            output[MARK] = output[MARK].masked_fill(filler, 0.0)
        if self.loss_type in ROW_MEANS:
            # These take a mean over rows: fewer rows, so smaller advantages give the same sum.
            output["advantages"] = output["advantages"] * (size / sampled)
        self._unpacked = True
        return output

    def _prepare_inputs(self, generation_batch: Any) -> dict[str, Any]:
        inputs: dict[str, Any] = super()._prepare_inputs(generation_batch)
        if not self._unpacked:
            return inputs
        self._unpacked = False
        steps = self.args.steps_per_generation
        if steps <= self.args.gradient_accumulation_steps:
            count = sum(int(reaches(part).sum()) for part in self._buffered_inputs)
            mine = torch.tensor([count], device=self.accelerator.device)
            self._buffered_inputs = packed(
                self._buffered_inputs,
                most=max(1, int(self.accelerator.gather(mine).max())),
                size=self.args.per_device_train_batch_size,
                row_means=self.loss_type in ROW_MEANS,
            )
        filled: dict[str, Any] = self._buffered_inputs[self._step % steps]
        return filled

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Any:
        if EMPTY in inputs:
            return torch.zeros((), device=self.accelerator.device, requires_grad=True)
        self._marked = inputs[MARK].bool() if MARK in inputs else None
        loss = super()._compute_loss(model, inputs)
        if self._marked is not None and self._target_logp is not None:
            loss = loss + self._weight() * term(
                self.strategy,
                self._target_logp,
                inputs,
                self.state.global_step / max(1, self.state.max_steps - 1),
            )
        self._marked = self._target_logp = None
        if not bool(loss.isfinite()):
            raise LMError(
                f"the loss became {loss.item()} at step {self.state.global_step + 1}; lower "
                "learning_rate; the checkpoints in output_dir stay"
            )
        return loss

    def _weight(self) -> float:
        """What each target's term counts in the loss of a micro-batch: the terms of an optimizer
        step, over all ranks, add up to their mean over prompts, over `share`."""
        assert self._signal is not None
        window = self.current_gradient_accumulation_steps / self.args.steps_per_generation
        prompts = len(self._signal.rows) * window
        length = len(self._targets[0])
        each = share(self.strategy, self._signal, length, self.divisor)
        if self.loss_type == "luspo" and each != 1.0:
            each /= length  # its rows are sums over tokens
        return float(self.accelerator.num_processes / (prompts * each))

    def _generate_single_turn(self, prompts: list[Any], *args: Any, **kwargs: Any) -> Any:
        step, count = self.state.global_step, self._phase[1] + 1
        self._phase = (step, count if step == self._phase[0] else 0)
        training = self.model.training
        if training:
            self._draw_targets()
        extra: dict[str, Any]
        if training and not self.strategy.needs_rollouts:
            ids, completions, logprobs, extra = tokenised(self, prompts), self._targets, None, {}
        elif self.trie is not None and self.vocabulary is not None:
            ids = tokenised(self, prompts)
            completions, logprobs, extra = self._down_the_trie(ids), None, {}
        else:
            said = super()._generate_single_turn(prompts, *args, **kwargs)
            ids, completions, logprobs, extra = (None, *said, None) if TAKES_IDS else said
        length = len(self._targets[0])
        matched = torch.tensor(
            [_leading(c, answers) for c, answers in zip(completions, self._right, strict=True)],
            device=self.accelerator.device,
        )
        self._log_sampled("sampled_completion", completions)
        self._log_sampled("target", [list(chain(*answers)) for answers in self._right])
        log_column(self, "sampled_outcome", (matched == length).float().tolist())
        if not training:
            log_column(self, "repaired", [False] * len(completions))
            self._outcome, self._rows = (matched == length).float().tolist(), None
            return single_turn(ids, completions, logprobs, extra)
        self._signal = signal = self._build(self.accelerator.gather(matched), length)
        here = self._slice(len(completions))
        anchor = _flat(signal.groups.origin == int(Origin.ANCHOR))[here].tolist()
        self._outcome = _flat(signal.groups.reward)[here].tolist()
        self._rows = _flat(signal.rows)[here].to(self.accelerator.device)
        log_column(self, "repaired", anchor)
        completions = [
            target if repaired else completion
            for completion, target, repaired in zip(completions, self._targets, anchor, strict=True)
        ]
        return single_turn(ids, completions, logprobs, extra)

    def _log_sampled(self, column: str, ids: list[list[int]]) -> None:
        said = self.processing_class.batch_decode(ids, skip_special_tokens=True)
        log_column(self, column, said)

    def _build(self, matched: Tensor, length: int) -> Signal:
        """The signal of all ranks' rollouts; the same on each of them."""
        group = self.num_generations
        matched = matched.cpu().view(-1, group)
        groups = RolloutGroups.of(
            (matched == length).float(),
            score=level_scores(length)[matched],
            tie_key=uniforms(self.args.seed, "ties", self._counter, tuple(matched.shape)).float(),
            length=torch.full(matched.shape, float(length)),
            matched=matched,
            depth=length,
        )
        signal = build_signal(self.strategy, groups, self._memory)
        self._memory = signal.state
        if not self.strategy.needs_rollouts:
            return signal
        log = self._metrics["train"]
        for name, value in described(signal).items():
            log[name].append(value)
        return signal

    def _down_the_trie(self, prompt_ids: list[list[int]]) -> list[list[int]]:
        """One constrained rollout per local row, from a generator of our own."""
        assert self.trie is not None
        assert self.vocabulary is not None
        device, here = self.accelerator.device, self._slice(len(prompt_ids))
        shape = (len(prompt_ids) * self.accelerator.num_processes, 1, self.trie.depth)
        # Drawn for all ranks: the rollouts of a batch do not depend on how many share it.
        draws = uniforms(self.args.seed, "rollouts/0", self._counter, shape)[here]
        # As TRL generates: sharded parameters are gathered, checkpointing pauses.
        with whole_model(self) as model:
            training = model.training
            model.eval()
            tokens = rolled_down(
                model,
                self.vocabulary,
                self.trie.to(device),
                prompt_ids,
                draws.to(device),
                self.temperature,
            )
            model.train(training)
        return tokens

    def _get_per_token_logps_and_entropies(
        self, model: Any, input_ids: Tensor, attention_mask: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Any, ...]:
        rows, marked = self._rows, self._marked
        if torch.is_grad_enabled() and marked is not None:
            keep, length = args[0] if args else kwargs["logits_to_keep"], len(self._targets[0])
            seen = attended(attention_mask, marked, keep, length)
            found = self._score(model, input_ids, seen, *args, **kwargs)
            self._target_logp = found[0][marked][:, :length]
            return found
        if torch.is_grad_enabled() or rows is None or len(rows) != len(input_ids):
            return self._score(model, input_ids, attention_mask, *args, **kwargs)
        # Every rank scores the same number of rows: FSDP's forward passes must pair up.
        most = int(self.accelerator.gather(rows.sum().reshape(1)).max())
        order = torch.cat([rows.nonzero().squeeze(-1), (~rows).nonzero().squeeze(-1)])[:most]
        keep = args[0] if args else kwargs["logits_to_keep"]
        full = torch.zeros(len(input_ids), keep, device=input_ids.device)
        if not most:
            return scored(full, None)
        logp, *_ = self._score(model, input_ids[order], attention_mask[order], *args, **kwargs)
        return scored(full.to(logp.dtype).index_copy(0, order, logp), None)

    def _score(
        self, model: Any, input_ids: Tensor, attention_mask: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Any, ...]:
        if self.trie is None or self.vocabulary is None:
            found: tuple[Any, ...] = super()._get_per_token_logps_and_entropies(
                model, input_ids, attention_mask, *args, **kwargs
            )
            return found
        depth, device = self.trie.depth, input_ids.device
        places = (attention_mask.cumsum(-1) - 1).clamp(min=0)
        with self.accelerator.autocast():
            out = model(
                input_ids=input_ids,
                attention_mask=attention_mask,
                position_ids=places,
                logits_to_keep=depth + 1,
            )
        logits = out.logits[:, -depth - 1 : -1].float() / self.temperature
        return scored(
            *scored_down(self.vocabulary, self.trie.to(device), logits, input_ids[:, -depth:])
        )

    @property
    def _counter(self) -> int:
        """Names a rollout phase: optimizer step and phase within it; survives a resume."""
        step, phase = self._phase
        return step * PHASES + phase

    def _slice(self, size: int) -> slice:
        start = self.accelerator.process_index * size
        return slice(start, start + size)


def _flat(value: Tensor) -> Tensor:
    """`[B, G, ...]` -> `[B G, ...]`, the order of TRL's rows."""
    return value.flatten(0, 1)


def _leading(completion: Sequence[int], answers: Sequence[Sequence[int]]) -> int:
    """Leading tokens that agree with the nearest of the right answers; a completion of another
    length never reaches theirs."""
    matched, length = nearest(completion, answers), len(answers[0])
    return matched if len(completion) == length else min(matched, length - 1)

"""The update of the RL loop: one batch's loss and gradient, in micro-batches, and what it cost.

Only rows that carry a signal are scored and updated, and each group's prompt is encoded once.
Micro-batches are whole groups whose gradients add up to that of the batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from recast import accounting
from recast.lm.evaluate import EvaluationSet
from recast.lm.optional_extra import LMError
from recast.lm.prefix import CausalLM, packed_logp, path_codes, reencoded_logp
from recast.lm.signal import RolloutPhase, Search, take
from recast.lm.trie import Trie
from recast.lm.vocabulary import PromptTokens, Vocabulary
from recast.loss import LossSettings, denominator, pack, strategy_loss
from recast.stages.supervised import Evidence
from recast.strategy import Strategy

Schedule = Literal["constant", "linear"]
"""Of the learning rate: constant, or falling linearly to 0."""


class Diverged(LMError):
    """Loss or gradient is not finite; what was saved before stays."""


@dataclass(frozen=True)
class RLTraining(LossSettings):
    """batch: prompts per step; group: rollouts per prompt G; lr: Adam's; schedule: of
    the rate, constant or falling linearly to 0 over `steps`; micro_rows:
    rollouts per micro-batch (memory, not result); micro_tokens: tokens per micro-batch instead, as
    verl counts them, 0 = by rows; a group is never split; shared_prefix: False encodes each prompt
    again for every rollout; evaluations: how many after the start, evenly spaced in steps;
    skip_idle: leave groups without any advantage out of the update (time, not result; only
    without KL); free_logp: score rollouts and targets over the whole vocabulary, as MiniOneRec does
    with items that were sampled down the trie. Clip and KL are those of the loss."""

    kl_weight: float = 0.001
    steps: int = 120
    batch: int = 32
    group: int = 32
    lr: float = 2e-4
    temperature: float = 1.0
    search: Search = "sample"
    clip_norm: float = 1.0
    micro_rows: int = 1024
    micro_tokens: int = 0
    shared_prefix: bool = True
    evaluations: int = 4
    seed: int = 0
    skip_idle: bool = False
    free_logp: bool = False
    schedule: Schedule = "constant"

    def rate(self, step: int) -> float:
        """The learning rate of an optimizer step, counted from 0."""
        left = 1 - step / self.steps if self.schedule == "linear" else 1.0
        return self.lr * left

    def settings(self) -> dict[str, Any]:
        """The fields by name; those that came later only where they say something."""
        later = {"free_logp": False, "schedule": "constant"}
        return {k: v for k, v in asdict(self).items() if k not in later or v != later[k]}


@dataclass(frozen=True)
class RLSetup:
    """Everything a run meets: the policy, its frozen reference, the trie, RL prompts and their
    target codes `[n, L]`, and the sets to evaluate on by split; similarity `[N, d]`: unit vectors
    of the trie's items, whose cosine stands for nearness in the place of shared codes; more
    `[n, M - 1, L]`: further targets, the first fills up."""

    model: CausalLM
    reference: CausalLM
    vocabulary: Vocabulary
    trie: Trie
    prompts: PromptTokens
    target: Tensor
    evaluation: Mapping[str, EvaluationSet]
    similarity: Tensor | None = None
    more: Tensor | None = None


def update(
    setup: RLSetup, strategy: Strategy, how: RLTraining, collected: RolloutPhase, progress: float
) -> float:
    """Add the gradient of one batch's loss to the parameters; returns the loss.

    Micro-batches are whole groups, at least one and at most `micro_rows` rows together; each term
    is weighted so that they add up to the loss of the whole batch.
    Raises Diverged for a loss that is not finite.
    """
    total = 0.0
    setup.model.train()
    for batch, index in _batches(strategy, how, collected):
        signal, extra = batch.signal, int(strategy.learns_from_target)
        width = int(signal.rows[index].sum(-1).max()) if signal is not None and len(index) else 0
        for part in torch.split(index, groups_at_once(setup, how, width + extra)):
            if not len(part):
                continue
            loss = _part_loss(setup, strategy, how, batch, part, progress)
            if not bool(loss.isfinite()):
                raise Diverged(
                    f"RL: the loss became {loss.item()} (lr {how.lr:g}); lower --lr; the state of "
                    "the last evaluation is kept"
                )
            torch.autograd.backward(loss)
            total += loss.item()
    # A batch that teaches nothing has a gradient of 0: the optimizer's momentum moves on.
    for parameter in setup.model.parameters():
        if parameter.requires_grad and parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    return total


def groups_at_once(setup: RLSetup, how: RLTraining, width: int) -> int:
    """Groups of at most `width` rows that share a micro-batch, at least 1."""
    if not how.micro_tokens:
        return max(1, how.micro_rows // max(1, width))
    longest, codes = int(setup.prompts.length.max()), setup.trie.depth - 1
    whole = longest + codes * width if how.shared_prefix else width * (longest + codes)
    return max(1, how.micro_tokens // max(1, whole))


def _batches(
    strategy: Strategy, how: RLTraining, collected: RolloutPhase
) -> list[tuple[RolloutPhase, Tensor]]:
    """Which prompts go through the actor, and with which signal; together they are the batch."""
    signal = collected.signal
    index = torch.arange(len(collected.prompts), device=collected.target.device)
    if signal is None:
        return [(collected, index if strategy.learns_from_target else index[:0])]
    plain = strategy.stage("supervised").stage.needs <= {"target", "path"}
    if not how.skip_idle or how.kl_weight or not plain:
        keep = index if strategy.learns_from_target else index[signal.rows.any(-1)]
        return [(collected, keep)]
    live = signal.active.any(-1)
    found = [(collected, index[live])]
    if strategy.learns_from_target:
        found.append((replace(collected, signal=None, codes=None), index[~live]))
    return found


def _part_loss(
    setup: RLSetup,
    strategy: Strategy,
    how: RLTraining,
    collected: RolloutPhase,
    part: Tensor,
    progress: float,
) -> Tensor:
    """What one micro-batch adds to the loss; rows and target share one prompt forward."""
    score = packed_logp if how.shared_prefix else reencoded_logp
    prompts, target = collected.prompts[part], collected.target[part].unsqueeze(1)
    whole = collected.signal
    signal, rows, codes = None, None, target[:, :0]
    if whole is not None and collected.codes is not None:
        signal = take(whole, part)
        rows = pack(signal, int(signal.rows.sum(-1).max()))
        wide = rows.index.unsqueeze(-1).expand(-1, -1, target.shape[-1])
        codes = collected.codes[part].gather(1, wide)
    if strategy.learns_from_target:
        codes = torch.cat([codes, target], 1)
    trie = None if how.free_logp else setup.trie
    logp = score(setup.model, setup.vocabulary, prompts, codes, trie, how.temperature)
    frozen = None
    if how.kl_weight or "reference" in strategy.needs:
        with torch.no_grad():
            frozen = score(setup.reference, setup.vocabulary, prompts, codes, trie, how.temperature)
    evidence = None
    if strategy.learns_from_target:
        ways = None
        if "path" in strategy.needs:
            wanted = target[:, 0]
            ways = path_codes(
                setup.model, setup.vocabulary, prompts, wanted, setup.trie, how.temperature
            )
        then = None if frozen is None else frozen[:, -1]
        evidence = Evidence(logp[:, -1], then, progress, path_logp=ways)
        logp, frozen = logp[:, :-1], None if frozen is None else frozen[:, :-1]
    share = len(part) / len(collected.prompts)
    if signal is None or rows is None or whole is None:
        assert evidence is not None
        alone: Tensor = strategy.stage("supervised")(evidence)
        return share * alone.mean(-1)
    known: dict[str, Any] = {"length": setup.trie.depth, "settings": how}
    if logp.shape[1]:
        known |= {"logp": logp, "old_logp": logp.detach(), "ref_logp": frozen}
    loss = logp.new_zeros(())
    if strategy.has_credit:
        policy = replace(strategy, supervised="none")
        mine, everyone = (
            denominator(s, strategy.denominator, setup.trie.depth) for s in (signal, whole)
        )
        loss = loss + strategy_loss(policy, signal, rows, **known) * (mine / everyone)
    if strategy.learns_from_target:
        supervised = replace(strategy, credit="none")
        term = strategy_loss(supervised, signal, rows, evidence=evidence, **known)
        loss = loss + share * term
    return loss


def account(strategy: Strategy, collected: RolloutPhase) -> tuple[dict[str, int], dict[str, float]]:
    """What one step cost, by the ledger's names, and how much of its groups taught."""
    rollouts = torch.tensor(collected.rollouts, device=collected.target.device)
    spent, taught = accounting.account(
        strategy, collected.signal, len(collected.prompts), rollouts, 1
    )
    counts = {name: int(value) for name, value in spent.items()}
    counts["skipped_prompts"] += collected.skipped
    return counts, {name: float(value) for name, value in taught.items()}

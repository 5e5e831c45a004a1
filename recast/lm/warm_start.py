"""Supervised training of a model up to a requested share of all-zero groups.

The simulator's rule (`sim.training.warm_start`) for language models: the share is exact, the mean
of (1 - p)^G over RL prompts that SFT never sees; the step that crosses the request is interpolated.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from recast.lm.dataset import LMData
from recast.lm.evaluate import from_probability
from recast.lm.optimizer import AdamW, trainable
from recast.lm.optional_extra import LMError
from recast.lm.prefix import CausalLM
from recast.lm.seeds import batch_indices
from recast.lm.sft import sequence_loss, target_logp
from recast.lm.trie import Trie
from recast.lm.vocabulary import Vocabulary

SOLVER_PROMPTS = 2048
NEAR = 0.03
SELDOM, OFTEN = 25, 5
"""Steps between two looks while the share is more than `NEAR` above the request, and after."""

_WARMUP = 50
_HALVINGS = 6
WITHIN = 0.01


@dataclass(frozen=True)
class ShareAsked:
    """A start at which a share `all_zero` of the groups of `group` rollouts has no hit.

    seed, lr, batch, max_steps: of the SFT that leads there, batch in prompts.
    """

    all_zero: float
    group: int
    seed: int
    lr: float = 2e-3
    batch: int = 64
    max_steps: int = 2000


def warm_start(
    model: CausalLM, vocabulary: Vocabulary, trie: Trie, data: LMData, ask: ShareAsked
) -> tuple[int, float]:
    """Train `model` in place on the SFT rows until the share that is asked for of the groups of the
    first `SOLVER_PROMPTS` learning prompts has no hit; the steps it took and the share reached.

    Raises LMError, saying what was reached, when `ask.max_steps` do not suffice, when the untrained
    model is below the request, or when no mixture of two looks is within a point of it.
    """
    all_zero = ask.all_zero
    prompts = vocabulary.prompts([row.history for row in data.sft])
    target = torch.tensor([row.target for row in data.sft])
    solver = data.learning[:SOLVER_PROMPTS]
    asked = vocabulary.prompts([row.history for row in solver])
    wanted = torch.tensor([row.target for row in solver])

    def share() -> float:
        model.eval()
        logp = target_logp(model, vocabulary, trie, asked, wanted)
        return float(from_probability(logp.exp(), ask.group)["all_zero"].mean())

    named = trainable(model)
    optimizer = AdamW(named, ask.lr)
    size, here, best = min(ask.batch, len(prompts)), share(), 1.0
    if here < all_zero:
        raise LMError(f"start: {all_zero:g} all-zero groups asked for, untrained it has {here:.3f}")
    before = {name: value.detach().clone() for name, value in named.items()}
    for step in range(ask.max_steps):
        index = batch_indices(ask.seed, "sft", step, size, len(prompts))
        model.train()
        loss = sequence_loss(model, vocabulary, prompts[index], target[index], True)
        torch.autograd.backward(loss)
        optimizer.step(ask.lr * min(1.0, (step + 1) / _WARMUP), 1.0)
        if (step + 1) % (OFTEN if here <= all_zero + NEAR else SELDOM):
            continue
        here = share()
        best = min(best, here)
        if here > all_zero:
            before = {name: value.detach().clone() for name, value in named.items()}
            continue
        after = {name: value.detach().clone() for name, value in named.items()}
        low, high = 0.0, 1.0
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            for name, value in named.items():
                value.data.copy_(torch.lerp(before[name], after[name], middle))
            here = share()
            low, high = (middle, high) if here > all_zero else (low, middle)
        if abs(here - all_zero) > WITHIN:
            raise LMError(f"start: {all_zero:g} all-zero groups asked for, reached {here:.3f}")
        return step + 1, here
    raise LMError(
        f"start: {all_zero:g} all-zero groups are out of reach; the best after {ask.max_steps} SFT "
        f"steps was {best:.3f}"
    )

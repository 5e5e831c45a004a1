"""Our policy loss and its gradient against TRL's and verl's, over random batches.

A semantic ID has a fixed number of codes, so every response is L tokens long; which rollouts exist
is random. Left out: verl's clamp of log-ratios at 20.
"""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
import trl_reference
import verl_reference
from torch import Tensor

from recast import RolloutGroups, Signal, Strategy, build_signal, denominator, policy_loss

BATCHES = 300
LENGTH = 3


def draw(seed: int, full: bool) -> SimpleNamespace:
    """Log-probabilities `[B, G, L]` up to 1 nat apart, and the signal of their dr_grpo credit."""
    rng = torch.Generator().manual_seed(seed)
    prompts, width = (int(n) for n in torch.randint(2, 5, (2,), generator=rng))
    shape = (prompts, width, LENGTH)
    old = -0.1 - 3 * torch.rand(shape, generator=rng, dtype=torch.float64)
    logp, ref = (
        old + 2 * torch.rand(shape, generator=rng, dtype=torch.float64) - 1 for _ in range(2)
    )
    reward = torch.randint(-2, 3, (prompts, width), generator=rng) / 2
    valid = torch.rand(prompts, width, generator=rng) < 0.8
    valid |= torch.ones_like(valid) if full else torch.arange(width) < 2
    groups = RolloutGroups.of(reward.double(), valid=valid)
    signal = build_signal(Strategy(credit="dr_grpo"), groups)
    return SimpleNamespace(logp=logp, old=old, ref=ref, signal=signal, valid=valid)


def flat(batch: SimpleNamespace, logp: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """logp, old, advantage, mask of every slot, `[B G, L]`; absent rollouts are masked out."""
    mask = batch.valid.unsqueeze(-1).expand_as(logp).double()
    advantage = batch.signal.advantage.flatten()
    return logp.flatten(0, 1), batch.old.flatten(0, 1), advantage, mask.flatten(0, 1)


def ours(batch: SimpleNamespace, logp: Tensor, kind: str, **options: object) -> Tensor:
    signal: Signal = batch.signal
    return policy_loss(
        logp,
        batch.old,
        signal.advantage,
        signal.rows,
        denominator(signal, kind, LENGTH),
        clip_low=0.2,
        clip_high=0.28,
        **options,
    )


def worst_gap(
    mine: Callable[[SimpleNamespace, Tensor], Tensor],
    theirs: Callable[[SimpleNamespace, Tensor], Tensor],
    full: bool,
) -> float:
    """The largest difference in the loss or in any entry of its gradient."""
    gap = 0.0
    for seed in range(BATCHES):
        batch = draw(seed, full)
        found = []
        for function in (mine, theirs):
            logp = batch.logp.clone().requires_grad_()
            value = function(batch, logp)
            (gradient,) = torch.autograd.grad(value, logp)
            found.append(torch.cat([value.reshape(1), gradient.flatten()]))
        gap = max(gap, (found[0] - found[1]).abs().max().item())
    return gap


# Our denominator, verl's mode, what ours must be divided by, whether it needs full groups: verl's
# constant counts the sequences that exist, ours every slot.
VERL = [
    ("rollouts", "seq-mean-token-sum", 1, False),
    ("rollouts", "seq-mean-token-mean", LENGTH, False),
    ("tokens", "token-mean", 1, False),
    ("constant", "seq-mean-token-sum-norm", 1, True),
]


@pytest.mark.parametrize(("kind", "mode", "factor", "full"), VERL)
def test_the_clipped_loss_and_its_gradient_equal_verl_s(kind, mode, factor, full):
    def theirs(batch, logp):
        return verl_reference.loss(
            "vanilla", *flat(batch, logp), clip_low=0.2, clip_high=0.28, mode=mode
        )

    assert worst_gap(lambda b, logp: ours(b, logp, kind) / factor, theirs, full) < 1e-6


def test_the_sequence_ratio_and_its_gradient_equal_verl_s_gspo():
    def theirs(batch, logp):
        return verl_reference.loss(
            "gspo", *flat(batch, logp), clip_low=0.2, clip_high=0.28, mode="seq-mean-token-mean"
        )

    def mine(batch, logp):
        return ours(batch, logp, "rollouts", ratio="sequence") / LENGTH

    assert worst_gap(mine, theirs, full=False) < 1e-6


# Our clip, verl's loss, its mode and `clip_ratio_c`; ours sums over codes and divides by rollouts.
SWITCHES = [
    ("dual_clip(1.5)", "vanilla", "seq-mean-token-sum", 1.5, 1),
    ("cispo", "cispo", "seq-mean-token-sum", 1e9, 1),
    ("dppo(1.2)", "dppo_tv", "seq-mean-token-sum", 1.2, 1),
    ("sapo(1, 1.05)", "sapo", "seq-mean-token-mean", 1e9, LENGTH),
    ("gmpo", "geo_mean", "seq-mean-token-mean", 1e9, LENGTH),
]


@pytest.mark.parametrize(("clip", "name", "mode", "clip_c", "factor"), SWITCHES)
def test_a_loss_switch_and_its_gradient_equal_verl_s(clip, name, mode, clip_c, factor):
    def theirs(batch, logp):
        return verl_reference.loss(
            name, *flat(batch, logp), clip_low=0.2, clip_high=0.28, mode=mode, clip_c=clip_c
        )

    def mine(batch, logp):
        return ours(batch, logp, "rollouts", clip=clip) / factor

    # geo_mean averages over every row, so rows that do not exist would count.
    assert worst_gap(mine, theirs, full=name == "geo_mean") < 1e-6


# Our denominator, TRL's loss type and ratio level, what ours must be divided by. TRL averages over
# every row, so rows that do not exist would count: full groups.
TRL = [
    ("rollouts", "grpo", "token", LENGTH),
    ("tokens", "bnpo", "token", 1),
    ("tokens", "dapo", "token", 1),
    ("constant", "dr_grpo", "token", 1),
    ("rollouts", "luspo", "token", 1),
    ("rollouts", "grpo", "sequence", LENGTH),
]


@pytest.mark.parametrize("beta", [0.0, 0.04])
@pytest.mark.parametrize(("kind", "loss_type", "level", "factor"), TRL)
def test_the_loss_with_its_k3_term_and_its_gradient_equal_trl_s(
    kind, loss_type, level, factor, beta
):
    def theirs(batch, logp):
        return trl_reference.loss(
            *flat(batch, logp),
            loss_type=loss_type,
            ref_logp=batch.ref.flatten(0, 1),
            beta=beta,
            level=level,
        )

    def mine(batch, logp):
        value = ours(batch, logp, kind, ratio=level, ref_logp=batch.ref, kl_weight=beta)
        return value / factor

    assert worst_gap(mine, theirs, full=True) < 1e-6

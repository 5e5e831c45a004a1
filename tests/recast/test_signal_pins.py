"""Where a signal is computed and in what precision, and values that a formula fixes."""

from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from recast import (
    STRATEGIES,
    Evidence,
    LossSettings,
    RolloutGroups,
    build_signal,
    pack,
    strategy_loss,
)
from recast.stage import bind
from recast.stages import gate as gates

every_strategy = pytest.mark.parametrize("name", sorted(STRATEGIES))
PROMPTS, WIDTH, LENGTH = 5, 10, 3  # wider than the 8 that pods keeps


def some_groups(dtype: torch.dtype = torch.float64, seed: int = 0) -> RolloutGroups:
    """Binary rewards, every optional input, one dead and one saturated group, some padding."""
    rng = torch.Generator().manual_seed(seed)
    shape = (PROMPTS, WIDTH)
    reward = torch.rand(shape, generator=rng) < 0.3
    reward[0], reward[1] = False, True
    matched = torch.where(reward, LENGTH, torch.randint(0, LENGTH, shape, generator=rng))
    return RolloutGroups.of(
        reward.to(dtype),
        score=10.0 ** (matched.to(dtype) - LENGTH) * (matched > 0),
        valid=torch.rand(shape, generator=rng) < 0.9,
        tie_key=torch.rand(shape, generator=rng),
        has_target=torch.ones(PROMPTS, dtype=torch.bool),
        length=torch.randint(1, 5, shape, generator=rng),
        entropy=torch.rand(*shape, LENGTH, generator=rng).to(dtype),
        beam_rank=torch.arange(WIDTH).expand(shape),
        matched=matched,
        item=torch.randint(0, 6, shape, generator=rng),
        depth=LENGTH,
        logp=-torch.rand(*shape, LENGTH, generator=rng).to(dtype),
        codes=torch.randint(0, 3, (*shape, LENGTH), generator=rng),
        prompt=torch.arange(PROMPTS),
    )


def on_meta(record):
    """The same dataclass or mapping of tensors on a device that knows shapes but no values."""
    if isinstance(record, dict):
        return {k: v.to("meta") for k, v in record.items()}
    tensors = {
        f.name: getattr(record, f.name).to("meta")
        for f in fields(record)
        if isinstance(getattr(record, f.name), Tensor)
    }
    return replace(record, **tensors)


@every_strategy
def test_no_stage_waits_for_a_value_on_the_device(name):
    strategy, groups = STRATEGIES[name], on_meta(some_groups())
    state = on_meta(dict(strategy.start((), PROMPTS)))
    signal = build_signal(strategy, groups, state)
    assert all(value.is_meta for value in signal.state.values())
    rows = pack(signal, max(strategy.width(WIDTH), 1))
    logp = torch.zeros(*rows.index.shape, LENGTH, device="meta", dtype=torch.float64)
    target = torch.zeros(PROMPTS, LENGTH, device="meta", dtype=torch.float64)
    loss = strategy_loss(
        strategy,
        signal,
        rows,
        length=LENGTH,
        settings=LossSettings(kl_weight=0.1),
        logp=logp,
        old_logp=logp,
        ref_logp=logp,
        evidence=Evidence(target, target),
    )
    assert loss.is_meta
    assert loss.shape == ()
    assert signal.count.is_meta


def test_no_gate_waits_for_a_value_on_the_device():
    groups = on_meta(some_groups())
    prompt = torch.zeros(PROMPTS, dtype=torch.int64, device="meta")
    visit = gates.Visit(prompt, torch.zeros(PROMPTS, device="meta"), first_epoch=False)
    for name in gates.GATES:
        gate = bind("gate", gates.GATES, name)
        state = on_meta(dict(gate.start((), 20)))
        rolled_out = gate(visit, state=state)
        after = gate.carry(visit, groups, rolled_out, state=state)
        assert all(value.is_meta for value in after.values())


@pytest.mark.parametrize(
    "waits",
    [
        lambda reward: reward.sum().item(),
        lambda reward: bool(reward.any()),
        lambda reward: reward.tolist(),
        lambda reward: reward[reward > 0],
        lambda reward: reward + torch.arange(WIDTH),
    ],
    ids=["item", "bool", "tolist", "mask as index", "host tensor"],
)
def test_the_meta_device_refuses_what_would_wait_for_the_device(waits):
    with pytest.raises((RuntimeError, NotImplementedError), match=r"(?i)meta"):
        waits(on_meta(some_groups()).reward)


@every_strategy
def test_float32_and_float64_give_the_same_signal_each_in_its_own_type(name):
    strategy = STRATEGIES[name]
    single, double = (
        build_signal(strategy, some_groups(dtype)) for dtype in (torch.float32, torch.float64)
    )
    assert single.advantage.dtype == torch.float32
    assert double.advantage.dtype == torch.float64
    assert torch.equal(single.rows, double.rows)
    assert torch.allclose(single.advantage.double(), double.advantage, rtol=1e-4, atol=1e-5)

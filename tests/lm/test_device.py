"""Where a model computes: the engine's equalities on the device at hand, in both types.

RECAST_TEST_DEVICE names another device (`cuda`), for machines that have one; the default is the
CPU, where the same code runs.
"""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
import tiny
import torch
from test_commands import recast

from recast.lm import trainer
from recast.lm.architectures import random_model
from recast.lm.decode import beams, enumerate_nodes, sample
from recast.lm.device import Placement, card_peak, clock, matrix_rate, place
from recast.lm.efficiency import Shapes, make_rig, measure
from recast.lm.flops import forward_flops, linear_weights, update_flops
from recast.lm.models import placed
from recast.lm.optimizer import AdamW, trainable
from recast.lm.optional_extra import LMError
from recast.lm.prefix import packed_logp, reencoded_logp
from recast.lm.sft import Tuning, _gradient
from recast.lm.update import RLSetup, RLTraining, groups_at_once, update
from recast.strategies import STRATEGIES

DEVICE = torch.device(os.environ.get("RECAST_TEST_DEVICE", "cpu"))
TYPES = ("float32", "bfloat16")
CLOSE = {"float32": 2e-4, "bfloat16": 0.15}
"""Largest difference in log-probabilities; the tiny models' logits are several units wide, and
bfloat16 keeps 8 bits of them."""


def here(architecture="qwen3", dtype="float32", items=20, **options):
    """A tiny model, its trie and prompts on the device, and the same in float64 on the CPU."""
    vocab, trie = tiny.vocabulary(), tiny.catalogue(1, items)
    placement = Placement(DEVICE, getattr(torch, dtype), **options)
    model = placed(tiny.model(architecture, vocab), placement)
    exact = tiny.model(architecture, vocab).to(torch.float64)
    if dtype == "bfloat16":  # the reference starts from the same rounded weights
        exact.load_state_dict({k: v.double() for k, v in model.state_dict().items()})
    return vocab, trie, model, exact


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_packed_and_reencoded_log_probabilities_are_those_of_float64_on_the_cpu(
    architecture, dtype
):
    vocab, trie, model, exact = here(architecture, dtype)
    prompts, codes = tiny.prompts(vocab, trie, 3, 5), tiny.paths(trie, 3, 5, 4)
    with torch.no_grad():
        wanted = packed_logp(exact, vocab, prompts, codes, trie)
        for path in (packed_logp, reencoded_logp):
            found = path(model, vocab, prompts.to(DEVICE), codes.to(DEVICE), trie.to(DEVICE))
            assert found.device.type == DEVICE.type
            assert (found.double().cpu() - wanted).abs().max() < CLOSE[dtype]


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("dtype", TYPES)
def test_packed_gradients_are_those_of_float64_whatever_kernel_and_recomputation(
    dtype, attention, checkpointing
):
    vocab, trie, model, exact = here(
        "qwen3", dtype, attention=attention, checkpointing=checkpointing
    )
    prompts, codes = tiny.prompts(vocab, trie, 4, 3), tiny.paths(trie, 4, 3, 4)
    model.train()
    packed_logp(exact, vocab, prompts, codes, trie).sum().backward()
    moved = (prompts.to(DEVICE), codes.to(DEVICE), trie.to(DEVICE))
    packed_logp(model, vocab, *moved).sum().backward()
    wanted = torch.cat([p.grad.flatten() for p in exact.parameters()])
    found = torch.cat([p.grad.double().cpu().flatten() for p in model.parameters()])
    assert wanted.norm() > 0
    assert (found - wanted).norm() < (1e-3 if dtype == "float32" else 0.1) * wanted.norm()


@pytest.mark.parametrize("dtype", TYPES)
def test_rollouts_beams_and_enumeration_are_those_of_the_cpu(dtype):
    vocab, trie, model, exact = here("qwen3", dtype)
    prompts, draws = tiny.prompts(vocab, trie, 5, 4), torch.rand(4, 8, 3, dtype=torch.float64)
    there = (model, vocab, trie.to(DEVICE), prompts.to(DEVICE))
    rolled = sample(*there, draws)
    scored = packed_logp(exact, vocab, prompts, rolled.codes.cpu(), trie)
    assert (rolled.logp.double().cpu() - scored).abs().max() < CLOSE[dtype]
    nodes = enumerate_nodes(*there).item_logp().double().cpu()
    wanted = enumerate_nodes(exact, vocab, trie, prompts).item_logp()
    assert (nodes - wanted).abs().max() < 3 * CLOSE[dtype]
    item, total = beams(*there, trie.items)
    assert (total.double().cpu() - wanted.gather(1, item.cpu())).abs().max() < 3 * CLOSE[dtype]
    if dtype == "float32":
        again = sample(exact, vocab, trie, prompts, draws)
        assert torch.equal(rolled.codes.cpu(), again.codes)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", ["grpo", "recast", "add_gt", "grpo_sft"])
def test_a_step_on_the_device_is_the_step_of_float64_on_the_cpu(name, dtype):
    """The update's gradient of the same rollouts, in micro-batches of rows and of tokens."""
    ours, exact = tiny.setup(), tiny.setup()
    placement = Placement(DEVICE, getattr(torch, dtype))
    ours = on_device(ours, placement)
    exact = replace(
        exact, model=exact.model.to(torch.float64), reference=exact.reference.to(torch.float64)
    )
    if dtype == "bfloat16":
        exact.model.load_state_dict({k: v.double() for k, v in ours.model.state_dict().items()})
    how = RLTraining(batch=8, group=6, kl_weight=0.0)
    collected = trainer.collect(trainer.roller(exact, how), STRATEGIES[name], 0, {})
    mine = trainer.collect(trainer.roller(ours, how), STRATEGIES[name], 0, {})
    if dtype == "float32":
        assert torch.equal(mine.codes.cpu(), collected.codes)
    wanted = gradient(exact, STRATEGIES[name], how, collected)
    assert wanted.norm() > 0
    if dtype == "bfloat16" and not torch.equal(mine.codes.cpu(), collected.codes):
        pytest.skip("rounding drew another rollout")
    for cut in (how, replace(how, micro_rows=6), replace(how, micro_tokens=40)):
        found = gradient(ours, STRATEGIES[name], cut, mine)
        assert (found - wanted).norm() < (1e-3 if dtype == "float32" else 0.15) * wanted.norm()


def on_device(setup: RLSetup, placement: Placement) -> RLSetup:
    return replace(
        setup,
        model=placed(setup.model, placement),
        reference=placed(setup.reference, placement),
        trie=setup.trie.to(placement.device),
        prompts=setup.prompts.to(placement.device),
        target=setup.target.to(placement.device),
        evaluation={},
    )


def gradient(setup, strategy, how, collected):
    setup.model.zero_grad()
    update(setup, strategy, how, collected, 0.0)
    return torch.cat([p.grad.double().cpu().flatten() for p in setup.model.parameters()])


@pytest.mark.parametrize("dtype", TYPES)
def test_small_steps_are_not_lost_to_rounding(dtype):
    """Steps of 1e-5 vanish beside weights of 1 in bfloat16; the float32 copies add them up."""
    parameter = torch.nn.Parameter(torch.ones(4, 4, device=DEVICE, dtype=getattr(torch, dtype)))
    adam = AdamW({"w": parameter}, lr=1e-5)
    for _ in range(1000):
        parameter.grad = torch.ones_like(parameter)
        adam.step(1e-5)
    assert torch.allclose(parameter.float(), torch.full((4, 4), 0.99, device=DEVICE), atol=4e-3)


def test_a_resumed_optimizer_goes_on_with_its_master_copies():
    def run(adam, parameter, steps):
        for _ in range(steps):
            parameter.grad = torch.full_like(parameter, 0.5)
            adam.step(1e-3)

    one = torch.nn.Parameter(torch.ones(3, 3, device=DEVICE, dtype=torch.bfloat16))
    whole = AdamW({"w": one}, lr=1e-3)
    run(whole, one, 3)
    kept = {k: v.detach().cpu().clone() for k, v in whole.state().items()}
    two = torch.nn.Parameter(one.detach().clone())
    again = AdamW({"w": two}, lr=1e-3)
    again.load(kept)
    run(whole, one, 5)
    run(again, two, 5)
    assert torch.equal(one, two)
    assert torch.equal(whole.state()["adam.master.w"], again.state()["adam.master.w"])


@pytest.mark.parametrize("history", [False, True])
def test_micro_batches_of_fine_tuning_have_the_gradient_of_the_batch(history):
    setup = on_device(tiny.setup(), Placement(DEVICE))
    found = []
    for rows in (0, 3, 1):
        setup.model.zero_grad()
        how = Tuning(history_loss=history, micro_rows=rows)
        loss = _gradient(setup.model, setup.vocabulary, setup.prompts[:10], setup.target[:10], how)
        grad = torch.cat([p.grad.flatten() for p in setup.model.parameters()])
        found.append((loss, grad))
    for loss, grad in found[1:]:
        assert loss == pytest.approx(found[0][0], rel=1e-4)
        assert (grad - found[0][1]).norm() < 1e-3 * found[0][1].norm()


def test_micro_batches_by_tokens_hold_as_many_groups_as_fit_and_one_at_least():
    setup = tiny.setup()
    longest = int(setup.prompts.length.max())
    how = RLTraining(micro_tokens=3 * (longest + 2 * 5))
    assert groups_at_once(setup, how, 5) == 3
    assert groups_at_once(setup, replace(how, micro_tokens=1), 5) == 1
    assert groups_at_once(setup, replace(how, shared_prefix=False), 5) == 1
    assert groups_at_once(setup, replace(how, micro_tokens=0, micro_rows=10), 5) == 2


def test_counted_operations_are_those_that_torch_counts():
    """torch's counter sees the matrix products of the linear layers, of attention (all pairs, also
    the masked ones: eager attention computes them) and of the output layer."""
    from torch.utils.flop_counter import FlopCounterMode

    vocab, trie, model, _ = here("qwen3", attention="eager")
    prompts, codes = tiny.prompts(vocab, trie, 3, 2), tiny.paths(trie, 3, 2, 4)
    width = prompts.ids.shape[1] + 2 * 4
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        packed_logp(model, vocab, prompts.to(DEVICE), codes.to(DEVICE), trie.to(DEVICE))
    outputs = 2 * (1 + 2 * 4) * 5
    counted = forward_flops(model, 2 * width, 2 * width**2, outputs)
    # On a GPU torch makes the table of rotary angles by a product: 2 per prompt, place and angle.
    angles = 2 * 2 * width * 2
    assert counter.get_total_flops() - counted in (0, angles)
    assert linear_weights(model) < sum(p.numel() for p in model.parameters())


def test_an_update_counts_three_forward_passes_and_the_reference_a_fourth():
    vocab, _, model, _ = here("qwen3")
    shape = ([7, 9], [4, 0], 3, 5)
    shared = update_flops(model, *shape, shared=True)
    assert shared == 3 * forward_flops(model, 7 + 2 * 4, 7 * 8 // 2 + 4 * (8 + 9), (1 + 8) * 5)
    assert update_flops(model, *shape, shared=True, reference=True) == pytest.approx(4 / 3 * shared)
    again = update_flops(model, *shape, shared=False)
    assert again == 3 * forward_flops(model, 4 * 9, 4 * 9 * 10 // 2, 3 * 4 * 5)
    assert vocab.depth == 3


def test_a_measurement_runs_on_the_device_and_states_its_ratios():
    rig = make_rig(Placement(DEVICE), codebook=16, items=50)
    shapes = Shapes(groups=(4,), micro_rows=(0,), batch=2, repeats=1)
    rows = measure(rig, shapes)
    assert [row["strategy"] for row in rows] == ["grpo", "recast"] * 2
    assert rows[1]["token_ratio"] == 2.0
    with torch.no_grad():
        fresh = make_rig(Placement(DEVICE), codebook=16, items=50).model
    moved = zip(fresh.parameters(), rig.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in moved), "a measurement trained the model"
    assert all(row["peak_mib"] > 0 and row["mfu"] > 0 for row in rows)
    assert clock(DEVICE) > 0
    assert matrix_rate(DEVICE, size=32, seconds=0.01) > 0


@pytest.mark.parametrize(
    ("name", "published", "width", "layers"),
    [
        ("qwen3-0.6b", 596_049_920, 1024, 1),
        ("qwen3-1.7b", 1_720_574_976, 2048, 1),
        ("qwen3-8b", 8_190_735_360, 4096, 2),
    ],
)
def test_shapes_have_the_published_number_of_parameters(name, published, width, layers):
    """Beside the rows of the added codes, in one table where input and output are tied."""
    model, vocab = random_model(name, 3, 8, Placement(torch.device("meta"), torch.bfloat16))
    assert sum(p.numel() for p in model.parameters()) == published + layers * 24 * width
    assert model.dtype == torch.bfloat16
    assert vocab.tokens[0][0] == 151_936
    assert vocab.tokens[-1][-1] == 151_936 + 23
    assert model.config.rope_parameters["rope_theta"] == 1e6


def test_a_folder_with_a_configuration_is_an_architecture(tmp_path):
    tiny.model("llama", tiny.vocabulary()).config.save_pretrained(tmp_path)
    rig = make_rig(Placement(DEVICE, torch.bfloat16), str(tmp_path), codebook=8, items=50)
    rows = measure(rig, Shapes(groups=(4,), micro_rows=(0,), batch=2, repeats=1))
    assert rows[0]["rows"] == 8
    with pytest.raises(LMError, match="qwen3-8b, small, or a folder"):
        make_rig(Placement(DEVICE), str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "cuda:99"}, "--device: cuda:99 asked for"),
        ({"device": "gpu"}, "'gpu'; expected auto, cpu, cuda or cuda:0"),
        ({"device": "cuda:x"}, "expected auto"),
        ({"device": "cpu:1"}, "expected auto"),
        ({"dtype": "float16"}, "expected float32 or bfloat16"),
    ],
)
def test_a_device_that_is_not_there_is_one_line(options, message):
    with pytest.raises(LMError) as problem:
        place(**options)
    assert message in str(problem.value)
    assert "\n" not in str(problem.value)


def test_a_command_that_torchrun_started_several_times_is_one_line(monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert recast("efficiency") == 2
    said = capsys.readouterr()
    assert "started 2 times by torchrun or accelerate" in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""


def test_auto_takes_a_gpu_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert place().device == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert place().device == torch.device("cuda", 0)
    assert place("cuda:1").device == torch.device("cuda", 1)
    with pytest.raises(LMError, match="this machine has 2 GPUs"):
        place("cuda:2")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    with pytest.raises(LMError, match="cannot compute in bfloat16"):
        place("cuda", "bfloat16")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA H100 80GB HBM3")
    assert card_peak(torch.device("cuda", 0)) == 989e12


def test_a_policy_in_bfloat16_trains_all_of_its_parameters():
    setup = on_device(tiny.setup(), Placement(DEVICE, torch.bfloat16, checkpointing=True))
    how = RLTraining(batch=8, group=6, kl_weight=0.1)
    adam = AdamW(trainable(setup.model), how.lr)
    before = {k: v.clone() for k, v in adam.master.items()}
    trainer.train_step(setup, STRATEGIES["recast"], replace(how, lr=1e-3), adam, 0)
    assert all(not torch.equal(before[k], v) for k, v in adam.master.items())


CONFIGS = {
    "{": "cannot load a config.json",
    '{"model_type": "nope"}': "cannot load a config.json",
    '{"model_type": "qwen3", "num_hidden_layers": 1000000000}': "expected at most 1,000",
    '{"model_type": "qwen3", "vocab_size": 10000000000}': "too little memory",
    '{"model_type": "qwen3", "vocab_size": "many"}': "cannot load",
}


@pytest.mark.parametrize("config", CONFIGS)
def test_a_shape_that_cannot_be_built_here_is_one_line(config, tmp_path):
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(LMError, match=CONFIGS[config]):
        random_model(str(tmp_path), 3, 8)

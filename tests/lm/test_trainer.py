"""The RL loop: every strategy, active rows only, micro-batches, resume, bad numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import tiny
import torch

from recast.groups import Origin, RolloutGroups
from recast.lm import trainer
from recast.lm import update as updating
from recast.lm.optimizer import AdamW
from recast.lm.optional_extra import LMError
from recast.lm.signal import RolloutPhase, collect, given, learn_from
from recast.lm.trainer import train
from recast.lm.update import RLTraining, update
from recast.strategies import STRATEGIES
from recast.strategy import require_inputs

SHORT = RLTraining(steps=2, batch=8, group=6, evaluations=1, lr=1e-3)


def workable(search: str) -> list[str]:
    names = []
    for name, strategy in STRATEGIES.items():
        try:
            require_inputs(strategy, given(search), 8)
        except ValueError:
            continue
        names.append(name)
    return names


@pytest.mark.parametrize("search", ["sample", "beam"])
def test_almost_every_strategy_of_the_library_works_on_a_real_model(search):
    # Beams are not drawn: nothing that weighs a rollout by its probability applies.
    drawn = {"rl_zvp", "gbpo", "lens", "replay"}
    left_out = {"sample": {"rank_penalty"}, "beam": drawn}[search]
    assert set(STRATEGIES) - set(workable(search)) == left_out


@pytest.mark.parametrize("name", [*workable("sample"), "rank_penalty"])
def test_micro_batches_add_up_to_the_gradient_of_the_whole_batch(name):
    search = "beam" if name == "rank_penalty" else "sample"
    how = RLTraining(steps=2, batch=6, group=8, search=search, kl_weight=0.01)
    collected = collected_of(tiny.setup(), how, name)
    grads = []
    for micro in (1000, 7):
        setup = tiny.setup()
        update(setup, STRATEGIES[name], replace(how, micro_rows=micro), collected, 0.5)
        grads.append(torch.cat([p.grad.flatten() for p in setup.model.parameters()]))
    assert grads[0].norm() > 0
    assert (grads[0] - grads[1]).norm() <= 1e-4 * grads[0].norm()


def test_a_reencoded_update_has_the_gradient_of_the_shared_prefix():
    grads = []
    for shared in (True, False):
        setup = tiny.setup()
        how = replace(SHORT, shared_prefix=shared, kl_weight=0.1)
        roller_step(setup, how, "recast")
        grads.append(torch.cat([p.grad.flatten() for p in setup.model.parameters()]))
    assert (grads[0] - grads[1]).norm() <= 1e-4 * grads[1].norm()


def roller_step(setup, how, name):
    collected = collected_of(setup, how, name)
    update(setup, STRATEGIES[name], how, collected, 0.0)
    return collected


def collected_of(setup, how, name):
    memory = trainer.memory_of(setup, STRATEGIES[name])
    return collect(trainer.roller(setup, how), STRATEGIES[name], 0, memory)


def test_only_active_rows_are_scored_and_only_after_repair(monkeypatch):
    setup, how = tiny.setup(), replace(SHORT, kl_weight=0.1, batch=16)
    collected = collected_of(setup, how, "contrast_only")
    seen = []
    real = updating.packed_logp

    def spy(model, vocabulary, prompts, codes, *rest):
        seen.append((model is setup.reference, codes))
        return real(model, vocabulary, prompts, codes, *rest)

    monkeypatch.setattr(updating, "packed_logp", spy)
    update(setup, STRATEGIES["contrast_only"], how, collected, 0.0)
    with_rows = collected.signal.rows.any(-1)
    assert 0 < int(with_rows.sum()) < 16  # some groups are all-zero: their prompts never come up
    for reference in (True, False):
        scored = torch.cat([codes for frozen, codes in seen if frozen is reference])
        assert scored.shape == (int(with_rows.sum()), 2, 3)


def test_a_repaired_slot_is_scored_as_the_ground_truth():
    setup = tiny.setup()
    how = replace(SHORT, batch=16)
    collected = collected_of(setup, how, "recast")
    anchor = collected.signal.groups.origin == int(Origin.ANCHOR)
    assert anchor.any()
    wanted = collected.target.unsqueeze(1).expand_as(collected.codes)
    assert (collected.codes[anchor] == wanted[anchor]).all()
    hits = (collected.codes == wanted).all(-1)
    assert (hits.any(-1)).all()


def test_an_appended_slot_holds_the_ground_truth_too():
    codes = torch.zeros(2, 3, 3, dtype=torch.int64)
    target = torch.ones(2, 3, dtype=torch.int64)
    groups = RolloutGroups.of(torch.zeros(2, 3))
    signal, wider = learn_from(STRATEGIES["visurf"], groups, codes, target, {}, tiny.setup().trie)
    assert wider.shape == (2, 4, 3)
    assert (wider[:, 3] == 1).all()
    assert not wider[:, :3].any()
    assert signal.rows.shape == (2, 4)


def test_a_step_that_teaches_nothing_leaves_the_model_as_it_is():
    setup = tiny.setup()
    before = [p.clone() for p in setup.model.parameters()]
    how = replace(SHORT, kl_weight=0.0)
    collected = collected_of(setup, how, "grpo")
    nothing = replace(collected.signal, rows=torch.zeros_like(collected.signal.rows))
    update(setup, STRATEGIES["grpo"], how, replace(collected, signal=nothing), 0.0)
    AdamW(dict(setup.model.named_parameters()), 1e-3).step(1e-3)
    assert all(torch.equal(a, b) for a, b in zip(before, setup.model.parameters(), strict=True))


def test_the_kl_to_the_reference_is_zero_before_the_first_step():
    setup = tiny.setup()
    how = replace(SHORT, kl_weight=1000.0)
    collected = collected_of(setup, how, "grpo")
    zero = replace(collected.signal, advantage=torch.zeros_like(collected.signal.advantage))
    loss = update(setup, STRATEGIES["grpo"], how, replace(collected, signal=zero), 0.0)
    assert abs(loss) < 1e-3


@pytest.mark.parametrize(
    ("schedule", "rates"), [("constant", [0.4] * 4), ("linear", [0.4, 0.3, 0.2, 0.1])]
)
def test_every_step_is_taken_at_the_rate_of_its_schedule(schedule, rates, monkeypatch):
    taken = []
    monkeypatch.setattr(AdamW, "step", lambda self, lr, *_: taken.append(lr) or 1.0)
    how = replace(SHORT, lr=0.4, steps=4, schedule=schedule)
    train(tiny.setup(), STRATEGIES["sft"], how)
    assert taken == pytest.approx(rates)
    assert ("schedule" in how.settings()) == (schedule == "linear")


@pytest.mark.parametrize("name", ["recast", "ha_dw", "greso"])
def test_a_killed_run_continues_bit_for_bit(name, tmp_path):
    how = replace(SHORT, steps=4, evaluations=2)
    strategy = STRATEGIES[name]
    whole = train(tiny.setup(), strategy, how)
    killed = tiny.setup()

    class KilledError(Exception):
        pass

    def kill(step: int, *_: object) -> None:
        if step == 3:
            raise KilledError

    with pytest.raises(KilledError):
        train(killed, strategy, how, tmp_path / "state", kill)
    resumed = train(tiny.setup(), strategy, how, tmp_path / "state")

    def plain(rows):
        return [{k: v for k, v in row.items() if "seconds" not in k} for row in rows]

    assert plain(resumed) == plain(whole)
    with pytest.raises(LMError, match="unfinished run with other settings"):
        train(tiny.setup(), strategy, replace(how, lr=5e-3), tmp_path / "state")


def test_the_ledger_counts_what_was_spent():
    rows = train(tiny.setup(), STRATEGIES["recast"], replace(SHORT, steps=3))
    last = rows[-1]
    assert last["rollouts"] == last["scored_rows"] == 3 * 8 * 6
    assert last["updated_rows"] <= 3 * 8 * 2
    assert last["optimizer_steps"] == 3
    assert 0 < last["labels"] <= 3 * 8
    sft = train(tiny.setup(), STRATEGIES["sft"], replace(SHORT, steps=3))[-1]
    assert (sft["rollouts"], sft["updated_rows"], sft["labels"]) == (0, 24, 24)


def test_a_loss_that_is_not_finite_is_one_line():
    setup = tiny.setup()
    collected = collected_of(setup, SHORT, "recast")
    with torch.no_grad():
        setup.model.lm_head.weight.fill_(float("nan"))
    with pytest.raises(LMError, match=r"loss became nan.*lower --lr"):
        update(setup, STRATEGIES["recast"], SHORT, collected, 0.0)


def test_a_strategy_that_lacks_an_input_is_refused_before_training():
    with pytest.raises(LMError, match="needs `beam_rank`"):
        train(tiny.setup(), STRATEGIES["rank_penalty"], SHORT)


def test_learning_from_the_target_raises_its_probability():
    rows = train(tiny.setup(), STRATEGIES["sft"], replace(SHORT, steps=30, lr=1e-2))
    first, last = (next(r for r in rows if r["step"] == s and r["slice"] == "all") for s in (0, 30))
    assert last["pass_at_1"] > first["pass_at_1"] + 0.05


def test_collected_without_rollouts_has_no_signal():
    assert RolloutPhase(tiny.setup().prompts, tiny.setup().target).signal is None


@pytest.mark.parametrize("search", ["sample", "beam"])
@pytest.mark.parametrize("name", ["grpo", "recast", "repair_only", "grpo_sft", "greso"])
def test_every_tensor_of_a_step_is_made_on_the_devices_of_the_job(name, search):
    """With `meta` as the default device, a tensor made without a device spoils the step: on a GPU
    it would have been a CPU tensor among the GPU's."""
    found = []
    for default in ("cpu", "meta"):
        setup = tiny.setup()
        how = replace(SHORT, search=search, kl_weight=0.1)
        optimizer = AdamW(dict(setup.model.named_parameters()), how.lr)
        memory = trainer.memory_of(setup, STRATEGIES[name])
        with torch.device(default):
            trainer.train_step(setup, STRATEGIES[name], how, optimizer, 0, memory)
        found.append(torch.cat([p.detach().flatten() for p in setup.model.parameters()]))
    assert torch.equal(found[0], found[1])

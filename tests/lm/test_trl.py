"""The TRL adapter: stock parity, drop equals mask, ranks, resume, refusals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch
import trl_case
from peft import LoraConfig
from trl import GRPOTrainer

from recast import pack
from recast.adapters.trl import RecastGRPOTrainer, _leading
from recast.adapters.trl_refusals import LOSS_TYPES
from recast.lm.optional_extra import LMError
from recast.lm.prefix import reencoded_logp
from recast.lm.tokenizer import code_tokenizer
from recast.lm.vocabulary import PromptTokens
from recast.loss import LossSettings, denominator, strategy_loss
from recast.stages.supervised import Evidence

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


def grad_norms(trainer):
    return [row["grad_norm"] for row in trainer.state.log_history if "grad_norm" in row]


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_grpo_by_name_takes_the_step_of_the_stock_trainer(loss_type, tmp_path):
    def hit(completion_ids, target_ids, **_):
        return [float(c == t) for c, t in zip(completion_ids, target_ids, strict=True)]

    stock = GRPOTrainer(
        model=tiny.model("qwen3", trl_case.VOCAB),
        reward_funcs=hit,
        args=trl_case.config(tmp_path, loss_type=loss_type, max_steps=3),
        train_dataset=trl_case.easy_dataset(),
        processing_class=code_tokenizer(trl_case.VOCAB),
    )
    stock.train()
    ours = trl_case.trainer(tmp_path, "grpo_trl", free=True, loss_type=loss_type, max_steps=3)
    ours.train()
    assert grad_norms(ours) == pytest.approx(grad_norms(stock), rel=1e-4)
    gap = trl_case.weights(ours.model) - trl_case.weights(stock.model)
    assert gap.abs().max() < 1e-4
    assert any(norm > 0 for norm in grad_norms(stock))


SEVERAL = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 4}
LORA = {"peft_config": LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")}


@pytest.mark.parametrize(
    "changes",
    [
        *({"loss_type": name} for name in LOSS_TYPES),
        *({"loss_type": name, **SEVERAL} for name in LOSS_TYPES),
        {"num_iterations": 2, "max_steps": 2, **SEVERAL},
        {"num_iterations": 2, "max_steps": 2, "loss_type": "grpo"},
        {**LORA, **SEVERAL},
        {**LORA, "gradient_checkpointing": True, "loss_type": "grpo"},
    ],
    ids=lambda changes: "-".join(f"{k}={v}" for k, v in changes.items() if k != "peft_config"),
)
def test_dropping_idle_rows_equals_masking_them(changes, tmp_path):
    """2 of the 4 rollouts of each group are idle: dropped, or sent along with an advantage of 0."""
    found = []
    for idle in ("dropped", "masked"):
        it = trl_case.trainer(tmp_path, "recast", **changes)
        if idle == "masked":
            build = it._build
            it._build = lambda m, n, build=build: everyone(build(m, n))
        it.train()
        found.append((grad_norms(it), trl_case.weights(it.model)))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-4)
    assert all(norm > 0 for norm in found[0][0])
    assert (found[0][1] - found[1][1]).abs().max() < 1e-4


def everyone(signal):
    return replace(signal, rows=signal.groups.valid)


def test_an_active_row_is_all_that_reaches_the_actor(tmp_path):
    it = trl_case.trainer(tmp_path, "recast")
    seen = []
    score = it._score

    def spy(model, ids, *rest, **more):
        seen.append((torch.is_grad_enabled(), len(ids)))
        return score(model, ids, *rest, **more)

    it._score = spy
    it.train()
    assert seen == [(True, 8)]  # 4 groups of 4 rollouts: 2 rows of each


def test_the_raw_outcome_is_logged_beside_trls_reward(tmp_path):
    it = trl_case.trainer(tmp_path, "recast")
    it.train()
    log = next(row for row in it.state.log_history if "recast/all_zero" in row)
    shares = [
        log[f"recast/{name}"] for name in ("all_zero", "single_hit", "multi_hit", "saturated")
    ]
    assert sum(shares) == pytest.approx(1.0)
    assert log["recast/repaired"] == log["recast/all_zero"] > 0
    assert log["reward"] == pytest.approx(log["recast/raw_reward"] + log["recast/repaired"] / 4)


def test_the_strategys_own_divisor_gives_the_librarys_loss(tmp_path):
    """recast divides by prompts: with every group repaired the norm is twice 8 rows x 3 / 4."""
    norms = {}
    for divisor in ("trl", "strategy"):
        it = trl_case.trainer(tmp_path, "recast", divisor=divisor)
        it.train()
        norms[divisor] = grad_norms(it)[0]
    assert norms["strategy"] == pytest.approx(norms["trl"] * (16 * 3) / 4, rel=1e-3)


def test_active_rows_fill_as_few_micro_batches_as_they_need_and_the_last_ones(tmp_path):
    """16 rollouts, 8 active rows, micro-batches of 4: two empty ones, then two full ones."""
    it = trl_case.trainer(
        tmp_path, "recast", per_device_train_batch_size=4, gradient_accumulation_steps=4
    )
    seen = []
    loss = it._compute_loss

    def spy(model, inputs):
        seen.append(len(inputs.get("completion_ids", ())))
        return loss(model, inputs)

    it._compute_loss = spy
    it.train()
    assert seen == [0, 0, 4, 4]


def test_rows_stay_spread_when_a_phase_spans_several_optimizer_steps(tmp_path):
    it = trl_case.trainer(
        tmp_path, "recast", per_device_train_batch_size=4, gradient_accumulation_steps=1,
        steps_per_generation=4, max_steps=4,
    )  # fmt: skip
    seen = []
    loss = it._compute_loss

    def spy(model, inputs):
        seen.append(len(inputs["completion_ids"]))
        return loss(model, inputs)

    it._compute_loss = spy
    it.train()
    assert seen == [2, 2, 2, 2]


def sampled_by(it):
    """Train, and return what the trainer sampled: prompts, codes and target codes of its batch."""
    seen, roll, score = {}, it._down_the_trie, it._generate_and_score_completions

    def rolled(ids):
        seen["codes"] = roll(ids)
        return seen["codes"]

    def scored(inputs):
        seen["rows"] = inputs
        return score(inputs)

    it._down_the_trie, it._generate_and_score_completions = rolled, scored
    it.train()
    rows, group = seen["rows"], it.num_generations
    place = {token: code for level in trl_case.VOCAB.tokens for code, token in enumerate(level)}
    target = torch.tensor([[place[t] for t in row["target_ids"]] for row in rows])
    codes = [[place[t] for t in row] for row in seen.get("codes", [r["target_ids"] for r in rows])]
    codes = torch.tensor(codes).view(-1, group, 3)
    ids = [it.processing_class(row["prompt"])["input_ids"] for row in rows[::group]]
    longest = max(map(len, ids))
    padded = torch.tensor([row + [0] * (longest - len(row)) for row in ids])
    return PromptTokens(padded, torch.tensor([len(row) for row in ids])), codes, target[::group]


MIXED = "repair=anchor, select=pods(2), credit=grpo, supervised=sft(0.5)"


@pytest.mark.parametrize(
    ("strategy", "divisor"),
    [
        ("sft", "trl"),
        ("target_power_hits", "strategy"),
        ("chord", "strategy"),
        ("grpo_sft", "trl"),
        (MIXED, "strategy"),
        (MIXED, "trl"),
    ],
)
def test_a_supervised_term_inside_trl_has_the_gradient_of_the_librarys_loss(
    strategy, divisor, tmp_path
):
    """Four micro-batches of 4; the oracle scores every rollout and target by itself."""
    it = trl_case.trainer(
        tmp_path, strategy, divisor=divisor, per_device_train_batch_size=4,
        gradient_accumulation_steps=4,
    )  # fmt: skip
    prompts, codes, target = sampled_by(it)
    signal, plan = it._signal, it.strategy
    anchored = (signal.groups.origin != 0).unsqueeze(-1)
    codes = torch.where(anchored, target.unsqueeze(1), codes)
    model = tiny.model("qwen3", trl_case.VOCAB)
    both = torch.cat([codes, target.unsqueeze(1)], 1)
    logp = reencoded_logp(model, trl_case.VOCAB, prompts, both, trl_case.TRIE)
    rows = pack(signal, 4)
    packed = logp[:, :-1].gather(1, rows.index.unsqueeze(-1).expand(-1, -1, 3))
    loss = strategy_loss(
        plan, signal, rows, length=3, settings=LossSettings(clip_high=0.2), logp=packed,
        old_logp=packed.detach(), evidence=Evidence(logp[:, -1], progress=0.0),
    )  # fmt: skip
    if divisor == "trl" and plan.has_credit:
        loss = loss * denominator(signal, plan.denominator, 3) / (16 * 3)
    loss.backward()
    wanted = torch.cat([p.grad.flatten() for p in model.parameters()]).norm().item()
    assert grad_norms(it)[0] == pytest.approx(wanted, rel=1e-3)
    assert wanted > 0


def test_a_strategy_without_rollouts_samples_none(tmp_path):
    it = trl_case.trainer(tmp_path, "sft")
    it._down_the_trie = None
    it.train()
    assert grad_norms(it)[0] > 0
    assert not any(
        name.startswith("recast/all_zero") for row in it.state.log_history for name in row
    )


def test_a_target_outside_the_trie_is_one_line(tmp_path):
    it = trl_case.trainer(tmp_path, "recast")
    it.train_dataset = it.train_dataset.map(lambda row: {"target_ids": [3, 8, 3]})
    with pytest.raises(
        LMError, match=r"target_ids: \[3, 8, 3\] is not an item of the trie"
    ) as caught:
        it.train()
    assert "\n" not in str(caught.value)


def test_a_loss_that_is_not_finite_is_one_line(tmp_path):
    it = trl_case.trainer(tmp_path, "recast")
    with torch.no_grad():
        it.model.model.norm.weight.fill_(float("nan"))
    it._down_the_trie = lambda ids: [list(target) for target in it._targets]
    with pytest.raises(LMError, match="the loss became nan at step 1; lower learning_rate"):
        it.train()


def test_the_cost_inside_trl_counts_what_reaches_the_actor(capsys):
    from recast.adapters.trl_cost import measure_trl
    from recast.lm.efficiency import Shapes
    from recast.lm.models import SmallModel

    shapes = Shapes(groups=(8,), prompt_tokens=(10,), micro_rows=(8,), batch=4, repeats=1)
    grpo, recast = measure_trl(shapes, SmallModel(1, 16, 2, 16))
    assert (grpo["rows"], recast["rows"]) == (4 * 8, 4 * 2)
    assert capsys.readouterr().out == ""
    assert grpo["ratio"] == 1.0
    assert recast["ratio"] == grpo["update_seconds"] / recast["update_seconds"]
    with pytest.raises(LMError, match="no multiple of 5; expected a divisor"):
        measure_trl(Shapes(groups=(8,), micro_rows=(5,), batch=4))


def test_trie_scores_are_those_of_the_engine(tmp_path):
    it = trl_case.trainer(tmp_path, "recast")
    prompts = tiny.prompts(trl_case.VOCAB, trl_case.TRIE, 5, 3)
    codes = tiny.paths(trl_case.TRIE, 5, 3, 1)
    table = trl_case.VOCAB.table()
    ids, mask = [], []
    longest = int(prompts.length.max())
    for b in range(3):
        length = int(prompts.length[b])
        target = [int(table[lv][codes[b, 0, lv]]) for lv in range(3)]
        ids.append([0] * (longest - length) + prompts.ids[b, :length].tolist() + target)
        mask.append([0] * (longest - length) + [1] * (length + 3))
    with torch.no_grad():
        logp, _, _ = it._score(it.model, torch.tensor(ids), torch.tensor(mask), 3)
        wanted = reencoded_logp(it.model, trl_case.VOCAB, prompts, codes, trl_case.TRIE)
    assert torch.allclose(logp, wanted[:, 0], atol=1e-5)


def test_two_gloo_ranks_take_the_steps_of_one_process_with_the_same_batch(tmp_path):
    """6 rows per rank and groups of 4: the second group lies on both ranks."""
    here = Path(__file__).parent
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here.parents[1]), str(here)])}
    env |= {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2",
        str(here / "trl_case.py"), str(tmp_path),
    ]  # fmt: skip
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    ends = [torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert torch.equal(*ends)
    alone = trl_case.ranked(tmp_path / "alone", 12)
    alone.train()
    norms = grad_norms(alone)
    assert json.loads((tmp_path / "rank0.json").read_text()) == pytest.approx(norms, rel=1e-4)
    assert all(norm > 0 for norm in norms)
    assert (trl_case.weights(alone.model) - ends[0]).abs().max() < 1e-4


@pytest.mark.parametrize("strategy", ["recast", "sft"])
def test_any_of_several_right_answers_is_a_hit_and_one_of_them_is_taught(strategy, tmp_path):
    it = trl_case.trainer(tmp_path, strategy, rows=trl_case.several(), max_steps=4)
    phases, build = [], it._build

    def spy(matched, length):
        signal = build(matched, length)
        phases.append((matched, signal, list(it._targets), list(it._right)))
        return signal

    sampled, roll = [], it._down_the_trie
    it._down_the_trie = lambda ids: sampled.append(roll(ids)) or sampled[-1]
    it._build = spy
    it.train()
    taught = set()
    for number, (matched, signal, targets, right) in enumerate(phases):
        assert all(len(answers) == 3 for answers in right)
        for row, (target, answers) in enumerate(zip(targets, right, strict=True)):
            assert target in answers
            assert target == targets[row // 4 * 4]  # one of them for the whole group
            taught.add(answers.index(target))
            if sampled:
                rolled = sampled[number][row]
                assert (matched[row] == 3) == (rolled in answers)
                anchor = bool(signal.groups.origin[row // 4, row % 4] != 0)
                assert it._buffered_inputs is not None
                assert not (anchor and rolled in answers)
    assert len(taught) > 1
    assert bool(sampled) == (strategy == "recast")
    assert all(norm > 0 for norm in grad_norms(it))


def test_right_answers_of_two_lengths_are_one_line(tmp_path):
    rows = trl_case.several(4).map(lambda row: {"target_ids": [*row["target_ids"][:2], [3]]})
    it = trl_case.trainer(tmp_path, "recast", rows=rows)
    with pytest.raises(LMError, match=r"one length in every row, got \[1, 3\]; pad or drop rows"):
        it.train()


def test_a_resumed_run_ends_where_the_whole_run_ends(tmp_path):
    whole = trl_case.trainer(tmp_path / "a", "recast", max_steps=4)
    whole.train()
    first = trl_case.trainer(
        tmp_path / "b", "recast", max_steps=2, save_strategy="steps", save_steps=2
    )
    first.train()
    again = trl_case.trainer(tmp_path / "b", "recast", max_steps=4)
    again.train(resume_from_checkpoint=str(tmp_path / "b" / "checkpoint-2"))
    gap = trl_case.weights(again.model) - trl_case.weights(whole.model)
    assert gap.abs().max() < 1e-5


def test_leading_tokens_by_hand():
    assert _leading([1, 2, 3], [[1, 2, 3]]) == 3
    assert _leading([1, 2, 4], [[1, 2, 3]]) == 2
    assert _leading([2, 2, 3], [[1, 2, 3]]) == 0
    assert _leading([1, 2], [[1, 2, 3]]) == 2
    assert _leading([1, 2, 3, 4], [[1, 2, 3]]) == 2
    assert _leading([2, 2, 3], [[1, 2, 3], [2, 2, 3]]) == 3
    assert RecastGRPOTrainer.__mro__[1] is GRPOTrainer

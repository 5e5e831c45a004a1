"""Stages are closed: what others ask of one stands in its row, and nobody else knows its name."""

from __future__ import annotations

import importlib
import re
from dataclasses import replace
from pathlib import Path

import made_up
import pytest
import torch
from planted_logs import rollouts as planted

from recast import STRATEGIES, build_signal, parse_strategy
from recast.adapters.limits import why_not_estimator, why_not_trl, why_not_verl
from recast.signal import probe
from recast.stage import WIDEST, Rounds, Stage, bind
from recast.strategy import STAGES
from recast.theory.by_hits import why_undefined
from sim.exact import exact_world
from sim.general.runs import Runs
from sim.general.step import collect
from sim.inputs import why_not
from sim.policies.mlp import MLP
from sim.settings import Training
from sim.training.trainer import train
from sim.worlds.synthetic import SyntheticWorld, build_synthetic
from workbench.diagnosis.counterfactual import counterfactual
from workbench.diagnosis.diagnosis import diagnose
from workbench.diagnosis.logs.read import read_log
from workbench.theory.enumeration import exact_table

ROOT = Path(__file__).parents[1]
TINY = SyntheticWorld(
    items=24, codes=4, sft_prompts=64, train_prompts=48, validation_prompts=8, test_prompts=8
)
HOW = Training(steps=12, batch=8, group=4, evaluations=1, curve_prompts=8)


@pytest.fixture(autouse=True)
def _made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    made_up.added(monkeypatch)


@pytest.fixture(scope="module")
def world():
    return build_synthetic(TINY)


def trained(world, text, **changes):
    how = HOW.model_copy(update=changes)
    policy = MLP(8)
    start = policy.init(world.catalogue, world.train.context.shape[-1], (0, 1), torch.float64)
    strategy = parse_strategy(text)
    assert why_not(strategy, how.rollouts, how.group) is None
    return train(Runs(policy, world, strategy, start, (0, 1), how), torch.tensor([0.01, 0.01]))


@pytest.mark.parametrize("text", made_up.TEXTS)
def test_a_made_up_stage_trains_in_the_simulator(world, text):
    for run in trained(world, text):
        assert run.diverged_at is None
        first, last = run.rows[0], run.rows[-1]
        assert last["optimizer_steps"] == HOW.steps
        assert first["pass_at_1"] != last["pass_at_1"]


@pytest.mark.parametrize("text", made_up.TEXTS)
def test_a_made_up_stage_is_enumerated(text):
    table = exact_table({text: parse_strategy(text)}, exact_world([0.1, 0.4], items=3), 2)
    (row,) = table.rows(named=True)
    assert row["norm"] > 0
    assert ("made up" in row["note"]) == ("focal" in text)


@pytest.mark.parametrize("text", made_up.TEXTS)
def test_a_made_up_stage_is_asked_what_it_would_have_made_of_a_log(tmp_path, text):
    rows = planted.log(4, mean=0.3, spread=0.3, batch=8, repeat=True, steps=6)
    found = diagnose(read_log([planted.as_jsonl(rows, tmp_path / "log.jsonl")]))
    (row,) = counterfactual(found, (text,)).rows(named=True)
    unlogged = parse_strategy(text).needs & {"codes", "logp"}
    if unlogged:
        assert "the log lacks what it needs" in row["note"]
    elif "newest" in text:
        assert "samples 16 rollouts per group" in row["note"]
    else:
        assert row["learnable"] > 0


def test_what_a_stage_remembers_of_a_prompt_is_there_at_its_next_visit(world):
    forgetful, mindful = (
        trained(world, f"credit=made_up_tracked({decay})")[0].rows for decay in (0.1, 1.0)
    )
    assert forgetful != mindful
    once = {"steps": 6}  # one epoch: no prompt comes twice
    assert trained(world, "credit=made_up_tracked(0.1)", **once)[0].rows == (
        trained(world, "credit=made_up_tracked(1.0)", **once)[0].rows
    )


def test_a_hit_of_an_earlier_step_is_rolled_in_again_and_needs_no_label(world):
    replayed = trained(world, "repair=made_up_replay, credit=grpo")[0].rows[-1]
    plain = trained(world, "credit=grpo")[0].rows[-1]
    assert replayed["learnable"] > plain["learnable"]
    assert replayed["labels"] == plain["labels"] == 0


def test_the_gate_that_was_made_up_skips_and_saves_rollouts(world):
    gated = trained(world, "gate=made_up_resting(2), credit=grpo")[0].rows[-1]
    plain = trained(world, "credit=grpo")[0].rows[-1]
    assert gated["rollouts"] == plain["rollouts"] / 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("select=pods(100000), credit=grpo", "m=100000 in 'pods(100000)'; expected a whole number"),
        ("credit=pass_at_k(100000000000000000000)", "expected a whole number >= 1 and <= 4096"),
        ("credit=pass_at_k(1e20)", "expected a whole number >= 1 and <= 4096"),
        (f"credit=pass_at_k({10**400})", "is not a number"),
        ("credit=care(-1), select=pair", "k=-1 in 'care(-1)'; expected a whole number >= 0"),
        ("credit=grpo(eps=-1)", "eps=-1 in 'grpo(eps=-1)'; expected a number >= 0"),
        ("credit=grpo(ddof=2)", "expected a whole number >= 0 and <= 1"),
        ("credit=a_grae(alpha=0)", "expected a number >= 1e-06"),
        ("repair=keep_distinct(1e9), credit=grpo", "expected a number >= 1 and <= 64"),
        ("gate=greso(2), credit=grpo", "floor=2 in 'greso(2)'; expected a number >= 0 and <= 1"),
        ("credit=ha_dw(history=3)", "ha_dw takes scale"),
        ("credit=made_up_k(17)", "k=17 in 'made_up_k(17)'; expected a whole number >= 1 and <= 16"),
        ("select=made_up_few(0), credit=grpo", "expected a whole number >= 1 and <= 64"),
        ("clip=pppo, credit=grpo", "clip: unknown 'pppo'; did you mean 'ppo'"),
    ],
)
def test_an_option_outside_its_bounds_is_one_line(text, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        parse_strategy(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_every_option_that_counts_has_an_upper_bound():
    for table in STAGES.values():
        for stage in table.values():
            for option in stage.options:
                least, most = stage.bound(option)
                assert least <= stage.defaults[option] <= most
                assert not stage.is_count(option) or most <= WIDEST


def test_the_widest_options_there_are_still_parse():
    assert parse_strategy(f"select=pods({WIDEST}), credit=grpo").least_group == WIDEST
    assert parse_strategy("credit=made_up_k(16)").least_group == 16


def test_a_group_that_is_too_narrow_for_a_made_up_stage_is_one_line():
    assert why_not(parse_strategy("credit=made_up_k(5)"), group=4) == (
        "credit=made_up_k(5) needs G >= 5, got G = 4"
    )


def test_a_row_that_contradicts_itself_is_no_stage():
    with pytest.raises(ValueError, match="start and carry go together"):
        Stage(made_up.tracked, start=made_up.tracked_start)
    with pytest.raises(ValueError, match="bounds for 'q', which is no option"):
        Stage(made_up.leading_k, bounds={"q": (0, 1)})
    with pytest.raises(ValueError, match=r"expected 1\.\.10 in all"):
        Rounds(made_up.no_hit, most=11)


def test_two_stages_that_remember_under_one_name_are_refused(monkeypatch):
    tracked = STAGES["credit"]["made_up_tracked"]
    twin = Stage(lambda groups, state: groups, start=tracked.start, carry=lambda groups, state: {})
    monkeypatch.setitem(STAGES["repair"], "made_up_twin", twin)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="another stage remembers 'made_up_a' as well"):
        parse_strategy("repair=made_up_twin, credit=made_up_tracked").start((), 3)


def test_a_credit_that_differs_by_code_has_no_weight_by_hits():
    assert "which codes each rollout has" in why_undefined(parse_strategy("credit=made_up_sibling"))


@pytest.mark.parametrize("name", STRATEGIES)
def test_what_a_row_declares_is_what_its_function_does(name):
    strategy = STRATEGIES[name]
    signal = probe(strategy, max(16, strategy.least_group))
    repair = strategy.stage("repair").stage
    if repair.start is not None:  # what it puts into a group, it has to remember first
        again = replace(signal.sampled, prompt=signal.sampled.prompt.roll(-1))
        signal = build_signal(strategy, again, signal.state)
    width = signal.sampled.valid.shape[-1]
    origin = signal.groups.origin
    assert bool((origin != 0).any()) == (repair.injects is not None)
    assert (origin.shape[-1] > width) == (repair.injects == "extra")
    kept = signal.groups.valid[..., :width]
    assert repair.drops or bool((kept == signal.sampled.valid).all())
    if repair.injects == "miss":
        assert not bool((origin[..., :width] != 0)[signal.sampled.hit].any())
    if strategy.stage("select").stage.boundary:
        assert bool((signal.rows.sum(-1) <= 2).all())
    assert int(signal.rows.sum(-1).max()) <= strategy.width(width)
    assert strategy.has_credit or not signal.advantage.any()


def test_an_idle_row_does_nothing_and_every_table_has_one():
    for kind, table in STAGES.items():
        assert sum(stage.idle for stage in table.values()) == 1, kind


def test_a_supervised_term_is_by_code_when_its_slope_differs_between_codes():
    logp = torch.tensor([[[-0.2, -1.5]]], dtype=torch.float64, requires_grad=True)
    others = torch.tensor([[[[-0.2, -1.8], [-1.5, -0.3]]]], dtype=torch.float64)
    for name, stage in STAGES["supervised"].items():
        if stage.idle or "rollouts" in stage.needs:
            continue
        evidence = made_up.Evidence(logp, logp.detach(), path_logp=others)
        (slope,) = torch.autograd.grad(
            bind("supervised", STAGES["supervised"], name)(evidence).sum(), logp
        )
        assert bool((slope[..., 0] - slope[..., 1]).abs() > 1e-9) == stage.by_code, name


def test_a_group_without_hits_is_rolled_out_again_behind_the_targets_first_codes(world):
    policy = MLP(8)
    params = policy.init(world.catalogue, world.train.context.shape[-1], (0,), torch.float64)
    strategy = parse_strategy("repair=made_up_hint(2), credit=grpo")
    found = collect(Runs(policy, world, strategy, params, (0,), HOW), params, 0, {})
    groups, codes = found.signal.groups, world.catalogue.codes
    again = (groups.hinted > 0).all(-1)
    assert again.any()
    assert not again.all()
    assert torch.equal(groups.hinted, 2 * again.unsqueeze(-1).expand_as(groups.hinted))
    target = codes[found.batch.target].unsqueeze(2).expand(-1, -1, HOW.group, -1)
    assert torch.equal(codes[groups.item][again][..., :2], target[again][..., :2])
    assert not found.signal.advantage[again][..., :2].any()
    assert found.signal.advantage[again][..., 2].any()
    assert int(found.rollouts) == HOW.batch * HOW.group + int(again.sum()) * HOW.group


def test_prompts_with_few_hits_are_sampled_in_rounds(world):
    policy = MLP(8)
    params = policy.init(world.catalogue, world.train.context.shape[-1], (0,), torch.float64)
    strategy = parse_strategy("repair=made_up_rounds, credit=grpo")
    found = collect(Runs(policy, world, strategy, params, (0,), HOW), params, 0, {})
    plain = collect(Runs(policy, world, parse_strategy("grpo"), params, (0,), HOW), params, 0, {})
    sampled = found.signal.sampled
    rounds = sampled.valid.view(1, HOW.batch, -1, HOW.group).any(-1).sum(-1)
    assert int(rounds.max()) == 4
    hits = sampled.hit.view(1, HOW.batch, -1, HOW.group).any(-1)
    for prompt, count in enumerate(rounds[0].tolist()):
        assert not hits[0, prompt, : count - 1].any()
        assert hits[0, prompt, count - 1] or count == 4
    assert int(found.rollouts) == int(rounds.sum()) * HOW.group
    assert torch.equal(sampled.item[..., : HOW.group], plain.signal.groups.item)
    assert (found.signal.groups.valid.sum(-1) == HOW.group).all()
    assert (found.signal.rows.sum(-1) <= HOW.group).all()


def test_what_samples_again_is_refused_where_it_cannot_be_done():
    strategy = parse_strategy("repair=made_up_hint, credit=grpo")
    assert "samples its prompts again" in why_not(strategy, "beam")
    for refuses in (why_not_trl, why_not_verl, why_not_estimator):
        assert refuses(strategy)


def rows_of_the_page() -> list[tuple[str, str, Stage]]:
    """Kind, name and stage of every row of docs/stages.md, its functions run as they stand."""
    text = (ROOT / "docs" / "stages.md").read_text(encoding="utf-8")
    known: dict[str, object] = {}
    exec("from __future__ import annotations\nimport torch", known)
    for module in ("groups", "stage", "stages.supervised", "stages.surrogate"):
        known |= vars(importlib.import_module(f"recast.{module}"))
    found = []
    for section in text.split("\n## ")[1:]:
        kind = section.split(":")[0]
        for block in re.findall(r"```python\n(.*?)```", section, re.DOTALL):
            if block.startswith('"'):
                exec(f"rows = {{{block}}}", known)
                found += [(kind, *row) for row in known["rows"].items()]
            else:
                exec("from __future__ import annotations\n" + block, known)
    return found


def test_every_row_of_the_page_on_stages_trains(world, monkeypatch):
    rows = rows_of_the_page()
    assert {kind for kind, *_ in rows} == {"credit", "repair", "supervised", "clip"}
    for kind, name, stage in rows:
        monkeypatch.setitem(STAGES[kind], f"page_{name}", stage)  # type: ignore[arg-type]
    for kind, name, _ in rows:
        text = f"{kind}=page_{name}"
        run = trained(world, text if kind == "credit" else f"credit=grpo, {text}", steps=4)[0]
        assert run.rows[0]["pass_at_1"] != run.rows[-1]["pass_at_1"], name

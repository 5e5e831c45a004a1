"""The exact gradient study: a loop oracle, the theory's weights, sampling, and the command."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace

import command_line
import polars as pl
import pytest
import torch

from recast import STRATEGIES, Strategy
from recast.theory.by_hits import by_hits, why_undefined
from recast.theory.objective import weight
from sim.exact import (
    OBJECTIVES,
    cosine,
    exact_update,
    exact_world,
    objective_gradient,
    why_not_enumerable,
)
from workbench import charts
from workbench.theory.enumeration import NUMBERS, exact_table

WORLD = exact_world([0.05, 0.3], items=4, flat=True)
TREE = exact_world([0.02, 0.1, 0.4], items=4)
GROUP = 4
ENUMERATED = [n for n, s in STRATEGIES.items() if not why_not_enumerable(s, TREE, GROUP)]


def test_every_strategy_is_enumerated_or_says_why_not():
    reasons = {n: why_not_enumerable(s, TREE, GROUP) for n, s in STRATEGIES.items()}
    assert {n for n, reason in reasons.items() if reason} == {
        "rank_penalty",
        "pkpo",
        "pods",
        "recast_half_repair",
    }
    assert "beams" in reasons["rank_penalty"]
    assert "needs G >= 8" in reasons["pods"]
    assert "too many" in why_not_enumerable(STRATEGIES["grpo"], TREE, 20)
    assert "two prompts" in why_not_enumerable(STRATEGIES["reinforce"], exact_world([0.1]), 3)
    with pytest.raises(ValueError, match="not enumerable: its groups are beams"):
        exact_update(STRATEGIES["rank_penalty"], TREE, GROUP)


def test_the_world_is_what_was_asked_for():
    for world in (WORLD, TREE):
        assert torch.allclose(world.chance.sum(-1), torch.ones(len(world.p), dtype=torch.float64))
        assert torch.allclose(world.logp.sum(-1).exp(), world.chance)
        at = world.chance.gather(1, world.target.unsqueeze(1)).squeeze(1)
        assert torch.allclose(at, world.p)
        # The score function has mean zero under the policy.
        mean = (world.chance[..., None] * world.score.sum(2)).sum(1)
        assert torch.allclose(mean, torch.zeros_like(mean), atol=1e-12)


# A softmax over three items by loops: items 0 (the target), 1 and 2; nothing of the project.
SHARES = {0: 0.25, 1: 0.45, 2: 0.3}


def oracle_advantages(name: str, group: tuple[int, ...], near: dict[int, float]) -> list:
    """(item, advantage) of what is learnt from one group; the divisor is applied by the caller."""
    reward = [1.0 if item == 0 else 0.0 for item in group]
    n, hits = len(group), sum(reward)
    mean = hits / n
    spread = math.sqrt(sum((r - mean) ** 2 for r in reward) / (n - 1))
    if name == "dr_grpo":
        return [(i, r - mean) for i, r in zip(group, reward, strict=True)]
    if name == "rloo":
        return [(i, n / (n - 1) * (r - mean)) for i, r in zip(group, reward, strict=True)]
    if name == "maxrl":
        return [(i, (r - mean) / (mean + 1e-6)) for i, r in zip(group, reward, strict=True)]
    if name == "grpo":
        if not spread:
            return [(i, 0.0) for i in group]
        return [(i, (r - mean) / (spread + 1e-6)) for i, r in zip(group, reward, strict=True)]
    assert name == "recast"
    slots = list(group)
    if not hits:
        worst = min(range(n), key=lambda i: (near[group[i]], i))
        slots[worst] = 0
    misses = [i for i in range(n) if slots[i] != 0]
    if not misses:
        return []
    hardest = max(misses, key=lambda i: (near[slots[i]], -i))
    return [(0, 1.0), (slots[hardest], -1.0)]


@pytest.mark.parametrize("name", ["grpo", "dr_grpo", "rloo", "maxrl", "recast"])
def test_a_loop_over_a_world_of_three_items_finds_the_same_update(name):
    near = {0: 1.0, 1: 0.1, 2: 0.01}
    group, divisor = 3, 1 if name == "recast" else 3
    mean, square = [0.0] * 3, 0.0
    for slots in itertools.product(range(3), repeat=group):
        chance = math.prod(SHARES[i] for i in slots)
        update = [0.0] * 3
        for item, advantage in oracle_advantages(name, slots, near):
            for logit in range(3):
                slope = (item == logit) - SHARES[logit]
                update[logit] += advantage * slope / divisor
        mean = [m + chance * u for m, u in zip(mean, update, strict=True)]
        square += chance * sum(u * u for u in update)
    variance = square - sum(m * m for m in mean)

    # The same policy in the project's world: one code per item, the nearness written in by hand.
    world = exact_world([SHARES[0]], items=3, flat=True)
    chance = torch.tensor([[SHARES[i] for i in range(3)]], dtype=torch.float64)
    score = torch.eye(3, dtype=torch.float64) - chance
    codes = torch.tensor([[0, 0, 0], [0, 0, 1], [0, 1, 0]])
    world = replace(
        world,
        catalogue=replace(world.catalogue, codes=codes),
        chance=chance,
        logp=torch.stack([chance.log(), *[torch.zeros(1, 3)] * 2], -1).double(),
        score=torch.stack([score, *[torch.zeros(3, 3)] * 2], 1).double().unsqueeze(0),
        entropy=torch.ones(1, 3, 3, dtype=torch.float64),
    )
    strategy = STRATEGIES[name]
    if name == "dr_grpo":
        strategy = replace(strategy, denominator="rollouts")
    found = exact_update(strategy, world, group)
    assert found.mean[0].tolist() == pytest.approx(mean, abs=1e-10)
    assert found.variance == pytest.approx(variance, abs=1e-10)


LOCAL = [
    n
    for n in ENUMERATED
    if not why_undefined(STRATEGIES[n]) and exact_update(STRATEGIES[n], WORLD, 4).batch == 1
]


@pytest.mark.parametrize("name", LOCAL)
def test_the_update_is_w_times_grad_log_p_plus_what_stands_apart(name):
    """Through policy, build_signal and loss on one side, through hit counts on the other."""
    strategy, found = STRATEGIES[name], exact_update(STRATEGIES[name], WORLD, GROUP)
    parts = weight(strategy, WORLD.p, GROUP)
    theory = parts.total.unsqueeze(-1) * WORLD.target_gradient / len(WORLD.p)
    rest = found.mean - theory
    if by_hits(strategy, GROUP).shifted:
        assert rest.norm() > 0.01
    elif by_hits(strategy, GROUP).apart.any():
        # Credit set apart is spent on misses: along it every row of the update sums to nothing
        # on the target beyond what its softmax pulls back.
        at = torch.arange(len(WORLD.p))
        back = -parts.apart * WORLD.p / len(WORLD.p)
        assert torch.allclose(rest[at, WORLD.target], back, atol=1e-10)
        assert rest.norm() > 1e-3
    else:
        assert torch.allclose(rest, torch.zeros_like(rest), atol=1e-10)


@pytest.mark.parametrize("name", ["grpo", "repair_only", "add_gt", "visurf", "grpo_sft", "dpo"])
def test_a_tree_of_codes_changes_no_direction(name):
    found = exact_update(STRATEGIES[name], TREE, 3)
    pull = weight(name, TREE.p, 3).total.unsqueeze(-1) * TREE.target_gradient
    expected = 0.98 if name == "repair_only" else 1 - 1e-12  # the least informative miss is gone
    assert cosine(found.mean, pull) >= expected


@pytest.mark.parametrize("name", ["recast", "grpo", "reinforce", "luffy", "psr", "s_dpo"])
def test_enumeration_agrees_with_sampled_batches(name):
    from sim.exact import _updates

    strategy = STRATEGIES[name]
    found = exact_update(strategy, WORLD, GROUP)
    torch.manual_seed(1)
    draws = 20_000
    mean, variance = torch.zeros_like(found.mean), 0.0
    for batch in itertools.combinations(range(len(WORLD.p)), found.batch):
        where = torch.tensor(batch)
        item = torch.stack(
            [WORLD.chance[b].multinomial(draws * GROUP, True).view(draws, GROUP) for b in batch], 1
        )
        update = _updates(strategy, WORLD, where, item)
        share = found.batch / len(WORLD.p)
        mean[where] += update.mean(0) * share
        variance += float(update.var(0).sum()) * found.batch * share
    error = math.sqrt(variance / draws / found.batch)
    assert float((mean - found.mean).norm()) <= 4 * error
    assert variance == pytest.approx(found.variance, rel=0.1)


def test_known_answers_of_the_study():
    true = objective_gradient(TREE, OBJECTIVES["p"])
    for name in ("rloo", "dr_grpo", "w_reinforce"):
        assert cosine(exact_update(STRATEGIES[name], TREE, 3).mean, true) == pytest.approx(1)
    rloo = exact_update(STRATEGIES["rloo"], TREE, 3)
    assert torch.allclose(rloo.mean, true, atol=1e-12)  # the policy gradient is unbiased
    supervised = exact_update(STRATEGIES["sft"], TREE, 3)
    logs = objective_gradient(TREE, OBJECTIVES["log_p"])
    assert cosine(supervised.mean, logs) == pytest.approx(1)
    assert supervised.variance == 0
    best = exact_update(STRATEGIES["best_of_group"], TREE, 4)
    assert cosine(best.mean, objective_gradient(TREE, OBJECTIVES["pass_at_4"])) == pytest.approx(1)
    recast = exact_update(STRATEGIES["recast"], TREE, 4)
    assert 0.5 < cosine(recast.mean, logs) < 0.99  # the hard negative bends it


def test_slopes_are_those_of_the_named_objectives():
    step = 1e-6
    functions = {
        "p": lambda p: p,
        "log_p": math.log,
        "pass_at_4": lambda p: 1 - (1 - p) ** 4,
        "arcsin_sqrt_p": lambda p: 2 * math.asin(math.sqrt(p)),
        "arcsin_sqrt_pass_at_4": lambda p: 2 * math.asin(math.sqrt(1 - (1 - p) ** 4)),
    }
    assert set(functions) == set(OBJECTIVES)
    for name, f in functions.items():
        for p in (0.02, 0.3, 0.8):
            slope = (f(p + step) - f(p - step)) / (2 * step)
            assert OBJECTIVES[name](p) == pytest.approx(slope, rel=1e-6), name


def test_batch_and_state_are_named():
    assert exact_update(STRATEGIES["reinforce"], TREE, 2).batch == 2
    assert exact_update(STRATEGIES["psr"], TREE, 2).batch == 2
    assert exact_update(STRATEGIES["ha_dw"], TREE, 2).state == "fresh"
    assert exact_update(Strategy(gate="greso", credit="reinforce"), TREE, 2).batch == 2


@pytest.mark.parametrize(
    ("p", "items", "message"),
    [([], 4, "hit probabilities"), ([1.0], 4, "hit probabilities"), ([0.1], 9, "expected 2..8")],
)
def test_a_world_that_cannot_be_is_refused(p, items, message):
    with pytest.raises(ValueError, match=message):
        exact_world(p, items)


def recast(*arguments: str) -> tuple[int, str, str]:
    """Run `recast exact` in this process; exit code, stdout, stderr."""
    done = command_line.recast("exact", *arguments)
    return done.returncode, done.stdout, done.stderr


def test_the_command_prints_json_with_stable_columns_and_draws(tmp_path):
    target = tmp_path / "exact.svg"
    code, out, err = recast(
        "--strategy", "grpo", "--strategy", "credit=rloo, repair=anchor", "--strategy",
        "rank_penalty", "--group", "3", "--format", "json", "--chart", str(target),
    )  # fmt: skip
    assert code == 0, err
    rows = json.loads(out)
    assert [row["strategy"] for row in rows] == [
        "grpo", "credit=rloo, repair=anchor", "rank_penalty",
    ]  # fmt: skip
    assert set(rows[0]) == {"strategy", "batch", "rollouts", "state", *NUMBERS, "note"}
    assert rows[0]["cos_own"] == pytest.approx(1)
    assert rows[2]["note"].startswith("not enumerable")
    assert rows[2]["norm"] is None
    assert target.read_text().startswith("<svg")


def test_the_table_names_what_it_leaves_out():
    code, out, _ = recast("--strategy", "rank_penalty", "--strategy", "recast", "--group", "2")
    assert code == 0
    assert "note: rank_penalty: not enumerable" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--group", "0"], "'--group': 0 is not in the range"),
        (["--p", "1.5"], "'--p': 1.5 is not in the range 0<x<1"),
        (["--p", "1e-30"], "hit probabilities in (0, 1)"),
        (["--items", "99"], "'--items': 99 is not in the range 2<=x<=8"),
        (["--strategy", "grop"], "did you mean 'grpo'?"),
        (["--chart", "exact.bmp"], "ends in .svg, .png, .html"),
        (["--chart", "nowhere/at/all.svg"], "a folder that exists"),
    ],
)
def test_a_wrong_option_is_one_line_and_exit_code_2(arguments, message):
    code, _, err = recast(*arguments)
    assert code == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_the_chart_has_a_question_and_every_enumerated_strategy():
    table = exact_table({n: STRATEGIES[n] for n in ("grpo", "sft", "rank_penalty")}, TREE, 2)
    spec = charts.exact_directions(table).to_dict()
    assert spec["title"].endswith("?")
    drawn = {row["strategy"] for data in spec["datasets"].values() for row in data}
    assert drawn == {"grpo", "sft"}
    assert isinstance(table, pl.DataFrame)

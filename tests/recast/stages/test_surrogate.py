"""Loss switches and supervised terms against loops, and what each is before the policy moves."""

from __future__ import annotations

import math
import statistics
from dataclasses import replace

import pytest
import torch

from recast import STRATEGIES, Evidence, RolloutGroups, Strategy, build_signal
from recast.loss import on_policy_weight
from recast.stage import bind
from recast.stages.supervised import SUPERVISED, Several, of_all_targets
from recast.stages.surrogate import CLIPS, RATIOS, Terms, surrogate

PROMPTS, ROWS, CODES, LOW, HIGH = 2, 4, 3, 0.2, 0.28


def terms(seed: int, moved: float = 1.0, ratio: str = "token") -> Terms:
    rng = torch.Generator().manual_seed(seed)
    shape = (PROMPTS, ROWS, CODES)
    old = -0.1 - 2 * torch.rand(shape, generator=rng, dtype=torch.float64)
    logp = (old + moved * (2 * torch.rand(shape, generator=rng).double() - 1)).clamp(max=-0.01)
    advantage = torch.randn(PROMPTS, ROWS, 1, generator=rng, dtype=torch.float64)
    leaf = (logp if moved else old.clone()).requires_grad_()
    return Terms(leaf, old, advantage, LOW, HIGH, bind("ratio", RATIOS, ratio))


def by_hand(name: str, t: Terms) -> list[list[list[tuple[float, float]]]]:
    """Value and slope by the code's own log-probability, each code by itself."""
    found = []
    for b in range(PROMPTS):
        found.append([])
        for u in range(ROWS):
            new, old = t.logp[b, u].tolist(), t.old_logp[b, u].tolist()
            a = t.advantage[b, u, 0].item()
            row = []
            for n, o in zip(new, old, strict=True):
                r = math.exp(n - o)
                clipped = min(max(r, 1 - LOW), 1 + HIGH)
                inside = r * a <= clipped * a
                ppo = (-min(r * a, clipped * a), -r * a if inside else 0.0)
                if name == "cispo":
                    row.append((-clipped * a * n, -clipped * a))
                elif name == "dual_clip":
                    capped = a < 0 and ppo[0] > -3 * a
                    row.append((-3 * a, 0.0) if capped else ppo)
                elif name == "sapo":
                    tau = 1.0 if a > 0 else 1.05
                    gate = 1 / (1 + math.exp(-tau * (r - 1)))
                    row.append((-a * gate * 4 / tau, -a * 4 * gate * (1 - gate) * r))
                elif name == "dppo":
                    gap = math.exp(n) - math.exp(o)
                    kept = gap <= HIGH if a > 0 else gap >= -LOW
                    row.append((-min(r, 20) * a * n, -min(r, 20) * a) if kept else (0.0, 0.0))
                elif name == "ecpo":
                    held = min(r, 1 + HIGH + 0.1)
                    clipped = min(max(held, 1 - LOW), 1 + HIGH)
                    inside = held * a <= clipped * a
                    row.append((-min(held * a, clipped * a), -held * a if inside else 0.0))
            found[-1].append(row)
    return found


@pytest.mark.parametrize("name", ["cispo", "dual_clip", "sapo", "dppo", "ecpo"])
@pytest.mark.parametrize("seed", range(6))
def test_a_loss_of_single_codes_and_its_slope_equal_the_loop(name, seed):
    t = terms(seed)
    value = surrogate(t, name)
    (slope,) = torch.autograd.grad(value.sum(), t.logp)
    expected = torch.tensor(by_hand(name, t), dtype=torch.float64)
    torch.testing.assert_close(value.detach(), expected[..., 0], rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(slope, expected[..., 1], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_the_losses_of_whole_rows_equal_the_loop(seed):
    t = terms(seed)
    gmpo, gbpo, real = (surrogate(t, name).detach() for name in ("gmpo", "gbpo", "real"))
    for b in range(PROMPTS):
        ups, downs = [], []
        for u in range(ROWS):
            new, old = t.logp[b, u].tolist(), t.old_logp[b, u].tolist()
            a = t.advantage[b, u, 0].item()
            change = [n - o for n, o in zip(new, old, strict=True)]
            kept = [min(c, HIGH) if a > 0 else max(c, -LOW) for c in change]
            expected = -a * math.exp(statistics.fmean(kept))
            assert gmpo[b, u].tolist() == pytest.approx([expected] * CODES)
            p, before = math.exp(sum(new)), math.exp(sum(old))
            below = max(before, p if a >= 0 else 1 - p)
            assert gbpo[b, u].sum().item() == pytest.approx(-a * p / below)
            (ups if a > 0 else downs).append(statistics.fmean(change) / 0.5)
        both = bool(ups and downs)
        whole = math.log1p(sum(map(math.exp, downs))) + math.log1p(sum(math.exp(-s) for s in ups))
        assert real[b].sum().item() == pytest.approx(whole if both else 0.0)


@pytest.mark.parametrize("ratio", sorted(RATIOS))
@pytest.mark.parametrize("name", sorted(CLIPS))
def test_before_the_policy_moves_a_loss_weighs_by_the_advantage_or_says_that_it_bends(name, ratio):
    t = terms(3, moved=0.0, ratio=ratio)
    (slope,) = torch.autograd.grad(surrogate(t, name).sum(), t.logp)
    plain = torch.allclose(slope, -t.advantage.expand_as(slope), rtol=1e-9, atol=1e-12)
    assert plain != CLIPS[name].bends


def test_a_miss_of_gbpo_weighs_as_in_binary_cross_entropy():
    logp = torch.tensor([[[-0.4, -0.6]]], dtype=torch.float64, requires_grad=True)
    t = Terms(
        logp,
        logp.detach(),
        -torch.ones(1, 1, 1).double(),
        LOW,
        HIGH,
        bind("ratio", RATIOS, "token"),
    )
    (slope,) = torch.autograd.grad(surrogate(t, "gbpo").sum(), logp)
    p = math.exp(-1.0)
    assert slope.flatten().tolist() == pytest.approx([p / (1 - p)] * 2)


def test_real_weighs_a_hit_by_the_number_of_hits_and_a_dead_group_not_at_all():
    reward = torch.tensor([[1.0, 1.0, 0.0, 0.0, 0.0], [0.0] * 5, [1.0] * 5], dtype=torch.float64)
    weight = on_policy_weight(
        STRATEGIES["real"], build_signal(STRATEGIES["real"], RolloutGroups.of(reward))
    )
    up, down = 2 / 3, -2 / 4
    assert weight[0].tolist() == pytest.approx([up, up, down, down, down])
    assert not weight[1:].any()
    plain = build_signal(Strategy(credit="sign"), RolloutGroups.of(reward))
    assert torch.equal(on_policy_weight(Strategy(credit="sign"), plain), plain.advantage)


SLOPES = {
    "gce": lambda p, each: [-(p**0.25)] * 3,
    "gce_code": lambda p, each: [-(c**0.7) for c in each],
    "dft": lambda p, each: [-c for c in each],
    "exact_pass_at_k": lambda p, each: [-8 * p * (1 - p) ** 7] * 3,
    "exact_maxrl": lambda p, each: [-(1 - (1 - p) ** 32)] * 3,
    "sft_pg": lambda p, each: [-1 - p] * 3,
    "sft_any": lambda p, each: [-1.0] * 3,
    "bear": lambda p, each: [-1.125] * 3,
}


@pytest.mark.parametrize("name", SLOPES)
@pytest.mark.parametrize("codes", [(-0.1, -2.0, -0.7), (-5.0, -4.0, -6.0), (0.0, 0.0, 0.0)])
def test_a_supervised_term_pulls_on_each_code_as_its_formula_says(name, codes):
    logp = torch.tensor([[codes]], dtype=torch.float64, requires_grad=True)
    value = bind("supervised", SUPERVISED, name)(Evidence(logp))
    assert value.shape == (1, 1)
    (slope,) = torch.autograd.grad(value.sum(), logp)
    each = [math.exp(c) for c in codes]
    assert slope.flatten().tolist() == pytest.approx(SLOPES[name](math.prod(each), each))


def test_a_prompt_with_several_targets_climbs_their_sum():
    logp = torch.tensor([[[-0.5, -0.5], [-1.0, -1.0], [0.0, 0.0]]], dtype=torch.float64)
    logp.requires_grad_()
    known = torch.tensor([[True, True, False]])
    value = bind("supervised", SUPERVISED, "sft_any")(
        Evidence(torch.zeros(1, 2).double(), others=Several(known, logp))
    )
    total = math.exp(-1) + math.exp(-2)
    assert value.item() == pytest.approx(-math.log(total))
    (slope,) = torch.autograd.grad(value.sum(), logp)
    assert slope[0, :, 0].tolist() == pytest.approx(
        [-math.exp(-1) / total, -math.exp(-2) / total, 0]
    )


def bear_by_hand(codes, ways, beam, weight=0.25, xi=2.75):
    total = 0.0
    for logp, way in zip(codes, ways, strict=True):
        live = sorted((w for w in way if w > -math.inf), reverse=True)
        cut = live[min(beam, len(live)) - 1]
        total -= (1 + weight / (1 + math.exp(-(logp - cut) / xi))) * logp
    return total


@pytest.mark.parametrize("beam", [1, 2, 3, 10])
def test_a_code_of_bear_weighs_more_the_further_it_is_inside_the_beam(beam):
    chance = torch.tensor([[0.7, 0.2, 0.1, 0.0], [0.6, 0.4, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]])
    way = chance.double().log()
    logp = torch.tensor([[0.1, 0.6, 1.0]], dtype=torch.float64).log().requires_grad_()
    value = bind("supervised", SUPERVISED, f"bear({beam})")(Evidence(logp, path_logp=way[None]))
    assert value.item() == pytest.approx(bear_by_hand(logp[0].tolist(), way.tolist(), beam))
    (slope,) = torch.autograd.grad(value.sum(), logp)
    cut = [
        sorted(row)[::-1][: min(beam, live)][-1]
        for row, live in zip(chance.tolist(), (3, 2, 1), strict=True)
    ]
    expected = [
        -1 - 0.25 / (1 + (c / p) ** (1 / 2.75)) for p, c in zip((0.1, 0.6, 1.0), cut, strict=True)
    ]
    assert slope[0].tolist() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", sorted(SUPERVISED))
def test_a_term_of_several_targets_is_the_mean_of_each_unless_its_row_says_otherwise(name):
    rng = torch.Generator().manual_seed(3)
    logp = -torch.rand(2, 3, 4, generator=rng).double() - 0.1
    known = torch.tensor([[True, True, False], [True, False, False]])
    ways = torch.log_softmax(torch.randn(2, 3, 4, 5, generator=rng).double(), -1)
    rows = {"rows_logp": -torch.rand(2, 6).double(), "rows_ref_logp": -torch.rand(2, 6).double()}
    common = {
        "hits": torch.tensor([0, 2]), "valid": torch.tensor([6, 6]), "progress": 0.5, **rows,
        "rows": torch.ones(2, 6, dtype=torch.bool), "hinted": torch.tensor([1, 2]),
    }  # fmt: skip

    def alone(m):
        return Evidence(logp[:, m], logp[:, m] / 2, path_logp=ways[:, m], **common)

    several = replace(alone(0), others=Several(known, logp, logp / 2, ways))
    term = bind("supervised", SUPERVISED, name)
    found = of_all_targets(term, several)
    if term.stage.whole:
        assert torch.equal(found, term(several))
        return
    for prompt in range(2):
        each = [term(alone(m))[prompt].item() for m in range(3) if known[prompt, m]]
        assert found[prompt].item() == pytest.approx(statistics.fmean(each))


def test_a_hint_teaches_the_codes_that_were_given_and_no_others():
    logp = torch.tensor([[[-1.0, -2.0, -4.0]] * 3], dtype=torch.float64, requires_grad=True)
    hinted = torch.tensor([[0, 1, 2]])
    value = bind("supervised", SUPERVISED, "hint")(Evidence(logp, hinted=hinted))
    assert value.tolist() == [[0.0, 1.0, 3.0]]
    (slope,) = torch.autograd.grad(value.sum(), logp)
    assert slope.tolist() == [[[0, 0, 0], [-1, 0, 0], [-1, -1, 0]]]

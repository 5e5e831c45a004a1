"""The headline metric: C(k), its area, what cannot game it, and that rates are chosen by it."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sweeping import TINY

from recast.metrics import PASSES, best_temperatures, pass_at_k, pass_curve
from sim.decoding.enumerate import enumerate_logits, item_logp, tree_entropy
from sim.evaluate import metrics, snapshot
from sim.general.optimizer import Adam
from sim.matched_temperature import MATCHING_USERS
from sim.policies.mlp import MLP
from sim.settings import Training
from sim.target_paths import target_paths
from sim.worlds.synthetic import SyntheticWorld, build_synthetic
from sim.worlds.world import World
from workbench.analysis.tuning import HEADLINE, mark_tuned, tried
from workbench.execution.runner import run_sweep
from workbench.store.runs import Store

USERS, ITEMS = 150, 128
HOW = Training(group=8, curve_prompts=0)


@pytest.fixture(scope="module")
def world() -> World:
    return build_synthetic(
        SyntheticWorld(
            items=24, codes=4, sft_prompts=512, train_prompts=256, validation_prompts=96,
            test_prompts=64,
        )
    )  # fmt: skip


class Flat:
    """A policy over a flat catalogue, by its logits `[P, N]`: what the metric asks of one."""

    def __init__(self, logits: np.ndarray, targets: np.ndarray) -> None:
        self.logits, self.targets = torch.from_numpy(logits), torch.from_numpy(targets)

    def hit_at(self, temperatures) -> torch.Tensor:
        rows = torch.arange(len(self.targets))
        return torch.stack(
            [torch.softmax(self.logits / t, -1)[rows, self.targets] for t in temperatures]
        )

    def curve(self) -> dict[str, float]:
        best = best_temperatures(self.hit_at)
        return {k: float(v.mean()) for k, v in pass_curve(self.hit_at(best)).items()}

    def entropy(self, temperature: float) -> float:
        p = torch.softmax(self.logits / temperature, -1)
        return float(-(p * p.clamp(min=1e-300).log()).sum(-1).mean())

    def matched(self, wanted: float) -> float:
        """Pass@1 where mean entropy is `wanted`, by bisection."""
        low, high = math.log(1e-4), math.log(1e6)
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (middle, high) if self.entropy(math.exp(middle)) < wanted else (low, middle)
        return float(self.hit_at([math.exp(low)]).mean())


@pytest.fixture(scope="module")
def tastes() -> tuple[np.ndarray, np.ndarray]:
    """True preferences of users (log-probabilities) and a target drawn from each."""
    rng = np.random.default_rng(3)
    logits = 2.5 * rng.standard_normal((USERS, ITEMS))
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    return np.log(p), np.array([rng.choice(ITEMS, p=row) for row in p])


def spiked(truth: np.ndarray, share: float) -> np.ndarray:
    """All on the best item but for a uniform tail."""
    p = np.full(truth.shape, (1 - share) / ITEMS)
    p[np.arange(len(p)), truth.argmax(1)] += share
    return np.log(p)


def test_a_spike_on_a_uniform_tail_wins_at_matched_entropy_and_loses_by_the_area(tastes):
    truth, targets = tastes
    honest = Flat(truth, targets)
    wanted = 0.93 * math.log(ITEMS)
    trick = Flat(spiked(truth, 0.2), targets)
    assert trick.matched(wanted) > 1.3 * honest.matched(wanted)
    assert trick.curve()["area"] < 0.8 * honest.curve()["area"]
    ours, theirs = honest.curve(), trick.curve()
    assert all(
        theirs[name] <= 1.0001 * ours[name] for name in (*(f"c_at_{k}" for k in PASSES), "area")
    )


def test_a_policy_that_is_sure_of_wrong_items_is_not_saved_by_any_temperature(tastes):
    truth, targets = tastes
    rng = np.random.default_rng(5)
    wrong = 40 * rng.standard_normal(truth.shape)
    assert Flat(truth + wrong, targets).curve()["area"] < 0.5 * Flat(truth, targets).curve()["area"]


@settings(max_examples=8, deadline=None)
@given(st.floats(1e-3, 1e3))
def test_sharpening_changes_neither_the_curve_nor_the_area(tastes, factor):
    truth, targets = tastes
    sharp = Flat(factor * truth, targets).curve()
    assert sharp == pytest.approx(Flat(truth, targets).curve(), rel=0.02)


@settings(max_examples=8, deadline=None)
@given(st.integers(-20, 20))
def test_sharpening_by_a_step_of_the_grid_changes_nothing_at_all(tastes, halves):
    truth, targets = tastes
    sharp = Flat(2.0 ** (halves / 2) * truth, targets)
    assert sharp.curve() == pytest.approx(Flat(truth, targets).curve(), rel=1e-5)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(PASSES))
def test_the_best_temperature_is_that_of_a_loop_over_all_that_may_be_looked_at(seed, k):
    rng = np.random.default_rng(seed)
    one = Flat(rng.lognormal(0, 2) * rng.standard_normal((9, 12)), rng.integers(0, 12, 9))
    (best,) = best_temperatures(one.hit_at, (k,))
    every = [2.0 ** (i / 2) for i in range(-40, 41)]
    value = [float(pass_at_k(one.hit_at([t])[0], k).mean()) for t in every]
    mine = float(pass_at_k(one.hit_at([best])[0], k).mean())
    inner = value[32:49]
    assert mine >= max(inner) * (1 - 2e-6)
    assert mine <= max(value) * (1 + 1e-12)


def test_where_every_temperature_is_as_good_the_best_is_one_and_nan_is_nobody():
    flat = Flat(np.zeros((5, 8)), np.arange(5))
    assert set(best_temperatures(flat.hit_at)) == {1.0}
    assert set(best_temperatures(lambda t: torch.full((len(t), 3), math.nan))) == {1.0}


def test_the_area_is_the_mean_of_the_curve_and_the_curve_rises_with_k(tastes):
    curve = Flat(*tastes).curve()
    values = [curve[f"c_at_{k}"] for k in PASSES]
    assert PASSES == (1, 2, 4, 8, 16, 32, 64)
    assert curve["area"] == pytest.approx(sum(values) / 7)
    assert values == sorted(values)


def walked(policy, params, world: World, prompts, temperature: float) -> torch.Tensor:
    """Hit probability of each prompt by enumerating every item."""
    logits = enumerate_logits(policy, params, world.catalogue, prompts.context)
    logp = item_logp(logits, temperature)
    return logp[prompts.target, torch.arange(len(prompts))].double().exp()


def test_a_snapshot_reads_the_curve_at_temperatures_of_all_validation_users(world):
    policy = MLP(8)
    params = policy.init(world.catalogue, 24, (4,), torch.float64)
    params["head"] = 3 * params["head"]
    found = snapshot(policy, params, world, HOW, dtype=torch.float64).found
    paths = target_paths(policy, params, world.catalogue, world.validation)
    best = best_temperatures(paths.hits)
    for split, prompts in (("test_all", world.test), ("validation", world.validation)):
        row = found[split][0]["all"]
        for k, temperature in zip(PASSES, best, strict=True):
            p = walked(policy, params, world, prompts, temperature)
            assert row[f"c_at_{k}"] == pytest.approx(pass_at_k(p, k).mean().item(), rel=1e-9)
            assert row[f"temperature_c_at_{k}"] == temperature
        assert row["area"] == pytest.approx(sum(row[f"c_at_{k}"] for k in PASSES) / 7)


def test_validation_counts_every_user_once(world):
    assert len(world.validation) > MATCHING_USERS
    policy = MLP(8)
    params = policy.init(world.catalogue, 24, (4,), torch.float64)
    now = snapshot(policy, params, world, HOW, dtype=torch.float64)
    found = now.found["validation"][0]["all"]
    plain = metrics(policy, params, world, world.validation, 8, now.temperature)[0]["all"]
    assert found["prompts"] == len(world.validation)
    p = walked(policy, params, world, world.validation, 1.0)
    assert found["pass_at_1"] == pytest.approx(p.mean().item(), rel=1e-9)
    for name in ("area", "c_at_1", "hr_at_10", "pass_at_1", "greedy"):
        assert found[name] == pytest.approx(plain[name], rel=1e-9)


def test_a_trained_policy_is_read_where_its_entropy_is_the_wanted_one(world):
    """Against bisection and enumeration: not at T = 1, which a sharper policy would win."""
    policy = MLP(8)
    params = policy.init(world.catalogue, 24, (4,), torch.float64)
    params["head"] = 6 * params["head"]
    context = world.validation.context[:MATCHING_USERS]
    logits = enumerate_logits(policy, params, world.catalogue, context)
    wanted = tree_entropy(logits, 2.5).mean().view(1)
    now = snapshot(policy, params, world, HOW, matching=wanted, dtype=torch.float64)
    assert now.temperature.item() == pytest.approx(2.5, rel=1e-3)
    row = now.found["test_all"][0]["all"]
    at = walked(policy, params, world, world.test, 2.5).mean().item()
    assert row["pass_at_1_matched"] == pytest.approx(at, rel=5e-3)
    assert abs(row["pass_at_1_matched"] - row["pass_at_1"]) > 0.02 * at


def test_rates_are_chosen_by_the_area_on_validation_from_end_to_end(tmp_path):
    """The means of every rate by hand, against what a sweep records and a table marks."""
    sweep = TINY.model_copy(update={"strategies": ("sft", "grpo"), "grid": {}})
    assert sweep.train.tune_metric == HEADLINE == "area"
    store = Store(tmp_path).prepare()
    run_sweep(sweep, store, executor="serial")
    frame = store.load()
    last = frame.filter(split="validation", slice="all", step=4)
    for name in sweep.strategies:
        means = {
            lr: np.mean(last.filter(strategy=name, lr=lr)["area"].to_numpy()) for lr in sweep.rates
        }
        marked = mark_tuned(frame).filter("tuned", strategy=name)
        assert marked["lr"].unique().to_list() == [max(means, key=means.__getitem__)]
        assert marked["tuned_by"].unique().to_list() == ["area"]


def rows(values: dict[float, float], **more: object) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {
                "run": f"{lr}", "cell": "c", "strategy": "grpo", "lr": lr, "split": "validation",
                "slice": "all", "step": 5, "area": value, "pass_at_1_matched": -value, **more,
            }
            for lr, value in values.items()
        ],
        infer_schema_length=None,
    )  # fmt: skip


def test_of_rates_that_are_equally_good_the_smaller_is_chosen():
    table = tried(rows({0.01: 0.5, 0.001: 0.5, 0.003: 0.4}), "area")
    assert table.filter("chosen")["lr"].to_list() == [0.001]


def test_rates_follow_the_metric_that_is_asked_for_and_entropy_is_never_one():
    frame = rows({0.01: 0.5, 0.001: 0.2}, entropy=1.0)
    assert mark_tuned(frame)["tuned_lr"].unique().to_list() == [0.01]
    assert mark_tuned(frame, "pass_at_1_matched")["tuned_lr"].unique().to_list() == [0.001]
    assert mark_tuned(frame, "entropy")["tuned_by"].unique().to_list() == ["area"]


def test_runs_that_did_not_measure_the_area_are_tuned_by_what_chose_their_rates_before():
    old = rows({0.01: 0.5, 0.001: 0.2}).drop("area").with_columns(cell=pl.lit("old"))
    alone = mark_tuned(old)
    assert alone["tuned_lr"].unique().to_list() == [0.001]
    both = mark_tuned(pl.concat([rows({0.01: 0.5, 0.001: 0.2}), old], how="diagonal"))
    chosen = {r["cell"]: (r["tuned_lr"], r["tuned_by"]) for r in both.iter_rows(named=True)}
    assert chosen == {"c": (0.01, "area"), "old": (0.001, "pass_at_1_matched")}


def test_the_optimizer_is_adam_with_its_published_constants_over_many_steps():
    """By the formulas of arXiv 1412.6980: a wrong beta2 shows once steps have differed in size."""
    rng = np.random.default_rng(0)
    params = {"w": torch.from_numpy(rng.standard_normal((1, 5)))}
    optimizer, rate = Adam(params), torch.tensor([0.01], dtype=torch.float64)
    w, mean, square = params["w"].numpy().copy(), np.zeros(5), np.zeros(5)
    for step in range(1, 31):
        grad = rng.standard_normal(5) * 10.0 ** rng.integers(-2, 3)
        params = optimizer.step(params, {"w": torch.from_numpy(grad).view(1, 5)}, rate)
        mean = 0.9 * mean + 0.1 * grad
        square = 0.999 * square + 0.001 * grad**2
        gap = np.sqrt(square / (1 - 0.999**step)) + 1e-8
        w = w - 0.01 * mean / (1 - 0.9**step) / gap
    assert params["w"].numpy() == pytest.approx(w, rel=1e-10)

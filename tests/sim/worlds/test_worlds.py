"""Worlds, ceilings, tasks, beams in training, calibrated starts."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import pytest
import torch
from command_line import recast
from hypothesis import given, settings
from hypothesis import strategies as st

from recast import STRATEGIES
from sim.evaluate import metrics
from sim.general.runs import Runs
from sim.general.step import collect
from sim.policies.mlp import MLP
from sim.seeds import stream
from sim.settings import Training
from sim.training.calibrate import calibrate, not_held_out
from sim.training.trainer import train
from sim.training.warm_start import StartRequest, all_zero_share, warm_start
from sim.worlds.ceilings import ceilings, recall_share
from sim.worlds.synthetic import SyntheticWorld, build_synthetic, strengths
from sim.worlds.tasks import TASKS
from sim.worlds.world import Prompts, World, with_popularity
from workbench.execution.tasks import build_world
from workbench.spec.experiment import load_experiment, preset_names

SMALL = SyntheticWorld(
    items=40, codes=5, sft_prompts=512, train_prompts=256, validation_prompts=64, test_prompts=200
)


@pytest.fixture(scope="module")
def mixed() -> World:
    return build_synthetic(replace(SMALL, task="mixed"))


@st.composite
def preferences(draw) -> list[float]:
    weight = draw(st.lists(st.floats(0.01, 1), min_size=2, max_size=4))
    return [w / sum(weight) for w in weight]


@settings(max_examples=40, deadline=None)
@given(preferences(), st.integers(1, 4))
def test_ceilings_equal_a_sum_over_every_possible_set_of_targets(p, draws):
    k = 2
    hit_of, recall_of, every = dict.fromkeys(range(len(p)), 0.0), {}, []
    for taken in itertools.product(range(len(p)), repeat=draws):
        weight = torch.tensor([p[i] for i in taken], dtype=torch.float64).prod().item()
        every.append((weight, set(taken)))
        for item in set(taken):
            hit_of[item] += weight
            recall_of[item] = recall_of.get(item, 0.0) + weight / len(set(taken))
    lists = list(itertools.combinations(range(len(p)), k))
    best_hit = max(sum(w for w, t in every if t & set(chosen)) for chosen in lists)
    best_recall = max(sum(w * len(t & set(chosen)) / len(t) for w, t in every) for chosen in lists)
    truth = torch.tensor([p], dtype=torch.float64)
    found = ceilings(truth, torch.tensor([draws]), k)
    assert found["ceiling_pass_at_1"] == pytest.approx(max(hit_of.values()))
    assert found["ceiling_hr_at_2"] == pytest.approx(best_hit)
    assert found["ceiling_recall_at_2"] == pytest.approx(best_recall)
    assert found["truth_pass_at_1"] == pytest.approx(sum(p[i] * q for i, q in hit_of.items()))
    share = recall_share(truth, truth, draws)[0].tolist()
    assert share == pytest.approx([recall_of.get(i, 0.0) for i in range(len(p))])


def test_the_best_possible_policy_reaches_the_ceilings_and_no_policy_exceeds_them(mixed):
    world = replace(mixed, test=replace(mixed.test, slices={}))
    bounds = world.ceilings
    truth, draws = mixed.test.preference, mixed.test.draws.unsqueeze(-1)
    hit = 1 - (1 - truth) ** draws
    best = hit.gather(-1, truth.argmax(-1, keepdim=True)).mean().item()
    assert best == pytest.approx(bounds["ceiling_pass_at_1"])
    assert bounds["truth_pass_at_1"] < bounds["ceiling_pass_at_1"] < bounds["ceiling_hr_at_10"]
    assert bounds["ceiling_recall_at_10"] < bounds["ceiling_hr_at_10"]


def test_tasks_differ_in_targets_labels_and_context(mixed):
    test = mixed.test
    count = (test.all_targets >= 0).sum(-1)
    for name, task in TASKS.items():
        mine = test.slices[name]
        assert int(count[mine].max()) == task.draws
        assert int(count[mine].min()) >= 1
    allowed = (test.preference > 0).sum(-1)
    assert bool((allowed[test.slices["label"]] < 40).all())
    assert bool((allowed[~test.slices["label"]] == 40).all())
    assert torch.equal(test.target, test.all_targets[:, 0])
    reachable = test.preference.gather(-1, test.all_targets.clamp(min=0)) > 0
    assert bool((reachable | (test.all_targets < 0)).all())
    assert set(mixed.ceilings_by_slice()) == {"all", *TASKS}


def test_targets_of_a_prompt_are_distinct(mixed):
    for row in mixed.train.all_targets.tolist():
        known = [t for t in row if t >= 0]
        assert len(known) == len(set(known))


@pytest.mark.parametrize("name", TASKS)
def test_every_task_alone_is_a_world_with_ceilings(name):
    world = build_synthetic(replace(SMALL, task=name))
    assert 0 < world.ceilings["ceiling_pass_at_1"] < 1


def test_an_unknown_task_is_refused():
    with pytest.raises(ValueError, match="expected plain, mixed or short_video"):
        build_synthetic(replace(SMALL, task="films"))


def test_noise_lowers_the_ceiling_and_the_plain_world_is_what_it_was():
    quiet, loud = (build_synthetic(replace(SMALL, noise=n)).ceilings for n in (0.05, 2.0))
    assert quiet["ceiling_pass_at_1"] > 0.6 > 0.15 > loud["ceiling_pass_at_1"]


def test_drift_turns_the_test_users_tastes_and_leaves_the_log_alone():
    still, moved = build_synthetic(SMALL), build_synthetic(replace(SMALL, drift=0.8))
    assert torch.equal(still.sft.target, moved.sft.target)
    assert torch.equal(still.test.context, moved.test.context)
    gap = (still.test.preference - moved.test.preference).abs().sum(-1).mean() / 2
    assert gap > 0.3


def test_popular_items_make_up_half_of_the_log():
    log = Prompts(torch.zeros(10, 1), torch.tensor([0] * 4 + [1] * 3 + [2, 3, 4]))
    asked = Prompts(torch.zeros(4, 1), torch.tensor([0, 1, 2, 5]))
    slices = with_popularity(asked, log).slices
    assert slices["popular"].tolist() == [True, True, False, False]
    assert slices["rare"].tolist() == [False, False, True, True]


def test_a_hit_is_any_target_in_rollouts_and_in_evaluation(mixed):
    policy = MLP(8)
    params = policy.init(mixed.catalogue, mixed.sft.context.shape[1], (0,), torch.float64)
    how = Training(steps=1, batch=64, group=16)
    found = collect(Runs(policy, mixed, STRATEGIES["grpo"], params, (0,), how), params, 0, {})
    groups, targets = found.signal.groups, found.batch.targets
    loop = [
        [float(item in known) for item in items]
        for items, known in zip(groups.item[0].tolist(), targets[0].tolist(), strict=True)
    ]
    assert groups.reward[0].tolist() == loop
    assert groups.reward.sum() > 0
    scored = metrics(policy, params, mixed, mixed.test, 16, torch.ones(1))[0]
    mass = []
    logp = policy_logp(policy, params, mixed)
    for row, known in zip(logp.exp().tolist(), mixed.test.all_targets.tolist(), strict=True):
        mass.append(sum(row[t] for t in known if t >= 0))
    assert scored["all"]["pass_at_1"] == pytest.approx(sum(mass) / len(mass))
    video = mixed.test.slices["short_video"].tolist()
    mine = [m for m, v in zip(mass, video, strict=True) if v]
    assert scored["short_video"]["pass_at_1"] == pytest.approx(sum(mine) / len(mine))


def policy_logp(policy, params, world) -> torch.Tensor:
    from sim.decoding.sample import path_logp_each

    encoded = policy.encode(params, world.test.context.unsqueeze(0))
    items = torch.arange(world.catalogue.items).expand(1, len(world.test), -1)
    return path_logp_each(policy, params, world.catalogue, encoded, items).sum(-1)[0]


def test_the_anchor_is_any_of_the_targets_by_the_runs_own_stream(mixed):
    policy = MLP(8)
    params = policy.init(mixed.catalogue, mixed.sft.context.shape[1], (0, 1), torch.float64)
    how = Training(steps=1, batch=200, group=4)
    both = collect(
        Runs(policy, mixed, STRATEGIES["repair_only"], params, (0, 1), how), params, 0, {}
    )
    one = {k: v[1:] for k, v in params.items()}
    alone = collect(Runs(policy, mixed, STRATEGIES["repair_only"], one, (1,), how), one, 0, {})
    assert torch.equal(both.batch.target[1], alone.batch.target[0])
    known = both.batch.targets >= 0
    chosen = (both.batch.targets == both.batch.target.unsqueeze(-1)) & known
    assert bool(chosen.any(-1).all())
    several = known.sum(-1) > 1
    assert not bool((both.batch.target == both.batch.targets[..., 0])[several].all())


def test_a_beam_set_holds_distinct_items_best_first_and_one_hit_at_most():
    world = build_synthetic(SMALL)
    policy = MLP(8)
    params = policy.init(world.catalogue, 24, (0,), torch.float64)
    how = Training(steps=1, batch=32, group=8, rollouts="beam")
    groups = collect(
        Runs(policy, world, STRATEGIES["grpo"], params, (0,), how), params, 0, {}
    ).signal.groups
    assert all(len(set(items)) == 8 for items in groups.item[0].tolist())
    assert groups.beam_rank[0, 0].tolist() == list(range(8))
    assert int(groups.reward.sum(-1).max()) <= 1


def test_a_beam_wider_than_the_catalogue_is_padded_with_invalid_slots():
    world = build_synthetic(replace(SMALL, items=6, codes=2))
    policy = MLP(8)
    params = policy.init(world.catalogue, 24, (0,), torch.float64)
    how = Training(steps=2, batch=8, group=9, rollouts="beam", evaluations=1)
    runs = Runs(policy, world, STRATEGIES["grpo"], params, (0,), how)
    rows = train(runs, torch.tensor([0.01]))[0].rows
    assert rows[-1]["rollouts"] == 2 * 8 * 6


def test_the_baseline_takes_32_optimizer_steps_per_phase_and_recast_two():
    world = build_synthetic(SMALL)
    policy = MLP(8)
    params = policy.init(world.catalogue, 24, (0,), torch.float64)
    how = Training(steps=1, mini_batch=32, rollouts="beam", kl_weight=0.001, evaluations=1)

    def steps(name: str) -> object:
        runs = Runs(policy, world, STRATEGIES[name], params, (0,), how)
        return train(runs, torch.tensor([0.001]))[0].rows[-1]["optimizer_steps"]

    assert (steps("grpo"), steps("recast")) == (32, 2)


@pytest.mark.parametrize(("task", "temperature"), [("plain", 1.0), ("mixed", 1.0), ("plain", 1.5)])
def test_the_start_meets_the_request_within_a_point_on_prompts_the_solver_never_saw(
    task, temperature
):
    world = build_synthetic(
        SyntheticWorld(
            items=256, codes=8, task=task, sft_prompts=4096, train_prompts=2048, test_prompts=8192
        )
    )
    warm = warm_start(MLP(16), world, (0,), StartRequest(0.7, 16, temperature))
    share = all_zero_share(MLP(16), warm.params, world, world.test, 16, temperature)
    assert abs(share.item() - 0.7) < 0.01


def test_a_warm_start_does_not_depend_on_the_seeds_beside_it():
    world = build_synthetic(SMALL)
    ask = StartRequest(0.35, 16, batch=64, lr=0.003)
    both = warm_start(MLP(8), world, (0, 1, 2), ask)
    alone = warm_start(MLP(8), world, (2,), ask)
    for name, value in alone.params.items():
        assert torch.equal(value[0], both.params[name][2])


def test_heterogeneity_scales_tastes_and_leaves_the_world_as_it_was_at_zero():
    z = torch.from_numpy(stream(1, "z").standard_normal((20_000, 12)))
    equal = z * strengths(z, -1.0, stream(0, "s"))
    assert torch.allclose(equal.norm(dim=-1), torch.tensor(12.0, dtype=torch.float64).sqrt())
    unequal = strengths(z, 0.8, stream(0, "s"))
    assert unequal.square().mean().item() == pytest.approx(1.0, rel=0.2)
    assert unequal.log().std().item() == pytest.approx(0.8, rel=0.02)
    plain, same = build_synthetic(SMALL), build_synthetic(replace(SMALL, heterogeneity=0.0))
    assert torch.equal(plain.test.preference, same.test.preference)
    peaks = [
        build_synthetic(replace(SMALL, heterogeneity=h)).test.preference.amax(-1).std().item()
        for h in (-1.0, 0.0, 1.0)
    ]
    assert peaks[0] < peaks[1] < peaks[2]


@pytest.mark.drill
def test_heterogeneity_reaches_a_triple_that_no_temperature_does():
    recipe = SyntheticWorld(
        items=256, codes=8, sft_prompts=4096, train_prompts=2048, test_prompts=8192
    )
    ask = StartRequest(0.7, 16, max_steps=400)
    world = build_synthetic(recipe)
    with pytest.raises(ValueError, match=r"out of reach: the nearest was 0\.1\d+ at temperature"):
        calibrate(MLP(16), world, ask, several=0.135)
    found = calibrate(
        MLP(16),
        world,
        ask,
        several=0.135,
        worlds=lambda h: build_synthetic(replace(recipe, heterogeneity=h)),
    )
    assert found.heterogeneity > 0.3
    for shares in (found.solved, found.held_out):
        assert shares["all_zero"] == pytest.approx(0.7, abs=0.01)
        assert shares["multi_hit"] + shares["saturated"] == pytest.approx(0.135, abs=0.01)


def test_a_start_that_does_not_hold_on_other_prompts_is_refused():
    """The test users' tastes have turned, so what the solver met is not what they see."""
    world = build_synthetic(
        SyntheticWorld(
            items=256, codes=8, drift=1.0, sft_prompts=4096, train_prompts=2048, test_prompts=4096
        )
    )
    found = calibrate(MLP(16), world, StartRequest(0.7, 16), several=None)
    assert found.solved["all_zero"] == pytest.approx(0.7, abs=0.002)
    reason = not_held_out(found, 0.7, None)
    assert reason
    assert "but held-out prompts show 0.9" in reason


def test_a_triple_is_met_within_a_point_or_refused_with_the_nearest():
    world = build_synthetic(
        SyntheticWorld(items=256, codes=8, sft_prompts=4096, train_prompts=2048, test_prompts=4096)
    )
    ask = StartRequest(0.7, 16, max_steps=250)
    found = calibrate(MLP(16), world, ask, several=0.085)
    assert found.temperature != 1.0
    for shares in (found.solved, found.held_out):
        assert shares["all_zero"] == pytest.approx(0.7, abs=0.01)
        assert shares["multi_hit"] + shares["saturated"] == pytest.approx(0.085, abs=0.01)
    with pytest.raises(ValueError, match=r"out of reach: the nearest was 0\.\d+ at temperature"):
        calibrate(MLP(16), world, ask, several=0.25)
    with pytest.raises(ValueError, match="no single-hit groups"):
        calibrate(MLP(16), world, ask, several=0.4)


@pytest.mark.parametrize("name", preset_names())
def test_every_packaged_preset_is_a_valid_experiment_with_a_world(name):
    spec = load_experiment(name, {"world.items": 64})
    if spec.world.kind == "synthetic":
        assert build_world(spec).ceilings


def test_a_mixed_world_run_reports_per_task_with_ceilings(tmp_path):
    spec = tmp_path / "mixed.toml"
    spec.write_text(
        'strategies = ["grpo", "recast"]\nseeds = 1\n'
        '[world]\ntask = "mixed"\nitems = 40\ntest_prompts = 64\nvalidation_prompts = 16\n'
        "[policy]\nwidth = 8\n[start]\nall_zero = 0.4\n"
        "[train]\nsteps = 2\nbatch = 8\ngroup = 8\nevaluations = 1\nlr = [0.01]\n"
    )
    base = ["run", "--preset", str(spec), "--store", str(tmp_path / "runs")]
    done = recast(*base, "--popularity", "--format", "json")
    assert done.returncode == 0, done.stderr
    slices = {row["slice"] for row in json.loads(done.stdout)}
    assert slices == {"all", "popular", "rare", *TASKS}
    text = recast(*base).stdout
    bounds = text[text.index("What no policy can exceed") :]
    assert "ceiling_recall_at_10" in bounds
    assert {line.split()[0] for line in bounds.splitlines() if line.split()} >= {"all", *TASKS}


def test_calibrate_prints_what_it_achieved_and_refuses_in_one_line(tmp_path):
    spec = tmp_path / "tiny.toml"
    spec.write_text(
        'strategies = ["grpo"]\n[world]\nitems = 64\nseed = 2\n[policy]\nwidth = 8\n'
        "[train]\ngroup = 8\n"
    )
    base = ["calibrate", "--preset", str(spec), "--all-zero", "0.6"]
    done = recast(*base, "--format", "json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert [row["prompts"] for row in rows] == ["solver", "held_out"]
    assert rows[0]["all_zero"] == pytest.approx(0.6, abs=0.01)
    refused = recast(*base, "--two-or-more", "0.5")
    assert refused.returncode == 2
    assert "no single-hit groups" in refused.stderr

"""The compiled kernel beside the torch path: its own functions, and what chooses it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit
from streamlit.testing.v1 import AppTest
from test_choose import SEEDS, check_one_step, made_world, rough

from recast import STRATEGIES
from sim.policies.protocol import MLP
from sim.shortcuts import compiled, kernels
from sim.shortcuts import walk as lazy
from sim.shortcuts.choose import FastPath
from sim.training.optimizer import Adam
from sim.training.step import Training
from workbench.execution import forecast as estimate
from workbench.execution.runner import Outcome, record_sweep
from workbench.spec.experiment import SpecError, load_experiment
from workbench.spec.sweep import Sweep
from workbench.store.runs import Store


@njit
def each(function, x, out):
    for i in range(len(x)):
        out[i] = function(x[i])
    return out


@njit
def exp_of(x):
    return kernels._exp(x)


@njit
def tanh_of(x):
    return kernels._tanh(x, np.float64(1))


@njit
def tanh_of_single(x):
    return kernels._tanh(x, np.float32(1))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exp_is_exact_to_a_few_last_bits_and_tanh_to_a_few_of_1(dtype):
    eps = np.finfo(dtype).eps
    least = -80 if dtype is np.float32 else -700
    x = np.concatenate([-np.geomspace(1e-12, -least, 4000), [0.0]]).astype(dtype)
    np.testing.assert_allclose(each(exp_of, x, x.copy()), np.exp(x), rtol=4 * eps, atol=0)
    x = np.concatenate([x, -x])
    tanh = tanh_of_single if dtype is np.float32 else tanh_of
    np.testing.assert_allclose(each(tanh, x, x.copy()), np.tanh(x), rtol=0, atol=4 * eps)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exp_is_nothing_where_there_is_nothing_and_nan_stays_nan(dtype):
    x = np.array([-np.inf, -1e30, -1e4, np.nan, 0.0], dtype)
    assert each(exp_of, x, x.copy()).tolist()[:3] == [0, 0, 0]
    assert np.isnan(each(exp_of, x, x.copy())[3])
    assert each(exp_of, x, x.copy())[4] == 1


def test_where_no_folder_can_hold_compiled_code_it_is_compiled_anew(monkeypatch):
    monkeypatch.setattr("numba.core.caching.CacheImpl._locator_classes", [])
    with pytest.raises(RuntimeError, match="cannot cache"):
        njit(cache=True)(added_one)
    assert kernels.compiled(added_one)(1) == 2


def added_one(x):
    return x + 1


@settings(max_examples=50, deadline=None)
@given(
    weight=st.lists(st.sampled_from([0.0, 1e-300, 0.3, 0.5, 1.0]), min_size=1, max_size=9),
    u=st.lists(st.sampled_from([0.0, 0.25, 0.5, np.nextafter(1.0, 0.0)]), max_size=20),
)
def test_a_draw_inverts_the_cumulative_weights_and_never_takes_what_has_none(weight, u):
    weight, u = np.array([0.5, *weight]), np.array(u)
    found, cdf = np.empty(len(weight), np.int64), np.empty(len(weight))
    kernels._draw(u, weight, cdf, found)
    wanted = np.searchsorted(weight.cumsum(), u * weight.cumsum()[-1], side="right")
    assert found.tolist() == np.bincount(wanted, minlength=len(weight)).tolist()
    assert found.sum() == len(u)
    assert not found[weight == 0].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_adam_takes_the_steps_of_torch(dtype):
    rng = torch.Generator().manual_seed(0)
    params = {"a": torch.randn(3, 5, 2, generator=rng).to(dtype), "b": torch.ones(3, 1).to(dtype)}
    rate = torch.tensor([1e-3, 0.5, 0.0], dtype=dtype)
    adams = [Adam(params), Adam(params, "compiled")]
    found = [params, params]
    for size in (1.0, 1.0, 1e-9, 1.0, 0.0):
        grads = {
            name: (size * torch.randn(v.shape, generator=rng)).to(dtype)
            for name, v in params.items()
        }
        grads["a"][0, 2] = 0
        found = [adam.step(p, grads, rate) for adam, p in zip(adams, found, strict=True)]
    for name in params:
        bits = 20 * torch.finfo(dtype).eps
        torch.testing.assert_close(found[1][name], found[0][name], rtol=bits, atol=bits)
    assert torch.equal(found[1]["a"][2], params["a"][2])
    assert torch.equal(found[1]["a"][0, 2], params["a"][0, 2])


@pytest.mark.parametrize("size", [1e-9, 1e-7])
def test_adam_divides_by_eps_where_gradients_are_tiny(size):
    params = {"a": torch.zeros(1, 4, dtype=torch.float64)}
    grads = {"a": torch.full((1, 4), size, dtype=torch.float64)}
    found = Adam(params, "compiled").step(params, grads, torch.ones(1, dtype=torch.float64))["a"]
    wanted = torch.full_like(found, -size / (size + 1e-8))
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=0)


def test_parameters_may_lie_in_memory_in_any_order():
    policy, world, how = MLP(5), made_world(), Training(batch=5, group=9, kernel="compiled")
    straight = rough(policy, world.catalogue, SEEDS)
    turned = {k: v.transpose(-1, -2).contiguous().transpose(-1, -2) for k, v in straight.items()}
    assert not turned["head"].is_contiguous()
    rate, found = torch.full((2,), 0.1, dtype=torch.float64), []
    for params in (straight, turned):
        fast = FastPath.of(policy, world, STRATEGIES["grpo"], params, SEEDS, how)
        grads = fast.step(params, 0).grads
        found.append((grads, Adam(params, "compiled").step(params, grads, rate)))
    for key in straight:
        assert torch.equal(found[0][0][key], found[1][0][key])
        assert torch.equal(found[0][1][key], found[1][1][key])
    assert bool(found[0][0]["head"].any())


@pytest.mark.parametrize("name", ["recast", "grpo", "reinforce", "target_power"])
@pytest.mark.parametrize("width", [9000, 20_000])
def test_products_in_pieces_have_the_gradient_of_the_whole(name, width):
    """Four rows at a time, and two; 5 prompts."""
    policy, world, strategy = MLP(width), made_world(), STRATEGIES[name]
    params = rough(policy, world.catalogue, SEEDS)
    how = Training(steps=9, batch=5, group=9, kernel="compiled")
    fast = FastPath.of(policy, world, strategy, params, SEEDS, how)
    check_one_step(fast, policy, params, params, world, strategy, how, 0)


@pytest.mark.parametrize("name", ["recast", "grpo", "repair_only", "sft"])
def test_in_float32_the_gradient_is_that_of_float64_up_to_rounding(name):
    policy, world, strategy = MLP(7), made_world(), STRATEGIES[name]
    single = {k: v.float() for k, v in rough(policy, world.catalogue, SEEDS).items()}
    params = {k: v.double() for k, v in single.items()}
    how = Training(steps=9, batch=5, group=9, kernel="compiled")
    fast = FastPath.of(policy, world, strategy, single, SEEDS, how)

    class Single:
        """Steps from float32 parameters, with a gradient to compare in float64."""

        plan, _rngs = fast.plan, fast._rngs

        def step(self, _, step, *, name_items):
            update = fast.step(single, step, name_items=name_items)
            for key, value in update.grads.items():
                assert value.dtype == torch.float32
                update.grads[key] = value.double()
            return update

    check_one_step(Single(), policy, params, params, world, strategy, how, 0, within=1e-6)


def test_a_policy_that_it_does_not_serve_takes_the_torch_path():
    world = made_world()
    how = Training(batch=5, group=9, kernel="compiled")
    for policy, mine in ((MLP(40_000), compiled), (MLP(40_001), lazy)):
        params = policy.init(world.catalogue, 3, (0,), torch.float64)
        fast = FastPath.of(policy, world, STRATEGIES["grpo"], params, (0,), how)
        assert fast is not None
        assert (fast._score, fast._descend) == (mine.score_path, mine.descend)


@pytest.mark.parametrize(
    "changes", [{"policy.kind": "tabular"}, {"train.updates": "expected", "strategies": ["grpo"]}]
)
def test_a_specification_that_it_cannot_serve_is_refused(changes):
    with pytest.raises(SpecError, match=r"^train\.kernel: compiled serves sampled .*"):
        load_experiment("quick", {"train.kernel": "compiled", **changes})


def test_without_numba_a_hint_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(SpecError, match=r"pip install 'recast-workbench\[fast\]', or use torch$"):
        load_experiment("quick", {"train.kernel": "compiled"})
    load_experiment("quick", {"train.kernel": "torch"})


def test_a_stored_sweep_that_cannot_be_resumed_without_numba_says_so(monkeypatch, tmp_path):
    spec = load_experiment("quick", {"train.kernel": "compiled"})
    store = Store(tmp_path).prepare()
    record_sweep(
        Sweep.model_validate(spec.model_dump()), store, Outcome(["a"], failures={"a": "lost"})
    )
    monkeypatch.setenv("RECAST_STORE", str(tmp_path))
    monkeypatch.setitem(sys.modules, "numba", None)
    page = Path(__file__).parents[3] / "workbench" / "pages" / "sweeps.py"
    app = AppTest.from_file(str(page), default_timeout=60).run()
    app.button(key="resume-recorded").click().run()
    assert not app.exception
    assert "pip install" in app.error[0].value


def test_nothing_but_the_kernel_needs_numba():
    """A run in a process that cannot import numba."""
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "trained\n"), done.stderr


WITHOUT = """
import sys
sys.modules["numba"] = sys.modules["llvmlite"] = None
import torch
from recast import STRATEGIES
from sim.policies.protocol import MLP
from sim.training.trainer import Training, train
from sim.worlds.world import SyntheticWorld, build_synthetic
import workbench.cli, workbench.execution.tasks
recipe = SyntheticWorld(items=20, codes=4, features=5, sft_prompts=20, train_prompts=20,
                        validation_prompts=4, test_prompts=4)
world, how = build_synthetic(recipe), Training(steps=2, batch=4, group=4, evaluations=1)
start = MLP(4).init(world.catalogue, 5, (0,), torch.float64)
train(MLP(4), world, start, STRATEGIES["grpo"], (0,), torch.tensor([.01]), how)
print("trained")
"""


CHECKED = """
import numpy as np, torch
from recast import STRATEGIES
from test_choose import SEEDS, made_world, rough
from sim.shortcuts.choose import FastPath
from sim.policies.protocol import MLP
from sim.training.step import Training
for codes in ([(0, 0, 0), (0, 1, 2), (0, 2, 1), (1, 1, 1), (2, 0, 0)], [(0,), (2,)], [(1, 1)]):
    world, policy = made_world(codes, 3), MLP(5)
    for dtype in (torch.float32, torch.float64):
        params = {k: v.to(dtype) for k, v in rough(policy, world.catalogue, SEEDS).items()}
        for name in ("grpo", "recast", "repair_only", "reinforce", "sft"):
            for group in (1, 2, 300):
                how = Training(batch=4, group=group, kernel="compiled", temperature=0.7)
                fast = FastPath.of(policy, world, STRATEGIES[name], params, SEEDS, how)
                for spoilt in (0.0, float("nan"), float("inf")):
                    bad = {k: v.clone() for k, v in params.items()}
                    bad["head"][0] += spoilt
                    fast.step(bad, 1, name_items=True)
print("inside")
"""


@pytest.mark.drill
def test_no_index_of_the_machine_code_leaves_its_array(tmp_path):
    """With numba's own checks on, and nothing taken from the cache of unchecked code."""
    environment = {
        **os.environ,
        "NUMBA_BOUNDSCHECK": "1",
        "NUMBA_CACHE_DIR": str(tmp_path),
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[3]), str(Path(__file__).parent)]),
    }
    done = subprocess.run(
        [sys.executable, "-c", CHECKED], capture_output=True, text=True, env=environment
    )
    assert (done.returncode, done.stdout) == (0, "inside\n"), done.stderr


def test_a_dry_run_leaves_out_what_compiling_takes(monkeypatch):
    clock = [0.0]
    trained = []

    def make_runs(task, report):
        """100 s for the first task; then 5 s for the evaluation and 2 s for each step."""
        clock[0] += 100.0 if not trained else 5.0 + 2.0 * task.experiment.train.steps
        trained.append(task)

    monkeypatch.setattr(estimate, "make_runs", make_runs)
    monkeypatch.setattr(estimate.time, "process_time", lambda: clock[0])
    changes = {"train.kernel": "compiled", "train.steps": 7, "train.evaluations": 1}
    spec = load_experiment("quick", changes | {"world.items": 30, "world.validation_prompts": 8})
    part = Sweep.model_validate(spec.model_dump()).runs()[:2]
    assert estimate._training(part) == pytest.approx((7 * 2.0 + 5.0) / 2)


def test_the_kernel_is_part_of_a_runs_name_and_not_of_its_starts():
    torch_run, compiled_run = (
        Sweep.model_validate(load_experiment("quick", {"train.kernel": k}).model_dump()).runs()[0]
        for k in ("torch", "compiled")
    )
    assert torch_run.key != compiled_run.key
    assert torch_run.start == compiled_run.start
    assert compiled_run.config["train_spec"]["kernel"] == "compiled"

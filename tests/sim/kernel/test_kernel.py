"""The kernel's own functions, what chooses it, and how its code is kept."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numba import njit
from one_step import one_step
from test_fast_path import SEEDS, check_one_step, made_world, rough

from recast import STRATEGIES
from sim.general.optimizer import Adam
from sim.general.runs import Runs
from sim.kernel import machine_code
from sim.kernel.shapes import Flat
from sim.kernel.step import adam
from sim.policies.mlp import MLP
from sim.policies.transformer import Transformer
from sim.settings import Training
from sim.shortcuts.fast_path import FastPath
from sim.training import learner
from workbench.spec.experiment import load_experiment
from workbench.spec.sweep import Sweep

ROOT = Path(__file__).parents[3]


@njit
def one_adam(flat, rate, steps):
    return adam(flat, rate, steps)


def test_rows_that_no_gradient_has_reached_cost_adam_nothing_and_change_no_bit():
    rng = np.random.default_rng(0)
    value, reached = rng.standard_normal(3 + 5 * 4 + 2), np.zeros(5, np.uint8)
    whole, rows = (Flat(value.copy(), *np.zeros((3, len(value)))) for _ in range(2))
    rows = rows._replace(first=3, width=4, reached=reached)
    for step, row in enumerate((1, 3, 3, 0)):
        grad = rng.standard_normal(len(value))
        reached[row] = 1
        grad[3:23].reshape(5, 4)[reached == 0] = 0
        for flat in (whole, rows):
            flat.grad[:] = grad
            assert one_adam(flat, 0.1, step + 1)
        for left, right in zip(whole[:4], rows[:4], strict=True):
            assert left.tobytes() == right.tobytes()
    rows.grad[3 + 4 * 2] = np.nan
    assert one_adam(rows, 0.1, 5), "row 2 was not reached, and is not looked at"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_adam_takes_the_steps_of_torch(dtype):
    rng = torch.Generator().manual_seed(0)
    value = torch.randn(40, generator=rng).to(dtype)
    for rate in (1e-3, 0.5, 0.0):
        params, theirs = {"a": value[None]}, Adam({"a": value[None]})
        flat = Flat(value.numpy().copy(), *(np.zeros_like(value.numpy()) for _ in range(3)))
        for step, size in enumerate((1.0, 1.0, 1e-9, 1.0, 0.0)):
            grad = (size * torch.randn(40, generator=rng)).to(dtype)
            grad[:4] = 0
            params = theirs.step(params, {"a": grad[None]}, torch.tensor([rate], dtype=dtype))
            flat.grad[:] = grad.numpy()
            assert one_adam(flat, rate, step + 1)
            assert not flat.grad.any()
        bits = 20 * torch.finfo(dtype).eps
        torch.testing.assert_close(
            torch.from_numpy(flat.value), params["a"][0], rtol=bits, atol=bits
        )
        assert flat.value[:4].tolist() == value[:4].tolist()


@pytest.mark.parametrize("size", [1e-9, 1e-7])
def test_adam_divides_by_eps_where_gradients_are_tiny(size):
    flat = Flat(np.zeros(4), np.full(4, size), np.zeros(4), np.zeros(4))
    assert one_adam(flat, 1.0, 1)
    np.testing.assert_allclose(flat.value, -size / (size + 1e-8), rtol=1e-12, atol=0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_a_step_that_would_not_be_sound_changes_no_parameter(bad):
    flat = Flat(np.arange(9.0), np.ones(9), np.zeros(9), np.zeros(9))
    rate = 1e300 if bad == 1e30 else 0.1
    flat.grad[4] = bad
    assert not one_adam(flat, rate, 1)
    assert flat.value.tolist() == list(range(9))


@pytest.mark.parametrize("name", ["grpo", "recast", "reinforce", "target_power"])
def test_steps_in_one_call_are_the_steps_of_many(name):
    world, policy, strategy = made_world(), MLP(5), STRATEGIES[name]
    start, how = rough(policy, world.catalogue, SEEDS), Training(steps=6, batch=5, group=9)
    rates, found = torch.tensor([0.01, 0.02]), []
    for most in (6, 1, 4):
        fast, step = FastPath.of(Runs(policy, world, strategy, start, SEEDS, how)), 0
        while step < 6:
            step += fast.advance(rates, step, min(most, 6 - step))
        found.append((fast.params, [fast.counted(run) for run in range(2)]))
    for params, counted in found[1:]:
        assert counted == found[0][1]
        for key in start:
            assert torch.equal(params[key], found[0][0][key])
            assert not torch.equal(params[key], start[key])


def test_parameters_may_lie_in_memory_in_any_order():
    policy, world, how = MLP(5), made_world(), Training(batch=5, group=9)
    straight = rough(policy, world.catalogue, SEEDS)
    turned = {k: v.transpose(-1, -2).contiguous().transpose(-1, -2) for k, v in straight.items()}
    assert not turned["head"].is_contiguous()
    found = [
        one_step(
            FastPath.of(Runs(policy, world, STRATEGIES["grpo"], params, SEEDS, how)), params, 0
        ).grads
        for params in (straight, turned)
    ]
    for key in straight:
        assert torch.equal(found[0][key], found[1][key])
    assert bool(found[0]["head"].any())


@pytest.mark.parametrize("name", ["recast", "grpo", "reinforce", "target_power"])
@pytest.mark.parametrize("width", [9000, 20_000, 40_001])
def test_products_in_pieces_have_the_gradient_of_the_whole(name, width):
    """Four rows at a time, two, and by plain loops; 5 prompts."""
    policy, world, strategy = MLP(width), made_world(), STRATEGIES[name]
    params = rough(policy, world.catalogue, SEEDS)
    how = Training(steps=9, batch=5, group=9)
    fast = FastPath.of(Runs(policy, world, strategy, params, SEEDS, how))
    check_one_step(fast, policy, params, params, world, strategy, how, 0)


@pytest.mark.parametrize("name", ["recast", "grpo", "repair_only", "sft"])
def test_in_float32_the_gradient_is_that_of_float64_up_to_rounding(name):
    policy, world, strategy = MLP(7), made_world(), STRATEGIES[name]
    single = {k: v.float() for k, v in rough(policy, world.catalogue, SEEDS).items()}
    params = {k: v.double() for k, v in single.items()}
    how = Training(steps=9, batch=5, group=9)
    fast = FastPath.of(Runs(policy, world, strategy, single, SEEDS, how))

    def from_single(fast, _, step):
        """A step from float32 parameters, with a gradient to compare in float64."""
        update = one_step(fast, single, step)
        for key, value in update.grads.items():
            assert value.dtype == torch.float32
            update.grads[key] = value.double()
        return update

    check_one_step(
        fast, policy, params, params, world, strategy, how, 0, within=1e-6, one=from_single
    )


def test_what_it_does_not_serve_takes_the_general_path():
    world, how = made_world(), Training(batch=5, group=9)
    for policy, served in ((MLP(6), True), (Transformer(6), False)):
        params = policy.init(world.catalogue, 3, (0,), torch.float64)
        fast = learner.fast_path(Runs(policy, world, STRATEGIES["grpo"], params, (0,), how))
        assert (fast is not None) == served
    params = MLP(6).init(world.catalogue, 3, (0,), torch.float64)
    for changed in (Training(mini_batch=5), Training(rollouts="beam"), Training(kernel="general")):
        assert FastPath.of(Runs(MLP(6), world, STRATEGIES["grpo"], params, (0,), changed)) is None


def test_without_numba_a_run_is_named_after_the_general_path_and_that_is_said(monkeypatch):
    learner._say.cache_clear()
    monkeypatch.setattr(learner, "why_not_compiled", lambda: "No module named 'numba'")
    with pytest.warns(RuntimeWarning, match="numba cannot be used .* the general path trains"):
        spec = load_experiment("quick", {})
    assert spec.train.kernel == "general"
    assert load_experiment("quick", {"train.kernel": "general"}).train.kernel == "general"


def test_where_numba_cannot_be_imported_the_general_path_trains_and_says_so_once():
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "trained\n"), done.stderr
    assert done.stderr.count("the general path trains") == 1


WITHOUT = """
import sys
sys.modules["numba"] = sys.modules["llvmlite"] = None
import torch
from recast import STRATEGIES
from sim.general.runs import Runs
from sim.policies.mlp import MLP
from sim.settings import Training
from sim.training.trainer import train
from sim.worlds.synthetic import SyntheticWorld, build_synthetic
import workbench.cli, workbench.execution.tasks
recipe = SyntheticWorld(items=20, codes=4, features=5, sft_prompts=20, train_prompts=20,
                        validation_prompts=4, test_prompts=4)
world, how = build_synthetic(recipe), Training(steps=2, batch=4, group=4, evaluations=1)
for _ in range(2):
    start = MLP(4).init(world.catalogue, 5, (0,), torch.float64)
    runs = Runs(MLP(4), world, STRATEGIES["grpo"], start, (0,), how)
    train(runs, torch.tensor([.01]))
print("trained")
"""


def test_one_process_compiles_and_says_so_and_others_say_nothing(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(machine_code, "FOLDER", tmp_path)
    with pytest.raises(KeyError), machine_code.first_call("float64"):
        raise KeyError
    with machine_code.first_call("float64"):
        assert not (tmp_path / "float64.compiled").exists()
    assert capsys.readouterr().err.count("compiling the kernel (float64), once") == 2
    with machine_code.first_call("float64"):
        pass
    assert capsys.readouterr().err == ""


def test_a_second_process_waits_for_what_the_first_compiles(monkeypatch, tmp_path):
    asks = """
import pathlib, sys
from sim.kernel import machine_code
machine_code.FOLDER = pathlib.Path(sys.argv[1])
with machine_code.first_call("float64"):
    print("went on")
"""
    command = [sys.executable, "-c", asks, str(tmp_path)]
    monkeypatch.setattr(machine_code, "FOLDER", tmp_path)
    with machine_code.first_call("float64"):
        second = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        while not waits(second.pid):
            assert second.poll() is None, "it went on while another process compiled"
    said, warned = second.communicate()
    assert (second.returncode, said, warned) == (0, b"went on\n", b"")


def waits(process: int) -> bool:
    """Whether the system says that a process waits for a lock."""
    lines = Path("/proc/locks").read_text().splitlines()
    return any(line.split()[1] == "->" and line.split()[5] == str(process) for line in lines)


def test_a_folder_that_cannot_be_written_or_is_not_ours_alone_is_passed_over(monkeypatch, tmp_path):
    closed, shared = tmp_path / "file", tmp_path / "shared"
    closed.touch()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(closed))
    monkeypatch.setenv("HOME", str(closed))
    monkeypatch.setattr(machine_code.tempfile, "gettempdir", lambda: str(tmp_path / "temporary"))
    found = machine_code.cache_folder()
    assert found is not None
    assert found.is_relative_to(tmp_path / "temporary")
    found.chmod(0o777)
    assert machine_code.cache_folder() is None
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(shared))
    assert machine_code.cache_folder() == next((shared / "recast-workbench").iterdir())


CHECKED = """
import numpy as np, torch
from recast import STRATEGIES
from one_step import one_step
from test_fast_path import SEEDS, made_world, rough
from sim.general.runs import Runs
from sim.shortcuts.fast_path import FastPath
from sim.policies.linear import LogLinear
from sim.policies.linear import Tabular
from sim.policies.mlp import MLP
from sim.settings import Training
for codes in ([(0, 0, 0), (0, 1, 2), (0, 2, 1), (1, 1, 1), (2, 0, 0)], [(0,), (2,)], [(1, 1)]):
    world = made_world(codes, 3)
    for dtype in (torch.float32, torch.float64):
        for policy in (MLP(5), LogLinear(), Tabular()):
            params = {k: v.to(dtype) for k, v in rough(policy, world.catalogue, SEEDS).items()}
            for name in ("grpo", "recast", "repair_only", "reinforce", "sft"):
                for group, kl in ((1, 0.0), (2, 0.1), (300, 0.0)):
                    how = Training(batch=4, group=group, temperature=0.7, kl_weight=kl)
                    fast = FastPath.of(Runs(policy, world, STRATEGIES[name], params, SEEDS, how))
                    for spoilt in (0.0, float("nan"), float("inf")):
                        bad = {k: v.clone() for k, v in params.items()}
                        next(iter(bad.values()))[0] += spoilt
                        one_step(fast, bad, 1)
                    fast.advance(torch.full((2,), 0.1), 0, 5)
print("inside")
"""


@pytest.mark.drill
def test_no_index_of_the_machine_code_leaves_its_array(tmp_path):
    """With numba's own checks on, and nothing taken from the cache of unchecked code."""
    environment = {
        **os.environ,
        "NUMBA_BOUNDSCHECK": "1",
        "NUMBA_CACHE_DIR": str(tmp_path),
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[3]), *sys.path]),
    }
    done = subprocess.run(
        [sys.executable, "-c", CHECKED], capture_output=True, text=True, env=environment
    )
    assert (done.returncode, done.stdout) == (0, "inside\n"), done.stderr


def test_the_kernel_is_part_of_a_runs_name_and_not_of_its_starts():
    general, compiled = (
        Sweep.model_validate(load_experiment("quick", {"train.kernel": k}).model_dump()).runs()[0]
        for k in ("general", "compiled")
    )
    assert general.key != compiled.key
    assert general.start == compiled.start
    assert compiled.config["train_spec"]["kernel"] == "compiled"

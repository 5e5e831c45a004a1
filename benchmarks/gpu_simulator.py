"""The simulator's general path, every rollout through autograd, on a GPU and on a CPU, beside the
CPU's fast path and its compiled kernel: milliseconds of wall time per run-step.

The simulator computes on CPUs; here its world and its draws are put on the device, which is how the
question "would a GPU help it?" is answered.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

import sim.general.rollouts
import sim.general.step
from benchmarks.contenders import general, ours, warm, world_of
from recast.lm.device import place, synchronise
from sim.policies.mlp import MLP
from sim.settings import Training

Emit = Callable[[dict[str, Any]], None]
RUNS, STEPS = 8, 2


def part(device: str, size: str, emit: Emit) -> None:
    """Steps of GRPO and ReCast at two group widths; one row per path and width."""
    where = place(device).device
    world, policy = world_of(1024 if size == "full" else 64), MLP(64)
    start = warm(world, policy, RUNS, torch.float32, 0.85 if size == "full" else 0.5)
    torch.set_num_threads(1)
    cpu = torch.device("cpu")
    for group in (32, 512) if size == "full" else (4,):
        how = Training(steps=1000, group=group)
        for name in ("grpo", "recast"):
            with on(where):
                here, params = moved(world, where), moved(start, where)
                go = general(here, policy, params, name, how, STEPS, tree=False)
                emit(_row(f"general path, {where.type}", name, group, go, where))
            slow = general(world, policy, start, name, how, STEPS, tree=False)
            emit(_row("general path, one CPU core", name, group, slow, cpu))
            fast = ours(world, policy, start, name, how, STEPS)
            emit(_row("fast path, one CPU core", name, group, fast, cpu))
            with contextlib.suppress(ImportError, ValueError):
                kernel = how.model_copy(update={"kernel": "compiled"})
                compiled = ours(world, policy, start, name, kernel, STEPS)
                emit(_row("compiled kernel, one CPU core", name, group, compiled, cpu))


def _row(
    label: str, name: str, group: int, go: Callable[[], None], where: torch.device
) -> dict[str, Any]:
    go()
    best = float("inf")
    end = time.perf_counter() + 0.7
    while time.perf_counter() < end:
        synchronise(where)
        began = time.perf_counter()
        go()
        synchronise(where)
        best = min(best, time.perf_counter() - began)
    milliseconds = 1e3 * best / (RUNS * STEPS)
    return {"path": label, "strategy": name, "group": group, "ms_per_run_step": milliseconds}


def moved(value: Any, where: torch.device) -> Any:
    """The same value with every tensor in it on the device."""
    if isinstance(value, Tensor):
        return value.to(where)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kept = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.init}
        return dataclasses.replace(value, **{k: moved(v, where) for k, v in kept.items()})
    if isinstance(value, dict):
        return {k: moved(v, where) for k, v in value.items()}
    if isinstance(value, tuple):
        return tuple(moved(v, where) for v in value)
    return value


@contextlib.contextmanager
def on(where: torch.device) -> Iterator[None]:
    """The general path's draws and new tensors on the device."""
    places = (
        (sim.general.step, "uniforms"),
        (sim.general.rollouts, "uniforms"),
        (sim.general.rollouts, "minibatch"),
    )
    drawn = [(module, name, getattr(module, name)) for module, name in places]

    def there(call: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda *a, **k: call(*a, **k).to(where)

    try:
        for module, name, call in drawn:
            setattr(module, name, there(call))
        with where:
            yield
    finally:
        for module, name, call in drawn:
            setattr(module, name, call)

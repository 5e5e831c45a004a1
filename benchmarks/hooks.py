"""The hooks of docs/adapters.md inside the sources of OpenRLHF, slime, NeMo-RL and prime-rl.

    python -m benchmarks.hooks [--openrlhf FOLDER] [--slime FOLDER] [--nemo-rl FOLDER] \\
        [--prime-rl FOLDER]

FOLDER holds a trainer's source: a package that was installed without what it depends on, or a
checkout. The trainers do not import on a CPU; so the functions that a hook replaces, is called by
or writes to are taken out of their files and run: three groups of three go in, and what the trainer
would hand to its loss comes out.
"""

from __future__ import annotations

import argparse
import ast
import asyncio
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch

from benchmarks.measure import table
from recast.adapters.flat import flat_advantages

DOCS = Path(__file__).parents[1] / "docs" / "adapters.md"
HITS = [1.0, 0, 0, 1, 1, 0, 0, 0, 0]
GROUP = 3
WANTED = flat_advantages("maxrl", torch.tensor(HITS), [i // GROUP for i in range(len(HITS))])
LENGTH = 2
"""Tokens of each response."""


def block(trainer: str) -> str:
    """The code that docs/adapters.md has for a trainer."""
    text = DOCS.read_text(encoding="utf-8").partition(f"\n**{trainer}** ")[2]
    found = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    if found is None:
        raise SystemExit(f"{DOCS}: no code for {trainer}")
    return found[1]


def hook(trainer: str, modules: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Run a hook's code where these modules can be imported; what it defines."""
    for name, content in modules.items():
        parts = name.split(".")
        for end in range(1, len(parts) + 1):
            inner = ".".join(parts[:end])
            made = sys.modules.setdefault(inner, ModuleType(inner))
            if end > 1:
                setattr(sys.modules[".".join(parts[: end - 1])], parts[end - 1], made)
        vars(sys.modules[name]).update(content)
    found = {"torch": torch, "flat_advantages": flat_advantages}
    exec(block(trainer), found)
    return found


def taken(file: Path, name: str, known: dict[str, Any]) -> Any:
    """A function, class or method (`Class.method`) of a file, compiled by itself among `known`."""
    node: ast.AST = ast.parse(file.read_text(encoding="utf-8"))
    for part in name.split("."):
        inside = [n for n in ast.iter_child_nodes(node) if getattr(n, "name", None) == part]
        if not inside:
            raise LookupError(f"{file.name} has no {name}")
        node = inside[-1]
    node.decorator_list = []
    lazy = ast.parse("from __future__ import annotations")
    tree = ast.Module([*lazy.body, node], [])
    scope = dict(known)
    exec(compile(tree, str(file), "exec"), scope)
    return scope[name.rpartition(".")[2]]


def openrlhf(folder: Path) -> torch.Tensor:
    """`RemoteExperienceMaker.compute_advantages_and_returns`, with two micro-batches."""
    file = folder / "openrlhf/trainer/ppo_utils/experience_maker.py"
    utils = folder / "openrlhf/models/utils.py"
    import itertools

    known: dict[str, Any] = {"torch": torch, "itertools": itertools}
    known["compute_reward"] = taken(utils, "compute_reward", known)
    known["apply_length_penalties"] = lambda experiences, args: None  # none is asked for

    class Maker:
        compute_advantages_and_returns = taken(
            file, "RemoteExperienceMaker.compute_advantages_and_returns", known
        )
        get_cumulative_returns = taken(file, "RemoteExperienceMaker.get_cumulative_returns", known)

    args = SimpleNamespace(
        rollout=SimpleNamespace(n_samples_per_prompt=GROUP),
        algo=SimpleNamespace(advantage=SimpleNamespace(estimator="rloo", gamma=1.0)),
        reward=SimpleNamespace(clip_range=None),
    )
    maker: Any = Maker()
    maker.strategy, maker.kl_ctl = SimpleNamespace(args=args), SimpleNamespace(value=0.0)
    maker.advantage_estimator = "rloo"
    made = {"RemoteExperienceMaker": Maker}
    hook("OpenRLHF", {"openrlhf.trainer.ppo_utils.experience_maker": made})
    # Micro-batches are cut by length, so that a group may be spread over them.
    parts = [[8, 0, 3, 5, 1], [2, 4, 6, 7]]
    experiences = [
        SimpleNamespace(
            index=part,
            rewards=torch.tensor([HITS[i] for i in part]),
            action_mask=torch.ones(len(part), LENGTH, dtype=torch.bool),
            kl=torch.zeros(len(part), LENGTH),
            info={},
        )
        for part in parts
    ]
    found = torch.zeros(len(HITS), LENGTH)
    for part, done in zip(parts, maker.compute_advantages_and_returns(experiences), strict=True):
        found[part] = done.advantages
    return found


def slime(folder: Path) -> torch.Tensor:
    """`RolloutManager._post_process_rewards`, then `get_grpo_returns` as the loss calls it."""
    value = taken(folder / "slime/utils/types.py", "Sample.get_reward_value", {})
    names = (folder / "slime/utils/types.py").read_text(encoding="utf-8")
    assert "group_index: int | None" in names, "Sample has no group_index"

    class Sample(SimpleNamespace):
        get_reward_value = value

    given = hook("slime", {})["advantages"]
    args = SimpleNamespace(reward_key=None)
    manager = SimpleNamespace(args=args, custom_reward_post_process_func=given)
    post = taken(
        folder / "slime/ray/rollout.py", "RolloutManager._post_process_rewards", {"torch": torch}
    )
    samples = [Sample(reward=hit, group_index=7 - i // GROUP) for i, hit in enumerate(HITS)]
    raw, rewards = post(manager, samples)
    assert raw == HITS
    returns = taken(folder / "slime/utils/ppo_utils.py", "get_grpo_returns", {"torch": torch})
    kl = [torch.zeros(LENGTH) for _ in samples]
    return torch.stack(returns(torch.tensor(rewards, dtype=torch.float32), kl))


def nemo_rl(folder: Path) -> torch.Tensor:
    """The hook's estimator, made and called by the words of `grpo_train`; as
    `GRPOAdvantageEstimator` answers, in shape."""
    place = folder / "nemo_rl/algorithms"
    tree = ast.parse((place / "grpo.py").read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    asked = [c for c in calls if getattr(c.func, "attr", "") == "compute_advantage"]
    made = [c for c in calls if getattr(c.func, "id", "") == "_create_advantage_estimator"]
    assert made, "grpo.py does not call _create_advantage_estimator"
    assert asked, "grpo.py does not call compute_advantage"
    hook("NeMo-RL", {"nemo_rl.algorithms.grpo": {}})
    create = sys.modules["nemo_rl.algorithms.grpo"]._create_advantage_estimator
    tokens = torch.tensor([[5, i // GROUP, 0] for i in range(len(HITS))])
    mask = torch.ones(len(HITS), LENGTH)
    given = {"prompt_ids": tokens, "rewards": torch.tensor(HITS), "mask": mask}
    found = []
    for call in asked:
        assert not call.args, "compute_advantage is called without names"
        words = {str(word.arg): None for word in call.keywords} | given
        assert set(given) <= {str(word.arg) for word in call.keywords}
        found.append(create(*[{} for _ in made[0].args]).compute_advantage(**words))
    assert all(torch.equal(one, found[0]) for one in found)
    own = taken(
        place / "advantage_estimator.py",
        "GRPOAdvantageEstimator.compute_advantage",
        {
            "torch": torch,
            "calculate_baseline_and_std_per_prompt": lambda ids, rewards, valid, **_: (
                torch.zeros_like(rewards),
                torch.ones_like(rewards),
            ),
        },
    )
    plain = SimpleNamespace(use_leave_one_out_baseline=False, normalize_rewards=False)
    assert own(plain, **given).shape == found[0].shape
    return found[0]


def prime_rl(folder: Path) -> torch.Tensor:
    """`build_algorithm` and `Algorithm.finalize_group`, with `Rollout.assign_advantages`."""
    place = folder / "src/prime_rl/orchestrator"
    nothing = {"stamp_advantages": lambda _: None, "stamp_loss_routing": lambda *_: None}
    algorithm = taken(place / "algo/base.py", "Algorithm", nothing)
    assign = taken(place / "types.py", "Rollout.assign_advantages", {})

    class Rollout(SimpleNamespace):
        assign_advantages = assign

    classes: dict[str, Any] = {}
    hook(
        "prime-rl",
        {
            "prime_rl.orchestrator.algo": {"ALGORITHM_CLASSES": classes},
            "prime_rl.orchestrator.algo.base": {"Algorithm": algorithm},
        },
    )
    build = taken(place / "algo/__init__.py", "build_algorithm", {"ALGORITHM_CLASSES": classes})
    made = build(SimpleNamespace(type="grpo", action_loss_type="rl"), None)
    tokens = {"token_ids": [4, 5, 6], "mask": [False, True, True]}  # a prompt's token before two
    found = []
    for b in range(len(HITS) // GROUP):
        rollouts = [
            Rollout(reward=hit, samples=[SimpleNamespace(**tokens)])
            for hit in HITS[b * GROUP : (b + 1) * GROUP]
        ]
        asyncio.run(made.finalize_group(rollouts))
        found += [rollout.advantages for rollout in rollouts]
    assert all(row[0] == 0 for row in found)
    return torch.tensor(found)[:, 1:]


TRAINERS: dict[str, Callable[[Path], torch.Tensor]] = {
    "openrlhf": openrlhf,
    "slime": slime,
    "nemo-rl": nemo_rl,
    "prime-rl": prime_rl,
}
"""Each returns the advantages of every token `[9, 2]`."""


def checked(trainer: str, folder: Path) -> str:
    """What came of a trainer's hook: advantages as this library has them, or what is wrong."""
    try:
        found = TRAINERS[trainer](folder)
    except Exception as problem:  # noqa: BLE001  # whatever a release does is its row
        return f"{type(problem).__name__}: {problem}"[:120]
    wanted = WANTED.unsqueeze(1).expand(-1, LENGTH).to(found.dtype)
    same = found.shape == wanted.shape and torch.allclose(found, wanted, atol=1e-6)
    return ", ".join(f"{a:.2f}" for a in found[:, 0].tolist()) if same else f"not ours: {found}"


def main() -> None:
    reader = argparse.ArgumentParser()
    for name in TRAINERS:
        reader.add_argument(f"--{name}", type=Path, metavar="FOLDER")
    asked = vars(reader.parse_args())
    places = {name: asked[name.replace("-", "_")] for name in TRAINERS}
    rows = [
        {"trainer": name, "advantages of maxrl on hits 100, 110, 000": checked(name, folder)}
        for name, folder in places.items()
        if folder is not None
    ]
    table("Hooks inside the trainers' own functions", rows)


if __name__ == "__main__":
    main()

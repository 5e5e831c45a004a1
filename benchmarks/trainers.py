"""The adapters inside several releases of TRL and verl: a row per release, with what it computed.

    python -m benchmarks.trainers [PYTHON ...] [--verl PYTHON[+FOLDER] ...]

Each PYTHON is the interpreter of an environment with its own trl, or verl; FOLDER holds another
release of verl, which is imported in its place. In TRL two steps of each case run on a tiny model,
in verl an estimator is called through verl's registry and a step of the trainer with repair runs on
one: the same numbers in every row say that the adapters do the same. `make trainers` builds the
environments and prints the tables of docs/adapters.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.measure import table

ROOT = Path(__file__).parents[1]
CASES = {
    "grpo, down the trie": ("grpo_trl", False),
    "recast, down the trie": ("recast", False),
    "grpo_sft, down the trie": ("grpo_sft", False),
    "recast, TRL generates": ("recast", True),
    "target_power, no rollouts": ("target_power", True),
}
ESTIMATE = "recast.maxrl on hits 100, 110, 000"
STEPS = ("recast", "grpo_sft")
"""Strategies of a step of the trainer with repair in verl, from rollouts to the optimizer."""
STEP = f"trainer with repair: {', '.join(STEPS)}"
VERL = ("transformers", "estimators", ESTIMATE, STEP)


def inside_trl() -> dict[str, Any]:
    """The cases with the trl at hand."""
    sys.path.insert(0, str(ROOT / "tests" / "lm"))
    import transformers
    import trl

    found: dict[str, Any] = {"trl": trl.__version__, "transformers": transformers.__version__}
    for label, (strategy, free) in CASES.items():
        try:
            import trl_case

            with tempfile.TemporaryDirectory() as folder:
                it = trl_case.trainer(Path(folder), strategy, free, loss_type="dapo", max_steps=2)
                it.train()
                norms = [row["grad_norm"] for row in it.state.log_history if "grad_norm" in row]
            found[label] = ", ".join(f"{norm:.4f}" for norm in norms)
        except Exception as problem:  # noqa: BLE001  # whatever a release does is its row
            said = f"{type(problem).__name__}: {str(problem).splitlines()[0][:60]}"
            # Without triton trl 1.15 has None where its fused log-softmax would be.
            found[label] = "needs triton" if said.endswith("no attribute 'apply'") else said
    return found


def inside_verl() -> dict[str, Any]:
    """Registered estimators, the advantages of one on three prompts, and the norm of the gradient
    at a step of the trainer with repair, with the verl at hand."""
    import torch
    import transformers
    import verl

    found: dict[str, Any] = {"verl": verl.__version__, "transformers": transformers.__version__}
    hits = torch.tensor([1.0, 0, 0, 1, 1, 0, 0, 0, 0])
    try:
        from verl.trainer.ppo.core_algos import get_adv_estimator_fn

        from recast.adapters.verl import ESTIMATORS

        advantages, _ = get_adv_estimator_fn("recast.maxrl")(
            token_level_rewards=torch.stack([torch.zeros(9), hits], 1),
            response_mask=torch.ones(9, 2),
            index=[prompt for prompt in range(3) for _ in range(3)],
            config=None,
        )
        found["estimators"] = len(ESTIMATORS)
        found[ESTIMATE] = ", ".join(f"{value:.2f}" for value in advantages[:, 0].tolist())
    except ImportError as problem:
        said = str(problem).partition("; install")[0]
        found["estimators"], found[ESTIMATE] = 0, said.partition("serve it ")[2] or said
    try:
        from recast.adapters import verl_trainer  # noqa: F401  # refuses what it cannot serve

        sys.path.insert(0, str(ROOT / "tests" / "parity"))
        import verl_case

        norms = []
        for strategy in STEPS:
            trainer = verl_case.prepared(strategy, setattr)
            verl_case.step(trainer)
            norms.append(trainer.actor_rollout_wg.norm)
        found[STEP] = ", ".join(f"{norm:.4f}" for norm in norms)
    except ImportError as problem:
        said = str(problem).partition(", found")[0]
        found[STEP] = f"no: {said.rpartition('works with ')[2]} alone"
    return found


def asked(python: str, trainer: str) -> dict[str, Any]:
    """The row of one interpreter (and folder), or the last thing that it said."""
    python, _, folder = python.partition("+")
    path = os.pathsep.join(filter(None, (folder, str(ROOT))))
    command = [python, "-W", "ignore", "-m", "benchmarks.trainers", "--inside", trainer]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    last = (done.stdout.strip().splitlines() or ["{}"])[-1]
    said = (done.stderr.strip().splitlines() or ["no output"])[-1]
    row: dict[str, Any] = json.loads(last) if last.startswith(f'{{"{trainer}"') else {}
    return row or {trainer: said[:120]}


def main() -> None:
    reader = argparse.ArgumentParser()
    reader.add_argument("trl", nargs="*", help="interpreters with trl")
    reader.add_argument("--verl", nargs="*", default=(), help="interpreters with verl, and folders")
    reader.add_argument("--inside", choices=["trl", "verl"], help=argparse.SUPPRESS)
    words = reader.parse_args()
    if words.inside:
        print(json.dumps(inside_trl() if words.inside == "trl" else inside_verl()))
        return
    for trainer, listed, columns, title in (
        ("trl", words.trl, ("transformers", *CASES), "Norm of the gradient at two steps in TRL"),
        ("verl", words.verl, VERL, "Estimators of verl, and the trainer with repair"),
    ):
        rows = [asked(python, trainer) for python in listed]
        if rows:
            table(title, [{n: row.get(n, "-") for n in (trainer, *columns)} for row in rows])


if __name__ == "__main__":
    main()

"""Logs of other trainers, and hand-written ones, as strangers bring them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from foreign_logs.cases import Truth, answer_of, batches, case, grpo, jsonl, rng, told


@case
def ten_for_a_verified_answer(folder: Path) -> Truth:
    """open-instruct: 10 for a verified answer, 1 more for its format; lists of tokens."""
    r, truth = rng("ten"), Truth(clean=True)
    for step, place, _, _, hits in batches(r, mean=lambda t: 0.3 + 0.3 * t):
        total = [10.0 * hit + (r.random() < 0.6) for hit in hits]
        rows = [
            {"step": step, "sample_idx": g, "prompt_idx": place, "prompt_tokens": [5, step, place],
             "response_tokens": [r.randrange(99) for _ in range(r.randint(20, 90))],
             "reward": value, "advantage": advantage, "finish_reason": "stop", "dataset": "math",
             "ground_truth": "7", "request_info": {}, "logprobs": [-0.2] * 20}
            for g, (value, advantage) in enumerate(zip(total, grpo(total, 1e-8), strict=True))
        ]  # fmt: skip
        jsonl(folder / "log" / "run_rollouts_000000.jsonl", rows)
        for hit, value in zip(hits, total, strict=True):
            truth.add((step, place), hit, value)
    return truth


@case
def leave_one_out_that_divides_by_nothing(folder: Path) -> Truth:
    """NeMo-RL: a lone hit has a deviation of 0 among the others."""
    r, truth = rng("loo"), Truth(must=("absurd_advantages",), never=("groups_mixed",))
    for step, place, _, _, hits in batches(r, mean=0.2):
        rows = []
        value = np.array(hits, float)
        for g, hit in enumerate(hits):
            rest = np.delete(value, g)
            a = float((value[g] - rest.mean()) / (rest.std(ddof=1) + 1e-6))
            ids = [1, 2, 3, step, place, *(r.randrange(9) for _ in range(4))]
            rows.append(
                {"content": [f"prompt {told(r, 3, 15)}"], "rewards": [float(hit)],
                 "input_lengths": [9], "token_ids": [ids], "token_loss_mask": [[0] * 5 + [1] * 4],
                 "sample_loss_mask": [1.0], "advantages": [[0.0] * 5 + [a] * 4],
                 "generation_logprobs": [[0.0] * 5 + [-0.3] * 4],
                 "prev_logprobs": [[0.0] * 5 + [-0.31] * 4], "idx": [g]}
            )  # fmt: skip
            truth.add((step, place), hit, float(hit))
        jsonl(folder / "log" / "exp_001" / f"train_data_step{step}.jsonl", rows)
    return truth


@case
def samples_of_old_weights(folder: Path) -> Truth:
    """AReaL: folders of versions; sampled eight versions before."""
    r, truth = rng("old"), Truth(must=("stale_rollouts",), never=("groups_mixed", "group_of_one"))
    for step, place, prompt, answer, hits in batches(r, mean=0.4):
        rows = [
            {"task_id": step * 10 + place, "sample_idx": g, "seqlen": 90, "prompt_len": 30,
             "head_version": max(0, step - 8), "tail_version": max(0, step - 7),
             "reward": float(hit), "prompt": prompt, "completion": answer_of(r, answer, hit)}
            for g, hit in enumerate(hits)
        ]  # fmt: skip
        jsonl(folder / "log" / str(step) / f"{step * 10 + place}.jsonl", rows)
        for hit in hits:
            truth.add((step, place), hit, float(hit))
    return truth


@case
def another_engine_token_by_token(folder: Path) -> Truth:
    """prime-rl's token exports: no prompt, no text, log-probs of both engines."""
    r = rng("exports")
    for step in range(12):
        rows = []
        for n in range(24):
            ours = [-r.expovariate(1.0) for _ in range(12)]
            theirs = [v + r.gauss(0, 0.4) for v in ours]
            rows.append(
                {"schema_version": 2, "step": step, "export_step": step, "rank": 0, "micro_step": n,
                 "token_ids": [7] * 16, "loss_mask": [False] * 4 + [True] * 12,
                 "advantages": [0.0] * 4 + [r.gauss(0, 1)] * 12, "rewards": None,
                 "inference_logprobs": [0.0] * 4 + theirs, "trainer_logprobs": [0.0] * 4 + ours,
                 "entropy": [0.0] * 4 + [0.8] * 12, "mismatch_kl": [0.0] * 4 + [0.09] * 12,
                 "importance_ratio": [1.0] * 16, "is_masked": [False] * 16, "env_name": "math"}
            )  # fmt: skip
        jsonl(folder / "log" / "token_exports" / f"step_{step}" / "rank_0.jsonl", rows)
    return Truth(must=("rollout_mismatch",), never=("entropy_collapse", "starved"))


@case
def traces_with_errors_and_nulls(folder: Path) -> Truth:
    """prime-rl: some rewards are null, some traces ended in an error or at the limit of turns."""
    r, truth = rng("traces"), Truth(never=("groups_mixed", "starved", "saturated"))
    for step, place, prompt, answer, hits in batches(r, steps=20, mean=lambda t: 0.3 + 0.3 * t):
        rows = []
        for g, hit in enumerate(hits):
            message = {"role": "assistant", "content": answer_of(r, answer, hit)}
            trace = {"task": {"type": "T", "data": {"prompt": prompt, "answer": str(answer)}},
                     "rewards": {"correct": {"score": float(hit), "weight": 1.0},
                                 "brevity": {"score": r.random(), "weight": 0.0}, "judge": None},
                     "nodes": [{"parent": None, "message": {"role": "user", "content": prompt}},
                               {"parent": 0, "message": message}],
                     "calls": [{"finish_reason": "stop", "usage": {"completion_tokens": 40}}],
                     "is_completed": True, "stop_condition": "done"}  # fmt: skip
            rows.append({"id": f"{step}-{place}-{g}", "env": {"id": "math"},
                         "task": {"type": "T", "data": {"idx": place, "prompt": prompt}},
                         "group": {"id": f"g{step}-{place}"}, "run": {"work": {"step": step}},
                         "traces": [trace]})  # fmt: skip
            truth.add((step, place), hit, float(hit))
        broken = {**rows[0], "traces": [{"rewards": {"correct": None}, "nodes": [], "error": "x"}]}
        here = folder / "log" / "rollouts" / f"step_{step}" / "train" / "all"
        jsonl(here / "traces.jsonl", [*rows, broken] if place == 2 else rows)
    return truth


@case
def most_environments_ran_out_of_tokens(folder: Path) -> Truth:
    """rLLM: an episode per file, two agents, and a reason to end."""
    r, truth = rng("rllm"), Truth(must=("truncated",), never=("groups_mixed", "group_of_one"))
    for step, place, prompt, answer, hits in batches(r, steps=10, batch=4, mean=0.3):
        here = folder / "log" / "episodes" / f"train_step_{step}_epoch_0"
        here.mkdir(parents=True, exist_ok=True)
        for g, hit in enumerate(hits):
            cut = not hit and r.random() < 0.8
            said = {
                "training_step": step,
                "episode_id": f"{place}:{g}",
                "task_hash": f"{place:x}",
                "task": {"question": prompt},
                "is_correct": hit,
                "metrics": {},
                "termination_reason": "max_response_length_exceeded" if cut else "env_done",
                "trajectories": [
                    {
                        "name": "solver",
                        "uid": f"{step}{place}{g}",
                        "num_steps": 1,
                        "reward": float(hit),
                        "steps": [{"model_response": answer_of(r, answer, hit)}],
                    }
                ],
            }
            (here / f"episode_{place}_{g}.json").write_text(json.dumps(said, indent=2))
            truth.add((step, place), hit, float(hit))
    return truth


@case
def ranks_of_workers(folder: Path) -> Truth:
    """A hand-written table with the rank of the worker beside each rollout, and token counts."""
    r, truth = rng("ranks"), Truth(clean=True, says=("independent rollouts",))
    for step, place, prompt, answer, hits in batches(r, mean=lambda t: 0.3 + 0.3 * t):
        values = grpo([float(hit) for hit in hits])
        rows = [
            {
                "global_step": step,
                "rank": place % 4,
                "query": prompt,
                "reward": float(hit),
                "response": answer_of(r, answer, hit),
                "advantage": a,
                "completion_tokens": r.randint(30, 400),
            }
            for hit, a in zip(hits, values, strict=True)
        ]
        jsonl(folder / "log" / "rollouts.jsonl", rows)
        for hit in hits:
            truth.add((step, place), hit, float(hit))
    return truth


@case
def at_the_limit_by_token_counts(folder: Path) -> Truth:
    """The same table with three in ten rollouts at 512 tokens."""
    r, truth = rng("limit"), Truth(must=("truncated",), never=("groups_mixed",))
    for step, place, prompt, answer, hits in batches(r, mean=0.4):
        rows = []
        for hit in hits:
            long = not hit and r.random() < 0.5
            rows.append({"step": step, "prompt": prompt, "reward": float(hit),
                         "response": answer_of(r, answer, hit),
                         "completion_tokens": 512 if long else r.randint(60, 500)})  # fmt: skip
            truth.add((step, place), hit, float(hit))
        jsonl(folder / "log" / "rollouts.jsonl", rows)
    return truth


@case
def a_group_in_a_line(folder: Path) -> Truth:
    """Lists of responses and rewards beside one prompt."""
    r, truth = rng("line"), Truth(clean=True)
    rows = []
    for step, place, prompt, answer, hits in batches(r, mean=lambda t: 0.3 + 0.3 * t):
        rows.append({"step": step, "prompt": prompt, "rewards": [float(hit) for hit in hits],
                     "responses": [answer_of(r, answer, hit) for hit in hits]})  # fmt: skip
        for hit in hits:
            truth.add((step, place), hit, float(hit))
    jsonl(folder / "log" / "groups.jsonl", rows)
    return truth


@case
def columns_that_nobody_knows(folder: Path) -> Truth:
    rows = [
        {"it": n // 8, "user_history": f"u{n // 8}", "ndcg": 0.0, "list": "a"} for n in range(80)
    ]
    jsonl(folder / "log" / "mine.jsonl", rows)
    return Truth(refused=("its columns are it, user_history, ndcg, list", "--map"))


@case
def penalties_of_other_groups(folder: Path) -> Truth:
    """Prompts dealt out like cards, advantages over eight rows in a row."""
    r, truth = rng("dealt"), Truth(must=("groups_mixed",), never=("rows_outside_mean",))
    for step in range(1, 31):
        mine = [(place, prompt, answer, hits) for _, place, prompt, answer, hits in
                batches(r, steps=1, spread=0.8)]  # fmt: skip
        dealt: list[tuple[int, str, int, bool]] = []
        for g in range(8):
            dealt += [(place, f"{step} {p}", a, hits[g]) for place, p, a, hits in mine]
        rows = []
        for start in range(0, len(dealt), 8):
            cut = dealt[start : start + 8]
            for (place, prompt, answer, hit), a in zip(
                cut, grpo([float(c[3]) for c in cut]), strict=True
            ):
                rows.append(
                    {
                        "step": step,
                        "prompt": prompt,
                        "completion": answer_of(r, answer, hit),
                        "reward": float(hit),
                        "advantage": a,
                    }
                )
                truth.add((step, place), hit, float(hit))
        jsonl(folder / "log" / "rollouts.jsonl", rows)
    return truth

"""How groups are laid out in logs that strangers bring: sets, files, frameworks, nested records."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl

from foreign_logs.cases import Row, Truth, answer_of, batches, case, grpo, jsonl, parquet, rise, rng


@case
def evaluations_in_a_part_of_the_file(folder: Path) -> Truth:
    """TRL's log keeps the last so many rows: an evaluation of few prompts leaves training rows
    before its own in the file of its step."""
    r, truth = rng("tail"), Truth(clean=True)
    asked = [f"Held out {n}: what is {n} and {n}?" for n in range(3)]
    for step in range(1, 41):
        rows: list[Row] = []
        places = list(batches(r, steps=1, mean=0.3 + step / 150))
        for _, place, prompt, answer, hits in places[3:] if step % 10 == 0 else places:
            for hit, a in zip(hits, grpo([float(h) for h in hits]), strict=True):
                rows.append({"step": step, "prompt": f"{step} {prompt}", "advantage": a,
                             "completion": answer_of(r, answer, hit),
                             "accuracy_reward": float(hit)})  # fmt: skip
                truth.add((step, place), hit, float(hit))
        if step % 10 == 0:
            for place, prompt in enumerate(asked):
                hits = [r.random() < 0.4 for _ in range(8)]
                rows += [{"step": step, "prompt": prompt, "advantage": a,
                          "completion": answer_of(r, place, hit), "accuracy_reward": float(hit)}
                         for hit, a in zip(hits, grpo([float(h) for h in hits]), strict=True)
                         ]  # fmt: skip
        parquet(folder / "log", step, rows)
    return truth


@case
def a_small_set_six_times_over(folder: Path) -> Truth:
    """Sixty prompts, six epochs, in one order: prompts that come back are no evaluation."""
    r, truth = rng("epochs"), Truth(clean=True)
    asked = [list(batches(r, steps=1, batch=6)) for _ in range(10)]
    for step in range(1, 61):
        rows: list[Row] = []
        for _, place, prompt, answer, _ in asked[step % 10]:
            p = r.betavariate(1 + step / 30, 2)
            hits = [r.random() < p for _ in range(8)]
            for hit, a in zip(hits, grpo([float(h) for h in hits]), strict=True):
                rows.append({"step": step, "prompt": f"{step % 10} {prompt}", "advantage": a,
                             "completion": answer_of(r, answer, hit),
                             "accuracy_reward": float(hit)})  # fmt: skip
                truth.add((step, place), hit, float(hit))
        parquet(folder / "log", step, rows)
    return truth


@case
def fewer_rollouts_for_the_easy_task(folder: Path) -> Truth:
    """8 for mathematics, 4 for code, in every batch; ids are logged."""
    r, truth = rng("two sizes"), Truth(clean=True)
    for step, place, prompt, answer, hits in batches(r, mean=rise):
        mine = hits[: 4 if place % 2 else 8]
        rows = [{"step": step, "uid": f"{step:x}{place:x}", "prompt": prompt, "reward": float(hit),
                 "completion": answer_of(r, answer, hit), "advantage": a,
                 "data_source": "code" if place % 2 else "math"}
                for hit, a in zip(mine, grpo([float(h) for h in mine]), strict=True)]  # fmt: skip
        jsonl(folder / "log" / "rollouts.jsonl", rows)
        for hit in mine:
            truth.add((step, place), hit, float(hit))
    return truth


@case
def resumed_and_appended_to_one_file(folder: Path) -> Truth:
    """The run died at step 25 and went on from the checkpoint of step 20: steps 21 to 25 are twice
    in the file, with the same prompts."""
    r, truth = rng("appended"), Truth(never=("groups_mixed",))
    asked = {(s, p): (prompt, a) for s, p, prompt, a, _ in batches(r, steps=40)}
    rows: list[Row] = []
    for attempt, steps in (("a", range(1, 26)), ("b", range(21, 41))):
        for step in steps:
            for place in range(6):
                prompt, answer = asked[step, place]
                p = r.betavariate(1, 1)
                for _ in range(8):
                    hit = r.random() < p
                    rows.append({"global_step": step, "prompt": prompt, "reward": float(hit),
                                 "response": answer_of(r, answer, hit)})  # fmt: skip
                    truth.add((attempt, step, place), hit, float(hit))
    jsonl(folder / "log" / "rollouts.jsonl", rows)
    return truth


@case
def one_question_about_many_images(folder: Path) -> Truth:
    """Counting: the question is the same, the image is not; workers write in any order."""
    r, truth = rng("images"), Truth(clean=True)
    for step in range(1, 31):
        rows = []
        for _, place, _, answer, hits in batches(r, steps=1, mean=rise(step / 30)):
            for hit in hits:
                rows.append({"step": step, "question": "How many objects are in the image?",
                             "image_path": f"img/{step:03d}_{place}.png", "reward": float(hit),
                             "response": answer_of(r, answer, hit)})  # fmt: skip
                truth.add((step, place), hit, float(hit))
        r.shuffle(rows)
        jsonl(folder / "log" / "rollouts.jsonl", rows)
    return truth


@case
def verifiers_with_a_judge_as_agent(folder: Path) -> Truth:
    """verifiers 0.4 and prime-rl: an agent that judges is in the episode and is not trained; the
    nodes have advantages, rewards less their group's mean."""
    r, truth = rng("judge agent"), Truth(clean=True, says=("dr_grpo",))
    for step, place, prompt, answer, hits in batches(r, steps=24, mean=rise):
        middle = sum(hits) / len(hits)
        rows = []
        for hit in hits:
            task = {"type": "T", "data": {"idx": place, "prompt": prompt, "answer": str(answer)},
                    "key": f"k{step}-{place}", "hash": "h"}  # fmt: skip
            text = answer_of(r, answer, hit)
            mine = {"task": task, "agent": {"name": "solver", "trainable": True, "config": {}},
                    "nodes": [{"message": {"role": "user", "content": prompt}, "sampled": False},
                              {"parent": 0, "message": {"role": "assistant", "content": text},
                               "sampled": True, "token_ids": [1, 2, 3], "mask": [False, True, True],
                               "logprobs": [-0.3, -0.2], "advantages": [hit - middle] * 2,
                               "trainer_logprobs": [-0.301, -0.2], "entropies": [0.4, 0.5]}],
                    "calls": [{"node": 1, "finish_reason": "stop",
                               "usage": {"prompt_tokens": 10, "completion_tokens": 40}}],
                    "rewards": {"correct": {"score": float(hit), "weight": 1.0}},
                    "ok": True, "stop_condition": "agent_completed"}  # fmt: skip
            judge = {"task": task, "agent": {"name": "judge", "trainable": False, "config": {}},
                     "nodes": [{"message": {"role": "user", "content": text}, "sampled": False},
                               {"parent": 0, "sampled": True, "message": {
                                   "role": "assistant", "content": "I say: fine"}}],
                     "calls": [{"finish_reason": "stop", "usage": {"completion_tokens": 3}}],
                     "rewards": {"parsed": {"score": 1.0, "weight": 1.0}}, "ok": True}  # fmt: skip
            work = {"type": "train", "step": step, "policy": {"start": step, "end": step}}
            rows.append({"id": f"{r.getrandbits(64):x}", "env": {"id": "judge+sums"}, "task": task,
                         "group": {"id": f"g{step}-{place}"}, "ok": True, "errors": [],
                         "run": {"type": "train", "id": "r", "work": work},
                         "traces": [mine, judge]})  # fmt: skip
            truth.add((step, place), hit, float(hit))
        jsonl(folder / "log" / "rollouts" / f"step_{step}" / "train" / "all" / "traces.jsonl", rows)
    return truth


@case
def verifiers_whose_engine_is_another(folder: Path) -> Truth:
    """The same file with log-probs that differ between the engines, and turns that ran out."""
    r, truth = rng("vf engine"), Truth(must=("rollout_mismatch", "truncated"),
                                       never=("groups_mixed", "starved"))  # fmt: skip
    for step, place, prompt, answer, hits in batches(r, steps=24, batch=4, mean=0.4):
        rows = []
        for hit in hits:
            ours = [-r.expovariate(2) for _ in range(8)]
            out = not hit and r.random() < 0.7
            text = answer_of(r, answer, hit)
            node = {"parent": 0, "message": {"role": "assistant", "content": text}, "sampled": True,
                    "token_ids": [5] * 8, "mask": [True] * 8, "logprobs": ours,
                    "trainer_logprobs": [one + r.gauss(0, 0.3) for one in ours]}  # fmt: skip
            trace = {"task": {"data": {"prompt": prompt}}, "agent": {"name": "agent"},
                     "nodes": [{"message": {"role": "user", "content": prompt}}, node],
                     "calls": [{"finish_reason": "tool_calls" if out else "stop"}],
                     "rewards": {"correct": {"score": float(hit), "weight": 1.0}},
                     "stop_condition": "max_turns" if out else "agent_completed"}  # fmt: skip
            rows.append({"task": {"data": {"prompt": prompt}}, "group": {"id": f"{step}.{place}"},
                         "run": {"type": "train", "work": {"type": "train", "step": step}},
                         "traces": [trace]})  # fmt: skip
            truth.add((step, place), hit, float(hit))
        jsonl(folder / "log" / f"step_{step}" / "traces.jsonl", rows)
    return truth


@case
def results_of_verifiers_cut_off(folder: Path) -> Truth:
    """verifiers 0.1 results.jsonl of one evaluation: most answers ran into the limit."""
    r, truth = rng("results"), Truth(must=("truncated",), never=("groups_mixed", "group_of_one"))
    for _, place, prompt, answer, hits in batches(r, steps=1, batch=60, mean=0.35):
        rows = [{"example_id": place, "task": "gsm8k", "answer": str(answer), "reward": float(hit),
                 "prompt": [{"role": "user", "content": prompt}], "correct_answer": float(hit),
                 "completion": [{"role": "assistant", "content": answer_of(r, answer, hit)}],
                 "is_truncated": not hit and r.random() < 0.8, "stop_condition": None,
                 "metrics": {"correct_answer": float(hit)}, "timing": {"total_ms": 3.0}}
                for hit in hits]  # fmt: skip
        jsonl(folder / "log" / "outputs" / "evals" / "results.jsonl", rows)
        for hit in hits:
            truth.add(place, hit, float(hit))
    return truth


@case
def slime_with_aborted_samples(folder: Path) -> Truth:
    """slime: a reward of a dict, a status that says truncated for most."""
    import torch

    r, truth = rng("slime"), Truth(must=("truncated",), never=("groups_mixed", "starved"))
    (folder / "log").mkdir(parents=True)
    for step in range(1, 13):
        samples = []
        for _, place, prompt, answer, hits in batches(r, steps=1, mean=0.4):
            for g, hit in enumerate(hits):
                status = "truncated" if not hit and r.random() < 0.6 else "completed"
                samples.append({"group_index": step * 10 + place, "index": g, "prompt": prompt,
                                "tokens": [1, 2, 3], "response": answer_of(r, answer, hit),
                                "response_length": r.randint(50, 400), "label": str(answer),
                                "reward": {"score": float(hit), "acc": hit, "pred": "7"},
                                "loss_mask": [1], "weight_versions": [str(step)], "status": status,
                                "rollout_log_probs": [-0.5], "metadata": {}})  # fmt: skip
                truth.add((step, place), hit, float(hit))
        torch.save({"rollout_id": step, "samples": samples}, folder / "log" / f"{step}.pt")
    return truth


@case
def nested_records_of_an_own_trainer(folder: Path) -> Truth:
    """Nothing in it is named as anybody names it."""
    rows = [{"it": n, "blob": {"q": f"q{n}", "samples": [{"txt": "a", "r": 0.5}] * 4}}
            for n in range(20)]  # fmt: skip
    jsonl(folder / "log" / "trace.jsonl", rows)
    return Truth(refused=("it, blob", "--map"))


@case
def an_export_without_rewards(folder: Path) -> Truth:
    """Prompts and completions for supervised training."""
    (folder / "log").mkdir()
    pl.DataFrame({"prompt": ["a", "b"] * 20, "completion": ["c", "d"] * 20}).write_parquet(
        folder / "log" / "train.parquet"
    )
    return Truth(refused=("no reward", "prompt, completion"))


@case
def validation_tables_of_verl(folder: Path) -> Truth:
    """wandb's table val/generations: a row per step, input_1, output_1, score_1 and so on."""
    place_of = folder / "log" / "media" / "table" / "val"
    place_of.mkdir(parents=True)
    columns = ["step", *(f"{word}_{n}" for n in (1, 2) for word in ("input", "output", "score"))]
    data = [[step, "q", "a", 0.0, "q2", "b", 1.0] for step in range(0, 100, 10)]
    (place_of / "generations_10_ab.table.json").write_text(
        json.dumps({"columns": columns, "data": data})
    )
    return Truth(refused=("input_1", "--map"))


@case
def a_type_that_says_evaluation(folder: Path) -> Truth:
    """`type` is train or eval; four answers to each held out prompt, at uneven steps; `answer` is
    what was answered."""
    r, truth = rng("type"), Truth(clean=True)
    rows: list[Row] = []
    for step, place, prompt, answer, hits in batches(r, steps=15, mean=rise):
        for hit in hits:
            rows.append({"type": "train", "global_step": step, "question": prompt,
                         "answer": answer_of(r, answer, hit), "reward": float(hit)})  # fmt: skip
            truth.add((step, place), hit, float(hit))
        if place == 5 and step in (1, 6, 15):
            for at in range(48):
                rows.append({"type": "eval", "global_step": step, "question": f"Held {at // 4}",
                             "answer": answer_of(r, at, True), "reward": at % 2})  # fmt: skip
    jsonl(folder / "log" / "rollouts.jsonl", rows)
    return truth


@case
def ids_of_rollouts_with_a_dash(folder: Path) -> Truth:
    """`17-0` to `17-7` are the rollouts of one prompt."""
    r, truth = rng("dash"), Truth(clean=True)
    rows: list[Row] = []
    for step, place, prompt, answer, hits in batches(r, steps=10, mean=rise):
        for g, hit in enumerate(hits):
            rows.append({"step": step, "uid": f"{step * 6 + place}-{g}", "prompt": prompt,
                         "response": answer_of(r, answer, hit), "reward": float(hit)})  # fmt: skip
            truth.add((step, place), hit, float(hit))
    jsonl(folder / "log" / "rollouts.jsonl", rows)
    return truth


@case
def most_answers_without_the_form(folder: Path) -> Truth:
    """tinker: three in four answers are not parsed, and get the least."""
    r, truth = rng("unparsed"), Truth(must=("format_guard",), never=("groups_mixed", "saturated"))
    for step, place, _, _, hits in batches(r, steps=12, mean=0.2, spread=4):
        for g, hit in enumerate(hits):
            formed = hit or r.random() < 0.05
            reward = hit - 0.1 * (not formed)
            said = {"correct": float(hit), "format": float(formed)}
            turn = {"step_idx": 0, "ob_len": 9, "ac_len": r.randint(10, 90), "metrics": said}
            row = {"split": "train", "iteration": step, "group_idx": place, "traj_idx": g,
                   "total_reward": reward, "final_reward": 0.0, "steps": [turn]}  # fmt: skip
            name = f"iteration_{step:06d}/train_rollout_summaries.jsonl"
            jsonl(folder / "log" / name, [row])
            truth.add((step, place), hit, reward)
    return truth

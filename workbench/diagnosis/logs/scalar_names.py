"""What the scalars of trainers mean: their many names under one word each.

Names are matched without a tracker's prefix (`train/`, `eval/` is kept apart) and in lower case.
Sources: TRL 0.16 to 1.16 `GRPOTrainer.log`; verl 0.5 to main `metric_utils.py` and the actors;
ms-swift (as TRL); NeMo-RL `grpo.py`; OpenRLHF `ppo_trainer.py`; open-instruct `grpo_fast.py`;
tinker-cookbook `rl/metrics.py`; SkyRL `trainer.py`; rLLM; slime `rollout.py`; prime-rl
`orchestrator.py`; EasyR1 `metrics.py`; miles `rollout.py`; ROLL; AReaL `trainer/ppo/actor.py`.
docs/diagnose.md has the table.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

MEANINGS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "reward_mean": (
            "reward",
            "critic/rewards/mean",
            "critic/score/mean",
            "reward/mean",
            "reward/avg_raw_reward",
            "env/all/reward/total",
            "rollout/raw_reward",
            "rollout/rewards",
            "objective/scores",
            "objective/verifiable_reward",
            "scores",
            "total_reward",
            "mean_reward",
            "avg_reward",
            "reward_mean",
            "rollout/reward",
            "rollout_reward",
            "reward/overall",
            "rollout/reward_mean",
        ),
        "reward_std": ("reward_std", "critic/rewards/std", "reward/std", "scores_std"),
        "zero_spread": (
            "frac_reward_zero_std",
            "zero_spread",
            "frac_zero_std",
            "zero_std_frac",
            "reward/zero_std_ratio",
            "batch/zero_std_ratio",
            "val/fraction_of_unfiltered_reward_zero_std",
        ),
        "mixed_share": (
            "env/all/by_group/frac_mixed",
            "batch/solve_partial",
            "baseline_reward/not_0_or_1",
        ),
        "all_good_share": (
            "env/all/by_group/frac_all_good",
            "batch/solve_all",
            "solve_all",
            "baseline_reward/pct_1",
            "zero_std/all_one_ratio",
            "rollout/zero_std/all_one_ratio",
        ),
        "all_bad_share": (
            "env/all/by_group/frac_all_bad",
            "batch/solve_none",
            "solve_none",
            "baseline_reward/pct_0",
            "zero_std/all_zero_ratio",
            "rollout/zero_std/all_zero_ratio",
        ),
        "outcome_mean": (
            "critic/acc/mean",
            "acc",
            "accuracy",
            "batch/percent_solved_mean",
            "reward/avg_pass_at_1",
            "env/all/correct",
            "objective/verifiable_correct_rate",
            "reward/accuracy",
        ),
        "truncated_share": (
            "completions/clipped_ratio",
            "clipped_ratio",
            "response_length/clip_ratio",
            "truncation_rate",
            "rollout/truncated_ratio",
            "rollout/truncated",
            "is_truncated/mean",
            "truncated_ratio",
            "truncation",
            "rollout/truncated_rate",
            "stop_rate_inverse",
        ),
        "length_mean": (
            "completions/mean_length",
            "completion_length",
            "response_length/mean",
            "response_length",
            "mean_gen_tokens_per_sample",
            "generate/avg_num_tokens",
            "val/sequence_lengths",
            "rollout/response_len/mean",
            "rollout/response_lengths",
            "env/all/ac_tokens_per_turn",
            "seq_len/mean",
            "seq_length",
            "rollout/response_length_mean",
            "token/response_length/mean",
        ),
        "length_max": ("completions/max_length", "response_length/max"),
        "entropy": (
            "entropy",
            "actor/entropy",
            "actor/entropy_loss",
            "entropy/mean",
            "entropy/all/mean",
            "approx_entropy",
            "optim/entropy",
            "policy/policy_entropy",
            "policy/entropy_avg",
            "policy_entropy",
            "train/entropy_loss",
            "entropy_loss",
        ),
        "kl": (
            "kl",
            "actor/kl_loss",
            "actor/reward_kl_penalty",
            "critic/kl",
            "kl_penalty",
            "kl_mean",
            "policy/policy_kl",
            "objective/kl_avg",
            "objective/kl",
            "loss/kl_avg",
            "train/kl_loss",
            "kl_policy_base",
        ),
        "old_kl": ("actor/ppo_kl", "ppo_kl", "train/ppo_kl", "policy/approx_kl", "actor/approxkl"),
        "ratio_clipped": (
            "clip_ratio/region_mean",
            "clip_ratio",
            "actor/pg_clipfrac",
            "pg_clipfrac",
            "train/pg_clipfrac",
            "policy/ppo_clip_ratio",
            "ppo_clip_ratio",
            "policy/clipfrac_avg",
            "actor/clipfrac",
            "actor/ppo_ratio_clipfrac",
        ),
        "logprob_gap": (
            "sampling/sampling_logp_difference/mean",
            "rollout_corr/log_ppl_abs_diff",
            "train/train_rollout_logprob_abs_diff",
            "train_rollout_logprob_abs_diff",
            "policy/rollout_train_logprobs_abs_diff_mean",
            "debug/vllm_vs_local_logprob_diff_mean",
        ),
        "prob_gap": ("training/rollout_probs_diff_mean", "rollout_probs_diff_mean"),
        "prob_factor": ("token_mult_prob_error",),
        "prob_correlation": (
            "training/rollout_actor_probs_pearson_corr",
            "rollout_actor_probs_pearson_corr",
        ),
        "mismatch_kl": (
            "mismatch_kl/mean",
            "mismatch_kl/all/mean",
            "mismatch_kl",
            "rollout_corr/k3_kl",
            "rollout_corr/kl",
            "gen_kl_error",
            "optim/kl_sample_train_v1",
            "train/mis_kl",
            "debug/vllm_local_reverse_kl",
        ),
        "importance_ratio": (
            "sampling/importance_sampling_ratio/mean",
            "rollout_corr/rollout_is_mean",
            "mismatch/rollout_is_mean",
            "importance_ratio/mean",
            "sampling_importance_ratio",
        ),
        "loss": (
            "loss",
            "actor/pg_loss",
            "policy_loss",
            "train/loss",
            "policy/policy_loss",
            "loss/policy_avg",
        ),
        "grad_norm": (
            "grad_norm",
            "actor/grad_norm",
            "optim/grad_norm",
            "train/grad_norm",
            "policy/raw_grad_norm",
            "actor_grad_norm",
        ),
        "learning_rate": (
            "learning_rate",
            "actor/lr",
            "lr",
            "optim/lr",
            "policy/policy_lr",
            "actor_lr",
        ),
    }
)
"""Each meaning with the names it goes by, the surer name first. Shares are within [0, 1], entropy
and KL in nats, lengths in tokens. logprob_gap, prob_gap: mean absolute difference of
log-probabilities, or of probabilities, between the engine that sampled and the one that trains;
prob_factor: mean of the larger over the smaller of both probabilities (NeMo-RL); prob_correlation:
of these probabilities."""

_OF = {name: meaning for meaning, names in MEANINGS.items() for name in names}
_RANK = {name: rank for names in MEANINGS.values() for rank, name in enumerate(names)}
_PREFIX = re.compile(r"^(?:train|training|metrics|rollout_metrics)[/_.](?=.)")
_SPACED = re.compile(r"\s*/\s*")
"""A notebook's table has spaces around slashes."""
_FUNCTION = re.compile(r"^rewards/(?P<name>.+?)(?:/mean)?$")
_JUDGES = re.compile(r"correct|accura|exact_match|solved|success|(?:^|_)(?:acc|rule)(?:_|$)")
_LEAST = 100
_PRIME = re.compile(
    r"^(?:train/)?(?P<env>[^/]+)/(?P<subset>all|effective)/(?:[^/]+/)?(?P<name>[^/]+(?:/mean)?)$"
)
_OF_PRIME = {
    "reward/mean": "reward_mean",
    "solved_none": "all_bad_share",
    "solved_all": "all_good_share",
    "solved_some": "mixed_share",
    "is_truncated/mean": "truncated_share",
    "num_output_tokens/mean": "length_mean",
}
"""prime-rl's `train/<environment>/<all or effective>/<agent>/<name>`; agg: of all of them."""
_EQUAL = re.compile(r"^(?:rollout/)?zero_std/count_(?P<reward>-?\d+(?:\.\d+)?)$")
_OF_EQUAL = {-1.0: "all_bad_count", 0.0: "all_bad_count", 1.0: "all_good_count"}
"""slime's and miles' counts of groups of equal rewards, by the reward."""
_AREAL = re.compile(r"^(?:ppo|grpo)_actor/(?:update/)?(?P<name>[a-z_]+)(?:/avg)?$")
_OF_AREAL = {
    "task_reward": "reward_mean",
    "seq_len": "length_mean",
    "entropy": "entropy",
    "actor_loss": "loss",
    "approx_kl": "old_kl",
    "behave_approx_kl": "mismatch_kl",
    "clip_ratio": "ratio_clipped",
    "grad_norm": "grad_norm",
    "lr": "learning_rate",
}
"""AReaL's `ppo_actor/<name>/avg`, of its update below `update/`."""
_EVAL = re.compile(r"^(?:eval|val|validation|test)[/_.-](?=.)")


def meaning(name: str) -> tuple[str, int] | None:
    """What a scalar means, and how sure its name is (0: surest); None where nobody knows.

    An evaluation's scalar means `eval_` and the same word. verl's validation scores
    (`val-core/<data source>/<reward>/mean@<n>`) mean eval_reward_mean.
    """
    low = _SPACED.sub("/", name.lower().strip())
    if low in _OF:
        return _OF[low], _RANK[low]
    if (found := _PRIME.match(low)) and (said := _OF_PRIME.get(found["name"])):
        return said, (found["env"] != "agg") + 2 * (found["subset"] != "all")
    if (found := _AREAL.match(low)) and (said := _OF_AREAL.get(found["name"])):
        return said, 0
    if found := _EQUAL.match(low):
        return _OF_EQUAL.get(float(found["reward"]), "equal_count"), 0
    if low.startswith("val-core/") or re.match(r"^val/test_score/", low):
        return "eval_reward_mean", 0
    if found := _EVAL.match(low):
        inner = meaning(low[found.end() :])
        return (f"eval_{inner[0]}", inner[1]) if inner else None
    if found := _PREFIX.match(low):
        return meaning(low[found.end() :])
    if (name := function_of(low)) and _JUDGES.search(name):
        return "outcome_mean", _LEAST + len(name)
    return None


def tag_of(name: str) -> str:
    """The tag in the name of a file that TensorBoard let somebody download,
    `run-<run>-tag-<tag>.csv`, whose slashes have become `_`; of any other file its stem."""
    stem = re.sub(r"(?: ?\(\d+\))?(?:\.[a-z]+)+$", "", name.rpartition("/")[2])
    tag = stem.rpartition("-tag-")[2]
    if meaning(tag):
        return tag
    for place in [found.start() for found in re.finditer("_", tag)]:
        slashed = f"{tag[:place]}/{tag[place + 1 :]}"
        for one in (slashed, f"{tag[:place].replace('_', '/')}/{tag[place + 1 :]}"):
            if meaning(one):
                return one
    every = tag.replace("_", "/")
    return every if meaning(every) else tag


def function_of(name: str) -> str:
    """The reward function whose mean a scalar is (TRL's `rewards/<function>/mean`); "" for any
    other."""
    found = _FUNCTION.match(_PREFIX.sub("", name.lower().strip()))
    return found["name"] if found and not found["name"].endswith("/std") else ""


__all__ = ["MEANINGS", "function_of", "meaning", "tag_of"]

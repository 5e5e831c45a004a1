"""`STRATEGIES`: every published signal, ablation and control by name, each one row.

A new one is one row here, and one function where its formula is new (`recast.stages.credit`, say).
docs/sources.md says how each row was checked against its source.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from recast.composition import compose
from recast.quoting import nearest
from recast.strategy import Strategy

_PAIR: dict[str, Any] = {"credit": "sign", "update": "active", "denominator": "prompts"}
_TARGET_ONLY: dict[str, Any] = {
    "credit": "none",
    "denominator": "prompts",
    "all_zero": "supervised",
}

STRATEGIES: Mapping[str, Strategy] = MappingProxyType(
    {
        "grpo": Strategy(
            meaning="reward normalised inside the group",
            source="arXiv 2402.03300; verl compute_grpo_outcome_advantage (eps 1e-6)",
            all_zero="zero",
        ),
        "grpo_trl": Strategy(
            credit="grpo(eps=1e-4)",
            meaning="GRPO with TRL's eps of 1e-4",
            source="TRL GRPOTrainer",
            all_zero="zero",
        ),
        "grpo_trl_batch": Strategy(
            credit="grpo_batch(eps=1e-4)",
            meaning="reward minus the group mean, over the standard deviation of the whole batch",
            source='TRL GRPOTrainer, scale_rewards="batch"',
            all_zero="zero",
        ),
        "grpo_population": Strategy(
            credit="grpo(ddof=0)",
            meaning="GRPO with the population standard deviation",
            source="arXiv 2402.03300 leaves ddof open",
            all_zero="zero",
        ),
        "dr_grpo": Strategy(
            credit="dr_grpo",
            denominator="constant",
            meaning="reward minus the group mean, constant loss denominator",
            source="arXiv 2503.20783",
            all_zero="zero",
        ),
        "rloo": Strategy(
            credit="rloo",
            meaning="reward minus the mean of the other rollouts",
            source="arXiv 2402.14740",
            all_zero="zero",
        ),
        "opo": Strategy(
            credit="opo",
            meaning="reward minus the length-weighted mean of the group",
            source="arXiv 2505.23585",
            all_zero="zero",
        ),
        "reinforce": Strategy(
            credit="reinforce",
            meaning="reward minus the mean of the whole batch",
            source="REINFORCE with a batch baseline",
            all_zero="negative",
        ),
        "reinforce_pp": Strategy(
            credit="reinforce_pp",
            denominator="tokens",
            meaning="reward whitened over the tokens of the whole batch",
            source="arXiv 2501.03262",
            all_zero="negative",
        ),
        "gpg": Strategy(
            credit="gpg",
            meaning="reward minus the group mean, scaled by rollouts per non-zero reward",
            source="verl compute_gpg_outcome_advantage",
            all_zero="zero",
        ),
        "gpg_authors": Strategy(
            credit="dr_grpo",
            denominator="live_groups",
            meaning="reward minus the group mean, loss divided by the share of live groups",
            source="arXiv 2504.02546",
            all_zero="zero",
        ),
        "best_of_group": Strategy(
            credit="best_of_group",
            meaning="only the best rollout learns: its lead over the second best",
            source="arXiv 2503.19595; verl compute_grpo_passk_outcome_advantage",
            all_zero="zero",
        ),
        "pass_at_k": Strategy(
            credit="pass_at_k(4)",
            meaning="advantage of a rollout for the Pass@4 of its group",
            source="arXiv 2508.10751",
            all_zero="zero",
        ),
        "maxrl": Strategy(
            credit="maxrl",
            meaning="reward minus the group mean, over the group mean",
            source="arXiv 2602.02710",
            all_zero="zero",
        ),
        "psr": Strategy(
            select="positives",
            credit="raw",
            update="active",
            denominator="active",
            meaning="hits only, pushed up",
            source="arXiv 2506.01347",
            all_zero="zero",
        ),
        "nsr": Strategy(
            select="negatives",
            credit="shortfall",
            update="active",
            denominator="active",
            meaning="misses only, pushed down",
            source="arXiv 2506.01347",
            all_zero="negative",
        ),
        "w_reinforce": Strategy(
            credit="shortfall(0.1)",
            meaning="misses pushed down, hits pushed up by a tenth of it",
            source="arXiv 2506.01347",
            all_zero="negative",
        ),
        "ngrpo": Strategy(
            credit="ngrpo",
            meaning="normalised with one virtual hit that is not trained",
            source="arXiv 2509.18851",
            all_zero="negative",
        ),
        "rl_zvp": Strategy(
            credit="rl_zvp(0.1)",
            meaning="GRPO; groups without variance learn by token entropy",
            source="arXiv 2509.21880",
            all_zero="negative",
        ),
        "a_grae": Strategy(
            credit="a_grae",
            meaning="GRPO weighted by difficulty, positives shrunk while hits are rare",
            source="arXiv 2602.05548",
            all_zero="zero",
        ),
        "ha_dw": Strategy(
            credit="ha_dw",
            meaning="GRPO weighted by difficulty against the recent batches' mean reward",
            source="arXiv 2601.08521",
            all_zero="zero",
        ),
        "bgae": Strategy(
            credit="bgae",
            meaning="GRPO on the matched prefix plus the Pass@4 advantage, on every rollout",
            source="arXiv 2510.20815",
            all_zero="shaped",
        ),
        "rank_penalty": Strategy(
            credit="rank_penalty",
            meaning="GRPO; beside a hit, a miss costs more the higher its beam ranks",
            source="MiniOneRec rl.py",
            all_zero="zero",
        ),
        "minionerec_sampling": Strategy(
            repair="keep_distinct(1.5)",
            credit="grpo(eps=1e-4)",
            meaning="sample 1.5 G, keep hits, then distinct misses, then GRPO",
            source="MiniOneRec rl.py",
            all_zero="zero",
        ),
        "add_gt": Strategy(
            repair="overwrite_last",
            credit="grpo(eps=1e-4)",
            meaning="the ground truth overwrites the last slot of every group, then GRPO",
            source="MiniOneRec minionerec_trainer.py",
            all_zero="anchored",
        ),
        "visurf": Strategy(
            repair="append",
            meaning="the ground truth joins every group and disables itself beside a hit",
            source="arXiv 2510.10606",
            all_zero="anchored",
        ),
        "luffy": Strategy(
            repair="overwrite_last",
            credit="dr_grpo",
            anchor_ratio="shaped(0.1)",
            clip="none",
            meaning="the ground truth in one slot, its gradient shaped by p / (p + .1)",
            source="arXiv 2504.14945",
            all_zero="anchored",
        ),
        "care": Strategy(
            select="near_misses(4)",
            credit="care(4)",
            update="active",
            meaning="the best own rollout against its four nearest misses; rescues no dead group",
            source="arXiv 2512.19554, the contrast alone",
            all_zero="zero",
        ),
        "pods": Strategy(
            select="pods(8)",
            denominator="active",
            meaning="GRPO on the 8 rollouts whose rewards vary most",
            source="arXiv 2504.13818",
            all_zero="zero",
        ),
        "dynamic_sampling": Strategy(
            repair="drop_constant",
            denominator="active",
            meaning="GRPO; groups without variance are replaced by further prompts",
            source="DAPO, arXiv 2503.14476",
            all_zero="zero",
        ),
        "greso": Strategy(
            gate="greso",
            meaning="GRPO; prompts that had no variance lately are skipped before rollout",
            source="arXiv 2506.02177",
            all_zero="zero",
        ),
        "recast": Strategy(
            repair="anchor",
            select="pair",
            meaning="repair all-zero groups, then strongest positive against hardest negative",
            source="arXiv 2604.22169",
            all_zero="anchored",
            **_PAIR,
        ),
        "recast_random_negative": Strategy(
            repair="anchor",
            select="random_pair",
            meaning="ReCast with a random miss: does the hard negative matter?",
            source="control for arXiv 2604.22169",
            all_zero="anchored",
            **_PAIR,
        ),
        "recast_half_repair": Strategy(
            repair="anchor_share(0.5)",
            select="pair",
            meaning="ReCast that repairs half of the all-zero groups: is less repair enough?",
            source="control for arXiv 2604.22169",
            all_zero="anchored",
            **_PAIR,
        ),
        "recast_prefix_mask": Strategy(
            repair="anchor",
            select="pair",
            meaning="ReCast whose negative keeps the prefix that it shares with the target",
            source="control for arXiv 2604.22169",
            all_zero="anchored",
            **_PAIR | {"credit": "sign_beyond_prefix"},
        ),
        "repair_only": Strategy(
            repair="anchor",
            meaning="repair all-zero groups, then GRPO on the whole group",
            source="ablation of arXiv 2604.22169",
            all_zero="anchored",
        ),
        "contrast_only": Strategy(
            select="pair",
            meaning="strongest positive against hardest negative, no repair",
            source="ablation of arXiv 2604.22169",
            all_zero="zero",
            **_PAIR,
        ),
        "dpo": Strategy(
            select="negatives(1)",
            supervised="s_dpo(0.1)",
            meaning="preference of the target over one sampled miss",
            source="arXiv 2305.18290",
            **_TARGET_ONLY,
        ),
        "s_dpo": Strategy(
            select="negatives(4)",
            supervised="s_dpo(0.1)",
            meaning="preference of the target over four sampled misses",
            source="arXiv 2406.09215",
            **_TARGET_ONLY,
        ),
        "chord": Strategy(
            supervised="chord(0.1)",
            policy_weight=0.9,
            meaning=".9 x GRPO plus .1 x cross-entropy weighted by p (1 - p) per code",
            source="arXiv 2508.11408",
            all_zero="supervised",
        ),
        "sft": Strategy(
            supervised="sft",
            meaning="cross-entropy on the same targets, no rollouts: is repair just supervision?",
            source="control",
            **_TARGET_ONLY,
        ),
        "grpo_sft": Strategy(
            supervised="sft(0.1)",
            meaning="GRPO plus 0.1 x cross-entropy on the target",
            source="control",
            all_zero="supervised",
        ),
        "target_power": Strategy(
            supervised="power(end=0.25)",
            meaning="the target weighted by p^alpha, alpha from 0 to .25 over training",
            source="arXiv 1805.07836, the gradient of generalised cross-entropy",
            **_TARGET_ONLY,
        ),
        "target_power_hits": Strategy(
            supervised="power_hits(end=0.25)",
            meaning="target_power with p estimated from the hits of the rollouts",
            source="control",
            **_TARGET_ONLY,
        ),
        "nemo_loo": Strategy(
            credit="nemo_loo",
            meaning="reward minus the mean of the others, over their standard deviation",
            source="NeMo-RL GRPOAdvantageEstimator, its default",
            all_zero="zero",
        ),
        "reinforce_pp_baseline": Strategy(
            credit="reinforce_pp_baseline",
            denominator="tokens",
            meaning="reward minus the group mean, whitened over the tokens of the whole batch",
            source="arXiv 2501.03262; verl compute_reinforce_plus_plus_baseline_outcome_advantage",
            all_zero="zero",
        ),
        "pkpo": Strategy(
            credit="pkpo(4)",
            meaning="unbiased gradient of Pass@4, each rollout against the Pass@4 of the others",
            source="arXiv 2505.15201",
            all_zero="zero",
        ),
        "lens": Strategy(
            credit="lens(0.25)",
            meaning="GRPO whose misses cost more the likelier the policy held them",
            source="arXiv 2510.08696",
            all_zero="shaped",
        ),
        "sibling": Strategy(
            credit="sibling",
            meaning="each code against the other codes sampled behind the same prefix",
            source="arXiv 2602.10699",
            all_zero="zero",
        ),
        "step_aligned": Strategy(
            credit="step_aligned",
            meaning="GRPO per level, on whether the codes so far are the target's",
            source="arXiv 2605.17648",
            all_zero="shaped",
        ),
        "gdpo": Strategy(
            credit="gdpo(1)",
            meaning="GRPO on hits plus GRPO on matched codes, whitened over the batch",
            source="arXiv 2601.05242; verl compute_gdpo_outcome_advantage",
            all_zero="shaped",
        ),
        "spo": Strategy(
            credit="spo(0.9)",
            meaning="reward minus the prompt's tracked mean, normalised over the batch; no group",
            source="arXiv 2509.13232",
            all_zero="negative",
        ),
        "gbpo": Strategy(
            clip="gbpo",
            meaning="GRPO whose misses weigh pi / (1 - pi) of the whole item",
            source="arXiv 2508.20900, no public code",
            all_zero="zero",
        ),
        "real": Strategy(
            credit="sign",
            clip="real(0.5)",
            denominator="prompts",
            meaning="all hits against all misses in one loss of log-sums",
            source="arXiv 2602.05630; ms-swift",
            all_zero="zero",
        ),
        "ecpo": Strategy(
            clip="ecpo(0.1)",
            ratio="sequence",
            meaning="GRPO; ratios are held early, which bounds misses (several steps a phase)",
            source="arXiv 2506.13695, no public code",
            all_zero="zero",
        ),
        "cispo": Strategy(
            clip="cispo",
            meaning="GRPO; clipped ratios weigh log pi, none loses its gradient (several steps)",
            source="arXiv 2506.13585",
            all_zero="zero",
        ),
        "dual_clip": Strategy(
            clip="dual_clip(3)",
            meaning="GRPO; the loss of a miss is bounded at 3 times its advantage (several steps)",
            source="arXiv 1912.09729",
            all_zero="zero",
        ),
        "gspo": Strategy(
            ratio="sequence",
            meaning="GRPO; one ratio per rollout, clipped as a whole (several steps a phase)",
            source="arXiv 2507.18071",
            all_zero="zero",
        ),
        "gmpo": Strategy(
            clip="gmpo",
            meaning="GRPO; the geometric mean of clipped ratios (several steps a phase)",
            source="arXiv 2507.20673",
            all_zero="zero",
        ),
        "sapo": Strategy(
            clip="sapo(1, 1.05)",
            meaning="GRPO; a soft gate in the place of the clip (several steps a phase)",
            source="arXiv 2511.20347",
            all_zero="zero",
        ),
        "dppo": Strategy(
            clip="dppo(20)",
            meaning="GRPO; codes stop when their probability has moved too far (several steps)",
            source="arXiv 2602.04879",
            all_zero="zero",
        ),
        "prefix_hint": Strategy(
            repair="hinted(1)",
            supervised="hint(1)",
            meaning="groups without hits roll out again behind the target's first code",
            source="arXiv 2510.19807, on semantic IDs",
            all_zero="supervised",
        ),
        "reinforce_ada": Strategy(
            repair="adaptive(8)",
            credit="raw",
            meaning="sample in rounds until hits and misses are there, keep 8, credit by the pool",
            source="arXiv 2510.04996",
            all_zero="zero",
        ),
        "replay": Strategy(
            repair="replay",
            ratio="sequence",
            meaning="GRPO; an all-zero group replays its prompt's last hit, ratio-corrected",
            source="arXiv 2510.02245, in kind",
            all_zero="zero",
        ),
        "gce": Strategy(
            supervised="gce(0.25)",
            meaning="(1 - p^.25) / .25 of the target: robust to targets that cannot be learnt",
            source="arXiv 1805.07836",
            **_TARGET_ONLY,
        ),
        "gce_code": Strategy(
            supervised="gce_code(0.7)",
            meaning="(1 - p^.7) / .7 of each of the target's codes",
            source="arXiv 1805.07836",
            **_TARGET_ONLY,
        ),
        "dft": Strategy(
            supervised="dft",
            meaning="cross-entropy on the target, each code weighted by its probability",
            source="arXiv 2508.05629",
            **_TARGET_ONLY,
        ),
        "exact_pass_at_k": Strategy(
            supervised="exact_pass_at_k(8)",
            meaning="the exact gradient of the target's Pass@8, no rollouts",
            source="control",
            **_TARGET_ONLY,
        ),
        "exact_maxrl": Strategy(
            supervised="exact_maxrl(32)",
            meaning="the exact gradient that MaxRL estimates, at 33 rollouts",
            source="control for arXiv 2602.02710",
            **_TARGET_ONLY,
        ),
        "sft_pg": Strategy(
            supervised="sft_pg(1)",
            meaning="cross-entropy plus the exact policy gradient of the target",
            source="control",
            **_TARGET_ONLY,
        ),
        "bear": Strategy(
            supervised="bear(10)",
            meaning="cross-entropy that weighs codes by how safe they are in a beam of 10",
            source="arXiv 2601.22925",
            **_TARGET_ONLY,
        ),
        "sft_any": Strategy(
            supervised="sft_any",
            meaning="cross-entropy on all targets of a prompt as one: -log of their sum",
            source="control",
            **_TARGET_ONLY,
        ),
    }
)


LONGEST = 500
"""Characters of a strategy's text."""


def parse_strategy(text: str) -> Strategy:
    """A name of `STRATEGIES`, or a composition such as `"repair=anchor, credit=grpo(eps=1e-4)"`.

    Raises ValueError, one line, for an unknown name, key or value, or a composition that makes no
    sense.

    >>> parse_strategy("recast") is STRATEGIES["recast"]
    True
    >>> parse_strategy("repair=anchor, select=pods(8)").width(32)
    8
    >>> parse_strategy("grop")
    Traceback (most recent call last):
    ValueError: strategy: unknown 'grop'; did you mean 'grpo'?
    """
    if len(text) > LONGEST:
        raise ValueError(f"strategy: {len(text)} characters; expected at most {LONGEST}")
    text = text.strip()
    if not text:
        raise ValueError("strategy: an empty text; expected a name such as grpo, or repair=anchor")
    if text in STRATEGIES:
        return STRATEGIES[text]
    if "=" not in text.split("(")[0]:
        raise ValueError(f"strategy: unknown {text!r}; {nearest(text, STRATEGIES)}")
    return _composed(text)


_composed = lru_cache(maxsize=1024)(compose)
"""A run's text is read where it is checked, named, planned and trained: it is taken apart once."""


def as_strategy(strategy: str | Strategy) -> Strategy:
    """A strategy as it is, a text as `parse_strategy` reads it. Raises ValueError as that does."""
    return parse_strategy(strategy) if isinstance(strategy, str) else strategy

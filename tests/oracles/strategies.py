"""Every strategy's stages by name, and its signal from a batch."""

from __future__ import annotations

from typing import Any, NamedTuple

from oracles.credits import credit
from oracles.edits import edited, selected
from oracles.groups import Rollout


class Row(NamedTuple):
    repair: str
    selection: str
    credit: str
    only_active: bool = False
    supervised: bool = False


STRATEGIES = {
    "grpo": Row("none", "all", "grpo"),
    "grpo_trl": Row("none", "all", "grpo_trl"),
    "grpo_trl_batch": Row("none", "all", "grpo_trl_batch"),
    "grpo_population": Row("none", "all", "grpo_population"),
    "dr_grpo": Row("none", "all", "dr_grpo"),
    "rloo": Row("none", "all", "rloo"),
    "opo": Row("none", "all", "opo"),
    "reinforce": Row("none", "all", "reinforce"),
    "reinforce_pp": Row("none", "all", "reinforce_pp"),
    "gpg": Row("none", "all", "gpg"),
    "gpg_authors": Row("none", "all", "dr_grpo"),
    "best_of_group": Row("none", "all", "best_of_group"),
    "pass_at_k": Row("none", "all", "pass_at_k"),
    "maxrl": Row("none", "all", "maxrl"),
    "psr": Row("none", "positives", "raw", only_active=True),
    "nsr": Row("none", "negatives", "shortfall", only_active=True),
    "w_reinforce": Row("none", "all", "w_reinforce"),
    "ngrpo": Row("none", "all", "ngrpo"),
    "rl_zvp": Row("none", "all", "rl_zvp"),
    "a_grae": Row("none", "all", "a_grae"),
    "ha_dw": Row("none", "all", "ha_dw"),
    "bgae": Row("none", "all", "bgae"),
    "rank_penalty": Row("none", "all", "rank_penalty"),
    "minionerec_sampling": Row("keep_distinct", "all", "grpo_trl"),
    "add_gt": Row("overwrite_last", "all", "grpo_trl"),
    "visurf": Row("append", "all", "grpo"),
    "luffy": Row("overwrite_last", "all", "dr_grpo"),
    "care": Row("none", "near_misses", "care", only_active=True),
    "pods": Row("none", "pods", "grpo"),
    "dynamic_sampling": Row("drop_constant", "all", "grpo"),
    "greso": Row("none", "all", "grpo"),
    "recast": Row("anchor", "pair", "sign", only_active=True),
    "recast_random_negative": Row("anchor", "random", "sign", only_active=True),
    "recast_half_repair": Row("half_of_the_anchors", "pair", "sign", only_active=True),
    "recast_prefix_mask": Row("anchor", "pair", "sign_beyond_prefix", only_active=True),
    "repair_only": Row("anchor", "all", "grpo"),
    "contrast_only": Row("none", "pair", "sign", only_active=True),
    "dpo": Row("none", "one_negative", "none", supervised=True),
    "s_dpo": Row("none", "four_negatives", "none", supervised=True),
    "chord": Row("none", "all", "grpo", supervised=True),
    "sft": Row("none", "nobody", "none", supervised=True),
    "grpo_sft": Row("none", "all", "grpo", supervised=True),
    "target_power": Row("none", "nobody", "none", supervised=True),
    "target_power_hits": Row("none", "nobody", "none", supervised=True),
    "nemo_loo": Row("none", "all", "nemo_loo"),
    "reinforce_pp_baseline": Row("none", "all", "reinforce_pp_baseline"),
    "pkpo": Row("none", "all", "pkpo"),
    "lens": Row("none", "all", "lens"),
    "sibling": Row("none", "all", "sibling"),
    "step_aligned": Row("none", "all", "step_aligned"),
    "gdpo": Row("none", "all", "gdpo"),
    "spo": Row("none", "all", "spo"),
    "gbpo": Row("none", "all", "grpo"),
    "real": Row("none", "all", "sign"),
    "ecpo": Row("none", "all", "grpo"),
    "cispo": Row("none", "all", "grpo"),
    "dual_clip": Row("none", "all", "grpo"),
    "gspo": Row("none", "all", "grpo"),
    "gmpo": Row("none", "all", "grpo"),
    "sapo": Row("none", "all", "grpo"),
    "dppo": Row("none", "all", "grpo"),
    "prefix_hint": Row("none", "all", "grpo", supervised=True),
    "reinforce_ada": Row("adaptive", "all", "raw"),
    "replay": Row("none", "all", "grpo"),
    "gce": Row("none", "nobody", "none", supervised=True),
    "gce_code": Row("none", "nobody", "none", supervised=True),
    "dft": Row("none", "nobody", "none", supervised=True),
    "exact_pass_at_k": Row("none", "nobody", "none", supervised=True),
    "exact_maxrl": Row("none", "nobody", "none", supervised=True),
    "sft_pg": Row("none", "nobody", "none", supervised=True),
    "sft_any": Row("none", "nobody", "none", supervised=True),
    "bear": Row("none", "nobody", "none", supervised=True),
}


def signal(
    name: str, batch: list[list[Rollout]], has_target: list[bool]
) -> tuple[list[list[Any]], list[list[bool]]]:
    """Advantages, and whether each rollout reaches the actor, group by group."""
    row = STRATEGIES[name]
    batch, present = map(
        list,
        zip(
            *(edited(g, row.repair, known) for g, known in zip(batch, has_target, strict=True)),
            strict=True,
        ),
    )
    chosen = []
    for group, members in zip(batch, present, strict=True):
        inside = selected([group[i] for i in members], row.selection)
        chosen.append([members[i] for i in inside])
    credited = credit(
        [[group[i] for i in index] for group, index in zip(batch, chosen, strict=True)], row.credit
    )
    advantages, rows = [], []
    for group, index, values in zip(batch, chosen, credited, strict=True):
        given = dict(zip(index, values, strict=True))
        by_code = {"rl_zvp": 2, "sign_beyond_prefix": 4, "sibling": 4, "step_aligned": 4}
        nothing = (0.0,) * by_code[row.credit] if row.credit in by_code else 0.0
        advantages.append([given.get(i, nothing) for i in range(len(group))])
        rows.append(
            [
                i in given and (given[i] not in (0, nothing) or not row.only_active)
                for i in range(len(group))
            ]
        )
    return advantages, rows

"""OpenOneRec's and verl-GR's dumps: verl's, with the rewards of the recommendation recipe.

score is what is trained on: whether the first ID after `</think>` is a target (`pass_at_1`).
ground_truth holds several targets in one text. hit_reward is the share of the listed IDs that are
targets, pass_rate whether any is, partial_hit_reward 100, 10 or 1 by depth; format_reward says
whether the answer thought, which a run without thinking never does, so it is no sign of malformed
answers there. Source: `verl_rl/recipe/onerec/onerec_recipe.py` (a969edc), `verl_gr` (main).
"""

from workbench.diagnosis.logs.formats.verl import NAMES
from workbench.diagnosis.logs.layout import LogFormat

FORMAT = LogFormat(
    name="openonerec",
    names={**NAMES, "target": ("ground_truth", "gts"), "format": ("format_reward",)},
    typical=(
        frozenset({"input", "output", "score", "pass_at_1"}),
        frozenset({"input", "output", "score", "partial_hit_reward"}),
        frozenset({"input", "output", "score", "hit_reward", "pass_rate"}),
    ),
    step_of_file=r"(\d+)\.jsonl$",
    outcomes=("pass_at_1", "score"),
    versions="OpenOneRec a969edc, verl-GR main",
)

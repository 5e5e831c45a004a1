"""Our advantages against TRL's own code; a rollout that no reward scored is one left out here."""

import pytest
import trl_reference
from ragged import BINARY, GRADED, SIGNED, many

from recast import STRATEGIES, build_signal

BATCHES = 700  # of each kind of reward

# TRL's `scale_rewards`: the same formula here.
SAME = {
    "group": STRATEGIES["grpo_trl"],
    "batch": STRATEGIES["grpo_trl_batch"],
    "none": STRATEGIES["dr_grpo"],
}


@pytest.mark.parametrize("kind", [BINARY, GRADED, SIGNED])
@pytest.mark.parametrize(("scale", "strategy"), SAME.items())
def test_an_advantage_equals_trl_s_to_1e_6(scale, strategy, kind):
    gap = 0.0
    for batch in many(BATCHES, kind):
        ours = build_signal(strategy, batch.groups).advantage
        theirs = trl_reference.advantage(batch.groups.reward, batch.groups.valid, scale)
        gap = max(gap, (ours - theirs).abs().max().item())
    assert gap < 1e-6

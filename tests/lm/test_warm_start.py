"""A language model's warm start: the share it was asked for, or one line why not."""

from __future__ import annotations

import random

import pytest
import tiny

from recast.items import Interaction
from recast.lm.dataset import LMData
from recast.lm.evaluate import from_probability
from recast.lm.optional_extra import LMError
from recast.lm.sft import target_logp
from recast.lm.warm_start import ShareAsked, warm_start


@pytest.fixture
def scene():
    """Rows whose target follows from the last item, a model and its trie."""
    vocab, trie = tiny.vocabulary(), tiny.catalogue(0, items=30)
    sids = [tuple(row) for row in trie.codes.tolist()]
    draw = random.Random(0)

    def rows(count):
        firsts = [draw.randrange(len(sids)) for _ in range(count)]
        return [
            Interaction(str(i), (sids[f],), sids[(f + 1) % len(sids)], "")
            for i, f in enumerate(firsts)
        ]

    made = (tuple(rows(200)), tuple(rows(60)), (), (), frozenset(), frozenset())
    return tiny.model("qwen3", vocab), vocab, trie, LMData("made", tuple(sids), 8, *made)


def test_the_start_has_the_share_that_was_asked_for(scene):
    import torch

    model, vocab, trie, data = scene
    steps, share = warm_start(model, vocab, trie, data, ShareAsked(0.5, 8, 0, batch=32))
    prompts = vocab.prompts([row.history for row in data.learning])
    target = torch.tensor([row.target for row in data.learning])
    logp = target_logp(model, vocab, trie, prompts, target)
    found = float(from_probability(logp.exp(), 8)["all_zero"].mean())
    assert steps > 0
    assert found == pytest.approx(share)
    assert share == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    ("asked", "steps", "says"), [(0.99, 9, "untrained it has"), (0.2, 3, "out of reach")]
)
def test_a_share_that_cannot_be_had_is_one_line(scene, asked, steps, says):
    model, vocab, trie, data = scene
    with pytest.raises(LMError, match=says) as told:
        warm_start(model, vocab, trie, data, ShareAsked(asked, 8, 0, max_steps=steps))
    assert "\n" not in str(told.value)

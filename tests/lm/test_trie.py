"""The trie against a dictionary, and what a catalogue of many items costs."""

from __future__ import annotations

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recast.lm.trie import build_trie

CODES = st.lists(
    st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=40
)


@settings(max_examples=80)
@given(CODES)
def test_children_nodes_and_paths_are_those_of_a_dictionary(sids):
    trie = build_trie(sids)
    known = sorted(set(sids))
    assert [tuple(row) for row in trie.codes.tolist()] == known
    for level in range(3):
        prefixes = sorted({sid[:level] for sid in known})
        assert trie.nodes(level) == len(prefixes)
        codes, real = trie.below(level, torch.arange(len(prefixes)))
        for node, prefix in enumerate(prefixes):
            wanted = sorted({sid[level] for sid in known if sid[:level] == prefix})
            assert codes[node][real[node]].tolist() == wanted
            assert not codes[node][~real[node]].any()
            for slot, code in enumerate(wanted):
                found, child = trie.step(level, torch.tensor(node), torch.tensor(slot))
                assert found == code
                assert sorted({sid[: level + 1] for sid in known})[int(child)] == (*prefix, code)
    nodes, slots, item = trie.walk(torch.tensor(known))
    assert item.tolist() == list(range(len(known)))
    for level in range(3):
        assert torch.equal(
            trie.step(level, nodes[:, level], slots[:, level])[0], trie.codes[:, level]
        )
    outside = [
        (a, b, c) for a in range(8) for b in (0, 7) for c in (3, 9) if (a, b, c) not in known
    ]
    for path in outside[:8]:
        with pytest.raises(ValueError, match="are not an item of the catalogue"):
            trie.walk(torch.tensor([path]))


def test_a_wide_catalogue_costs_numbers_per_item_and_not_per_item_and_code():
    draw = random.Random(0)
    sids = {tuple(draw.randrange(8192) for _ in range(3)) for _ in range(30_000)}
    trie = build_trie(list(sids))
    held = sum(t.numel() for t in (*trie.first, *trie.label, *trie.parent, trie.codes))
    assert held < 12 * len(sids)

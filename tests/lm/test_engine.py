"""The engine: shared prefix equals re-encoding, constrained decoding equals enumeration."""

from __future__ import annotations

import itertools

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recast.lm.decode import beams, enumerate_nodes, sample
from recast.lm.prefix import packed_logp, reencoded_logp
from recast.lm.trie import build_trie

SEEDS = st.integers(0, 10_000)
QUICK = settings(max_examples=15, deadline=None)


def stock_logp(model, vocab, trie, prompt, code, constrained):
    """One path by the model's own forward call, no padding, no mask, token by token."""
    logp = []
    ids = list(prompt)
    sids = [tuple(row) for row in trie.codes.tolist()]
    for level, chosen in enumerate(code):
        logits = model(input_ids=torch.tensor([ids])).logits[0, -1]
        if constrained:
            options = sorted({s[level] for s in sids if s[:level] == tuple(code[:level])})
            tokens = [vocab.tokens[level][c] for c in options]
            logp.append(torch.log_softmax(logits[tokens], -1)[options.index(chosen)])
        else:
            logp.append(torch.log_softmax(logits, -1)[vocab.tokens[level][chosen]])
        ids.append(vocab.tokens[level][chosen])
    return torch.stack(logp)


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
@given(seed=SEEDS, batch=st.integers(1, 4), rows=st.integers(1, 5), constrained=st.booleans())
@QUICK
def test_the_packed_tree_equals_reencoding_and_the_stock_forward_call(
    architecture, seed, batch, rows, constrained
):
    vocab = tiny.vocabulary()
    trie = tiny.catalogue(seed)
    model = tiny.model(architecture, vocab, seed)
    prompts = tiny.prompts(vocab, trie, seed, batch)
    codes = tiny.paths(trie, seed, batch, rows)
    over = trie if constrained else None
    with torch.no_grad():
        packed = packed_logp(model, vocab, prompts, codes, over)
        again = reencoded_logp(model, vocab, prompts, codes, over)
        b, u = seed % batch, seed % rows
        prompt = prompts.ids[b, : prompts.length[b]].tolist()
        stock = stock_logp(model, vocab, trie, prompt, codes[b, u].tolist(), constrained)
    assert torch.allclose(packed, again, atol=1e-5)
    assert torch.allclose(packed[b, u], stock, atol=1e-5)


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
@given(seed=SEEDS, constrained=st.booleans())
@settings(max_examples=8, deadline=None)
def test_the_packed_tree_has_the_gradient_of_reencoding(architecture, seed, constrained):
    vocab = tiny.vocabulary()
    trie = tiny.catalogue(seed)
    model = tiny.model(architecture, vocab, seed)
    prompts = tiny.prompts(vocab, trie, seed, 3)
    codes = tiny.paths(trie, seed, 3, 4)
    weight = torch.randn(3, 4, 3, generator=torch.Generator().manual_seed(seed))
    parameters = list(model.parameters())
    grads = [
        torch.cat(
            [
                g.flatten()
                for g in torch.autograd.grad(
                    (
                        path(model, vocab, prompts, codes, trie if constrained else None) * weight
                    ).sum(),
                    parameters,
                )
            ]
        )
        for path in (packed_logp, reencoded_logp)
    ]
    assert (grads[0] - grads[1]).norm() <= 1e-4 * grads[1].norm()
    assert grads[1].norm() > 0


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
@given(seed=SEEDS, temperature=st.sampled_from([0.5, 1.0, 2.0]))
@QUICK
def test_sampling_reports_the_log_probability_that_scoring_gives(architecture, seed, temperature):
    vocab = tiny.vocabulary()
    trie = tiny.catalogue(seed)
    model = tiny.model(architecture, vocab, seed)
    prompts = tiny.prompts(vocab, trie, seed, 3)
    draws = torch.rand(3, 6, 3, generator=torch.Generator().manual_seed(seed))
    rolled = sample(model, vocab, trie, prompts, draws, temperature)
    trie.walk(rolled.codes)  # raises when a rollout is not an item
    with torch.no_grad():
        scored = packed_logp(model, vocab, prompts, rolled.codes, trie, temperature)
    assert torch.allclose(rolled.logp, scored, atol=1e-5)


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
@given(seed=SEEDS, items=st.integers(1, 30), width=st.integers(1, 40))
@QUICK
def test_enumeration_scores_every_item_and_wide_beams_are_its_ranking(
    architecture, seed, items, width
):
    vocab = tiny.vocabulary()
    trie = tiny.catalogue(seed, items)
    model = tiny.model(architecture, vocab, seed)
    prompts = tiny.prompts(vocab, trie, seed, 2)
    nodes = enumerate_nodes(model, vocab, trie, prompts)
    logp, warm = nodes.item_logp(), nodes.item_logp(2.0)
    every = trie.codes.expand(2, -1, -1)
    with torch.no_grad():
        scored = packed_logp(model, vocab, prompts, every, trie).sum(-1)
        scored_warm = packed_logp(model, vocab, prompts, every, trie, 2.0).sum(-1)
    assert torch.allclose(logp, scored, atol=1e-5)
    assert torch.allclose(warm, scored_warm, atol=1e-5)
    assert torch.allclose(logp.exp().sum(-1), torch.ones(2), atol=1e-5)
    item, total = beams(model, vocab, trie, prompts, width)
    assert item.shape == (2, width)
    if width >= trie.items:  # nothing is pruned
        ranked = logp.sort(-1, descending=True).values
        assert torch.allclose(total[:, : trie.items], ranked, atol=1e-5)
        assert (item[:, trie.items :] == -1).all()
    kept = item >= 0
    assert torch.allclose(logp.gather(1, item.clamp(min=0))[kept], total[kept], atol=1e-5)


def test_beams_of_width_one_are_greedy_decoding():
    vocab = tiny.vocabulary()
    trie = tiny.catalogue(3)
    model = tiny.model("qwen3", vocab, 3)
    prompts = tiny.prompts(vocab, trie, 3, 4)
    item, _ = beams(model, vocab, trie, prompts, 1)
    cold = sample(model, vocab, trie, prompts, torch.full((4, 1, 3), 0.5), temperature=1e-3)
    assert trie.walk(cold.codes)[2].tolist() == item.tolist()


def test_sampling_follows_the_enumerated_distribution():
    vocab = tiny.vocabulary()
    trie = tiny.catalogue(5, items=8)
    model = tiny.model("llama", vocab, 5)
    prompts = tiny.prompts(vocab, trie, 5, 1)
    draws = torch.rand(1, 20_000, 3, generator=torch.Generator().manual_seed(0))
    parts = [sample(model, vocab, trie, prompts, part) for part in draws.split(500, 1)]
    item = torch.cat([trie.walk(part.codes)[2][0] for part in parts])
    share = torch.bincount(item, minlength=trie.items) / 20_000
    logp = enumerate_nodes(model, vocab, trie, prompts).item_logp()
    assert (share - logp.exp()[0]).abs().max() < 0.015
    entropy = -(logp.exp() * logp).sum(-1)
    drawn = torch.cat([part.entropy.sum(-1) for part in parts], 1).mean(-1)
    assert torch.allclose(drawn, entropy, atol=0.02)


@given(st.sets(st.tuples(*[st.integers(0, 3)] * 3), min_size=1, max_size=30))
@settings(max_examples=50, deadline=None)
def test_the_trie_holds_exactly_its_items(sids):
    trie = build_trie(sorted(sids))
    assert [tuple(row) for row in trie.codes.tolist()] == sorted(sids)
    _, _, item = trie.walk(trie.codes)
    assert item.tolist() == list(range(len(sids)))
    outside = set(itertools.product(range(4), repeat=3)) - sids
    for sid in sorted(outside)[:3]:
        with pytest.raises(ValueError, match="not an item of the catalogue"):
            trie.walk(torch.tensor([sid]))

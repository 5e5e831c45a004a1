"""Strategies from text: names, compositions, and what is refused in one line."""

import re
from dataclasses import replace

import pytest
import torch
from rollout_batches import every_strategy

from recast import (
    STRATEGIES,
    RolloutGroups,
    Strategy,
    build_signal,
    parse_strategy,
)
from recast.stages.credit import CREDITS


@every_strategy
def test_a_name_parses_to_its_registered_strategy(name):
    assert parse_strategy(f" {name} ") is STRATEGIES[name]


@every_strategy
def test_the_text_of_a_strategy_parses_back_to_its_stages(name):
    strategy = STRATEGIES[name]
    labels = {"meaning": "", "source": "", "all_zero": "unstated"}
    assert parse_strategy(strategy.text) == replace(strategy, **labels)


def test_a_wide_pass_at_k_is_refused_by_the_groups_and_not_before():
    strategy = parse_strategy("credit=pass_at_k(20)")
    assert build_signal(strategy, RolloutGroups.of(torch.eye(24))).active.all()
    with pytest.raises(ValueError, match=r"^credit=pass_at_k\(20\) needs G >= 20, got G = 8$"):
        build_signal(strategy, RolloutGroups.of(torch.eye(8)))


def test_a_composition_parses_to_its_stages():
    text = "repair=anchor, select=pair, credit=sign(negative_weight=0.5), supervised=sft(0.1)"
    expected = Strategy(
        repair="anchor",
        select="pair",
        credit="sign(negative_weight=0.5)",
        supervised="sft(0.1)",
    )
    assert parse_strategy(text) == expected
    reward = torch.tensor([[1.0, 0.0]])
    signal = build_signal(expected, RolloutGroups.of(reward))
    assert signal.advantage.tolist() == [[1.0, -0.5]]
    assert signal.count.tolist() == [3]


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("gpro", "did you mean 'grpo'?"),
        ("recats", "did you mean 'recast'?"),
        ("rec\nast", "did you mean 'recast'?"),
        ("zzz", "the nearest is '"),
        ("", "an empty text"),
        ("credits=grpo", "did you mean 'credit'?"),
        ("credit=gpro", "did you mean 'grpo'?"),
        ("repair=anhcor", "did you mean 'anchor'?"),
        ("select=pairs", "did you mean 'pair'?"),
        ("update=some", "not one of all, active"),
        ("denominator=rows", "not one of rollouts, active, tokens, prompts, constant"),
        ("supervised=lots", "supervised: unknown 'lots'"),
        ("supervised=sft(-1)", "supervised: weight=-1 in 'sft(-1)'; expected a number >= 0"),
        ("supervised=sft(nan)", "'nan' in 'sft(nan)' is not a finite number"),
        ("policy_weight=much", "'much' is not a number"),
        ("policy_weight=-1", "expected a weight >= 0"),
        ("anchor_ratio=two", "anchor_ratio: unknown 'two'"),
        ("select=pods(2.5)", "expected a whole number"),
        ("credit=pass_at_k(2.5)", "k=2.5 in 'pass_at_k(2.5)'; expected a whole number"),
        ("credit=bgae(0)", "expected a whole number >= 1"),
        (
            "repair=anchor_share(1.5)",
            "share=1.5 in 'anchor_share(1.5)'; expected a number >= 0 and",
        ),
        ("repair=keep_distinct(0.5)", "factor=0.5 in 'keep_distinct(0.5)'; expected a number >= 1"),
        ("select=positives, credit=grpo", "an advantage of 0"),
        ("select=positives, credit=shortfall", "an advantage of 0"),
        ("select=negatives, credit=rloo", "an advantage of 0"),
        ("credit=none", "learns nothing"),
        ("credit=grpo(epsilon=1)", "grpo takes eps, ddof"),
        ("credit=grpo(1, 2, 3)", "grpo takes eps, ddof"),
        ("credit=rloo(1)", "rloo takes no options"),
        ("credit=grpo(eps=x)", "'x' in 'grpo(eps=x)' is not a number"),
        ("credit=grpo(eps=nan)", "'nan' in 'grpo(eps=nan)' is not a"),
        ("credit=sign(inf)", "'inf' in 'sign(inf)' is not a"),
        ("credit=grpo(eps=1", "cannot read"),
        ("credit=sign, meaning=x", "unknown key 'meaning'"),
    ],
)
def test_a_strategy_that_cannot_be_read_gets_one_line_naming_the_nearest(text, hint):
    with pytest.raises(ValueError, match=re.escape(hint)) as caught:
        parse_strategy(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("credit", sorted(CREDITS))
def test_an_unknown_option_is_refused_by_every_credit(credit):
    with pytest.raises(ValueError, match=f"credit: {credit} takes "):
        Strategy(credit=f"{credit}(nonsense=1)", supervised="sft")

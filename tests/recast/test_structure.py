"""Structural score against the loop oracle, at any depth."""

import itertools

import oracles
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recast import matched_levels, structural_score
from recast.common_prefix import leading
from recast.structure import level_scores

quick = settings(max_examples=100, deadline=None)


@st.composite
def prompts(draw):
    """Rollouts that hold several semantic IDs, and the targets of their prompt."""
    depth = draw(st.integers(1, 5))
    path = st.tuples(*[st.integers(0, 2)] * depth)
    rollouts = draw(st.lists(st.lists(path, max_size=3), min_size=1, max_size=4))
    return depth, rollouts, draw(st.lists(path, max_size=3))


def pad(rows, width, filler):
    """Codes `[len(rows), width, L]` and the mask of the real ones."""
    codes = torch.tensor([row + [filler] * (width - len(row)) for row in rows])
    mask = torch.tensor([[i < len(row) for i in range(width)] for row in rows])
    return codes, mask


@quick
@given(prompts())
def test_the_score_equals_the_oracle_at_any_depth_whatever_the_padding_holds(prompt):
    depth, rollouts, targets = prompt
    tempting = targets[0] if targets else (0,) * depth
    paths, paths_valid = pad(rollouts, 4, tempting)
    padded_targets, targets_valid = pad([targets], 4, rollouts[0][0] if rollouts[0] else tempting)
    score = structural_score(
        paths,
        padded_targets,
        paths_valid=paths_valid,
        targets_valid=targets_valid,
        dtype=torch.float64,
    )
    expected = [oracles.structural_score(rollout, targets) for rollout in rollouts]
    assert score.tolist() == pytest.approx(expected, rel=1e-12, abs=1e-15)
    assert ((score >= 0) & (score <= 1)).all()


@quick
@given(prompts())
def test_without_masks_every_path_and_target_counts(prompt):
    depth, rollouts, targets = prompt
    for rollout in rollouts:
        paths = torch.tensor(rollout, dtype=torch.int64).reshape(-1, depth)
        wanted = torch.tensor(targets, dtype=torch.int64).reshape(-1, depth)
        score = structural_score(paths, wanted, dtype=torch.float64).item()
        assert score == pytest.approx(oracles.structural_score(rollout, targets), rel=1e-12)


@quick
@given(prompts())
def test_matched_levels_counts_leading_codes_only(prompt):
    _, rollouts, targets = prompt
    for path, target in itertools.product(itertools.chain(*rollouts), targets):
        levels = matched_levels(torch.tensor(path), torch.tensor(target)).item()
        assert levels == oracles.matched_levels(path, target)


def test_leading_is_the_length_of_the_longest_common_beginning():
    lists = [list(p) for n in range(4) for p in itertools.product("ab", repeat=n)]
    for one, other in itertools.product(lists, repeat=2):
        shorter = min(len(one), len(other))
        assert leading(one, other) == max(n for n in range(shorter + 1) if one[:n] == other[:n])


def test_a_perfect_path_scores_one_and_a_wrong_first_code_scores_zero():
    paths = torch.tensor([[[1, 2, 3]], [[0, 2, 3]], [[1, 2, 0]], [[1, 0, 3]]])
    score = structural_score(paths, torch.tensor([[1, 2, 3]]))
    assert score.tolist() == pytest.approx([1.0, 0.0, 0.1, 0.01])


def test_paths_and_targets_of_different_depths_are_refused():
    with pytest.raises(ValueError, match="different depths: 3 and 2"):
        matched_levels(torch.zeros(3, dtype=torch.int64), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match="different depths: 3 and 2"):
        structural_score(torch.zeros(1, 3), torch.zeros(1, 2))


def test_the_scores_of_the_levels_are_the_published_ones_in_the_asked_type():
    assert level_scores(3).tolist() == pytest.approx([0.0, 0.01, 0.1, 1.0])
    assert level_scores(3).dtype == torch.float32
    assert level_scores(2, torch.float64).tolist() == [0.0, 0.1, 1.0]
    assert level_scores(2, torch.float64).dtype == torch.float64
    assert level_scores(2).device == torch.device("cpu")
    assert level_scores(2, device=torch.device("meta")).is_meta


def test_each_prompt_of_a_batch_has_its_own_targets_and_its_own_mask():
    paths = torch.tensor([[[[1, 2]], [[3, 4]]], [[[1, 2]], [[3, 4]]]])  # [B, G, P, L]
    targets = torch.tensor([[[[1, 2], [3, 4]]], [[[1, 2], [3, 4]]]])  # [B, 1, T, L]
    known = torch.tensor([[[True, False]], [[False, True]]])  # [B, 1, T]
    score = structural_score(paths, targets, targets_valid=known)
    assert score.tolist() == [[1.0, 0.0], [0.0, 1.0]]
    real = torch.tensor([[[True], [False]], [[True], [True]]])  # [B, G, P]
    score = structural_score(paths, targets, paths_valid=real)
    assert score.tolist() == [[1.0, 0.0], [1.0, 1.0]]


def test_a_batch_without_paths_or_without_targets_scores_zero_in_the_shape_of_its_rollouts():
    for count, targets in ((0, 2), (2, 0), (0, 0)):
        paths = torch.zeros(3, 4, count, 2, dtype=torch.int64)
        wanted = torch.zeros(3, 1, targets, 2, dtype=torch.int64)
        score = structural_score(paths, wanted)
        assert score.shape == (3, 4)
        assert not score.any()


def test_the_score_stays_on_the_device_of_the_paths():
    paths = torch.zeros(2, 3, 1, 2, dtype=torch.int64, device="meta")
    score = structural_score(paths, torch.zeros(2, 1, 1, 2, dtype=torch.int64, device="meta"))
    assert score.is_meta
    assert score.shape == (2, 3)


def test_a_padded_target_counts_for_no_rollout_and_the_type_is_the_one_asked_for():
    """Two prompts, three IDs each: a target that is padding in one prompt alone."""
    paths = torch.tensor([[[1, 1, 1], [1, 1, 2], [1, 2, 2]], [[1, 1, 1], [1, 1, 2], [1, 2, 2]]])
    targets = torch.tensor([[[1, 1, 1], [5, 5, 5]], [[1, 1, 1], [1, 2, 2]]])
    real = torch.tensor([[True, True], [False, True]])
    score = structural_score(paths, targets, targets_valid=real, dtype=torch.float64)
    assert score.dtype == torch.float64
    assert score.tolist() == [(1 + 10**-1 + 10**-2) / 3, (10**-2 + 10**-2 + 1) / 3]

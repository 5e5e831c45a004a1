"""Rows with one right answer or several, as TRL's and verl's data sets hand them over."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recast.adapters.target_sets import drawn, nearest, one_length, right_answers

ANSWERS = st.lists(st.lists(st.integers(0, 9), min_size=3, max_size=3), min_size=1, max_size=5)


@given(answers=ANSWERS, draw=st.floats(0, 1, exclude_max=True))
def test_answers_are_the_same_from_lists_tuples_and_arrays(answers, draw):
    found = right_answers(answers)
    assert found == [list(answer) for answer in dict.fromkeys(map(tuple, answers))]
    ragged = np.empty(len(answers), dtype=object)
    ragged[:] = [np.array(answer) for answer in answers]
    for other in (np.array(answers), ragged, tuple(map(tuple, answers)), torch.tensor(answers)):
        assert right_answers(other) == found
    for one in (answers[0], np.array(answers[0]), tuple(answers[0]), torch.tensor(answers[0])):
        assert right_answers(one) == [answers[0]]
    assert one_length([found, found]) == 3
    assert drawn(found, draw) in found
    assert {tuple(drawn(found, k / len(found))) for k in range(len(found))} == set(
        map(tuple, found)
    )


@given(answers=ANSWERS, tokens=st.lists(st.integers(0, 9), max_size=4))
def test_a_rollout_is_as_near_as_to_the_nearest_answer(answers, tokens):
    def shared(answer):
        return next((i for i, (a, b) in enumerate(zip(tokens, answer, strict=False)) if a != b),
                    min(len(tokens), len(answer)))  # fmt: skip

    assert nearest(tokens, answers) == max(map(shared, answers))


@pytest.mark.parametrize(
    "bad", [[], [[]], [[1, 2], []], ["a", "b"], [[1, None]], "123", [1, [2]], [1.5, 2]]
)
def test_what_is_no_answer_is_one_line(bad):
    with pytest.raises(ValueError, match=r"target_ids: .*expected a list of token ids") as caught:
        right_answers(bad)
    assert "\n" not in str(caught.value)

"""Rows inside something else come out plain, and plain rows stay as they are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from workbench.diagnosis.logs.opened import opened

PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9)


@given(st.dictionaries(st.sampled_from(["step", "prompt", "reward", "note", "uid"]), PLAIN))
def test_a_row_of_plain_values_stays_as_it_is(row):
    assert opened(dict(row)) == row


def test_an_envelope_and_named_scores_come_out():
    row = {"step": 3, "data": {"prompt": "p"}, "scores": [{"name": "accuracy", "value": 1.0}]}
    found = opened(row)
    assert (found["step"], found["prompt"]) == (3, "p")
    assert found["scores"] == {"accuracy": 1.0}

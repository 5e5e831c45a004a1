"""Packing the rows of one rollout phase."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recast.adapters.microbatches import EMPTY, packed


def parts_of(active: list[bool], steps: int) -> list[dict]:
    """Rows 0, 1, ... in `steps` parts; row i has advantage i + 1, inactive ones a mask of 0."""
    rows = torch.arange(len(active))
    mask = torch.tensor(active).unsqueeze(-1).expand(-1, 3).int()
    whole = {"row": rows, "completion_mask": mask, "advantages": (rows + 1.0) * mask[:, 0]}
    cut = {name: value.chunk(steps) for name, value in whole.items()}
    return [
        {"count": torch.tensor(7), "none": None, **{name: cut[name][i] for name in cut}}
        for i in range(steps)
    ]


@settings(deadline=None)
@given(st.lists(st.booleans(), min_size=4, max_size=4 * 6), st.integers(1, 6), st.integers(0, 5))
def test_every_active_row_is_there_once_in_as_few_micro_batches_as_possible(active, size, more):
    active = active[: len(active) // 4 * 4]
    most = max(1, min(4 * size, sum(active) + more))
    if sum(active) > most:
        return
    parts = parts_of(active, 4)
    for row_means in (False, True):
        found = packed(parts, most=most, size=size, row_means=row_means)
        assert len(found) == 4
        full = [part for part in found if EMPTY not in part]
        assert found[-len(full) :] == full
        assert len(full) == -(-most // size)
        assert len({len(part["row"]) for part in full}) == 1
        assert len(full[0]["row"]) <= size
        live = [part["completion_mask"].any(-1) for part in full]
        kept = torch.cat([part["row"][mask] for part, mask in zip(full, live, strict=True)])
        assert sorted(kept.tolist()) == [i for i, on in enumerate(active) if on]
        assert all(int(part["count"]) == 7 and part["none"] is None for part in full)
        # What the loss sums: rows, or means over the rows of each micro-batch.
        before = sum(
            float(p["advantages"].mean() if row_means else p["advantages"].sum()) for p in parts
        )
        after = sum(
            float((p["advantages"] * mask).mean() if row_means else (p["advantages"] * mask).sum())
            for p, mask in zip(full, live, strict=True)
        )
        assert after == pytest.approx(before, rel=1e-5)

"""Semantic-ID structure: how much of a target's code path a rollout found.

Shapes: code paths are integer `[..., L]`, coarse to fine. The structural score ranks rollouts
inside a group; it is never a reward.
Source: arXiv 2604.22169, section 3; equals OpenOneRec's `partial_hit_reward` / 100.
"""

from __future__ import annotations

import torch
from torch import Tensor


def matched_levels(path: Tensor, target: Tensor) -> Tensor:
    """Number of leading codes that agree, 0..L; int64, the broadcast shape less its last axis.

    path, target: integer `[..., L]`, broadcast against each other.
    Raises ValueError when the depths differ.

    >>> import torch
    >>> matched_levels(torch.tensor([[1, 2, 3], [1, 9, 3]]), torch.tensor([1, 2, 3]))
    tensor([3, 1])
    """
    if path.shape[-1] != target.shape[-1]:
        raise ValueError(
            f"semantic IDs have different depths: {path.shape[-1]} and {target.shape[-1]}"
        )
    return (path == target).cumprod(-1).sum(-1)


def level_scores(
    depth: int, dtype: torch.dtype = torch.float32, device: torch.device | None = None
) -> Tensor:
    """phi by number of matched levels 0..L: 0, then 10^(m - L); `[L + 1]`."""
    steps = torch.arange(depth + 1, dtype=torch.float64, device=device)
    return torch.where(steps == 0, 0.0, 10.0 ** (steps - depth)).to(dtype)


def structural_score(
    paths: Tensor,
    targets: Tensor,
    *,
    paths_valid: Tensor | None = None,
    targets_valid: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """u = mean over a rollout's IDs of (max over the targets of phi); `[...]`.

    paths `[..., P, L]` are the P semantic IDs of each rollout, targets `[..., T, L]` the ground
    truth; the leading axes broadcast. The masks `[..., P]` and `[..., T]` mark padding; a rollout
    without IDs, or a prompt without targets, scores 0.
    Raises ValueError when the depths differ.

    >>> import torch
    >>> rollouts = torch.tensor([[[1, 2, 3]], [[1, 2, 9]], [[7, 2, 3]]])  # one ID each
    >>> structural_score(rollouts, torch.tensor([[1, 2, 3]]))
    tensor([1.0000, 0.1000, 0.0000])
    """
    levels = matched_levels(paths.unsqueeze(-2), targets.unsqueeze(-3))
    phi = level_scores(paths.shape[-1], dtype).to(levels.device)[levels]
    if targets_valid is not None:
        phi = phi * targets_valid.unsqueeze(-2)
    best = phi.amax(-1) if targets.shape[-2] else phi.new_zeros(phi.shape[:-1])
    if paths_valid is None:
        return best.mean(-1) if paths.shape[-2] else best.sum(-1)
    counted = best * paths_valid
    return counted.sum(-1) / paths_valid.sum(-1).clamp(min=1)

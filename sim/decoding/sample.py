"""Rollouts: i.i.d. items sampled down the trie, and log-probabilities of given items.

A policy with hand-written node passes walks the shared tree of `sim.decoding.shared_tree`; any
other one, and the tests, use `sample_each` and `path_logp_each`, which pay for every rollout at
every level.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from sim.decoding.shared_tree import sample_items, tree_logp
from sim.policies.nodes import NodePolicy, Params
from sim.policies.protocol import Policy
from sim.worlds.catalogue import Catalogue


def sample(
    policy: Policy,
    params: Params,
    catalogue: Catalogue,
    encoded: Tensor,
    uniform: Tensor,
    temperature: float,
) -> Tensor:
    """Sample G items per prompt, trie-constrained, each code at the given temperature.

    encoded `[R, B, ...]`; uniform `[R, B, G, L]` draws in [0, 1). Returns items `[R, B, G]`.
    """
    if isinstance(policy, NodePolicy):
        with torch.no_grad():
            flat = encoded.flatten(0, 1)
            return sample_items(policy, params, catalogue, flat, uniform, temperature)
    return sample_each(policy, params, catalogue, encoded, uniform, temperature)


def path_logp(
    policy: Policy, params: Params, catalogue: Catalogue, encoded: Tensor, item: Tensor
) -> Tensor:
    """Log-probability of each code of given items at T = 1; `[R, B, M]` -> `[R, B, M, L]`."""
    if isinstance(policy, NodePolicy):
        return tree_logp(policy, params, catalogue, encoded, item)
    return path_logp_each(policy, params, catalogue, encoded, item)


def sample_each(
    policy: Policy,
    params: Params,
    catalogue: Catalogue,
    encoded: Tensor,
    uniform: Tensor,
    temperature: float,
    given: Tensor | None = None,
    hint: Tensor | None = None,
) -> Tensor:
    """`sample`, rollout by rollout: the reference. uniform `[R, B, G, L]` -> items `[R, B, G]`.

    With hint `[R, B]`, that many leading codes are those of given `[R, B, L]` instead of drawn.
    """
    node = torch.zeros(uniform.shape[:3], dtype=torch.int64)
    for level, here in enumerate(catalogue.levels):
        code = _draw(policy, params, catalogue, encoded, uniform, temperature, level, node)
        if given is not None and hint is not None:
            known = given[..., level].unsqueeze(-1)
            code = torch.where(level < hint.unsqueeze(-1), known, code)
        # Only NaN logits draw a code that no item has; such a run is stopped at its next update.
        node = here.next[node, code].clamp(min=0)
    return node


def _draw(
    policy: Policy,
    params: Params,
    catalogue: Catalogue,
    encoded: Tensor,
    uniform: Tensor,
    temperature: float,
    level: int,
    node: Tensor,
) -> Tensor:
    """The code that each draw picks at its node of a level; `[R, B, G]`."""
    at = node[:, :, :1] if level == 0 else node
    logits = policy.node_logits(params, encoded, catalogue, level, at) / temperature
    allowed = catalogue.levels[level].allowed[at]
    weight = torch.softmax(logits.masked_fill(~allowed, -torch.inf), dim=-1)
    cdf = weight.cumsum(-1)
    point = uniform[..., level].to(cdf.dtype).unsqueeze(-1) * cdf[..., -1:]
    point = torch.minimum(point, torch.nextafter(cdf[..., -1:], cdf.new_zeros(())))
    return (cdf <= point).sum(-1)


def path_logp_each(
    policy: Policy,
    params: Params,
    catalogue: Catalogue,
    encoded: Tensor,
    item: Tensor,
    temperature: float = 1.0,
) -> Tensor:
    """`path_logp`, rollout by rollout through autograd: the reference; at any temperature.

    item `[R, B, M]` -> `[R, B, M, L]`, nats.
    """
    nodes = _along(policy, params, catalogue, encoded, item, temperature)
    codes = catalogue.codes[item].unsqueeze(-1).unbind(-2)
    return torch.stack(
        [logp.gather(-1, code).squeeze(-1) for logp, code in zip(nodes, codes, strict=True)], -1
    )


def path_codes(
    policy: Policy, params: Params, catalogue: Catalogue, encoded: Tensor, item: Tensor
) -> Tensor:
    """Log-probability at T = 1 of every code at each node of given items' paths, nats, -inf where
    none follows; `[R, B, M]` -> `[R, B, M, L, K]`."""
    return torch.stack([*_along(policy, params, catalogue, encoded, item, 1.0)], dim=-2)


def path_entropy(
    policy: Policy, params: Params, catalogue: Catalogue, encoded: Tensor, item: Tensor
) -> Tensor:
    """Entropy of the policy at T = 1 at each node of given items' paths, nats; `[R, B, M, L]`."""
    nodes = _along(policy, params, catalogue, encoded, item, 1.0)
    return torch.stack([-(logp.exp() * logp.clamp(min=-1e4)).sum(-1) for logp in nodes], dim=-1)


def _along(
    policy: Policy,
    params: Params,
    catalogue: Catalogue,
    encoded: Tensor,
    item: Tensor,
    temperature: float,
) -> Iterator[Tensor]:
    """Log-probability of every code at each node of the items' paths; L times `[R, B, M, K]`."""
    for level, here in enumerate(catalogue.levels):
        node = catalogue.path[item, level]
        logits = policy.node_logits(params, encoded, catalogue, level, node) / temperature
        yield torch.log_softmax(logits.masked_fill(~here.allowed[node], -torch.inf), dim=-1)

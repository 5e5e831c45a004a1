"""Rollouts: i.i.d. items sampled down the trie, and log-probabilities of given items."""

from __future__ import annotations

import torch
from torch import Tensor

from sim.catalogue import Catalogue
from sim.policy import Params, Policy


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
    runs, prompts, group, _ = uniform.shape
    node = torch.zeros(runs, prompts, group, dtype=torch.int64)
    for level, here in enumerate(catalogue.levels):
        at = node[:, :, :1] if level == 0 else node
        logits = policy.node_logits(params, encoded, catalogue, level, at) / temperature
        weight = torch.softmax(logits.masked_fill(~here.allowed[at], -torch.inf), dim=-1)
        cdf = weight.cumsum(-1)
        point = uniform[..., level].to(cdf.dtype).unsqueeze(-1) * cdf[..., -1:]
        point = torch.minimum(point, torch.nextafter(cdf[..., -1:], cdf.new_zeros(())))
        code = (cdf <= point).sum(-1)
        node = here.next[node, code]
    return node


def path_logp(
    policy: Policy, params: Params, catalogue: Catalogue, encoded: Tensor, item: Tensor
) -> Tensor:
    """Log-probability of each code of given items at T = 1; `[R, B, M]` -> `[R, B, M, L]`."""
    steps = []
    for level, here in enumerate(catalogue.levels):
        node = catalogue.path[item, level]
        logits = policy.node_logits(params, encoded, catalogue, level, node)
        logp = torch.log_softmax(logits.masked_fill(~here.allowed[node], -torch.inf), dim=-1)
        steps.append(logp.gather(-1, catalogue.codes[item, level].unsqueeze(-1)).squeeze(-1))
    return torch.stack(steps, dim=-1)


def path_entropy(
    policy: Policy, params: Params, catalogue: Catalogue, encoded: Tensor, item: Tensor
) -> Tensor:
    """Entropy of the policy at T = 1 at each node of given items' paths, nats; `[R, B, M, L]`."""
    steps = []
    for level, here in enumerate(catalogue.levels):
        node = catalogue.path[item, level]
        logits = policy.node_logits(params, encoded, catalogue, level, node)
        logp = torch.log_softmax(logits.masked_fill(~here.allowed[node], -torch.inf), dim=-1)
        steps.append(-(logp.exp() * logp.clamp(min=-1e4)).sum(-1))
    return torch.stack(steps, dim=-1)

"""The peer: the same training step as a good JAX user would write it, jit + vmap or lax.map.

One pass samples and scores (sampled codes are integers, so the loss differentiates through their
log-probabilities alone), level 1 is shared by the rollouts of a prompt, codes are drawn by
comparing with a cumulative sum, Adam is fused into the step, and steps are scanned inside jit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Tree = dict[str, Any]


class Peer:
    """The world and one strategy as JAX arrays and functions. strategy: grpo or recast. kl: weight
    of grpo's k3 estimate of the KL divergence from where the run started, per code."""

    def __init__(
        self,
        catalogue: Any,
        context: np.ndarray,
        target: np.ndarray,
        strategy: str,
        group: int,
        kl: float = 0.0,
    ) -> None:
        self.group, self.depth, self.kl = group, catalogue.depth, kl
        self.levels = [
            (level.offset, jnp.asarray(level.allowed.numpy()), jnp.asarray(level.next.numpy()))
            for level in catalogue.levels
        ]
        self.path = jnp.asarray(catalogue.path.numpy())
        self.codes = jnp.asarray(catalogue.codes.numpy())
        self.context, self.target = jnp.asarray(context), jnp.asarray(target)
        self.loss = {"grpo": self.grpo, "recast": self.recast}[strategy]

    def log_probs(self, params: Tree, encoded: Any, level: int, node: Any) -> Any:
        offset, allowed, _ = self.levels[level]
        hidden = jnp.tanh(encoded[:, None, :] + params["node"][node + offset])
        logits = hidden @ params["head"][level] + params["bias"][level]
        return jax.nn.log_softmax(jnp.where(allowed[node], logits, -jnp.inf))

    def roll_out(self, params: Tree, encoded: Any, key: Any) -> tuple[Any, Any, Any]:
        """Items [B, G], their codes [B, G, L], and log p of each code [B, G, L]."""
        batch = encoded.shape[0]
        uniform = jax.random.uniform(key, (self.depth, batch, self.group), dtype=encoded.dtype)
        node = jnp.zeros((batch, self.group), dtype=jnp.int32)
        chosen, taken = [], []
        for level in range(self.depth):
            at = node[:, :1] if level == 0 else node
            logp = self.log_probs(params, encoded, level, at)
            cdf = jnp.cumsum(jnp.exp(jax.lax.stop_gradient(logp)), -1)
            point = uniform[level][..., None] * cdf[..., -1:]
            code = jnp.minimum((cdf <= point).sum(-1), cdf.shape[-1] - 1)
            logp = jnp.broadcast_to(logp, (*code.shape, logp.shape[-1]))
            taken.append(jnp.take_along_axis(logp, code[..., None], -1)[..., 0])
            node = self.levels[level][2][node, code]
            chosen.append(code)
        return node, jnp.stack(chosen, -1), jnp.stack(taken, -1)

    def score(self, params: Tree, encoded: Any, items: Any) -> Any:
        """log p of each code of given items [B, M], [B, M, L]."""
        taken = []
        for level in range(self.depth):
            logp = self.log_probs(params, encoded, level, self.path[items, level])
            code = self.codes[items, level]
            taken.append(jnp.take_along_axis(logp, code[..., None], -1)[..., 0])
        return jnp.stack(taken, -1)

    def grpo(self, params: Tree, start: Tree, x: Any, y: Any, key: Any) -> Any:
        items, _, logp = self.roll_out(params, x @ params["input"], key)
        reward = (items == y[:, None]).astype(x.dtype)
        centred = reward - reward.mean(-1, keepdims=True)
        spread = jnp.sqrt((centred**2).sum(-1, keepdims=True) / (self.group - 1))
        loss = -(logp.sum(-1) * centred / (spread + 1e-6)).mean()
        if self.kl:
            gap = self.score(start, x @ start["input"], items) - logp
            loss = loss + self.kl * (jnp.exp(gap) - gap - 1).mean()
        return loss

    def recast(self, params: Tree, start: Tree, x: Any, y: Any, key: Any) -> Any:
        first, second = jax.random.split(key)
        frozen = jax.lax.stop_gradient(params)
        items, chosen, _ = self.roll_out(frozen, x @ frozen["input"], first)
        matched = jnp.cumprod(chosen == self.codes[y][:, None, :], -1).sum(-1)
        miss = items != y[:, None]
        ties = jax.random.uniform(second, items.shape)
        hardest = jnp.where(miss, matched + ties, -1.0).argmax(-1)
        negative = jnp.take_along_axis(items, hardest[:, None], -1)
        both = jnp.concatenate([y[:, None], negative], -1)
        pair = self.score(params, x @ params["input"], both).sum(-1)
        usable = miss.any(-1)
        return -((pair[:, 0] - pair[:, 1]) * usable).mean()

    def step(
        self, params: Tree, state: Tree, key: Any, prompts: Any, rate: Any
    ) -> tuple[Tree, Tree]:
        """One step of Adam on the loss of one batch."""
        x, y = self.context[prompts], self.target[prompts]
        grads = jax.grad(self.loss)(params, state["start"], x, y, key)
        count = state["count"] + 1
        mean = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, state["mean"], grads)
        square = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, state["square"], grads)
        first, second = 1 - 0.9**count, 1 - 0.999**count
        params = jax.tree.map(
            lambda p, m, v: p - rate * (m / first) / (jnp.sqrt(v / second) + 1e-8),
            params,
            mean,
            square,
        )
        return params, {**state, "mean": mean, "square": square, "count": count}

    def one_run(
        self, params: Tree, state: Tree, key: Any, prompts: Any, rate: Any
    ) -> tuple[Tree, Tree]:
        """All steps of one run; prompts [S, B]."""

        def body(carry: Any, now: Any) -> tuple[Any, None]:
            number, index = now
            return self.step(*carry, jax.random.fold_in(key, number), index, rate), None

        numbers = jnp.arange(prompts.shape[0])
        carry, _ = jax.lax.scan(body, (params, state), (numbers, prompts))
        return carry


def make_steps(peer: Peer, mode: str) -> Callable[..., Any]:
    """A jitted function (params, optimizer state, keys [R], prompts [S, R, B], rate) -> after S
    steps. mode: vmap or map, over runs."""
    one_run = peer.one_run

    def all_runs(params: Tree, state: Tree, keys: Any, prompts: Any, rate: Any) -> Any:
        if mode == "vmap":
            return jax.vmap(one_run, (0, 0, 0, 1, 0))(params, state, keys, prompts, rate)
        by_run = (params, state, keys, jnp.swapaxes(prompts, 0, 1), rate)
        return jax.lax.map(lambda run: one_run(*run), by_run)

    return jax.jit(all_runs)


def start_state(params: dict[str, np.ndarray], dtype: Any) -> tuple[Tree, Tree]:
    """Parameters [R, ...] and the state of a run, Adam's and where it started, as JAX arrays."""
    held = {name: jnp.asarray(value, dtype=dtype) for name, value in params.items()}
    zeros = jax.tree.map(jnp.zeros_like, held)
    runs = next(iter(held.values())).shape[0]
    count = jnp.zeros(runs, dtype=dtype)
    return held, {"start": held, "mean": zeros, "square": zeros, "count": count}

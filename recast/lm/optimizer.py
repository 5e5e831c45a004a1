"""AdamW whose state is a flat dict of tensors, so that it resumes from safetensors alone."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that take a gradient, by name."""
    return {name: value for name, value in model.named_parameters() if value.requires_grad}


class AdamW:
    """AdamW over named parameters; matrices decay, vectors do not.

    Parameters below float32 are trained through float32 master copies, and clipped there: their own
    values are those copies, rounded.
    Source: arXiv 1711.05101; equal to `torch.optim.AdamW` with the same settings.
    """

    def __init__(
        self,
        named: Mapping[str, nn.Parameter],
        lr: float,
        *,
        weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.999),
    ) -> None:
        self.named = dict(named)
        self.master: dict[str, Tensor] = {
            name: value.detach().float()
            for name, value in self.named.items()
            if value.dtype != torch.float32 and value.dtype != torch.float64
        }
        self.held: dict[str, Tensor] = {**self.named, **self.master}
        decayed = [p for p in self.held.values() if p.ndim > 1]
        plain = [p for p in self.held.values() if p.ndim <= 1]
        groups = [
            {"params": decayed, "weight_decay": weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ]
        self.inner = torch.optim.AdamW([g for g in groups if g["params"]], lr=lr, betas=betas)

    def step(self, lr: float, clip_norm: float | None = None) -> float:
        """One update at this rate; clears the gradient and returns its norm before clipping."""
        for name, copy in self.master.items():
            grad, self.named[name].grad = self.named[name].grad, None
            copy.grad = None if grad is None else grad.float()
        norm = nn.utils.clip_grad_norm_(
            self.held.values(), float("inf") if clip_norm is None else clip_norm
        )
        for group in self.inner.param_groups:
            group["lr"] = lr
        self.inner.step()
        self.inner.zero_grad(set_to_none=True)
        for name, copy in self.master.items():
            self.named[name].data.copy_(copy)
        return float(norm)

    def state(self) -> dict[str, Tensor]:
        """Moments and step counts by parameter name, and master copies; without copies it is empty
        before the first step."""
        found = {f"adam.master.{name}": copy for name, copy in self.master.items()}
        for name, parameter in self.held.items():
            for key, value in self.inner.state.get(parameter, {}).items():
                found[f"adam.{key}.{name}"] = value
        return found

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Continue from what `state` returned."""
        for name, copy in self.master.items():
            copy.copy_(state[f"adam.master.{name}"])
        for name, parameter in self.held.items():
            # The step count stays on the CPU, where AdamW keeps it.
            kept = {
                key: state[f"adam.{key}.{name}"].clone()
                if key == "step"
                else state[f"adam.{key}.{name}"].to(parameter.device, copy=True)
                for key in ("step", "exp_avg", "exp_avg_sq")
                if f"adam.{key}.{name}" in state
            }
            if kept:
                self.inner.state[parameter] = kept


class Sgd:
    """Plain gradient descent without state, for costs of models whose Adam does not fit."""

    def __init__(self, named: Mapping[str, nn.Parameter]) -> None:
        self.named = dict(named)

    @torch.no_grad()
    def step(self, lr: float, clip_norm: float | None = None) -> float:
        """One update at this rate; clears the gradient and returns its norm before clipping."""
        norm = nn.utils.clip_grad_norm_(
            self.named.values(), float("inf") if clip_norm is None else clip_norm
        )
        for parameter in self.named.values():
            if parameter.grad is not None:
                parameter.add_(parameter.grad, alpha=-lr)
                parameter.grad = None
        return float(norm)

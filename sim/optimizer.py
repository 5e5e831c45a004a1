"""Adam over the run axis: one learning rate per run, elementwise, so runs never mix."""

from __future__ import annotations

import torch
from torch import Tensor

from sim.policy import Params


class Adam:
    """Adam, arXiv 1412.6980, betas .9 / .999, eps 1e-8."""

    def __init__(self, params: Params) -> None:
        self._mean = {name: torch.zeros_like(value) for name, value in params.items()}
        self._square = {name: torch.zeros_like(value) for name, value in params.items()}
        self._steps = 0

    def step(self, params: Params, grads: Params, rate: Tensor) -> Params:
        """New parameters after one update; rate `[R]`."""
        self._steps += 1
        first, second = 1 - 0.9**self._steps, 1 - 0.999**self._steps
        updated = {}
        for name, value in params.items():
            grad, mean, square = grads[name], self._mean[name], self._square[name]
            mean.lerp_(grad, 0.1)
            square.mul_(0.999).addcmul_(grad, grad, value=0.001)
            scale = rate.view(-1, *[1] * (value.ndim - 1)) / first
            updated[name] = value - scale * mean / ((square / second).sqrt() + 1e-8)
        return updated

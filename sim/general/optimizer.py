"""Adam over the run axis: one learning rate per run, run by run in one pass over memory each, so
that runs never mix."""

from __future__ import annotations

import torch
from torch import Tensor

from sim.policies.protocol import Params

BETAS, EPS = (0.9, 0.999), 1e-8


class Adam:
    """Adam, arXiv 1412.6980, betas .9 / .999, eps 1e-8."""

    def __init__(self, params: Params) -> None:
        self._mean = {name: value.new_zeros(value.shape) for name, value in params.items()}
        self._square = {name: value.new_zeros(value.shape) for name, value in params.items()}
        self._steps = 0

    def step(self, params: Params, grads: Params, rate: Tensor) -> Params:
        """New parameters after one update; rate `[R]`."""
        self._steps += 1
        updated = {name: value.clone() for name, value in params.items()}
        count = [torch.tensor(float(self._steps))] * len(updated)
        parts = zip(
            *(
                zip(*(each[name].unbind(0) for name in updated), strict=True)
                for each in (updated, grads, self._mean, self._square)
            ),
            rate.tolist(),
            strict=True,
        )
        for value, grad, mean, square, lr in parts:
            torch._fused_adam_(
                value,
                grad,
                mean,
                square,
                [],
                count,
                lr=lr,
                beta1=BETAS[0],
                beta2=BETAS[1],
                weight_decay=0.0,
                eps=EPS,
                amsgrad=False,
                maximize=False,
            )
        return updated

"""How runs are trained: what every engine of the simulator is told."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from recast.loss import KLEstimator, LossSettings
from sim.inputs import Search

Iterate = Literal["last", "mean"]
Kernel = Literal["compiled", "general"]


class Training(BaseModel):
    """How long and how wide, and by what. The one list of these settings: what a person writes in
    `[train]` of an experiment has these fields, bounds and defaults too.

    Expected updates are those of `sim.shortcuts.expected`. The mean of iterates is over those since
    half of the steps were done. Start and end of a run are measured on all test prompts as well.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    steps: Annotated[int, Field(ge=1, le=10_000_000, description="rollout phases of RL")] = 300
    batch: Annotated[int, Field(ge=1, le=4096, description="prompts per rollout phase")] = 32
    group: Annotated[int, Field(ge=1, le=4096, description="rollouts per prompt, G")] = 32
    rollouts: Annotated[
        Search,
        Field(description="i.i.d. samples at train.temperature, or the distinct items of a beam"),
    ] = "sample"
    temperature: Annotated[
        float, Field(ge=1e-3, le=100, description="of sampled rollouts; unitless")
    ] = 1.0
    clip_low: Annotated[
        float, Field(ge=0, lt=1, description="how far the importance ratio may fall below 1")
    ] = LossSettings.clip_low
    clip_high: Annotated[
        float, Field(ge=0, le=100, description="how far the importance ratio may rise above 1")
    ] = LossSettings.clip_high
    kl_weight: Annotated[
        float, Field(ge=0, le=100, description="coefficient of the KL term to the start, per nat")
    ] = LossSettings.kl_weight
    kl_estimator: Annotated[
        KLEstimator, Field(description="how the KL term is estimated from samples")
    ] = LossSettings.kl_estimator
    mini_batch: Annotated[
        int,
        Field(
            ge=0,
            le=10_000_000,
            description="rows per optimizer step; 0 = one step per rollout phase",
        ),
    ] = 0
    updates: Annotated[
        Literal["sampled", "expected"],
        Field(
            description="from sampled groups, or their expectation without sampling noise, where "
            "credit follows from hits and the boundary pair"
        ),
    ] = "sampled"
    evaluations: Annotated[
        int, Field(ge=1, le=1000, description="points of the curve after the start")
    ] = 10
    curve_prompts: Annotated[
        int,
        Field(
            ge=0,
            le=100_000,
            description="test prompts behind each point of a learning curve; 0 = all of them",
        ),
    ] = 128
    kernel: Annotated[
        Kernel,
        Field(
            validate_default=True,
            description="compiled: machine code does what it can; general: all by autograd",
        ),
    ] = "compiled"
    iterate: Annotated[
        Iterate,
        Field(description="which parameters count: the last, or the mean of the last half"),
    ] = "last"
    schedule: Annotated[
        Literal["constant", "linear"],
        Field(description="of the learning rate: constant, or falling linearly to 0"),
    ] = "constant"
    targets: Annotated[
        Literal["all", "one"],
        Field(
            description="of a prompt with several: what a supervised term sees, all of them as the "
            "reward does (its mean over them), or one, drawn anew at each visit"
        ),
    ] = "all"

    @property
    def loss(self) -> LossSettings:
        """What the loss needs of it."""
        return LossSettings(self.clip_low, self.clip_high, self.kl_weight, self.kl_estimator)

"""The rungs of small policies: a look-alike world and the replay world, trained by `sim`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from recast.items import Interaction
from recast.lm.dataset import LMData
from recast.metrics import (
    hit_rate_at_k,
    ndcg_at_k,
    pass_at_k,
    pass_curve,
    regime_shares,
    target_ranks,
)
from recast.strategies import parse_strategy
from sim.decoding.enumerate import enumerate_logits, item_logp
from sim.general.runs import Runs
from sim.policies.mlp import MLP
from sim.policies.protocol import Params, Policy
from sim.policies.transformer import Transformer
from sim.settings import Training
from sim.target_paths import target_paths, tuned_temperatures, tuning_users
from sim.training.learner import fast_path, general_path
from sim.training.warm_start import StartRequest, hit_share, solver_prompts, warm_start
from sim.worlds.replay import replay_world
from sim.worlds.world import Prompts, World
from workbench.execution.imitation import imitate
from workbench.execution.tasks import build_world
from workbench.spec.metrics import LM_METRICS
from workbench.studies.prediction.protocol import (
    Case,
    Floats,
    PredictionPlan,
    Table,
    start_of,
)

CHUNK = 256
MATCHED = "replay_mlp_matched"
"""The MLP whose start has the hit rate of the start that it stands for, not its all-zero share
alone."""
DISTILLED = "replay_mlp_distilled"
"""The MLP that starts as a copy of a language model's start, see `distilled`."""
WIDTHS = {"replay_mlp": 64, MATCHED: 64, DISTILLED: 64, "replay_transformer": 32, "look_alike": 64}
COLDEST, HOTTEST = 0.25, 2.0
_TRIES = 5


def world_of(case: Case) -> World:
    """The replay world of a case: its very rows, role by role."""
    data = case.data
    return replay_world(data.name, data.sids, data.codebook, roles_of(data))


def roles_of(data: LMData) -> dict[str, Sequence[Interaction]]:
    """The rows of a data set by their role in a replay world."""
    return {"sft": data.sft, "train": data.learning, "validation": data.tuning, "test": data.test}


def policy_of(name: str) -> Policy:
    """The policy of a rung."""
    width = WIDTHS[name]
    return Transformer(width) if name == "replay_transformer" else MLP(width)


@dataclass
class SmallRung:
    """Small policies in a world, started at an all-zero share. sharpness: what the start's logits
    are multiplied with for good; its SFT ends where the share is reached like that."""

    name: str
    world: World
    all_zero: float
    plan: PredictionPlan
    rates: tuple[float, ...]
    temperature: float = 1.0
    sharpness: float = 1.0

    def __post_init__(self) -> None:
        self.policy = policy_of(self.name)
        self._starts: dict[int, tuple[Params, dict[str, float]]] = {}
        self._now: Params = {}

    def start(self, seed: int) -> dict[str, float]:
        """The warm start of the seed. Raises ValueError where the share is out of reach."""
        place = start_of(seed)
        if place not in self._starts:
            wanted = StartRequest(
                self.all_zero, self.plan.group, temperature=self.temperature / self.sharpness
            )
            warm = warm_start(self.policy, self.world, (place,), wanted)
            if self.sharpness != 1.0:
                for part in ("head", "bias"):
                    warm.params[part].mul_(self.sharpness)
            about = {"steps": float(warm.steps[0]), "all_zero": float(warm.all_zero[0])}
            self._starts[place] = (warm.params, about)
        params, about = self._starts[place]
        self._now = {name: value.clone() for name, value in params.items()}
        return about

    def run(self, strategy: str, lr: float, seed: int, stops: Sequence[int]) -> Iterator[int]:
        """Train; see `Rung.run`."""
        self.start(seed)
        plan = self.plan
        how = Training(
            steps=plan.steps, batch=plan.batch, group=plan.group, temperature=self.temperature
        )
        chosen = parse_strategy(strategy)
        one = Runs(self.policy, self.world, chosen, self._now, (seed,), how)
        learner = fast_path(one) or general_path(one)
        rate, step = torch.tensor([lr], dtype=torch.float64), 0
        for stop in stops:
            while step < stop:
                step += learner.advance(rate, step, stop - step)
            if learner.diverged_at[0] is not None:
                return
            self._now = {name: value.detach() for name, value in learner.params.items()}
            yield stop

    def hits(self) -> Floats:
        """Hit probabilities at the start's prompts."""
        prompts = solver_prompts(self.world)
        return hit_share(self.policy, self._now, self.world, prompts, 1.0)[0].double().numpy()

    def tuned(self) -> float:
        """The plan's metric on the tuning users."""
        given = (self.policy, self._single, self.world.catalogue)
        best = tuned_temperatures(*given, tuning_users(self.world.validation))
        if self.plan.metric != "area":
            parts = [self._part(best, part) for part in self.world.validation.chunks(CHUNK)]
            return float(torch.cat([part[self.plan.metric] for part in parts]).mean())
        return float(
            pass_curve(target_paths(*given, self.world.validation).hits(best))["area"].mean()
        )

    def measured(self) -> Table:
        """Every metric of every test prompt."""
        given = (self.policy, self._single, self.world.catalogue)
        best = tuned_temperatures(*given, tuning_users(self.world.validation))
        parts = [self._part(best, part) for part in self.world.test.chunks(CHUNK)]
        return {name: torch.cat([part[name] for part in parts]).numpy() for name in LM_METRICS}

    def _part(self, best: tuple[float, ...], prompts: Prompts) -> dict[str, torch.Tensor]:
        paths = target_paths(self.policy, self._single, self.world.catalogue, prompts)
        logits = enumerate_logits(self.policy, self._single, self.world.catalogue, prompts.context)
        ranks = target_ranks(item_logp(logits).T, prompts.all_targets)
        one = paths.hit(1.0)
        return {
            **pass_curve(paths.hits(best)),
            "pass_at_1": one,
            "pass_at_32": pass_at_k(one, 32),
            "hr_at_1": hit_rate_at_k(ranks, 1),
            "hr_at_10": hit_rate_at_k(ranks, 10),
            "ndcg_at_10": ndcg_at_k(ranks, 10),
        }

    @property
    def _single(self) -> Params:
        """What is trained now, in the precision of evaluations."""
        return {name: value.detach().float() for name, value in self._now.items()}


def look_alike(
    all_zero: float, several: float, plan: PredictionPlan, rates: tuple[float, ...]
) -> SmallRung:
    """A made-up world whose start has these shares of all-zero groups and of groups with two hits
    or more. Raises UserError where there is none."""
    found, spec, _ = imitate(all_zero, several, plan.group, plan.strategies, 1)
    held = {"test_prompts": plan.test, "validation_prompts": plan.tuning}
    world = spec.world.model_copy(update=held)
    whole = build_world(spec.model_copy(update={"world": world}))
    heat = round(found.temperature, 4)
    return SmallRung("look_alike", whole, spec.start.all_zero, plan, rates, heat)


def several_hits(hits: Floats, group: int) -> float:
    """Share of groups with two hits or more, of hit probabilities `[P]`."""
    shares = regime_shares(torch.from_numpy(hits), group)
    return float((shares["multi_hit"] + shares["saturated"]).mean())


def sharpness_of(case: Case, plan: PredictionPlan) -> float:
    """The sharpness at which the matched rung's first start has the case's hit rate, by bisection.

    Of two starts with one share of all-zero groups, the sharper has more hits in fewer groups.
    Raises ValueError where the case has none, or SFT cannot get to the share.
    """
    if case.hit_rate is None:
        raise ValueError(
            "the start's hit rate is unknown; give --hit-rate, or run a language model's rung first"
        )
    world = world_of(case)
    low, high = 1 / HOTTEST, 1 / COLDEST
    middle = 1.0
    for _ in range(_TRIES):
        middle = (low * high) ** 0.5
        rung = SmallRung(MATCHED, world, case.all_zero, plan, (1.0,), sharpness=middle)
        try:
            rung.start(0)
            rare = float(rung.hits().mean()) < case.hit_rate
        except ValueError:
            rare = False  # so sharp that its hits never spread to enough groups
        low, high = (middle, high) if rare else (low, middle)
    return low

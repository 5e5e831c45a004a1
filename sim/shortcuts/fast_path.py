"""The fast path: runs of one strategy, trained by the kernel of `sim.kernel`.

Here stands what the kernel cannot know: which plan serves a strategy, where its memory lies, what
a signal that is more than a table asks, and what the ledger makes of what was counted. Shapes: R
runs, B prompts, P = R B flat prompts, L levels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from recast.accounting import Tally, booked
from recast.stages.supervised import slope_of
from recast.strategy import Strategy
from sim.general.counts import Counted
from sim.general.runs import Runs
from sim.kernel import draw
from sim.kernel.buffers import (
    Buffers,
    buffers_of,
    flat_of,
    flat_run,
    net_of,
    params_of,
    serves,
    trie_of,
)
from sim.kernel.draw import TALLIES
from sim.kernel.machine_code import calling
from sim.kernel.shapes import Array, Flat, Net, PromptArrays, Rules
from sim.kernel.step import GIVEN_TRAIN, SCORE, TRAIN, run_steps
from sim.policies.protocol import Params
from sim.seeds import key_of, permutation, stream
from sim.settings import Training
from sim.shortcuts.levels import ask_by_level
from sim.shortcuts.plan import Plan, divisor, plan_for

KINDS = {"target": draw.TARGET, "hits": draw.HITS, "pair": draw.PAIR, "levels": draw.GIVEN}
ESTIMATORS = {"k1": 1, "k2": 2, "k3": 3}
MOST_STEPS, MOST_ROLLOUTS = 64, 2**19
"""Steps of one call, and rollouts of these: calls are rare, and progress is still told often."""


@dataclass
class OneRun:
    """One run: its parameters, views of these, its streams, and what it has counted."""

    seed: int
    flat: Flat
    net: Net
    grad: Net
    frozen: Array
    reference: Net | None
    tally: Array
    taken: int = 0
    diverged_at: int | None = None


class FastPath:
    """R runs of one strategy. Build them with `FastPath.of`."""

    def __init__(self, plan: Plan, runs: Runs) -> None:
        world, strategy, start, how = runs.world, runs.strategy, runs.start, runs.how
        self.plan, self._policy, self._strategy = plan, runs.policy, strategy
        self._start, self._seeds, self._how = start, runs.seeds, how
        self._dtype = next(iter(start.values())).dtype
        catalogue = world.catalogue
        self._depth = catalogue.depth
        self._trie = trie_of(catalogue)
        self._context = world.train.context.to(self._dtype).contiguous().numpy()
        self._target = world.train.target.contiguous().numpy()
        self._runs = [self._run(start, run, seed) for run, seed in enumerate(runs.seeds)]
        fixed, per_row, per_active, per_live = divisor(strategy, how.batch, plan.width, self._depth)
        self._rules = Rules(
            KINDS[plan.name], how.batch, how.group, plan.displaces, float(how.temperature),
            float(strategy.policy_weight), fixed, per_row, per_active, per_live,
            float(plan.kl_weight), ESTIMATORS[how.kl_estimator],
        )  # fmt: skip
        self._buffers: Buffers = buffers_of(
            self._runs[0].net, catalogue, how.batch, how.group, kl=plan.kl_weight > 0
        )

    @staticmethod
    def of(runs: Runs) -> FastPath | None:
        """The fast path of these runs, or None where the general path must do.

        It needs a policy that the kernel knows, one target per prompt, i.i.d. rollouts, one
        optimizer step per rollout phase, and a plan for the strategy.
        """
        world, strategy, how = runs.world, runs.strategy, runs.how
        several = world.train.targets is not None
        if how.kernel != "compiled" or how.mini_batch or how.rollouts != "sample" or several:
            return None
        if not serves(runs.policy) or slope_of(strategy.stage("supervised"), 0.0, 1) is None:
            return None
        plan = plan_for(strategy, how.group, world.catalogue.depth, how.loss)
        if plan is None:
            return None
        return FastPath(plan, runs)

    @property
    def params(self) -> Params:
        """Copies of all runs' parameters, `[R, ...]`."""
        return params_of([run.flat.value for run in self._runs], self._start)

    @property
    def diverged_at(self) -> list[int | None]:
        """The step, from 1, at which a run stopped being sound; None for a healthy one."""
        return [run.diverged_at for run in self._runs]

    def counted(self, run: int) -> Counted:
        """As `sim.general.runs.Learner`."""
        one = self._runs[run]
        spent, taught = account(self._strategy, self._how, one.tally[None], np.array([one.taken]))
        groups = float(one.taken * self._how.batch)
        return Counted(
            {name: float(value[0]) for name, value in spent.items()},
            {name: float(value[0]) for name, value in taught.items()},
            groups,
        )

    def nodes(self, run: int) -> float:
        """Nodes of the trie whose logits one run has computed, those of targets included."""
        return float(self._runs[run].tally[-1])

    def advance(self, rates: Tensor, first: int, steps: int) -> int:
        """Train all runs from step `first` on, for at most so many steps; how many it were."""
        total, batch = len(self._target), self._how.batch
        place = first % (total // batch)
        most = max(1, min(MOST_STEPS, MOST_ROLLOUTS // (batch * self._how.group)))
        n = 1 if self._rules.plan == draw.GIVEN else min(steps, most, total // batch - place)
        slopes = self._slopes(first, n)
        for run, rate in zip(self._runs, rates.tolist(), strict=True):
            if run.diverged_at is None:
                self._train(run, rate, first, slopes)
        return n

    def _train(self, run: OneRun, rate: float, first: int, slopes: Array) -> None:
        task, sound = TRAIN, True
        if self._rules.plan == draw.GIVEN:
            sound = bool(self._call(SCORE, run, slopes, first))
            self._ask(run, first)
            task = GIVEN_TRAIN
        healthy = self._call(task, run, slopes, first, rate) if sound else 0
        run.taken += min(healthy + 1, len(slopes))
        if healthy < len(slopes):
            run.diverged_at = first + healthy + 1

    def _run(self, params: Params, run: int, seed: int) -> OneRun:
        flat = flat_run(self._policy, params, run)
        frozen = flat_of(self._start, run)
        arrays = (flat.value, flat.grad, frozen)
        nets = (net_of(self._policy, x, self._start, flat.reached) for x in arrays)
        net, grad, reference = nets
        seen = reference if self.plan.kl_weight > 0 else None
        return OneRun(seed, flat, net, grad, frozen, seen, np.zeros(TALLIES))

    def _slopes(self, first: int, steps: int) -> Array:
        """The supervised term of some steps, `[steps, 4]`."""
        term, last = self._strategy.stage("supervised"), max(1, self._how.steps - 1)
        found = [slope_of(term, (first + i) / last, self._depth) for i in range(steps)]
        return np.array(found, dtype=np.float64)

    def _call(self, task: int, run: OneRun, slopes: Array, first: int, rate: float = 0.0) -> int:
        epoch, place = divmod(first, len(self._target) // self._how.batch)
        order = permutation(run.seed, "prompts", epoch, len(self._target))
        prompts = PromptArrays(self._context, self._target, order)
        with calling(self._dtype, *["KL"] * (run.reference is not None)):
            found: int = run_steps(
                task, run.flat, run.net, run.grad, run.reference, self._trie, prompts, self._rules,
                self.plan.table, slopes, *self._buffers, key_of(run.seed, "kernel"), rate, first,
                place, run.taken, run.tally,
            )  # fmt: skip
        return found

    def _ask(self, run: OneRun, step: int) -> None:
        """Fill in the demand of a run whose signal is made by the strategy itself."""
        demand, rules, loss = self._buffers.demand, self._rules, self._how.loss
        found = ask_by_level(
            self._strategy,
            self._how.group,
            replace(loss, kl_weight=self.plan.kl_weight),
            self._buffers.paths.reach,
            stream(run.seed, "lazy rollouts", step),
            self._dtype,
        )
        tally = np.array(
            [
                found.rows.sum(),
                found.active.sum(),
                (found.active > 0).sum(),
                found.repaired.sum(),
                (found.rows == 0).sum(),
                0.0,
            ],
            dtype=np.float64,
        )
        run.tally += tally
        demand.hits[:] = found.hits
        demand.hit[:] = found.total[:, -1:]
        demand.misses[:] = found.count[:, :-1]
        demand.miss[:] = found.total[:, :-1] / np.maximum(found.count[:, :-1], 1)
        demand.kl[:] = rules.kl * share_of(rules, *tally[:3])
        demand.kl_hits[:] = found.count[:, -1]


def share_of(rules: Rules, rows: float, active: float, live: float) -> float:
    """What one rollout's loss is multiplied with, as in `sim.kernel.draw.weigh`."""
    return rules.weight / (
        rules.fixed
        + rules.per_row * max(rows, 1.0)
        + rules.per_active * max(active, 1.0)
        + rules.per_live * max(live, 1.0)
    )


def account(
    strategy: Strategy, how: Training, tally: Array, steps: Array
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """As the general path's, summed over the groups of all steps `[R]`, from what was counted in
    these, tally `[R, TALLIES]`. The target of a supervised term is a row with credit in every
    group."""
    taught = strategy.learns_from_target
    tallied = Tally(*torch.from_numpy(tally.T[:5].copy()))
    done = torch.from_numpy(np.asarray(steps, dtype=np.float64))
    groups = done * how.batch
    sampled = groups * (how.group if strategy.needs_rollouts else 0)
    return booked(tallied, sampled, groups * int(taught), done, groups, taught)

"""The measured comparison on a real model: what its runs are, and what one run measures.

Every entry starts from the same SFT checkpoints and meets the same prompts in the same order. Rate
and checkpoint of an entry are chosen together on the tuning users, over seeds of their own; then
the paired seeds train to that checkpoint, and the test split is read once, at their end.
"""

from __future__ import annotations

import contextlib
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from recast.ledger import CostLedger
from recast.lm.decode import beams
from recast.lm.device import clock
from recast.lm.efficiency import tokens_of
from recast.lm.evaluate import (
    EvaluationSet,
    entropy_curve,
    from_beams,
    from_probability,
    matched_temperature,
    right_logps,
    tuned_temperatures,
)
from recast.lm.memory import peak_memory
from recast.lm.optimizer import AdamW, trainable
from recast.lm.signal import collect, why_not
from recast.lm.trainer import memory_of, roller, train_step
from recast.lm.update import RLSetup, RLTraining, Schedule, update
from recast.metrics import pass_curve
from recast.strategy import Strategy

WIDTH = 10
CHUNK = 256
MATCHING = 32
TEMPERATURES = (0.25, 0.35, 0.5, 0.7)
Targets = Literal["learning", "train"]
Iterate = Literal["last", "mean"]


@dataclass(frozen=True)
class Entry:
    """One row of the comparison. strategy: a name or composition of the library; targets: whose
    prompts and targets it learns from, the RL users' ("learning") or the SFT split's ("train");
    iterate: what is measured at a stop, the weights there or the mean of those since half of it;
    schedule: of its learning rate, None = that of the whole study."""

    label: str
    strategy: str
    targets: Targets = "learning"
    iterate: Iterate = "last"
    schedule: Schedule | None = None


ENTRIES = (
    Entry("sft", "sft"),
    Entry("sft_train_targets", "sft", targets="train"),
    Entry("grpo", "grpo"),
    Entry("dr_grpo", "dr_grpo"),
    Entry("rloo", "rloo"),
    Entry("recast", "recast"),
    Entry("recast_random_negative", "recast_random_negative"),
    Entry("contrast_only", "contrast_only"),
    Entry("repair_only", "repair_only"),
    Entry("grpo_sft", "grpo_sft"),
    Entry("target_power", "target_power"),
)
"""The comparison without the start, the tempered row and what a search found."""


@dataclass(frozen=True)
class Stop:
    """A run after `step` optimizer steps: what it has cost, and the means of its steps since the
    last stop (learnable, signal_count, update_width, repaired, update_seconds, step_seconds)."""

    step: int
    ledger: CostLedger
    means: Mapping[str, float]


def run(
    setup: RLSetup,
    strategy: Strategy,
    how: RLTraining,
    stops: Sequence[int],
    iterate: Iterate = "last",
) -> Iterator[Stop]:
    """Train `setup.model` in place to the last stop, yielding at each.

    iterate "mean": while a stop at step s is yielded, the model holds the mean of its weights after
    the steps s // 2 + 1 to s; training goes on from those of step s. Schedules run over
    `how.steps`, so an early stop is a checkpoint of the whole run. Raises ValueError for a strategy
    that this path cannot run, and Diverged.
    """
    reason = why_not(strategy, how.search, how.group)
    if reason:
        raise ValueError(reason)
    named = trainable(setup.model)
    optimizer = AdamW(named, how.lr)
    memory = memory_of(setup, strategy)
    ledger, tally = CostLedger(), list[dict[str, float]]()
    mean = _WindowMean(named, stops) if iterate == "mean" else None
    for step in range(max(stops)):
        spent, counted, memory = train_step(setup, strategy, how, optimizer, step, memory)
        ledger = ledger.plus(spent)
        tally.append(counted)
        if mean is not None:
            mean.add(step + 1)
        if step + 1 in stops:
            means = {name: statistics.fmean(t[name] for t in tally) for name in tally[0]}
            with contextlib.nullcontext() if mean is None else mean.held(step + 1):
                yield Stop(step + 1, ledger, means)
            tally = []


class _WindowMean:
    """Means of weights over the last half of the steps to each stop, from sums kept on the way."""

    def __init__(self, named: Mapping[str, Tensor], stops: Sequence[int]) -> None:
        self._named = named
        self._sum = {name: torch.zeros_like(value) for name, value in named.items()}
        halves = {stop // 2 for stop in stops}
        self._at = {0: dict(self._sum)} if 0 in halves else {}
        self._halves = halves

    @torch.no_grad()
    def add(self, step: int) -> None:
        """Count the weights after a step."""
        self._sum = {name: self._sum[name] + value for name, value in self._named.items()}
        if step in self._halves:
            self._at[step] = self._sum

    @contextlib.contextmanager
    def held(self, stop: int) -> Iterator[None]:
        """The model with the mean's weights; its own come back."""
        before, count = self._at[stop // 2], stop - stop // 2
        kept = {name: value.detach().clone() for name, value in self._named.items()}
        for name, value in self._named.items():
            value.data.copy_((self._sum[name] - before[name]) / count)
        try:
            yield
        finally:
            for name, value in self._named.items():
                value.data.copy_(kept[name])


@torch.no_grad()
def measure(
    setup: RLSetup,
    data: EvaluationSet,
    group: int,
    matched: float = 1.0,
    *,
    best: Sequence[float] | None = None,
    report: bool = False,
) -> dict[str, Tensor]:
    """Every metric of every prompt, float64 `[n]`; definitions as in `recast.lm.evaluate`, with
    `WIDTH` beams, so ranks beyond them are misses.

    matched: temperature of `pass_at_1_matched`, NaN = nowhere; best: temperatures of C(k), None =
    chosen on the setup's tuning users; report: add pass_at_1_t.. and
    pass_at_32_t.. at `TEMPERATURES`.
    """
    setup.model.eval()
    model, vocabulary, trie = setup.model, setup.vocabulary, setup.trie
    if best is None:
        best = tuned_temperatures(model, vocabulary, trie, setup.evaluation["validation"])
    temperatures = (1.0, matched, *best, *(TEMPERATURES if report else ()))
    # Prompts of like length together: less padding, the same numbers.
    order = torch.argsort(data.prompts.length, stable=True)
    parts = [data.take(index) for index in torch.split(order, CHUNK)]
    back = torch.argsort(order)
    logp = torch.cat(
        [right_logps(model, vocabulary, trie, part, temperatures) for part in parts], 1
    )[:, back]
    found_items = [beams(model, vocabulary, trie, part.prompts, WIDTH)[0] for part in parts]
    ranked = from_beams(torch.cat(found_items)[back], data.right)
    ranked = {k: v for k, v in ranked.items() if k not in ("hr_at_50", "recall_at_32")}
    cold = 2 + len(best)
    found = {
        **pass_curve(logp[2:cold].exp()),
        **from_probability(logp[0].exp(), group),
        "pass_at_1_matched": logp[1].exp(),
        **ranked,
    }
    for place, temperature in enumerate(temperatures[cold:], cold):
        tempered = from_probability(logp[place].exp(), group)
        name = temperature_name(temperature)
        found |= {f"{m}_{name}": tempered[m] for m in ("pass_at_1", "pass_at_32")}
    return {name: values.cpu() for name, values in found.items()}


def temperature_name(temperature: float) -> str:
    """The end of a column read at that temperature: 0.25 -> t025."""
    return f"t{round(100 * temperature):03d}"


def policy_entropy(setup: RLSetup, wanted: float | None = None) -> tuple[float, float]:
    """Entropy in nats on `MATCHING` tuning prompts (all items enumerated), and the temperature at
    which it is `wanted` (1 without one)."""
    prompts = setup.evaluation["validation"].prompts[:MATCHING]
    curve = entropy_curve(setup.model, setup.vocabulary, setup.trie, prompts)
    return curve(1.0), 1.0 if wanted is None else matched_temperature(curve, wanted)


Tuned = tuple[float, int]
"""A learning rate and a checkpoint (optimizer steps)."""


def choose(tried: Mapping[Tuned, Sequence[float]]) -> Tuned:
    """The (rate, step) with the highest mean over tuning seeds; ties go to the smaller rate, then
    the earlier step. A rate that diverged for one seed is out, unless all did."""
    means = {
        at: statistics.fmean(values) if all(map(math.isfinite, values)) else -math.inf
        for at, values in tried.items()
    }
    return max(sorted(means), key=lambda at: (means[at], -at[0], -at[1]))


@dataclass(frozen=True)
class Cost:
    """One step at the start: seconds of the update and of the whole step (medians of `clock`: of
    processor time on a CPU), rows and tokens of the actor's forward pass, and peak memory in MiB
    (see `recast.lm.memory`)."""

    update_cpu: float
    step_cpu: float
    rows: int
    tokens: int
    peak_mib: float


def cost(setup: RLSetup, strategy: Strategy, how: RLTraining, repeats: int = 3) -> Cost:
    """Measure steps of a strategy without keeping them: `setup.model` ends as it began."""
    kept = {name: value.detach().clone() for name, value in setup.model.named_parameters()}
    optimizer = AdamW(trainable(setup.model), how.lr)
    how = replace(how, lr=0.0, skip_idle=False)
    memory, device = memory_of(setup, strategy), setup.target.device
    updates, steps = [], []
    for turn in range(repeats + 1):
        began = clock(device)
        collected = collect(roller(setup, how), strategy, turn, memory)
        rolled = clock(device)
        update(setup, strategy, how, collected, 0.0)
        optimizer.step(how.lr, how.clip_norm)
        done = clock(device)
        if turn:
            updates.append(done - rolled)
            steps.append(done - began)

    def again() -> None:
        update(setup, strategy, how, collected, 0.0)
        optimizer.step(how.lr, how.clip_norm)

    rows, tokens = tokens_of(setup, strategy, how, collected)
    peak = peak_memory(setup.model, again) / 2**20
    for name, value in setup.model.named_parameters():
        value.data.copy_(kept[name])
    return Cost(statistics.median(updates), statistics.median(steps), rows, tokens, peak)

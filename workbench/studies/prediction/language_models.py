"""The rung of language models: small Qwen3 models from scratch, trained by `recast.lm`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from recast.items import Codes
from workbench.real.runs import Setups, build_setup
from workbench.spec.metrics import LM_METRICS
from workbench.studies.prediction.protocol import (
    Case,
    Floats,
    PredictionPlan,
    Table,
    start_of,
)

if TYPE_CHECKING:
    from recast.lm.device import Placement
    from recast.lm.pretrained import ModelReading
    from recast.lm.update import RLSetup

SHAPES = {"lm_0.15M": (2, 64), "lm_1M": (4, 128), "lm_4M": (6, 256)}
"""Layers and width by rung."""

SMALLEST = "lm_0.15M"


def size_of(rung: str) -> float | None:
    """Layers times squared width, to which the weights of a rung's blocks are proportional."""
    layers, width = SHAPES.get(rung, (0, 0))
    return float(layers * width**2) or None


PRETRAINED = "pretrained"
"""The rung of a model that somebody else trained; it starts where that left it."""


@dataclass(frozen=True)
class Given:
    """A pre-trained start: folder or hub name, LoRA rank (0 = every weight), where it computes (by
    default the CPU) and how it is read; trained: False where nothing learns."""

    start: str
    lora: int = 0
    placement: Placement | None = None
    reading: ModelReading | None = None
    trained: bool = True

    @property
    def identity(self) -> list[Any]:
        """What decides the numbers of a rung that begins there."""
        wording = () if self.reading is None else (asdict(self.reading.wording),)
        return [self.start, self.lora, *wording]


@dataclass
class LanguageRung:
    """Language models of one shape on a case; starts are kept below `folder`."""

    name: str
    case: Case
    plan: PredictionPlan
    folder: Path
    rates: tuple[float, ...]
    given: Given | None = None

    def __post_init__(self) -> None:
        self._setups = Setups()
        self._now: RLSetup | None = None

    def start(self, seed: int) -> dict[str, float]:
        """The start of the seed, warm-started to the case's share where it is not there yet; a
        given start as it is."""
        if self.given is not None:
            from recast.lm.evaluate import from_probability

            self._now = self._fresh(0)
            shares = from_probability(torch.from_numpy(self.hits()), self.plan.group)
            return {"steps": 0.0, "all_zero": float(shares["all_zero"].mean())}
        from recast.lm import checkpoint
        from recast.lm.models import SmallModel, build_small
        from recast.lm.trie import build_trie
        from recast.lm.vocabulary import small_vocabulary
        from recast.lm.warm_start import ShareAsked, warm_start

        data, place = self.case.data, start_of(seed)
        folder = self.folder / f"start-{place}"
        if not checkpoint.is_ours(folder):
            layers, width = SHAPES[self.name]
            vocabulary = small_vocabulary(data.depth, data.codebook)
            shape = SmallModel(layers, width, max(1, width // 32), 3 * width)
            model = build_small(vocabulary, shape, place)
            ask = ShareAsked(self.case.all_zero, self.plan.group, place)
            steps, share = warm_start(model, vocabulary, build_trie(data.sids), data, ask)
            meta = {"steps": steps, "all_zero": share}
            checkpoint.save_model(folder, model, vocabulary, data.fingerprint, meta)
        _, manifest = checkpoint.read_manifest(folder)
        self._now = self._fresh(place)
        return {name: float(manifest["meta"][name]) for name in ("steps", "all_zero")}

    def run(self, strategy: str, lr: float, seed: int, stops: Sequence[int]) -> Iterator[int]:
        """Train; see `Rung.run`."""
        from recast.lm.study import run
        from recast.lm.update import Diverged, RLTraining
        from recast.strategies import parse_strategy

        self.start(seed)
        assert self._now is not None
        plan = self.plan
        how = RLTraining(
            steps=plan.steps,
            batch=plan.batch,
            group=plan.group,
            lr=lr,
            kl_weight=0.0,
            skip_idle=True,
            seed=seed,
        )
        try:
            for stop in run(self._now, parse_strategy(strategy), how, stops):
                yield stop.step
        except Diverged:
            return

    def hits(self) -> Floats:
        """Hit probabilities at the start's prompts, of any of their targets."""
        from recast.lm.sft import target_logp
        from recast.lm.warm_start import SOLVER_PROMPTS

        setup = self._now
        assert setup is not None
        prompts, first = setup.prompts[:SOLVER_PROMPTS], setup.target[:SOLVER_PROMPTS]
        p = torch.zeros(len(first), dtype=torch.float64, device=first.device)
        others = () if setup.more is None else setup.more[:SOLVER_PROMPTS].unbind(1)
        for place, target in enumerate((first, *others)):
            logp = target_logp(setup.model, setup.vocabulary, setup.trie, prompts, target)
            again = (target == first).all(-1) & (place > 0)  # the first fills up
            p += logp.exp().double().masked_fill(again, 0.0)
        return np.asarray(p.cpu().numpy())

    def drawn(
        self, histories: Sequence[Sequence[Codes]], count: int, generator: torch.Generator
    ) -> torch.Tensor:
        """Items that what is trained now draws after each history, `[n, count, L]`."""
        from recast.lm.decode import sample

        setup = self._now
        assert setup is not None
        shape = (count, self.case.data.depth)
        found = []
        for low in range(0, len(histories), 256):
            prompts = setup.vocabulary.prompts(histories[low : low + 256])
            uniforms = torch.rand(len(prompts), *shape, generator=generator)
            given = (setup.model, setup.vocabulary, setup.trie, prompts, uniforms)
            found.append(sample(*given).codes)
        return torch.cat(found)

    def tuned(self) -> float:
        """The plan's metric on the tuning users."""
        from recast.lm.evaluate import tuned_temperatures
        from recast.lm.sft import target_logps
        from recast.lm.study import measure
        from recast.metrics import pass_curve

        setup = self._now
        assert setup is not None
        held = setup.evaluation["validation"]
        if self.plan.metric != "area" or held.more is not None:
            return float(measure(setup, held, self.plan.group)[self.plan.metric].mean())
        best = tuned_temperatures(setup.model, setup.vocabulary, setup.trie, held)
        logp = target_logps(
            setup.model, setup.vocabulary, setup.trie, held.prompts, held.codes, best
        )
        return float(pass_curve(logp.exp())["area"].mean())

    def measured(self) -> Table:
        """Every metric of every test prompt."""
        from recast.lm.study import measure

        assert self._now is not None
        table = measure(self._now, self._now.evaluation["test"], self.plan.group)
        return {name: table[name].double().numpy() for name in LM_METRICS}

    def _fresh(self, place: int) -> RLSetup:
        def build() -> RLSetup:
            given = self.given or Given(str(self.folder / f"start-{place}"))
            setup, _ = build_setup(
                given.start,
                self.case.data,
                None,
                given.placement,
                given.reading,
                given.lora,
                reference=False,
                trained=given.trained,
            )
            return setup

        return self._setups.fresh(place, build)

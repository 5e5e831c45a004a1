"""Worlds: who asks, what they would like, and what the log says they took.

A `World` is all that policies, the trainer and the evaluation know; the synthetic one is built
here, the one replayed from a published data folder in `sim.replay`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sim.catalogue import Catalogue, build_catalogue, synthetic_codes
from sim.seeds import stream


@dataclass(frozen=True)
class Prompts:
    """P prompts: context `[P, D]` features; target `[P]` int64, the item that supervision uses;
    preference `[P, N]` true item probabilities where they are known; slices: name -> bool `[P]`;
    targets `[P, M]` int64, all that count as a hit, padded with -1; None = `target` alone."""

    context: Tensor
    target: Tensor
    preference: Tensor | None = None
    slices: Mapping[str, Tensor] = field(default_factory=dict)
    targets: Tensor | None = None

    def __len__(self) -> int:
        return self.target.shape[0]

    @property
    def all_targets(self) -> Tensor:
        """Targets of each prompt, `[P, M]`, padded with -1."""
        return self.target.unsqueeze(-1) if self.targets is None else self.targets

    def take(self, index: Tensor) -> Prompts:
        """Some of the prompts, by position."""
        return Prompts(
            self.context[index],
            self.target[index],
            None if self.preference is None else self.preference[index],
            {name: mask[index] for name, mask in self.slices.items()},
            None if self.targets is None else self.targets[index],
        )

    def chunks(self, size: int) -> Iterator[Prompts]:
        """The prompts in order, `size` at a time."""
        for start in range(0, len(self), size):
            yield self.take(torch.arange(start, min(start + size, len(self))))


@dataclass(frozen=True)
class World:
    """Four disjoint prompt sets: sft (warm start), train (RL), validation (tuning), test."""

    name: str
    catalogue: Catalogue
    sft: Prompts
    train: Prompts
    validation: Prompts
    test: Prompts
    notes: tuple[str, ...] = ()

    @property
    def ceilings(self) -> dict[str, float]:
        """Bounds on test users: no policy's Pass@1 (sampled or greedy) or recall@10 can exceed
        them in expectation over targets. `truth_pass_at_1` is the level of the true preferences
        sampled at T = 1, not a ceiling. Empty where the truth is unknown."""
        truth = self.test.preference
        if truth is None:
            return {}
        best = truth.topk(min(10, truth.shape[1]), dim=-1).values
        return {
            "ceiling_pass_at_1": best[:, 0].mean().item(),
            "ceiling_recall_at_10": best.sum(-1).mean().item(),
            "truth_pass_at_1": truth.square().sum(-1).mean().item(),
        }


@dataclass(frozen=True)
class SyntheticWorld:
    """Recipe of a synthetic world. noise: temperature of the true preferences (higher = noisier
    targets); popularity: exponent of the popularity prior; sizes in prompts."""

    items: int = 1024
    depth: int = 3
    codes: int = 16
    skew: float = 1.0
    latent: int = 12
    features: int = 24
    noise: float = 0.2
    popularity: float = 0.3
    sft_prompts: int = 16384
    train_prompts: int = 16384
    validation_prompts: int = 512
    test_prompts: int = 512
    seed: int = 0


def build_synthetic(recipe: SyntheticWorld) -> World:
    """A catalogue whose shared prefixes mean similar items, and users with true preferences.

    Item embedding = sum over levels of code vectors scaled 1, .6, .36, ...; P*(item | z) is
    softmax(z . e / noise + popularity x log popularity); the policy sees x = tanh(zA + b).
    """
    rng = stream(recipe.seed, "world")
    codes = synthetic_codes(rng, recipe.items, recipe.depth, recipe.codes, recipe.skew)
    vectors = rng.standard_normal((recipe.depth, recipe.codes, recipe.latent))
    embedding = sum(
        0.6**level * vectors[level, codes[:, level]] for level in range(recipe.depth)
    ) * (2.0 / recipe.latent)
    prior = recipe.popularity * torch.from_numpy(rng.standard_normal(recipe.items))
    mixing = torch.from_numpy(rng.standard_normal((recipe.latent, recipe.features)))
    mixing = mixing / recipe.latent**0.5
    bias = torch.from_numpy(0.3 * rng.standard_normal(recipe.features))
    items = torch.as_tensor(embedding)

    def draw(split: str, size: int, keep_preference: bool) -> Prompts:
        users = stream(recipe.seed, f"users/{split}")
        z = torch.from_numpy(users.standard_normal((size, recipe.latent)))
        preference = torch.softmax(z @ items.T / recipe.noise + prior, dim=-1)
        u = torch.from_numpy(users.random((size, 1)))
        cdf = preference.cumsum(-1)
        target = torch.searchsorted(cdf / cdf[:, -1:], u, right=True).squeeze(-1)
        context = torch.tanh(z @ mixing + bias)
        return Prompts(context, target, preference if keep_preference else None)

    return World(
        name="synthetic",
        catalogue=build_catalogue(codes, recipe.codes),
        sft=draw("sft", recipe.sft_prompts, keep_preference=False),
        train=draw("train", recipe.train_prompts, keep_preference=False),
        validation=draw("validation", recipe.validation_prompts, keep_preference=False),
        test=draw("test", recipe.test_prompts, keep_preference=True),
    )

"""A synthetic world: a catalogue whose shared prefixes mean similar items, and users whose true
preferences are known."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from sim.seeds import stream
from sim.worlds.catalogue import build_catalogue, synthetic_codes
from sim.worlds.tasks import LABELS, TASKS, RecommendationTask
from sim.worlds.world import Prompts, World, with_popularity


@dataclass(frozen=True)
class SyntheticWorld:
    """Recipe of a synthetic world. task: `plain` (one target, `noise` as given), a name of `TASKS`,
    or `mixed`: all of them, told apart by the context; noise: temperature of the true preferences
    of the plain task, and what every other task's noise is scaled by (relative to .2); popularity:
    exponent of the popularity prior; heterogeneity: how much users differ in the strength of their
    taste, see `strengths`; drift in [0, 1]: how far tastes have turned away from the
    SFT log when the test users come (RL and tuning prompts lie half-way); unlearnable in [0, 1):
    share of targets that any item may be, whoever asks; sizes in prompts."""

    items: int = 1024
    depth: int = 3
    codes: int = 16
    skew: float = 1.0
    latent: int = 12
    features: int = 24
    task: str = "plain"
    noise: float = 0.2
    popularity: float = 0.3
    heterogeneity: float = 0.0
    drift: float = 0.0
    unlearnable: float = 0.0
    sft_prompts: int = 16384
    train_prompts: int = 16384
    validation_prompts: int = 512
    test_prompts: int = 512
    seed: int = 0

    def tasks(self) -> dict[str, RecommendationTask]:
        """The tasks of this world by name. Raises ValueError for an unknown task."""
        if self.task == "plain":
            return {"plain": RecommendationTask(self.noise)}
        if self.task not in ("mixed", *TASKS):
            raise ValueError(
                f"task: {self.task!r} is unknown; expected plain, mixed or {', '.join(TASKS)}"
            )
        names = TASKS if self.task == "mixed" else [self.task]
        scale = self.noise / 0.2
        return {name: replace(TASKS[name], noise=scale * TASKS[name].noise) for name in names}


ROWS = 256
"""Prompts whose preferences over all items are worked out together: from so many to fewer than
twice as many, or all of a smaller split."""

AGE = {"sft": 0.0, "train": 0.5, "validation": 0.5, "test": 1.0}


def build_synthetic(recipe: SyntheticWorld) -> World:
    """A catalogue whose shared prefixes mean similar items, and users with true preferences.

    Item embedding = sum over levels of code vectors scaled 1, .6, .36, ...; P*(item | z) is
    softmax(z . e / noise + popularity x log popularity), restricted to the items with the asked
    label where there is one; the policy sees x = tanh(zA + b), and task and label one-hot.
    A share `unlearnable` of targets is drawn from all items alike, in every split and in P*.
    Drift d turns the tastes: at age t of the split, z is replaced by sqrt(1 - (dt)^2) z + dt zQ
    with a fixed rotation Q in P*, not in x.

    Raises ValueError for an unknown task.
    """
    market = _market(recipe)
    sft = _split(market, "sft", recipe.sft_prompts)
    test = _split(market, "test", recipe.test_prompts, keep_preference=True)
    return World(
        name=recipe.task,
        catalogue=build_catalogue(market.codes, recipe.codes),
        sft=sft,
        train=_split(market, "train", recipe.train_prompts),
        validation=_split(market, "validation", recipe.validation_prompts),
        test=with_popularity(test, sft),
    )


@dataclass(frozen=True)
class _Market:
    """What the users of all splits share. codes `[N, L]`; items `[N, D]`, their embeddings; prior
    `[N]`, added to every preference; mixing `[D, F]` and bias `[F]`: what the policy sees of a
    taste; label_of `[N]`; rotation `[D, D]`: where tastes drift to."""

    recipe: SyntheticWorld
    tasks: dict[str, RecommendationTask]
    codes: np.ndarray
    items: Tensor
    prior: Tensor
    mixing: Tensor
    bias: Tensor
    label_of: Tensor
    rotation: Tensor


def _market(recipe: SyntheticWorld) -> _Market:
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
    extra = stream(recipe.seed, "world/tasks")
    label_of = torch.from_numpy(extra.integers(0, LABELS, recipe.items))
    turn = np.linalg.qr(extra.standard_normal((recipe.latent, recipe.latent)))[0]
    return _Market(
        recipe=recipe,
        tasks=recipe.tasks(),
        codes=codes,
        items=torch.as_tensor(embedding),
        prior=prior,
        mixing=mixing,
        bias=bias,
        label_of=label_of,
        rotation=torch.from_numpy(turn),
    )


@dataclass(frozen=True)
class _Users:
    """The users of one split. z `[P, D]`, their taste at the time of the SFT log; taste `[P, D]`,
    as it has become; kind `[P]`, each one's task; label `[P]`, what is asked for where the task
    has labels; noise, labelled, draws `[P]`: those of the task; u `[P, M]`, uniform numbers that
    the targets are drawn with."""

    z: Tensor
    taste: Tensor
    kind: Tensor
    label: Tensor
    noise: Tensor
    labelled: Tensor
    draws: Tensor
    u: Tensor


def _users(market: _Market, split: str, size: int) -> _Users:
    recipe, tasks = market.recipe, market.tasks.values()
    users = stream(recipe.seed, f"users/{split}")
    z = torch.from_numpy(users.standard_normal((size, recipe.latent)))
    if recipe.heterogeneity:
        z = z * strengths(z, recipe.heterogeneity, stream(recipe.seed, f"strengths/{split}"))
    u = torch.from_numpy(users.random((size, 1)))
    more = stream(recipe.seed, f"tasks/{split}")
    share = np.array([task.share for task in tasks])
    kind = torch.from_numpy(more.choice(len(tasks), size, p=share / share.sum()))
    label = torch.from_numpy(more.integers(0, LABELS, size))
    turned = recipe.drift * AGE[split]
    draws = torch.tensor([task.draws for task in tasks])[kind]
    others = torch.from_numpy(more.random((size, int(draws.max()) - 1)))
    return _Users(
        z=z,
        taste=(1 - turned**2) ** 0.5 * z + turned * (z @ market.rotation) if turned else z,
        kind=kind,
        label=label,
        noise=torch.tensor([task.noise for task in tasks], dtype=z.dtype)[kind],
        labelled=torch.tensor([task.labelled for task in tasks])[kind],
        draws=draws,
        u=torch.cat([u, others], dim=-1),
    )


def _split(market: _Market, split: str, size: int, keep_preference: bool = False) -> Prompts:
    """Prompts of one split, each stream of random numbers its own."""
    users, tasks = _users(market, split, size), market.tasks
    taken, kept = [], []
    for some in blocks(size):
        preference = _preferences(market, users, some)
        taken.append(_take(preference, users.u[some]))
        if keep_preference:
            kept.append(preference)
    targets = torch.cat(taken)
    return Prompts(
        _context(market, users),
        targets[:, 0],
        torch.cat(kept) if keep_preference else None,
        {name: users.kind == i for i, name in enumerate(tasks)} if len(tasks) > 1 else {},
        targets=_distinct(targets, users.draws) if targets.shape[1] > 1 else None,
        draws=users.draws,
    )


def _preferences(market: _Market, users: _Users, some: Tensor) -> Tensor:
    """P*(item | user) of some users; `[n, N]`."""
    logits = users.taste[some] @ market.items.T / users.noise[some].unsqueeze(-1) + market.prior
    labelled, label = users.labelled[some], users.label[some]
    outside = labelled.unsqueeze(-1) & (market.label_of != label.unsqueeze(-1))
    own = torch.softmax(logits.masked_fill(outside, -torch.inf), dim=-1)
    apart = market.recipe.unlearnable
    return (1 - apart) * own + apart / market.recipe.items if apart else own


def _context(market: _Market, users: _Users) -> Tensor:
    """What the policy sees of each user; `[P, X]`."""
    seen = [torch.tanh(users.z @ market.mixing + market.bias)]
    if len(market.tasks) > 1:
        seen.append(one_hot(users.kind, len(market.tasks)).to(users.z.dtype))
    if bool(users.labelled.any()):
        asked = one_hot(users.label, LABELS).to(users.z.dtype)
        seen.append(asked * users.labelled.unsqueeze(-1))
    return torch.cat(seen, dim=-1)


def blocks(size: int) -> tuple[Tensor, ...]:
    """Positions `[n]` of `size` prompts, `ROWS` at a time; the last block takes the rest too, as a
    matrix product of one to three rows may differ in its last bits from that of many."""
    return torch.arange(size).tensor_split(tuple(range(ROWS, size - ROWS + 1, ROWS)))


def strengths(z: Tensor, heterogeneity: float, rng: np.random.Generator) -> Tensor:
    """By how much each user's taste z `[P, D]` is scaled; `[P, 1]`.

    Above 0 by a log-normal factor with that standard deviation of its logarithm and mean square 1:
    few users know what they want, most take anything, and hits concentrate on few prompts. Below 0
    by (|z| / sqrt D)^heterogeneity, down to -1, where every taste is equally strong.
    """
    if heterogeneity > 0:
        power = heterogeneity * rng.standard_normal((len(z), 1)) - heterogeneity**2
        return torch.from_numpy(np.exp(power))
    size: Tensor = z.norm(dim=-1, keepdim=True) / z.shape[1] ** 0.5
    return size.pow(heterogeneity)


def _take(preference: Tensor, u: Tensor) -> Tensor:
    """Items `[B, M]` that uniform numbers `u` of that shape draw from `preference` `[B, N]`."""
    cdf = preference.cumsum(-1)
    return torch.searchsorted(cdf / cdf[:, -1:], u, right=True)


def _distinct(taken: Tensor, draws: Tensor) -> Tensor:
    """Targets `[P, M]` without repeats and without draws beyond each prompt's own; -1 instead."""
    place = torch.arange(taken.shape[1])
    earlier = place.unsqueeze(-1) > place
    repeated = ((taken.unsqueeze(-1) == taken.unsqueeze(-2)) & earlier).any(-1)
    return taken.masked_fill(repeated | (place >= draws.unsqueeze(-1)), -1)

"""GRPO and ReCast in a simulated catalogue: `python examples/simulate_from_scratch.py [STEPS]`.

Only numpy and torch, no part of this project, no short cut. The numbers are the simulator's own (a
test compares worlds, starts, signals, gradients and curves): a draw depends on the seed, a name and
a counter alone, and the names are the same. Letters: B prompts, G rollouts per prompt, L codes per
item, K codes to choose from at each level, D features of a user."""

import hashlib
import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

ITEMS, L, K, LATENT, D, WIDTH = 1024, 3, 16, 12, 24, 64
B, G, STEPS, RATE = 32, 32, 300, 0.003
ALL_ZERO = 0.85  # share of groups without a hit, where RL begins
Users = tuple[Tensor, Tensor]  # context [P, D] that the policy sees, target [P] that they took
Policy = dict[str, Tensor]
Signal = tuple[Tensor, Tensor, int]  # items [B, M] that learn, advantages [B, M], divisor
Method = Callable[[Tensor, Tensor, Tensor, Tensor], Signal]


def stream(seed: int, name: str, counter: int = 0) -> np.random.Generator:
    key = int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:16], "little")
    return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, counter]))


def minibatch(seed: int, name: str, step: int, size: int, users: Users) -> Users:
    epoch, place = divmod(step, len(users[1]) // size)
    order = stream(seed, name, epoch).permutation(len(users[1]))
    index = torch.as_tensor(order[place * size : (place + 1) * size])
    return users[0][index], users[1][index]


# --- 1. The world: items with semantic IDs, users with tastes ---
@dataclass
class World:
    codes: Tensor  # [ITEMS, L], sorted: the semantic ID of each item
    node: Tensor  # [ITEMS, L]: the place in the trie at which each of its codes is chosen
    child: Tensor  # [nodes, K]: the node, or at the last level the item, a code leads to; -1 = none
    users: dict[str, Users]  # for the start, for RL, and to measure on: sft, train, test


def make_world(seed: int = 0, sizes: tuple[int, int, int] = (16384, 16384, 512)) -> World:
    rng = stream(seed, "world")
    # Popular prefixes: each code's weight is Zipf's, in an order of its own below every prefix.
    log_mass, weight = np.zeros(1), np.log(1 / np.arange(1, K + 1))
    for _ in range(L):
        log_mass = np.concatenate([mass + rng.permutation(weight) for mass in log_mass])
    chosen = np.sort(np.argsort(-(log_mass + rng.gumbel(size=K**L)))[:ITEMS])
    codes = np.stack(np.unravel_index(chosen, (K,) * L), axis=1)
    # Items that share a prefix are alike: an embedding is a sum over levels, coarse to fine.
    vectors = rng.standard_normal((L, K, LATENT))
    embedding = sum(0.6**level * vectors[level, codes[:, level]] for level in range(L))
    popularity = 0.3 * rng.standard_normal(ITEMS)
    mixing = rng.standard_normal((LATENT, D)) / LATENT**0.5
    bias = 0.3 * rng.standard_normal(D)

    def users(split: str, size: int) -> Users:
        draws = stream(seed, f"users/{split}")
        taste, u = draws.standard_normal((size, LATENT)), draws.random((size, 1))
        logits = taste @ embedding.T * (2 / LATENT) / 0.2 + popularity
        chance = torch.softmax(torch.as_tensor(logits), -1).cumsum(-1)
        target = torch.searchsorted(chance, torch.as_tensor(u) * chance[:, -1:], right=True)
        return torch.as_tensor(np.tanh(taste @ mixing + bias)), target.squeeze(-1)

    splits = dict(zip(names := ("sft", "train", "test"), map(users, names, sizes), strict=True))
    ids = torch.as_tensor(codes)
    node, nodes = [torch.zeros(ITEMS, dtype=torch.int64)], 1
    for level in range(1, L):
        prefixes, place = ids[:, :level].unique(dim=0, return_inverse=True)
        node.append(nodes + place)
        nodes += len(prefixes)
    child = torch.full((nodes, K), -1)
    for level, after in enumerate([*node[1:], torch.arange(ITEMS)]):
        child[node[level], ids[:, level]] = after
    return World(ids, torch.stack(node, 1), child, splits)


# --- 2. The policy: from a user's context, code by code down the trie ---
def code_logp(policy: Policy, world: World, context: Tensor, node: Tensor, level: int) -> Tensor:
    """Log-probabilities of the K codes at trie nodes; context `[B, D]`, node `[B, M]`."""
    hidden = torch.tanh((context @ policy["input"]).unsqueeze(1) + policy["node"][node])
    logits = hidden @ policy["head"][level] + policy["bias"][level]
    return logits.masked_fill(world.child[node] < 0, -torch.inf).log_softmax(-1)


def item_logp(policy: Policy, world: World, context: Tensor, item: Tensor) -> Tensor:
    """Log-probability of each code of given items; item `[B, M]` -> `[B, M, L]`, nats."""
    place, code = world.node[item], world.codes[item]
    logp = [code_logp(policy, world, context, place[..., level], level) for level in range(L)]
    return torch.stack(logp, -2).gather(-1, code.unsqueeze(-1)).squeeze(-1)


@torch.no_grad()
def measure(policy: Policy, world: World, users: Users) -> tuple[float, float]:
    """Pass@1, the chance that one rollout hits, and the share of groups without a hit; exact."""
    p = item_logp(policy, world, users[0], users[1].unsqueeze(-1)).sum(-1).exp()
    return float(p.mean()), float(((1 - p) ** G).mean())


# --- 3. The start: supervised training until groups are as sparse as asked for ---
def warm_start(world: World, seed: int) -> Policy:
    shape = {"input": (D, WIDTH), "node": (len(world.child), WIDTH), "head": (L, WIDTH, K)}
    scale = {"input": D**-0.5, "node": 0.3, "head": 0.1 * WIDTH**-0.5}
    draw = {n: scale[n] * stream(seed, f"init/{n}").standard_normal(shape[n]) for n in shape}
    policy = {n: torch.tensor(v, requires_grad=True) for n, v in draw.items()}
    policy["bias"] = torch.zeros(L, K, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam(policy.values(), lr=0.003)
    solver, step = tuple(part[:2048] for part in world.users["train"]), 0
    while (share := measure(policy, world, solver)[1]) > ALL_ZERO:
        before = {name: value.detach().clone() for name, value in policy.items()}
        for _ in range(5 if share > ALL_ZERO + 0.05 else 1):  # look at each step when it is near
            context, target = minibatch(seed, "sft", step, 256, world.users["sft"])
            adam.zero_grad()
            (-item_logp(policy, world, context, target.unsqueeze(-1)).sum() / 256).backward()
            adam.step()
            step += 1
    after, low, high = policy, 0.0, 1.0
    for _ in range(12):  # between the last two looks, by bisection
        middle = (low + high) / 2
        policy = {name: before[name].lerp(after[name].detach(), middle) for name in after}
        above = measure(policy, world, solver)[1] > ALL_ZERO
        low, high = (middle, high) if above else (low, middle)
    return policy


# --- 4. The signals, from groups of items and how many codes each shares with the target ---
def grpo(item: Tensor, matched: Tensor, ties: Tensor, target: Tensor) -> Signal:
    """Reward less the group's mean, over its standard deviation: 0 in an all-zero group."""
    reward = (matched == L).double()
    centred = reward - reward.mean(-1, keepdim=True)
    return item, centred / (reward.std(-1, keepdim=True) + 1e-6), reward.numel()


def recast(item: Tensor, matched: Tensor, ties: Tensor, target: Tensor) -> Signal:
    """In an all-zero group the target replaces the rollout least like it; then one hit goes up and
    the miss most like the target goes down. Of equals, the one with the smallest tie goes first."""
    item, advantage = item.clone(), torch.zeros(item.shape, dtype=torch.float64)
    for b, found in enumerate(matched.tolist()):
        order = ties[b].argsort().tolist()
        if max(found) < L:
            anchor = min(order, key=found.__getitem__)
            item[b, anchor], found[anchor] = target[b], L
        if misses := [g for g in order if found[g] < L]:
            advantage[b, next(g for g in order if found[g] == L)] = 1
            advantage[b, max(misses, key=found.__getitem__)] = -1
    return item, advantage, len(item)


def sft(item: Tensor, matched: Tensor, ties: Tensor, target: Tensor) -> Signal:
    """The control: the same targets without rollouts."""
    return target.unsqueeze(-1), torch.ones(len(target), 1, dtype=torch.float64), len(target)


# --- 5. Training, and the curve ---
def loss_at(policy: Policy, world: World, method: Method, seed: int, step: int) -> Tensor:
    """One batch: users, their groups, the signal, and the policy gradient as a loss."""
    context, target = minibatch(seed, "prompts", step, B, world.users["train"])
    u = torch.as_tensor(stream(seed, "rollouts", step).random((B, G, L)))
    ties = torch.as_tensor(stream(seed, "ties", step).random((B, G)))
    item = torch.zeros(B, G, dtype=torch.int64)  # a node of the trie until the last code is drawn
    for level in range(L):
        chance = code_logp(policy, world, context, item, level).detach().exp().cumsum(-1)
        item = world.child[item, (chance <= u[..., [level]] * chance[..., -1:]).sum(-1)]
    same = world.codes[item] == world.codes[target].unsqueeze(1)
    item, advantage, divisor = method(item, same.long().cumprod(-1).sum(-1), ties, target)
    logp = item_logp(policy, world, context, item)
    ratio = (logp - logp.detach()).exp()  # to the policy that sampled: 1, each batch is used once
    return -(ratio * advantage.unsqueeze(-1)).sum() / divisor


def train(world: World, start: Policy, method: Method, steps: int, seed: int, rate: float) -> list:
    """(step, Pass@1, share of all-zero groups) of test users, at every tenth of the training."""
    policy = {name: value.detach().clone().requires_grad_() for name, value in start.items()}
    adam = torch.optim.Adam(policy.values(), lr=rate)
    curve = [(0, *measure(start, world, world.users["test"]))]
    for step in range(steps):
        adam.zero_grad()
        loss_at(policy, world, method, seed, step).backward()
        adam.step()
        if (step + 1) % max(1, steps // 10) == 0:
            curve.append((step + 1, *measure(policy, world, world.users["test"])))
    return curve


if __name__ == "__main__":
    steps, world = int(sys.argv[1]) if len(sys.argv) > 1 else STEPS, make_world()
    start = warm_start(world, 0)
    print(f"Pass@1 on test users at learning rate {RATE:g}, one seed; nothing is tuned here")
    for method in (grpo, recast, sft):
        for step, p, _ in train(world, start, method, steps, 0, RATE):
            print(f"{method.__name__:8}{step:5d}  {p:.4f} {'=' * round(500 * p)}")

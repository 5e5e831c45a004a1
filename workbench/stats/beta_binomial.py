"""How hard are the prompts? A Beta-binomial fit of observed hit counts, and what it predicts.

Each prompt has a hit probability p, p ~ Beta over prompts, and K ~ Binomial(G, p) hits of its G
rollouts were counted. mean is E[p]; spread = 1 / (a + b + 1) in [0, 1) is the intraclass
correlation (0: every prompt alike), cv = sqrt(spread (1 - mean) / mean).

Intervals are 95% profile-likelihood: all (mean, spread) whose log-likelihood lies within 1.92 of
the maximum form a region, and a number's interval is its range over that region. So a prediction at
another G carries the uncertainty of both. The Beta shape itself is an assumption.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import betaincinv, chdtri, expit, gammaln, logit, stdtrit

from recast import REGIMES

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
LogLikelihood = Callable[[Floats, Floats], Floats]

DROP = float(chdtri(1, 0.05)) / 2
TOP = 1 - 1e-9
RAYS = 96
SHELLS = (0.25, 0.5, 0.75, 1.0)
TAIL = 0.025


@dataclass(frozen=True)
class Estimated:
    """A value and its 95% interval; unitless."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class BetaFit:
    """A fit. prompts, rollouts, hits: what was counted; loglik: at the maximum, less the
    combinatorial constant; note: what the counts cannot tell, "" if nothing.

    region `[M, 2]`: (mean, spread) of the 95% region, the estimate first. known_spread: False where
    the counts say nothing about the spread; its interval is then all of [0, 1). predicts: whether
    another G can be predicted.
    """

    prompts: int
    rollouts: int
    hits: int
    loglik: float
    region: Floats
    known_spread: bool
    predicts: bool
    note: str

    @property
    def mean(self) -> Estimated:
        """E[p] over prompts."""
        return _range(self.region[:, 0])

    @property
    def spread(self) -> Estimated:
        """Intraclass correlation 1 / (a + b + 1); 0: every prompt alike."""
        return _range(self.region[:, 1]) if self.known_spread else Estimated(0.0, 0.0, 1.0)

    @property
    def cv(self) -> Estimated:
        """Standard deviation of p over its mean; 0 where the mean is 0."""
        mean, spread = self.region.T
        spread = spread if self.known_spread else np.array([0.0, *[TOP] * (len(mean) - 1)])
        ratio = np.divide(1 - mean, mean, out=np.zeros_like(mean), where=mean > 0)
        return _range(np.sqrt(spread * ratio))

    def regimes(self, group: int) -> dict[str, Estimated]:
        """Share of groups in each of `REGIMES` at another G.

        Raises ValueError for group < 1, or group > 1 where the spread is unknown.
        """
        pmf = self._pmf(group)
        single = pmf[:, 1] if group > 1 else 0 * pmf[:, 0]
        multi = pmf[:, 2:-1].sum(1)
        shares = (pmf[:, 0], single, multi, pmf[:, -1])
        return {name: _range(share) for name, share in zip(REGIMES, shares, strict=True)}

    def pass_at(self, k: int) -> Estimated:
        """Pass@k, E[1 - (1-p)^k]: the share of prompts that k rollouts hit at least once.

        Raises ValueError for k < 1, or k > 1 where the spread is unknown.
        """
        return _range(1 - self._pmf(k)[:, 0])

    def learnable(self, group: int) -> Estimated:
        """Share of groups with hits and misses both, at another G; 0 at G = 1.

        Raises ValueError for group < 1, or group > 1 where the spread is unknown.
        """
        pmf = self._pmf(group)
        return _range(np.clip(1 - pmf[:, 0] - pmf[:, -1], 0, 1) if group > 1 else 0 * pmf[:, 0])

    def learnable_curves(self, widths: Sequence[int]) -> Floats:
        """`learnable` at each of these G for every (mean, spread) of the region; `[M, W]`.

        Raises ValueError for a width below 2, or where the spread is unknown.
        """
        if min(widths) < 2 or not self.predicts:
            raise ValueError(f"fit: no curve: {self.note or 'widths start at 2'}")
        n = np.asarray([*widths, *widths], dtype=np.int64)
        k = np.where(np.arange(len(n)) < len(widths), 0, n)
        ends = np.exp(_terms(self.region[:, 0], self.region[:, 1], k, n))
        shares = 1 - ends[:, : len(widths)] - ends[:, len(widths) :]
        return np.asarray(np.clip(shares, 0, 1), dtype=np.float64)

    def again_constant(self, group: int) -> Estimated:
        """Chance that a prompt whose group was all-zero or saturated is so at the next visit.

        Raises ValueError as `regimes` does.
        """
        once, twice = self._pmf(group), self._pmf(2 * group)
        choose = gammaln(2 * group + 1) - 2 * gammaln(group + 1)
        both = twice[:, 0] + twice[:, -1] + 2 * twice[:, group] * np.exp(-choose)
        constant = once[:, 0] + once[:, -1]
        return _range(np.divide(both, constant, out=np.zeros_like(both), where=constant > 0))

    def _pmf(self, group: int) -> Floats:
        if group < 1:
            raise ValueError(f"group: expected at least 1 rollout, got {group}")
        if group > 1 and not self.predicts:
            raise ValueError(f"fit: nothing can be said about G = {group}: {self.note}")
        k = np.arange(group + 1, dtype=np.int64)
        choose = gammaln(group + 1) - gammaln(k + 1) - gammaln(group - k + 1)
        terms = _terms(self.region[:, 0], self.region[:, 1], k, np.full_like(k, group))
        return np.asarray(np.exp(choose + terms), dtype=np.float64)


def fit_hit_counts(hits: Sequence[int], rollouts: int | Sequence[int]) -> BetaFit:
    """Maximum likelihood of the Beta-binomial from hits `[N]` of `rollouts` (one G, or `[N]`).

    Degenerate counts get what they can tell, and `note` says what is missing: no hit or hits only
    (the spread is open; the bound on the mean holds for any spread), a single prompt, or groups of
    one rollout (Bernoulli whatever the spread: an exact binomial interval).
    Raises ValueError for no counts, lengths that differ, or a count outside 0..G.
    """
    k = np.asarray(hits)
    n = np.broadcast_to(np.asarray(rollouts), k.shape) if np.ndim(rollouts) == 0 else rollouts
    n = np.asarray(n)
    if k.ndim != 1 or not len(k):
        raise ValueError("hits: expected the hit counts of at least one prompt")
    if n.shape != k.shape:
        raise ValueError(f"rollouts: expected one G or {len(k)} of them, got {len(n)}")
    if not np.array_equal(k, k.astype(np.int64)) or not np.array_equal(n, n.astype(np.int64)):
        raise ValueError("hits: expected whole numbers")
    k, n = k.astype(np.int64), n.astype(np.int64)
    if (n < 1).any() or (k < 0).any() or (k > n).any():
        place = int(np.flatnonzero((n < 1) | (k < 0) | (k > n))[0])
        raise ValueError(f"hits: prompt {place} has {k[place]} hits of {n[place]} rollouts")
    pairs, counts = np.unique(np.stack([k, n]), axis=1, return_counts=True)
    prompts, total, found = len(k), int(n.sum()), int(k.sum())

    def loglik(mean: Floats, spread: Floats) -> Floats:
        """Of parameters `[T]` -> `[T]`."""
        return np.asarray(_terms(mean, spread, pairs[0], pairs[1]) @ counts, dtype=np.float64)

    if found in (0, total):
        bound = 1 - TAIL ** (1 / prompts)
        # Of all spreads the largest, every p at 0 or 1, has the widest bound; it covers the others.
        edges = np.array([0.0, bound, bound])
        mean = edges if found == 0 else 1 - edges
        region = np.stack([mean, np.array([0.0, 0.0, TOP])], axis=1)
        which = "no rollout hit" if found == 0 else "every rollout hit"
        note = f"{which}, so the spread over prompts is open; the interval of the mean allows any"
        return BetaFit(prompts, total, found, 0.0, region, False, True, note)
    if prompts == 1 or (n == 1).all():
        share = binomial_share(found, total)
        region = np.array([[value, 0.0] for value in (share.value, share.low, share.high)])
        at_best = float(loglik(region[:1, 0], region[:1, 1])[0])
        note = (
            "one prompt: this is its own hit probability, and the spread over prompts is unknown"
            if prompts == 1
            else "one rollout per prompt shows no spread over prompts"
        )
        return BetaFit(prompts, total, found, at_best, region, False, prompts == 1, note)
    best = _maximum(loglik, found / total)
    region = _region(loglik, best, found)
    note = "" if best[1] > 0 else "no over-dispersion: prompts look alike"
    peak = float(loglik(region[:1, 0], region[:1, 1])[0])
    return BetaFit(prompts, total, found, peak, region, True, True, note)


def fit_shares(means: Floats, constant: Floats, group: int) -> BetaFit:
    """The Beta-binomial from two scalars per step: the mean reward (0 or 1 each) and the share of
    groups of G whose rewards are all equal; `[S]` each, S >= 3 steps.

    The mean is E[p], and the share of equal groups, P(0 hits) + P(G hits), grows with the spread:
    two numbers for two. Their 95% region is Student's ellipse of the steps' means, so steps count
    as independent draws, however many groups each holds; `prompts` is the number of steps.
    Raises ValueError for fewer than three steps, a G below 2, or shares outside [0, 1].
    """
    means, constant = np.asarray(means, np.float64), np.asarray(constant, np.float64)
    if len(means) < 3 or means.shape != constant.shape:
        raise ValueError("shares: expected a mean reward and a share of at least three steps")
    if group < 2:
        raise ValueError(f"group: expected at least 2 rollouts, got {group}")
    both = np.stack([means, constant])
    if both.min() < -1e-9 or both.max() > 1 + 1e-9:
        raise ValueError("shares: expected rewards of 0 and 1, so means within [0, 1]")
    steps, centre = len(means), both.mean(1)
    if not 0 < centre[0] < 1:
        region = np.array([[centre[0], 0.0]])
        note = "no reward differs, so nothing is known of the spread over prompts"
        return BetaFit(steps, 0, 0, 0.0, region, False, False, note)
    cov = np.cov(both) / steps + np.diag([1e-12, 1e-12])
    angle = np.linspace(0, 2 * np.pi, RAYS, endpoint=False)
    ring = np.stack([np.cos(angle), np.sin(angle)], 1) @ np.linalg.cholesky(cov).T
    radius = float(stdtrit(steps - 1, 1 - TAIL))
    cloud = np.concatenate([centre[None], *(centre + radius * r * ring for r in SHELLS)])
    mean = np.clip(cloud[:, 0], 1e-6, 1 - 1e-6)
    region = np.stack([mean, _spread_of(mean, cloud[:, 1], group)], axis=1)
    note = "" if region[0, 1] > 0 else "no over-dispersion: prompts look alike"
    return BetaFit(steps, 0, 0, 0.0, region, True, True, note)


def _spread_of(mean: Floats, constant: Floats, group: int) -> Floats:
    """The spread at which that share of groups is all misses or all hits; `[T]`, by halving."""
    ends, size = np.array([0, group], np.int64), np.full(2, group, np.int64)
    low, high = np.zeros_like(mean), np.full_like(mean, 1 - 1e-6)
    for _ in range(50):
        middle = (low + high) / 2
        more = np.exp(_terms(mean, middle, ends, size)).sum(1) < constant
        low, high = np.where(more, middle, low), np.where(more, high, middle)
    none = np.exp(_terms(mean, np.zeros_like(mean), ends, size)).sum(1) >= constant
    return np.asarray(np.where(none, 0.0, (low + high) / 2), dtype=np.float64)


def binomial_share(found: int, total: int) -> Estimated:
    """A share and its exact 95% interval (Clopper and Pearson). Raises ValueError for no trials."""
    if not 0 <= found <= total or not total:
        raise ValueError(f"share: expected 0 <= found <= total > 0, got {found} of {total}")
    low = float(betaincinv(found, total - found + 1, TAIL)) if found else 0.0
    high = float(betaincinv(found + 1, total - found, 1 - TAIL)) if found < total else 1.0
    return Estimated(found / total, low, high)


def _terms(mean: Floats, spread: Floats, k: Counts, n: Counts) -> Floats:
    """log P(K = k) less log C(n, k); parameters `[T]`, counts `[U]` -> `[T, U]`.

    Rising factorials in steps of r = 1 / (a + b): exact in the limit of no spread.
    """
    r = spread / (1 - np.minimum(spread, TOP))
    step = r[:, None] * np.arange(int(n.max()))

    def rising(start: Floats) -> Floats:
        with np.errstate(divide="ignore"):
            logs = np.log(start[:, None] + step)
        return np.concatenate([np.zeros((len(mean), 1)), np.cumsum(logs, axis=1)], axis=1)

    hit, miss, either = rising(mean), rising(1 - mean), rising(np.ones_like(mean))
    return np.asarray(hit[:, k] + miss[:, n - k] - either[:, n], dtype=np.float64)


def _maximum(loglik: LogLikelihood, naive: float) -> tuple[float, float]:
    """(mean, spread) of the maximum: the best of a grid, polished."""
    centre = float(logit(naive))
    means, roots = np.meshgrid(centre + np.linspace(-2, 2, 17), np.linspace(0, 0.98, 50))
    values = loglik(expit(means.ravel()), roots.ravel() ** 2)
    start = int(np.argmax(values))

    def loss(point: Floats) -> float:
        return -float(loglik(expit(point[:1]), point[1:] ** 2)[0])

    found = minimize(
        loss,
        [means.ravel()[start], roots.ravel()[start]],
        method="Nelder-Mead",
        bounds=[(centre - 6, centre + 6), (0, 1 - 1e-6)],
        options={"xatol": 1e-7, "fatol": 1e-9, "maxiter": 2000},
    )
    mean, root = float(expit(found.x[0])), float(found.x[1])
    alike = -loss(np.array([centre, 0.0]))
    # Without spread the mean is the pooled share; a gain below 1e-7 is the optimiser's tolerance.
    return (naive, 0.0) if alike >= -float(found.fun) - 1e-7 else (mean, root**2)


def _region(loglik: LogLikelihood, best: tuple[float, float], hits: int) -> Floats:
    """Points of the 95% region: along rays from the maximum to where the log-likelihood has
    dropped, or to no spread at all; (logit mean, sqrt spread) is where it is closest to a disc.

    A first round of rays finds the region's axes; the second spreads its rays over them.
    """
    centre = np.array([logit(best[0]), np.sqrt(best[1])])
    axes = np.diag([1 / np.sqrt(hits), max(0.02, 0.2 * centre[1])])
    edge = _edge(loglik, centre, axes, RAYS // 4) - centre
    edge = np.concatenate([edge, -edge])
    edge = _edge(loglik, centre, np.linalg.cholesky(edge.T @ edge / len(edge)), RAYS) - centre
    cloud = np.concatenate([centre[None], *(centre + shell * edge for shell in SHELLS)])
    return np.stack([expit(cloud[:, 0]), np.clip(cloud[:, 1], 0, 1) ** 2], axis=1)


def _edge(loglik: LogLikelihood, centre: Floats, axes: Floats, rays: int) -> Floats:
    """Where each of the rays, evenly spaced on the ellipse of these axes, leaves the region."""
    angle = np.linspace(0, 2 * np.pi, rays, endpoint=False)
    way = np.stack([np.cos(angle), np.sin(angle)], 1) @ axes.T
    limit = float(loglik(expit(centre[:1]), centre[1:] ** 2)[0]) - DROP
    up, down = way[:, 1] > 1e-12, way[:, 1] < -1e-12
    wall = np.full(rays, np.inf)
    wall[down] = centre[1] / -way[down, 1]
    wall[up] = (np.sqrt(TOP) - centre[1]) / way[up, 1]

    def inside(radius: Floats) -> npt.NDArray[np.bool_]:
        point = centre + radius[:, None] * way
        return np.asarray(loglik(expit(point[:, 0]), np.clip(point[:, 1], 0, 1) ** 2) >= limit)

    outer = np.minimum(np.ones(rays), wall)
    for _ in range(60):
        further = inside(outer) & (outer < wall)
        if not further.any():
            break
        outer = np.where(further, np.minimum(2 * outer, wall), outer)
    inner = np.where(inside(outer), outer, 0.0)
    for _ in range(30):
        middle = (inner + outer) / 2
        within = inside(middle)
        inner, outer = np.where(within, middle, inner), np.where(within, outer, middle)
    return np.asarray(centre + inner[:, None] * way, dtype=np.float64)


def _range(values: Floats) -> Estimated:
    return Estimated(float(values[0]), float(values.min()), float(values.max()))

"""Plans: what is drawn of each group before anything is walked, and what it weighs.

A plan needs the law of a group given its target's path alone, and a table: what each outcome asks.

- `TARGET`: no rollouts. One outcome.
- `HITS`: the outcome is the number of hits, binomial; every miss has the same credit. Misses that
  carry weight are told where they leave the path.
- `PAIR`: the outcome is whether there is a hit, and where the hardest miss leaves: cell hit (L + 1)
  + level + 1, level -1 for no miss. That miss alone is walked.
- `GIVEN`: hits, counts and weights are the caller's.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sim.kernel.machine_code import inner
from sim.kernel.numbers import binomial, draw_codes
from sim.kernel.shapes import Array, Demand, PathArrays, Rules, Scratch

TARGET, HITS, PAIR, GIVEN = 0, 1, 2, 3
ON_PATH, MISS, WALKED, CARRIED, ROWS, ACTIVE, REPAIRED = range(7)
"""Columns of a table `[outcomes, 7]`: credit of hits and anchors together, credit of one miss,
whether misses are walked, hits and anchors that carry a KL term; rows that reach the actor, those
with credit, and whether an anchor was added."""
TALLIES = 6
"""What a step counts, summed over prompts: rows, active, groups with credit, repaired, groups
without a row, rows of the trie that were scored."""


@inner
def pair_law(leave: Array, prompt: Any, hit: Any, group: Any, law: Array) -> None:
    """Joint law of (is there a hit, where does the hardest miss leave) of G rollouts of a prompt,
    2 (L + 1) cells in law `[1, ..]`. hit: chance of one hit.

    All rollouts are hits or leave at level m or before with probability (hit + sum of leave up to
    m)^G, and the same without hit.
    """
    depth, whole = leave.shape[1], hit
    for level in range(depth):
        whole += leave[prompt, level]
    before, before_none, some = 0.0, 0.0, 0.0
    for m in range(depth + 1):
        if m:
            some += leave[prompt, m - 1]
        every, none = ((hit + some) / whole) ** group, (some / whole) ** group
        law[0, m] = max(none - before_none, 0.0)
        law[0, depth + 1 + m] = max((every - none) - (before - before_none), 0.0)
        before, before_none = every, none


@inner
def draw_pairs(paths: PathArrays, rules: Rules, table: Array, demand: Demand, s: Scratch) -> None:
    """One cell per prompt."""
    depth = paths.leave.shape[1]
    for i in range(rules.batch):
        pair_law(paths.leave, i, paths.reach[i, depth], rules.group, s.law)
        draw_codes(s.stream, np.int64(1), s.law, np.int64(0), s.cdf, s.point, s.found)
        cell = 0
        for k in range(2 * depth + 2):
            if s.found[k]:
                cell = k
        demand.row[i], demand.hits[i] = cell, cell > depth
        for level in range(depth):
            here = cell % (depth + 1) == level + 1
            demand.misses[i, level] = here and table[cell, WALKED] > 0


@inner
def draw_hits(paths: PathArrays, rules: Rules, table: Array, demand: Demand, s: Scratch) -> None:
    """A number of hits per prompt, and where misses leave that carry weight."""
    depth = paths.leave.shape[1]
    for i in range(rules.batch):
        some, p = 0.0, 1.0
        for level in range(depth):
            some += paths.leave[i, level]
        if some > 0:
            p = min(paths.reach[i, depth], 1.0)
        hits = binomial(s.stream, rules.group, p, s.point)
        demand.row[i], demand.hits[i] = hits, hits
        misses = (rules.group - hits) * np.int64(table[hits, WALKED] > 0)
        draw_codes(s.stream, misses, paths.leave, i, s.cdf, s.point, s.found)
        # An anchor takes the slot of the least informative miss: one of the shallowest.
        displaced = rules.displaces and table[hits, REPAIRED] > 0
        for level in range(depth):
            demand.misses[i, level] = s.found[level]
            if displaced and s.found[level]:
                demand.misses[i, level] -= 1
                displaced = False


@inner
def weigh(rules: Rules, table: Array, demand: Demand, tally: Array) -> None:
    """From outcomes to derivatives of the loss; tally `[TALLIES]` is added to."""
    rows, active, live = 0.0, 0.0, 0.0
    for i in range(rules.batch):
        outcome = demand.row[i]
        rows += table[outcome, ROWS]
        active += table[outcome, ACTIVE]
        live += table[outcome, ACTIVE] > 0
        tally[3] += table[outcome, REPAIRED]
        tally[4] += table[outcome, ROWS] == 0
    tally[0] += rows
    tally[1] += active
    tally[2] += live
    share = rules.weight / (
        rules.fixed
        + rules.per_row * max(rows, 1.0)
        + rules.per_active * max(active, 1.0)
        + rules.per_live * max(live, 1.0)
    )
    for i in range(rules.batch):
        outcome = demand.row[i]
        demand.kl[i] = rules.kl * share
        demand.kl_hits[i] = table[outcome, CARRIED]
        for level in range(demand.hit.shape[1]):
            demand.hit[i, level] = -share * table[outcome, ON_PATH]
            demand.miss[i, level] = -share * table[outcome, MISS]


@inner
def ask(
    paths: PathArrays, rules: Rules, table: Array, demand: Demand, s: Scratch, tally: Array
) -> None:
    """Draw every group by the plan, and weigh it."""
    if rules.plan == PAIR:
        draw_pairs(paths, rules, table, demand, s)
    elif rules.plan == HITS:
        draw_hits(paths, rules, table, demand, s)
    elif rules.plan == TARGET:
        for i in range(rules.batch):
            demand.row[i], demand.hits[i] = 0, 0
            for level in range(demand.misses.shape[1]):
                demand.misses[i, level] = 0
    if rules.plan != GIVEN:
        weigh(rules, table, demand, tally)


@inner
def supervise(slopes: Array, row: Any, paths: PathArrays, rules: Rules, demand: Demand) -> None:
    """Add the derivative of the supervised term, a row of slopes `[.., 4]`: the weight, power,
    hits_power and chord of a `recast.stages.supervised.Slope`."""
    weight, power = slopes[row, 0], slopes[row, 1]
    hits_power, chord = slopes[row, 2], slopes[row, 3]
    if weight == 0 and chord == 0:
        return
    depth = paths.logp.shape[1]
    for i in range(rules.batch):
        logp = 0.0
        for level in range(depth):
            logp += paths.logp[i, level]
        estimate = (demand.hits[i] + 0.5) / (rules.group + 1.0)
        whole = weight * np.exp(power * logp) * estimate**hits_power
        for level in range(depth):
            p = np.exp(np.float64(paths.logp[i, level]))
            demand.hit[i, level] -= (whole + chord * p * (1 - p)) / rules.batch

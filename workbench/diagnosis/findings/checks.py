"""Every check by the name of its finding, and what they say of one log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

from workbench.diagnosis.diagnosis import Diagnosis
from workbench.diagnosis.findings import (
    advantages,
    groups,
    length,
    policy,
    progress,
    regimes,
    reward,
)
from workbench.diagnosis.findings.audit import Audit, audit
from workbench.diagnosis.findings.curves import Curves, curves_of
from workbench.diagnosis.findings.finding import NEEDS, Check, Finding, Unchecked

CHECKS: Mapping[str, Check] = MappingProxyType(
    {
        check.name: check
        for check in (
            Check(groups.group_of_one),
            Check(
                length.truncated,
                "curves",
                ("truncated", "unended"),
            ),
            Check(
                reward.reward_ignores_rollout,
                explains=frozenset({"starved", "saturated", "diluted_denominator", "plateau"}),
            ),
            Check(
                reward.constant_reward,
                explains=frozenset(
                    {"saturated", "diluted_denominator", "plateau", "no_raw_outcome"}
                ),
            ),
            Check(reward.silent_task),
            Check(reward.format_guard, needs=("format", "shaped")),
            Check(groups.groups_mixed, "audit"),
            Check(advantages.rows_outside_mean, "audit", ("advantage",)),
            Check(
                advantages.absurd_advantages,
                "audit",
                ("advantage",),
                frozenset({"rows_outside_mean", "unknown_advantages"}),
            ),
            Check(groups.duplicated_rollouts, needs=("prediction",)),
            Check(progress.late_collapse, "curves", ("outcome", "reward")),
            Check(policy.entropy_collapse, "curves", ("entropy",)),
            Check(policy.entropy_explosion, "curves", ("entropy",)),
            Check(policy.kl_explosion, "curves", ("kl",)),
            Check(policy.rollout_mismatch, "curves", ("mismatch",)),
            Check(policy.clipped_ratios, "curves", ("clipped",)),
            Check(length.length_collapse, "curves", ("length",)),
            Check(length.repetition, "curves", ("repetition",)),
            Check(
                progress.reward_hacking, "curves", ("shaped", "eval"), frozenset({"late_collapse"})
            ),
            Check(regimes.starved, explains=frozenset({"plateau"})),
            Check(regimes.saturated, explains=frozenset({"plateau"})),
            Check(reward.shaped_hides),
            Check(policy.kl_on_dead_groups, needs=("kl",)),
            Check(regimes.diluted_denominator),
            Check(reward.reward_drift),
            Check(regimes.pass_at_k_falls),
            Check(progress.plateau, "curves", ("pace",)),
            Check(length.length_growth, "curves", ("length",)),
            Check(policy.stale_rollouts, "curves", ("lag",)),
            Check(advantages.no_group_baseline, "audit", ("advantage",)),
            Check(advantages.unknown_advantages, "audit", ("advantage",)),
            Check(groups.repeated_batches),
            Check(reward.no_raw_outcome),
        )
    }
)
"""In order of weight: what explains most comes first."""


@dataclass(frozen=True)
class Examined:
    """What the checks say. findings: problems first, then notes, each in the order of `CHECKS`;
    unchecked: what could not run, and what it needs; audit: of the advantages."""

    findings: tuple[Finding, ...]
    unchecked: tuple[Unchecked, ...]
    audit: Audit | None = None

    @property
    def problems(self) -> tuple[Finding, ...]:
        """Those that say the run is not learning as its owner believes."""
        return tuple(one for one in self.findings if one.level == "problem")


@dataclass(frozen=True)
class CheckInputs:
    """What checks look at, each made when the first of them asks."""

    found: Diagnosis

    @cached_property
    def curves(self) -> Curves:
        """Step by step."""
        return curves_of(self.found)

    @cached_property
    def audit(self) -> Audit:
        """Of the logged advantages."""
        return audit(self.found)


def examine(found: Diagnosis) -> Examined:
    """Run every check on a log of rollouts."""
    evidence = CheckInputs(found)
    there = _there(found, evidence.curves)
    said = []
    for check in _runnable(there):
        what = {"rollouts": found, "curves": evidence.curves, "audit": evidence.audit}[check.reads]
        said.append((check, check.function(what)))
    return Examined(_in_order(said), _unchecked(there), evidence.audit)


def examine_curves(curves: Curves, more: Sequence[Check] = ()) -> Examined:
    """Run those checks that need no more than a tracker's scalars, and `more` of the same kind."""
    there = frozenset(curves) | ({"pace"} if max(map(len, curves.values())) >= 20 else set())
    there |= {"shaped"} if {"outcome", "reward"} <= there else set()
    checks = [*more, *(check for check in CHECKS.values() if check.reads == "curves")]
    weight = list(CHECKS)
    # What only scalars tell comes first: it names a cause. The sort is stable.
    checks.sort(key=lambda one: weight.index(one.name) if one.name in CHECKS else -1)
    said = [(check, check.function(curves)) for check in _runnable(there, checks)]
    known = {check.name for check in checks}
    rest = Unchecked(
        tuple(name for name in CHECKS if name not in known),
        "the rollouts themselves (prompt, completion and reward, one row each)",
    )
    return Examined(_in_order(said), (*_unchecked(there, checks), rest))


def _runnable(
    there: frozenset[str] | set[str], checks: Iterable[Check] = tuple(CHECKS.values())
) -> list[Check]:
    return [check for check in checks if not check.needs or there & set(check.needs)]


def _there(found: Diagnosis, curves: Curves) -> frozenset[str]:
    """What a log holds, by the names of `NEEDS`."""
    rows = found.rollouts
    said = {name for name in NEEDS if name in rows.columns and rows[name].count()}
    said |= set(curves)
    said |= {"shaped"} if found.shaped else set()
    said |= {"pace"} if len(found.steps) >= 20 else set()
    # Lengths that pile up nowhere were looked at, though they are no curve.
    said |= {"truncated"} if "tokens" in said else set()
    return frozenset(said)


def _in_order(said: Iterable[tuple[Check, Finding | None]]) -> tuple[Finding, ...]:
    fired = [(check, one) for check, one in said if one is not None]
    known = {name for check, _ in fired for name in check.explains}
    kept = [one for _, one in fired if one.name not in known]
    return tuple(sorted(kept, key=lambda one: one.level != "problem"))


def _unchecked(
    there: frozenset[str] | set[str], checks: Iterable[Check] = tuple(CHECKS.values())
) -> tuple[Unchecked, ...]:
    """The checks that could not run, together where they need the same."""
    missing: dict[str, list[str]] = {}
    for check in checks:
        if check.needs and not there & set(check.needs):
            words = " or ".join(NEEDS[need] for need in check.needs)
            missing.setdefault(words, []).append(check.name)
    return tuple(Unchecked(tuple(names), words) for words, names in missing.items())

"""Every check by the name of its finding, and what they say of one log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

from workbench.diagnosis.diagnosis import Diagnosis
from workbench.diagnosis.findings import (
    advantages,
    copies,
    groups,
    length,
    policy,
    progress,
    regimes,
    reward,
)
from workbench.diagnosis.findings.audit import Audit, audit
from workbench.diagnosis.findings.curves import SHORT, Curves, curves_of
from workbench.diagnosis.findings.finding import NEEDS, STEP, Check, Finding, Unchecked

CHECKS: Mapping[str, Check] = MappingProxyType(
    {
        check.name: check
        for check in (
            Check(groups.group_of_one),
            Check(reward.unusable_rewards),
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
            Check(reward.silent_task, explains=frozenset({"starved_task"})),
            Check(copies.contradicting_rewards, needs=("prediction",)),
            Check(reward.format_guard, needs=("format", "shaped")),
            Check(groups.groups_mixed, "audit"),
            Check(advantages.zero_advantages, "audit", ("advantage",)),
            Check(advantages.reversed_advantages, "audit", ("advantage",)),
            Check(advantages.rows_outside_mean, "audit", ("advantage",)),
            Check(
                advantages.absurd_advantages,
                "audit",
                ("advantage",),
                frozenset({"rows_outside_mean", "unknown_advantages"}),
            ),
            Check(copies.duplicated_rollouts, needs=("prediction",)),
            Check(
                progress.late_collapse,
                "curves",
                ("outcome", "reward"),
                frozenset({"plateau"}),
                steps=progress.LEAST,
            ),
            Check(policy.entropy_collapse, "curves", ("entropy",), steps=SHORT),
            Check(policy.entropy_explosion, "curves", ("entropy",), steps=SHORT),
            Check(policy.kl_explosion, "curves", ("kl",), steps=SHORT),
            Check(policy.rollout_mismatch, "curves", (*policy.GAPS, "prob_correlation")),
            Check(policy.clipped_ratios, "curves", ("clipped",)),
            Check(length.length_collapse, "curves", ("length",), steps=SHORT),
            Check(length.repetition, "curves", ("repetition",)),
            Check(
                progress.reward_hacking,
                "curves",
                ("shaped", "eval"),
                frozenset({"late_collapse"}),
                steps=9,
            ),
            Check(regimes.starved_task, explains=frozenset({"plateau"})),
            Check(regimes.starved, explains=frozenset({"plateau"})),
            Check(regimes.saturated, explains=frozenset({"plateau"})),
            Check(reward.shaped_hides),
            Check(policy.kl_on_dead_groups, needs=("kl",)),
            Check(regimes.diluted_denominator),
            Check(reward.reward_drift, steps=3),
            Check(regimes.pass_at_k_falls, steps=3),
            Check(progress.plateau, "curves", ("outcome", "reward"), steps=progress.LONG),
            Check(length.length_growth, "curves", ("length",), steps=SHORT),
            Check(policy.stale_rollouts, "curves", ("lag",)),
            Check(advantages.missing_advantages, needs=("advantage",)),
            Check(advantages.no_group_baseline, "audit", ("advantage",)),
            Check(advantages.unknown_advantages, "audit", ("advantage",)),
            Check(reward.silent_function),
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
    there = HeldColumns(_there(found, evidence.curves), evidence.curves, len(found.steps))
    said = []
    for check in CHECKS.values():
        if there.lacks(check):
            continue
        what = {"rollouts": found, "curves": evidence.curves, "audit": evidence.audit}[check.reads]
        said.append((check, check.function(what)))
    return Examined(_in_order(said), _unchecked(there, CHECKS.values()), evidence.audit)


def examine_curves(curves: Curves, more: Sequence[Check] = ()) -> Examined:
    """Run those checks that need no more than a tracker's scalars, and `more` of the same kind."""
    names = frozenset(curves) | ({"shaped"} if {"outcome", "reward"} <= set(curves) else set())
    there = HeldColumns(names, curves, max(map(len, curves.values())))
    checks = [*more, *(check for check in CHECKS.values() if check.reads == "curves")]
    weight = list(CHECKS)
    # What only scalars tell comes first: it names a cause. The sort is stable.
    checks.sort(key=lambda one: (one.last, weight.index(one.name) if one.name in CHECKS else -1))
    said = [(check, check.function(curves)) for check in checks if not there.lacks(check)]
    known = {check.name for check in checks}
    rest = Unchecked(
        tuple(name for name in CHECKS if name not in known),
        "the rollouts themselves (prompt, completion and reward, one row each)",
    )
    return Examined(_in_order(said), (*_unchecked(there, checks), rest))


@dataclass(frozen=True)
class HeldColumns:
    """What a log has for checks. names: as in `NEEDS`; curves; steps: how many were logged."""

    names: frozenset[str]
    curves: Curves
    steps: int

    def lacks(self, check: Check) -> str:
        """What a check wants and the log has not got, in words; "" where it can run."""
        if check.needs and not self.names & set(check.needs):
            return " or ".join(NEEDS[need] for need in check.needs if need in NEEDS)
        known = [len(self.curves[need]) for need in check.needs if need in self.curves]
        if check.steps <= max(known, default=self.steps):
            return ""
        return STEP if self.steps < 2 else f"{check.steps} logged steps"


def _there(found: Diagnosis, curves: Curves) -> frozenset[str]:
    """What a log holds, by the names of `NEEDS`."""
    rows = found.rollouts
    said = {name for name in NEEDS if name in rows.columns and rows[name].count()}
    said |= set(curves)
    said |= {"shaped"} if found.shaped else set()
    # Lengths that pile up nowhere were looked at, though they are no curve.
    said |= {"truncated"} if "tokens" in said else set()
    return frozenset(said)


def _in_order(said: Iterable[tuple[Check, Finding | None]]) -> tuple[Finding, ...]:
    fired = [(check, one) for check, one in said if one is not None]
    known = {name for check, _ in fired for name in check.explains}
    kept = [one for _, one in fired if one.name not in known]
    return tuple(sorted(kept, key=lambda one: one.level != "problem"))


def _unchecked(there: HeldColumns, checks: Iterable[Check]) -> tuple[Unchecked, ...]:
    """The checks that could not run, together where they need the same."""
    missing: dict[str, list[str]] = {}
    for check in checks:
        if words := there.lacks(check):
            missing.setdefault(words, []).append(check.name)
    return tuple(Unchecked(tuple(names), words) for words, names in missing.items())

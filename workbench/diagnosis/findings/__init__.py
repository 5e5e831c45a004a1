"""Findings: what is wrong with a run, each with its evidence and with what to do about it.

A new finding is one function in the module of its subject and one row of `checks.CHECKS`.
"""

from workbench.diagnosis.findings.checks import CHECKS, Examined, examine, examine_curves
from workbench.diagnosis.findings.finding import Check, Finding, Unchecked

__all__ = [
    "CHECKS",
    "Check",
    "Examined",
    "Finding",
    "Unchecked",
    "examine",
    "examine_curves",
]

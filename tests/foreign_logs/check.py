"""What `recast diagnose` makes of a stranger's log, against what is true of it."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import foreign_logs
from foreign_logs.cases import CASES, Truth
from recast import REGIMES
from workbench.commands.log_options import LogOptions
from workbench.diagnosis.answer import DiagnosisSummary, answer, answer_of_scalars
from workbench.diagnosis.counterfactual import DEFAULT
from workbench.diagnosis.diagnosis import Diagnosis, regime_table
from workbench.diagnosis.findings.scalars import ScalarRun
from workbench.diagnosis.logs.layout import Choice
from workbench.diagnosis.logs.read import files_of
from workbench.errors import LogError
from workbench.spec.limits import lifted

# Each module of the package puts its logs into CASES when it is imported.
for module in iter_modules(foreign_logs.__path__, "foreign_logs."):
    import_module(module.name)


def read(folder: Path, truth: Truth) -> tuple[Diagnosis | ScalarRun, DiagnosisSummary]:
    """The log and its answer. Raises LogError."""
    group, prompts = (
        int(truth.args[truth.args.index(one) + 1]) if one in truth.args else None
        for one in ("--group", "--prompts")
    )
    # The ceilings of a process of its own have tests of their own.
    with lifted():
        said = LogOptions("", Choice(), None, 1e-6, group, prompts).any(
            files_of([folder / truth.path])
        )
    if isinstance(said, ScalarRun):
        return said, answer_of_scalars(said, 0.5)
    return said, answer(said, DEFAULT, 0.5)


def complaints(
    name: str, folder: Path
) -> tuple[list[str], Mapping[str, str], DiagnosisSummary | None]:
    """Write a log, read it, and list what is wrong with what is said of it."""
    folder.mkdir(parents=True, exist_ok=True)
    truth = CASES[name](folder)
    try:
        found, said = read(folder, truth)
    except LogError as problem:
        if not truth.refused:
            return [f"not read: {problem}"], {}, None
        return (
            [f"refusal without {w!r}: {problem}" for w in truth.refused if w not in str(problem)],
            {},
            None,
        )
    if truth.refused:
        return ["was read"], {}, said
    wrong = []
    levels = {one.name: one.level for one in said.findings}
    counts = truth.counts()
    if counts is not None and isinstance(found, Diagnosis):
        row = regime_table(found).row(0, named=True)
        got = {"groups": found.groups.height, "size": found.group,
               "constant": round(row["constant"] * found.groups.height)}  # fmt: skip
        if truth.counted:
            got |= {
                one: round((row[one] if row[one] is not None else -1) * row["groups"])
                for one in REGIMES
            }
        wrong += [f"{one} {got[one]} for {counts[one]}" for one in got if got[one] != counts[one]]
    for one in truth.must:
        names = (one,) if isinstance(one, str) else one
        wrong += [f"missing {names[0]}"] * (not set(names) & set(levels))
    wrong += [f"false {one}" for one in truth.never if levels.get(one) == "problem"]
    if truth.clean:
        wrong += [f"accused of {one}" for one, level in levels.items() if level == "problem"]
    screen = "\n".join(said.lines())
    wrong += [f"no word of {one!r}" for one in truth.says if one not in screen]
    return wrong, levels, said

"""Which column holds what, said by a person: `step=iter,prompt=question,reward=score`."""

from __future__ import annotations

from collections.abc import Sequence

from recast.quoting import plain_line
from workbench.diagnosis.logs.layout import FIELDS, Choice
from workbench.errors import UserError


def choice_of(said: Sequence[str], rewards: Sequence[str] = (), outcome: str = "") -> Choice:
    """The choice that mappings mean, each one or several of FIELD=COLUMN, separated by commas;
    rewards and outcome as the user named them besides.

    reward may come several times: its columns are added up. Raises UserError.
    """
    added, fields, raw = list(rewards), {}, outcome
    for part in (one for text in said for one in text.split(",")):
        if not part.strip():
            continue
        name, sign, column = (piece.strip() for piece in part.partition("="))
        if not sign or not column:
            raise UserError(f"--map {plain_line(part, 40)}: expected FIELD=COLUMN")
        if name not in FIELDS:
            raise UserError(
                f"--map {plain_line(part, 40)}: no field {plain_line(name, 20)}; expected one of "
                f"{', '.join(FIELDS)}"
            )
        if name == "reward":
            added.append(column)
        elif name == "outcome":
            raw = column
        elif name in fields:
            raise UserError(f"--map {plain_line(part, 40)}: {name} is mapped twice")
        else:
            fields[name] = column
    return Choice(tuple(added), raw, tuple(fields.items()))

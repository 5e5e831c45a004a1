"""The fields of an experiment and of a sweep as a table: what `--set FIELD=VALUE` can change."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from workbench.spec.experiment import Experiment
from workbench.spec.messages import expected
from workbench.spec.sweep import Sweep, Tune


@dataclass(frozen=True)
class SpecField:
    """One field. name: dotted; default: as TOML writes it, empty where a value must be given;
    accepts: type and bounds in words; meaning: what it is, with its unit; sweep: only sweeps have
    it."""

    name: str
    default: str
    accepts: str
    meaning: str
    sweep: bool = False


def spec_fields() -> list[SpecField]:
    """Every field of an experiment in the order of the tables of a TOML file, then those that only
    a sweep has."""
    own = list(_fields(Experiment, Experiment, ()))
    known = {field.name for field in own}
    extra = [f for f in _fields(Sweep, Sweep, (), sweep=True) if f.name not in known]
    tune = _fields(Tune, Sweep, ("tune",), sweep=True)
    return own + extra + list(tune)


def _fields(
    model: type[BaseModel], root: type[BaseModel], above: tuple[str, ...], *, sweep: bool = False
) -> Iterator[SpecField]:
    for name, info in model.model_fields.items():
        kind, path = info.annotation, (*above, name)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _fields(kind, root, path, sweep=sweep)
            continue
        yield SpecField(
            ".".join(path),
            _toml(info.get_default(call_default_factory=True)),
            expected(root, path),
            info.description or "",
            sweep,
        )


def _toml(value: Any) -> str:
    """As TOML writes it; a table of nothing, nothing and no default are empty."""
    if value is PydanticUndefined or value is None or value == {}:
        return ""
    return json.dumps(list(value) if isinstance(value, tuple) else value)


def fields_page() -> str:
    """The table as Markdown: docs/fields.md."""
    fields = spec_fields()
    lines = [
        "# Fields of an experiment",
        "",
        "What a TOML file may set, and `recast run`, `recast sweep` and other commands with",
        "`--set FIELD=VALUE`. Written by `recast fields --format markdown`; a value outside the",
        "bounds is refused with one line.",
    ]
    for title, chosen in (
        ("## Experiments", [f for f in fields if not f.sweep]),
        ("## Sweeps, beside these", [f for f in fields if f.sweep]),
    ):
        lines += ["", title, "", "| field | default | accepts | meaning |", "|---|---|---|---|"]
        lines += [
            f"| `{f.name}` | {f'`{f.default}`' if f.default else ''} | `{f.accepts}` "
            f"| {f.meaning} |"
            for f in chosen
        ]
    return "\n".join(lines) + "\n"

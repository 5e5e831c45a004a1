"""What a store was found to hold, and what is said of every file that a reader leaves out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from workbench.plurals import number_of


@dataclass(frozen=True)
class Damage:
    """A stored file that cannot be used. fault: one phrase; path: the file, or its folder."""

    path: Path
    fault: str

    @property
    def key(self) -> str:
        """The run's key, or the name of any other file."""
        return self.path.parent.name if self.path.suffix == ".parquet" else self.path.name

    def __str__(self) -> str:
        return f"{self.path}: {self.fault}"


@dataclass(frozen=True)
class Contents:
    """What a store holds. good: key -> (file, verified bytes); damaged and old: what is left out,
    by reason; foreign: written by a later version; unreadable: sound for all
    we know, but not ours to read."""

    good: Mapping[str, tuple[Path, bytes]] = field(default_factory=dict)
    damaged: tuple[Damage, ...] = ()
    old: tuple[Path, ...] = ()
    foreign: tuple[Path, ...] = ()
    unreadable: tuple[Damage, ...] = ()


def complaints(root: Path, held: Contents) -> list[str]:
    """One line for each kind of file that a reader leaves out, naming every damaged one."""
    lines = [
        f"{fault}; left out, `recast store check {root}` sets it aside" for fault in held.damaged
    ]
    if held.unreadable:
        lines.append(
            f"{root}: {number_of(len(held.unreadable), 'run is', 'runs are')} left out that this "
            f"user may not read, such as {held.unreadable[0]}; ask the owner for `chmod -R a+rX`"
        )
    if held.old:
        lines.append(
            f"{root}: {number_of(len(held.old), 'run')} in an older schema left out; "
            f"`recast store migrate {root}` rewrites such runs"
        )
    if held.foreign:
        lines.append(
            f"{root}: {number_of(len(held.foreign), 'run')} written by a later recast left out; "
            "upgrade recast-workbench to read such runs"
        )
    return lines

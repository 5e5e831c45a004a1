"""A sweep: many cells and seeds, from a grid over any field of an experiment.

A sweep file is an experiment file with a `[grid]`, `[[include]]`, `[[exclude]]` and `[tune]` on
top; every preset is a sweep of one cell. Expansion is pure: the same sweep gives the same runs.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from recast.quoting import nearest, quoted
from workbench.errors import UserError
from workbench.spec.experiment import (
    PRESETS,
    WIDTHS,
    Experiment,
    Rate,
    _Strict,
    change,
    plain_text,
    read_toml,
)
from workbench.spec.keys import run_config, run_key, start_key
from workbench.spec.limits import Need, count_of, need_of, too_large, too_many
from workbench.spec.messages import validated
from workbench.spec.metrics import TuneMetric
from workbench.spec.row_names import strategy_of

SWEEPS = Path(__file__).parent / "sweeps"
Scalar = bool | int | float | str
Values = Annotated[tuple[Scalar, ...], Field(min_length=1)]
_OWN = ("name", "grid", "include", "exclude", "tune")
_RUN_FIELDS = ("strategy", "lr", "seed")
MOST_RUNS = 1_000_000


class Tune(_Strict):
    """The fair comparison: every strategy and cell at its own best learning rate."""

    lr: Annotated[
        tuple[Rate, ...],
        Field(min_length=1, max_length=1000, description="Adam's learning rates tried first"),
    ] = (0.0003, 0.001, 0.003, 0.01, 0.03)
    metric: Annotated[
        TuneMetric, Field(description="what decides: its mean over seeds after the last step")
    ] = "area"
    also: Annotated[
        tuple[TuneMetric, ...],
        Field(
            max_length=8,
            description="further metrics that will be shown at rates of their own: a grid grows "
            "at their edges too",
        ),
    ] = ()
    split: Annotated[
        Literal["validation"], Field(description="where it is read; never the test users")
    ] = "validation"
    extend: Annotated[
        int,
        Field(
            ge=0,
            le=8,
            description="how often a grid whose best rate sits on its edge grows by one rate "
            "beyond it, by the step between its last two rates",
        ),
    ] = 2


@dataclass(frozen=True)
class Run:
    """One configuration and seed; of `experiment` only world, policy, start and train count."""

    experiment: Experiment
    strategy: str
    lr: float
    seed: int

    @cached_property
    def config(self) -> dict[str, Any]:
        """Everything that determines the run; see `workbench.spec.keys.run_config`."""
        return run_config(self.experiment, self.strategy, self.lr, self.seed)

    @cached_property
    def key(self) -> str:
        """The run's name in a store."""
        return run_key(self.config)

    @cached_property
    def start(self) -> str:
        """The name of the warm start that the run needs."""
        return start_key(self.experiment, self.seed)


class Sweep(Experiment):
    """An experiment and a grid over its fields. Rules may name strategy, lr and seed beside dotted
    fields."""

    name: Annotated[
        str,
        Field(pattern=r"^[A-Za-z0-9][\w.-]{0,99}$", description="of the sweep and of its record"),
    ] = "sweep"
    grid: Annotated[
        dict[str, Values],
        Field(
            description="dotted field -> values, crossed with each other, the strategies, rates "
            "and seeds"
        ),
    ] = Field(default_factory=dict)
    include: Annotated[
        tuple[dict[str, Values], ...],
        Field(
            description="small grids of their own on top of the experiment, added after the "
            "exclusions; they may name a strategy"
        ),
    ] = ()
    exclude: Annotated[
        tuple[dict[str, Values], ...],
        Field(description="rules that remove what matches all their fields: a value, or a list"),
    ] = ()
    tune: Annotated[
        Tune | None,
        Field(
            description="choose a learning rate per strategy and cell; without it each rate is "
            "reported"
        ),
    ] = None

    @field_validator("grid", "include", "exclude", mode="before")
    @classmethod
    def _flat(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            return _numbered(_flattened(value))
        if isinstance(value, list | tuple):
            return [cls._flat(r) if isinstance(r, Mapping) else r for r in value]
        return value

    @model_validator(mode="after")
    def _known_fields(self) -> Sweep:
        fields = sorted(_flattened(self.experiment.model_dump(), wrap=False))
        fields = [f for f in fields if f not in ("strategies", "seeds", "train.tune_metric")]
        grid_fields = [f for f in fields if f != "train.lr"]
        _check("grid", self.grid, grid_fields)
        for i, rule in enumerate(self.include):
            _check(f"include.{i}", rule, [*grid_fields, "strategy"])
            for name in rule.get("strategy", ()):
                strategy_of(str(name))
        for i, rule in enumerate(self.exclude):
            _check(f"exclude.{i}", rule, [*grid_fields, *_RUN_FIELDS])
            if not rule:
                raise ValueError(f"exclude.{i}: an empty rule would exclude everything")
        return self

    @property
    def experiment(self) -> Experiment:
        """The experiment under the grid."""
        return Experiment.model_validate(self.model_dump(exclude=set(_OWN)))

    @property
    def rates(self) -> tuple[float, ...]:
        """The learning rates to train."""
        return tuple(dict.fromkeys(self.tune.lr if self.tune else self.train.lr))

    def cells(self) -> Iterator[tuple[Experiment, tuple[str, ...], bool]]:
        """Each cell's experiment, its strategies, and whether an include rule brought it.

        Raises UserError naming the grid's field when a value is out of its range.
        """
        base = self.experiment.model_dump()
        for point in _points(self.grid):
            yield _at(base, point, "grid"), self.strategies, False
        for i, rule in enumerate(self.include):
            names = tuple(plain_text(str(s)) for s in rule.get("strategy", self.strategies))
            for point in _points({k: v for k, v in rule.items() if k != "strategy"}):
                yield _at(base, point, f"include.{i}"), names, True

    def size(self) -> tuple[int, int]:
        """Runs and cells before exclusions, counted without building any."""
        cells = math.prod(len(values) for values in self.grid.values())
        runs = cells * len(self.strategies)
        for rule in self.include:
            points = math.prod(len(values) for key, values in rule.items() if key != "strategy")
            cells += points
            runs += points * len(rule.get("strategy", self.strategies))
        return runs * len(self.rates) * self.seeds, cells

    def require_in_limits(self) -> None:
        """Raise UserError, one line, when runs, memory or time are beyond `spec.limits`."""
        runs, cells = self.size()
        if runs > MOST_RUNS:
            raise UserError(f"grid: {count_of(runs)} runs; expected at most {MOST_RUNS:,}")
        reason = too_many(runs, cells)
        if reason:
            raise UserError(f"{'grid: ' if self.grid or self.include else ''}{reason}")
        each = max(1, runs // cells)
        needs = [need_of(cell, each) for cell, _, _ in self.cells()]
        largest = max(needs, key=lambda need: need.gibibytes)
        hours = sum(need.core_hours for need in needs)
        reason = too_large(Need(largest.gibibytes, hours, largest.reason))
        if reason:
            raise UserError(reason)

    def runs(self) -> list[Run]:
        """Every run of the sweep, each once, in a fixed order.

        Raises UserError for a value out of range, an empty sweep, or one that is beyond the
        limits of `workbench.spec.limits`.
        """
        self.require_in_limits()
        found: dict[tuple[Any, ...], Run] = {}
        for experiment, strategies, included in self.cells():
            fields = _flattened(experiment.model_dump(), wrap=False)
            for name, lr, seed in itertools.product(strategies, self.rates, range(self.seeds)):
                labels = {**fields, "strategy": name, "lr": lr, "seed": seed}
                if included or not any(_matches(rule, labels) for rule in self.exclude):
                    run = Run(experiment, name, lr, seed)
                    found.setdefault((experiment, name, lr, seed), run)
        if not found:
            raise UserError("exclude: the rules leave no run")
        return list(found.values())

    def varying(self) -> list[str]:
        """The dotted fields in which cells differ by design, in order of mention."""
        named = [*self.grid, *(f for rule in self.include for f in rule if f != "strategy")]
        return list(dict.fromkeys(named))


def sweep_names() -> list[str]:
    """The packaged sweeps."""
    return sorted(path.stem for path in SWEEPS.glob("*.toml"))


def load_sweep(source: str, changes: Mapping[str, Any] | None = None) -> Sweep:
    """A sweep from a packaged name or a TOML file, with dotted changes on top.

    `base = "quick"` in the file starts from a preset's fields. Raises UserError, one line.
    """
    return sweep_of({"name": Path(source).stem, **read_toml(source, SWEEPS, "sweep")}, changes)


def sweep_of(raw: Mapping[str, Any], changes: Mapping[str, Any] | None = None) -> Sweep:
    """A sweep from nested tables, as `load_sweep` makes one from a file.

    Raises UserError, one line.
    """
    base = raw.get("base")
    own = {name: value for name, value in raw.items() if name != "base"}
    if base is not None:
        if not isinstance(base, str):
            raise UserError(f"base: expected the name of a preset, got {quoted(base)}")
        own = _merged(read_toml(base, PRESETS, "preset"), own)
    plan = validated(Sweep, change(own, changes or {}))
    plan.require_in_limits()
    return plan


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    both = {**below, **above}
    for key in below.keys() & above.keys():
        if isinstance(below[key], dict) and isinstance(above[key], dict):
            both[key] = _merged(below[key], above[key])
    return both


def _flattened(table: Mapping[str, Any], above: str = "", wrap: bool = True) -> dict[str, Any]:
    """Nested tables as dotted fields; `wrap` turns a single value into a list of one."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            flat |= _flattened(value, f"{above}{key}.", wrap)
        else:
            single = wrap and not isinstance(value, list | tuple)
            flat[f"{above}{key}"] = [value] if single else value
    return flat


def _numbered(rule: dict[str, Any]) -> dict[str, Any]:
    """A rule with the named widths as numbers, which is what experiments hold."""
    widths = rule.get("policy.width")
    if isinstance(widths, list | tuple):
        named = [WIDTHS.get(w, w) if isinstance(w, str) else w for w in widths]
        return {**rule, "policy.width": named}
    return rule


def _check(where: str, rule: Mapping[str, Any], fields: list[str]) -> None:
    for field in rule:
        if field not in fields:
            raise ValueError(f"{where}.{field}: unknown field; {nearest(field, fields)}")


def _points(grid: Mapping[str, tuple[Scalar, ...]]) -> Iterator[dict[str, Scalar]]:
    for values in itertools.product(*grid.values()):
        yield dict(zip(grid, values, strict=True))


def _at(base: Mapping[str, Any], point: Mapping[str, Scalar], where: str) -> Experiment:
    try:
        return validated(Experiment, change(base, point))
    except UserError as problem:
        raise UserError(f"{where}.{problem}") from None


def _matches(rule: Mapping[str, tuple[Scalar, ...]], labels: Mapping[str, Any]) -> bool:
    return all(labels[field] in values for field, values in rule.items())

"""What a person writes: an `Experiment`, from a packaged preset, a TOML file and flags."""

from __future__ import annotations

import copy
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from recast.quoting import nearest, quoted
from sim.inputs import why_not
from sim.settings import Kernel, Training
from workbench.errors import UserError
from workbench.spec.limits import need_of, too_large, too_many
from workbench.spec.messages import validated
from workbench.spec.metrics import TuneMetric
from workbench.spec.plain_data import parsed_toml
from workbench.spec.row_names import strategy_of, training_of

PRESETS = Path(__file__).parent / "presets"
Positive = Annotated[int, Field(ge=1, le=10_000_000)]
Rate = Annotated[float, Field(ge=1e-12, le=10)]


DEPTH = 3
"""Code levels of the simulator's worlds."""


LONGEST_FILE = 1_000_000
"""Bytes of a TOML file."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class WorldSpec(_Strict):
    """Which world: a synthetic one, or one replayed from a data folder."""

    kind: Annotated[
        Literal["synthetic", "replay"],
        Field(description="made up from a seed, or the catalogue and histories of a data folder"),
    ] = "synthetic"
    data: Annotated[
        str | None, Field(description="folder of a replay world, in MiniOneRec's layout")
    ] = None
    category: Annotated[
        str | None,
        Field(description="which one, where the folder holds several: the start of files' names"),
    ] = None
    task: Annotated[
        Literal["plain", "short_video", "ad", "product", "interactive", "label", "mixed"],
        Field(description="task of a synthetic world: plain, one of five, or all five mixed"),
    ] = "plain"
    items: Annotated[int, Field(ge=2, le=4096, description="items in the catalogue")] = 1024
    noise: Annotated[
        float,
        Field(
            ge=1e-3, le=100, description="temperature of true preferences; 0.2 = each task's own"
        ),
    ] = 0.2
    heterogeneity: Annotated[
        float,
        Field(
            ge=-1,
            le=3,
            description="how unequal users are in the strength of their taste: 0 = as drawn, "
            "-1 = equal, above 0 more unequal (standard deviation of its logarithm)",
        ),
    ] = 0.0
    drift: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="how far tastes have turned between the SFT log and the test users: "
            "0 = not, 1 = wholly",
        ),
    ] = 0.0
    unlearnable: Annotated[
        float,
        Field(
            ge=0,
            lt=1,
            description="share of targets, in every split, that any item may be, whoever asks",
        ),
    ] = 0.0
    test_prompts: Annotated[
        int, Field(ge=8, le=100_000, description="prompts of test users, synthetic worlds")
    ] = 512
    validation_prompts: Annotated[
        int, Field(ge=8, le=100_000, description="prompts for tuning, synthetic worlds")
    ] = 512
    test_sample: Annotated[
        int,
        Field(
            ge=0,
            le=10_000_000,
            description="a fixed sample of a replay world's test prompts; 0 = all of them",
        ),
    ] = 0
    seed: Annotated[int, Field(ge=0, le=2**53, description="of the world, not of the runs")] = 0


WIDTHS = {"S": 32, "M": 64, "L": 128, "XL": 256}
"""The width ladder: names for numbers of hidden units."""


def _width(value: Any) -> Any:
    if isinstance(value, str):
        if value not in WIDTHS:
            named = ", ".join(f"{name} ({width})" for name, width in WIDTHS.items())
            raise ValueError(f"got {value!r}; expected a whole number or one of {named}")
        return WIDTHS[value]
    return value


class PolicySpec(_Strict):
    """Which policy is trained."""

    kind: Annotated[
        Literal["mlp", "tabular", "loglinear", "transformer"], Field(description="its architecture")
    ] = "mlp"
    width: Annotated[
        int,
        Field(
            ge=1,
            le=4096,
            description="hidden units of the MLP or the transformer, a number or S (32), M (64), "
            "L (128), XL (256); tabular and log-linear policies have none",
        ),
        BeforeValidator(_width),
    ] = 64

    @model_validator(mode="after")
    def _shared_by_heads(self) -> PolicySpec:
        if self.kind == "transformer" and self.width % 2:
            raise ValueError(f"width {self.width}: expected an even number for two attention heads")
        return self


class StartSpec(_Strict):
    """The warm start: supervised training until groups are as sparse as asked for."""

    all_zero: Annotated[
        float,
        Field(
            ge=1e-6, lt=1, description="share of all-zero groups of width train.group to start at"
        ),
    ] = 0.85
    max_steps: Annotated[Positive, Field(description="optimizer steps of SFT before giving up")] = (
        2000
    )
    lr: Annotated[float, Field(ge=1e-12, le=1, description="Adam's learning rate in SFT")] = 0.003


class TrainSpec(Training):
    """How strategies are trained and measured; no other run changes a run's bits."""

    decoding: Annotated[
        Literal["trie", "free"],
        Field(
            description="down the trie of items, or free: a rollout may be no item, earning nothing"
        ),
    ] = "trie"
    precision: Annotated[
        Literal["float64", "float32"],
        Field(description="of parameters, gradients and moments while training"),
    ] = "float64"
    lr: Annotated[
        tuple[Rate, ...],
        Field(
            min_length=1,
            max_length=1000,
            description="Adam's learning rates to choose from, per strategy, on validation prompts",
        ),
    ] = (0.003,)
    tune_metric: Annotated[
        TuneMetric, Field(description="validation metric by which the rate is chosen")
    ] = "area"

    @field_validator("kernel")
    @classmethod
    def _to_be_had(cls, asked: Kernel) -> Kernel:
        """A run is named after what trains it."""
        from sim.training.learner import kernel_here

        return kernel_here(asked)


class Experiment(_Strict):
    """One table's worth of runs: strategies x learning rates x seeds in one world."""

    strategies: Annotated[
        tuple[str, ...],
        Field(
            min_length=1,
            max_length=1000,
            description="names of `recast strategies`, or compositions as text; `sft averaged` "
            "measures the mean of the weights of its last half of steps, and the rate of `sft "
            "decaying` falls linearly to 0",
        ),
    ]
    seeds: Annotated[
        int, Field(ge=1, le=1000, description="paired seeds 0, 1, ... of each strategy and rate")
    ] = 5
    world: WorldSpec = WorldSpec()
    policy: PolicySpec = PolicySpec()
    start: StartSpec = StartSpec()
    train: TrainSpec = TrainSpec()

    @model_validator(mode="after")
    def _fitting(self) -> Experiment:
        for name in self.strategies:
            training_of(name, self.train)
            reason = why_not(strategy_of(name), self.train.rollouts, self.train.group)
            if reason:
                raise ValueError(f"strategy {name!r}: {reason}")
        if self.train.updates == "expected":
            self._expected()
        return self

    def _expected(self) -> None:
        """Raise ValueError where a strategy has no expected update."""
        from sim.shortcuts.expected_law import why_not_expected

        if self.policy.kind == "transformer":
            raise ValueError(
                "train.updates: expected updates need a policy with hand-written passes; "
                "expected policy.kind mlp, tabular or loglinear"
            )
        how = self.train
        for name in self.strategies:
            reason = why_not_expected(strategy_of(name), how, DEPTH)
            if reason:
                raise ValueError(f"strategy {name!r}: no expected update: {reason}")

    @field_validator("strategies")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        names = tuple(plain_text(name) for name in names)
        for name in names:
            strategy_of(name)
        if len(set(names)) != len(names):
            raise ValueError("a strategy is named twice")
        return names


def plain_text(strategy: str) -> str:
    """A strategy's text as it is stored: one space after each comma and within."""
    return ", ".join(" ".join(part.split()) for part in strategy.split(","))


def preset_names() -> list[str]:
    """The packaged presets."""
    return sorted(path.stem for path in PRESETS.glob("*.toml"))


def load_experiment(source: str, changes: Mapping[str, Any]) -> Experiment:
    """An experiment from a preset's name or a TOML file, with dotted changes on top.

    changes: `{"train.group": 16}`; None leaves a field as it is.
    Raises UserError, one line: the field, what is wrong, what would be right.
    """
    spec = validated(Experiment, change(read_toml(source, PRESETS, "preset"), changes))
    runs = len(spec.strategies) * len(spec.train.lr) * spec.seeds
    reason = too_many(runs, 1) or too_large(need_of(spec, runs))
    if reason:
        raise UserError(reason)
    return spec


def read_toml(source: str, folder: Path, kind: str) -> dict[str, Any]:
    """The raw content of a packaged file of `folder`, by its name, or of any TOML file.

    Raises UserError when it cannot be found or read.
    """
    names = sorted(path.stem for path in folder.glob("*.toml"))
    path = folder / f"{source}.toml" if source in names else Path(source)
    try:
        if not path.is_file():
            raise UserError(
                f"{kind} {source!r}: not a packaged {kind} nor a file; {nearest(source, names)}"
            )
        if path.stat().st_size > LONGEST_FILE:
            raise UserError(f"{path}: expected a file of at most {LONGEST_FILE:,} bytes")
        return parsed_toml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        reason = getattr(problem, "strerror", None) or problem
        raise UserError(f"{quoted(str(path))}: not readable TOML: {reason}") from None


def change(raw: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of nested tables with dotted fields replaced; None leaves a field as it is.

    Raises UserError when a dotted field runs through something that is not a table.
    """
    result = copy.deepcopy(dict(raw))
    for dotted, value in changes.items():
        if value is None:
            continue
        *parents, leaf = dotted.split(".")
        place = result
        for depth, parent in enumerate(parents):
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                where = ".".join(parents[: depth + 1])
                raise UserError(f"{where}: expected a table, got {quoted(place)}")
        place[leaf] = value
    return result


def assignments(texts: Iterable[str]) -> dict[str, Any]:
    """Dotted changes from texts such as `train.group=16` or `policy.width=S`.

    A value is read as TOML (a number, true, a list, "a text") and as plain text where it is none.
    Raises UserError for a text without a field.
    """
    found: dict[str, Any] = {}
    for text in texts:
        field, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not re.fullmatch(r"[A-Za-z_][\w.]*", field):
            raise UserError(f"--set {text!r}: expected FIELD=VALUE, such as train.group=16")
        try:
            found[field] = tomllib.loads(f"value = {value}")["value"]
        except (ValueError, RecursionError):
            found[field] = value
    return found

"""What a person writes: an `Experiment`, from a packaged preset, a TOML file and flags."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from recast.strategies import nearest, parse_strategy

PRESETS = Path(__file__).parent / "presets"
Positive = Annotated[int, Field(ge=1, le=10_000_000)]


class SpecError(Exception):
    """A specification that cannot be used; the message is one line for the user."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class WorldSpec(_Strict):
    """Which world. noise: temperature of true preferences; data: folder of a replay world."""

    kind: Literal["synthetic", "replay"] = "synthetic"
    data: str | None = None
    items: Annotated[int, Field(ge=2, le=4096)] = 1024
    noise: Annotated[float, Field(gt=0, le=100)] = 0.2
    test_prompts: Annotated[int, Field(ge=8, le=100_000)] = 512
    validation_prompts: Annotated[int, Field(ge=8, le=100_000)] = 512
    seed: Annotated[int, Field(ge=0)] = 0


class PolicySpec(_Strict):
    """Which policy. width: hidden units of the MLP; a tabular policy has none."""

    kind: Literal["mlp", "tabular"] = "mlp"
    width: Annotated[int, Field(ge=1, le=4096)] = 64


class StartSpec(_Strict):
    """The warm start. all_zero: requested share of all-zero groups at `train.group`."""

    all_zero: Annotated[float, Field(gt=0, lt=1)] = 0.85
    max_steps: Positive = 2000
    lr: Annotated[float, Field(gt=0, le=1)] = 0.003


class TrainSpec(_Strict):
    """steps: optimizer steps; batch: prompts per step; group: rollouts per prompt G; lr: the grid
    from which each strategy's rate is chosen on the validation split by `tune_metric`;
    curve_prompts: test prompts behind each point of a learning curve, 0 = all of them."""

    steps: Positive = 300
    batch: Annotated[int, Field(ge=1, le=4096)] = 32
    group: Annotated[int, Field(ge=1, le=4096)] = 32
    temperature: Annotated[float, Field(gt=0, le=100)] = 1.0
    kl_weight: Annotated[float, Field(ge=0, le=100)] = 0.0
    evaluations: Annotated[int, Field(ge=1, le=1000)] = 10
    curve_prompts: Annotated[int, Field(ge=0, le=100_000)] = 128
    lr: Annotated[tuple[Annotated[float, Field(gt=0, le=10)], ...], Field(min_length=1)] = (0.003,)
    tune_metric: Literal[
        "pass_at_1", "pass_at_1_matched", "greedy", "recall_at_10", "pass_at_32"
    ] = "pass_at_1_matched"


class Experiment(_Strict):
    """One table's worth of runs: strategies x learning rates x seeds in one world."""

    strategies: Annotated[tuple[str, ...], Field(min_length=1)]
    seeds: Annotated[int, Field(ge=1, le=1000)] = 5
    world: WorldSpec = WorldSpec()
    policy: PolicySpec = PolicySpec()
    start: StartSpec = StartSpec()
    train: TrainSpec = TrainSpec()

    @field_validator("strategies")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            parse_strategy(name)
        if len(set(names)) != len(names):
            raise ValueError("a strategy is named twice")
        return names


def preset_names() -> list[str]:
    """The packaged presets."""
    return sorted(path.stem for path in PRESETS.glob("*.toml"))


def load_experiment(source: str, changes: dict[str, Any]) -> Experiment:
    """An experiment from a preset's name or a TOML file, with dotted changes on top.

    changes: `{"train.group": 16}`; None leaves a field as it is.
    Raises SpecError, one line: the field, what is wrong, what would be right.
    """
    path = PRESETS / f"{source}.toml" if source in preset_names() else Path(source)
    if not path.is_file():
        raise SpecError(
            f"preset {source!r}: not a packaged preset nor a file; "
            f"{nearest(source, preset_names())}"
        )
    try:
        raw: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as problem:
        raise SpecError(f"{path}: not readable TOML: {problem}") from None
    for dotted, value in changes.items():
        if value is not None:
            *parents, leaf = dotted.split(".")
            place = raw
            for parent in parents:
                place = place.setdefault(parent, {})
            place[leaf] = value
    try:
        return Experiment.model_validate(raw)
    except ValidationError as problem:
        raise SpecError(_one_line(problem)) from None


def _one_line(problem: ValidationError) -> str:
    first = problem.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        model: type[BaseModel] = Experiment
        for part in first["loc"][:-1]:
            annotation = model.model_fields[str(part)].annotation
            if isinstance(annotation, type) and issubclass(annotation, BaseModel):
                model = annotation
        message = f"unknown key; {nearest(str(first['loc'][-1]), model.model_fields)}"
        return f"{where}: {message}"
    return f"{where}: {message}, got {first['input']!r}".replace("\n", " ")[:400]

"""A drill: sweeps that are written wrongly, field by field."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import pytest
from command_line import recast
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workbench.spec.sweep import Sweep

pytestmark = pytest.mark.drill


def toml_of(table: dict[str, Any], above: str = "") -> str:
    """A tiny TOML writer: scalars and lists first, tables after."""
    lines, below = [], []
    for key, value in table.items():
        if isinstance(value, dict):
            below.append((f"{above}{json.dumps(key)}", value))
        else:
            lines.append(f"{json.dumps(key)} = {scalar(value)}")
    for name, value in below:
        lines += [f"[{name}]", toml_of(value, f"{name}.")]
    return "\n".join(lines)


def scalar(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "[" + ", ".join(scalar(v) for v in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {scalar(v)}" for k, v in value.items()) + "}"
    if isinstance(value, float) and not math.isfinite(value):
        return {math.inf: "inf", -math.inf: "-inf"}.get(value, "nan")
    return json.dumps(value)


def fields(schema: dict[str, Any], part: dict[str, Any], above: str = "") -> dict[str, Any]:
    """Dotted field -> its JSON schema, for the plain fields of a model."""
    found = {}
    for name, child in part.get("properties", {}).items():
        while "$ref" in child:
            child = schema["$defs"][child["$ref"].rsplit("/", 1)[-1]]
        if child.get("type") == "object" and "properties" in child:
            found |= fields(schema, child, f"{above}{name}.")
        else:
            found[f"{above}{name}"] = child
    return found


SCHEMA = Sweep.model_json_schema()


FIELDS = fields(SCHEMA, SCHEMA)


LETTERS = st.sampled_from("abcdefghijklmnopqrstuvwxyz_ \n\u2028\x07é")


def near_misses(part: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that a field of this schema must refuse."""
    wrong: list[st.SearchStrategy[Any]] = [st.just({"x": 1})]
    if part.get("type") in ("integer", "number"):
        wrong += [st.just(v) for v in ("many", "", [1], math.nan, math.inf, -math.inf)]
        if "minimum" in part:
            wrong.append(st.integers(-(2**70), math.ceil(part["minimum"]) - 1))
        if "exclusiveMinimum" in part:
            wrong.append(st.floats(-1e300, part["exclusiveMinimum"]))
        if "maximum" in part:
            wrong.append(st.integers(math.floor(part["maximum"]) + 1, 2**70))
        if "exclusiveMaximum" in part:
            wrong.append(st.floats(part["exclusiveMaximum"], 1e300))
        if part["type"] == "integer":
            wrong.append(st.just(1.5))
    if "enum" in part or "const" in part:
        allowed = part.get("enum", [part.get("const")])
        wrong += [st.text(LETTERS, max_size=8).filter(lambda v: v not in allowed), st.just(3)]
    if part.get("type") == "array":
        wrong += [st.just(3), st.just("many"), st.just(True)]
    return st.one_of(wrong)


@st.composite
def malformed(draw: st.DrawFn) -> tuple[dict[str, Any], str]:
    """A valid sweep with one fault, and the field that the message must name."""
    raw: dict[str, Any] = {"strategies": ["grpo", "sft"], "seeds": 1, "train": {}, "world": {}}
    kind = draw(st.sampled_from(["value", "value", "value", "key", "strategy", "missing", "grid"]))
    if kind == "missing":
        del raw["strategies"]
        return raw, "strategies"
    if kind == "strategy":
        raw["strategies"] = [
            draw(
                st.sampled_from(
                    [
                        "grop",
                        "",
                        "credit=",
                        "credit=grpo(eps=x)",
                        "=",
                        "recast(",
                        "repair=anchor,select=pear",
                    ]
                )
            )
        ]
        return raw, "strategies"
    field = draw(st.sampled_from(sorted(FIELDS)))
    *parents, leaf = field.split(".")
    if kind == "grid" and parents:
        part = FIELDS[field]
        if part.get("type") in ("integer", "number") and "minimum" in part:
            raw["grid"] = {field: [part["minimum"] - 1]}
            return raw, f"grid.{field}"
        raw["grid"] = {field + draw(LETTERS): [1]}
        return raw, "grid"
    place = raw
    for parent in parents:
        place = place.setdefault(parent, {})
    if kind == "key":
        wrong = leaf[:-1] + draw(LETTERS)
        if ".".join([*parents, wrong]) in FIELDS or wrong in ("base", leaf):
            wrong = leaf + "x"
        place[wrong] = 1
        return raw, ".".join([*parents, wrong])
    value = draw(near_misses(FIELDS[field]))
    if FIELDS[field].get("type") == "object" and isinstance(value, dict):
        value = {"nowhere": 1}
    place[leaf] = value
    return raw, field


def test_two_hundred_malformed_specs_are_one_line_that_names_the_field(tmp_path):
    told: list[str] = []

    @given(malformed())
    @settings(
        max_examples=200,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    def check(case: tuple[dict[str, Any], str]) -> None:
        raw, field = case
        path = tmp_path / "bad.toml"
        path.write_text(toml_of(raw), encoding="utf-8")
        done = recast("sweep", str(path), "--dry-run", "--store", str(tmp_path / "none"))
        err = done.stderr
        assert done.returncode == 2, (raw, done.stdout, err)
        assert err.count("\n") == 1
        assert err.isprintable() or err[:-1].isprintable()
        assert "Traceback" not in err
        said = "".join(c if c.isprintable() else repr(c)[1:-1] for c in " ".join(field.split()))
        assert said in err, (raw, err)
        assert re.search(
            r"expected|did you mean|known:|takes|learns nothing|cannot read|unknown|is not a", err
        ), err
        told.append(err)

    check()
    assert len(told) >= 200
    assert not (tmp_path / "none").exists()
    print(f"{len(told)} malformed specs, {len(set(told))} different messages")

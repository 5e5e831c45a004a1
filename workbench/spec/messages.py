"""A specification that is checked, and the first fault of one that is not right, in one line."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from recast.quoting import nearest, quoted
from workbench.errors import UserError
from workbench.spec.plain_data import checked

Model = TypeVar("Model", bound=BaseModel)


def validated(model: type[Model], raw: Mapping[str, Any]) -> Model:
    """A checked specification. Raises UserError, one line, for the first fault."""
    try:
        return model.model_validate(checked(raw))
    except ValidationError as problem:
        raise UserError(_one_line(model, problem)) from None
    except ValueError as problem:
        raise UserError(str(problem)) from None


def _one_line(model: type[BaseModel], problem: ValidationError) -> str:
    first = problem.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = _known_keys(model, first["loc"][:-1])
        return f"{where}: unknown key; {nearest(str(first['loc'][-1]), known)}"
    if first["type"] == "value_error":
        message = first["msg"].removeprefix("Value error, ")
        return f"{where}: {message}" if where else message
    if first["type"] == "missing":
        return f"{where}: missing; expected {expected(model, first['loc'])}"
    if first["loc"][-1] in _BRANCHES:
        where = ".".join(str(part) for part in first["loc"][:-1])
    return f"{where}: got {quoted(first['input'])}; expected {expected(model, first['loc'])}"


def _known_keys(model: type[BaseModel], where: tuple[int | str, ...]) -> list[str]:
    schema = _schema(model)
    return list(_inside(schema, where).get("properties", schema["properties"]))


def expected(model: type[BaseModel], where: tuple[int | str, ...]) -> str:
    """What a field accepts, in words: `an integer >= 1 and <= 4096`."""
    return _words(_schema(model), _inside(_schema(model), where))


@cache
def _schema(model: type[BaseModel]) -> dict[str, Any]:
    """Making it takes ten times what looking into it does."""
    return model.model_json_schema()


def _inside(schema: dict[str, Any], where: tuple[int | str, ...]) -> dict[str, Any]:
    """The JSON schema of a field; the nearest enclosing one when the path leaves the schema."""
    here = _resolved(schema, schema)
    for part in where:
        options = [_resolved(schema, o) for o in here.get("anyOf", [here])]
        for option in options:
            if part in option.get("properties", {}):
                here = _resolved(schema, option["properties"][part])
                break
            inner = option.get("items" if isinstance(part, int) else "additionalProperties")
            if isinstance(inner, dict):
                here = _resolved(schema, inner)
                break
    return here


def _resolved(schema: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in part:
        part = schema["$defs"][part["$ref"].rsplit("/", 1)[-1]]
    return part


_BRANCHES = ("bool", "int", "float", "str")
"""What pydantic appends to the place of a value that may have several types."""

_NOUNS = {
    "integer": "an integer",
    "number": "a number",
    "string": "a text",
    "boolean": "true or false",
    "array": "a list",
    "object": "a table",
    "null": "nothing",
}


def _words(schema: dict[str, Any], part: dict[str, Any]) -> str:
    if "anyOf" in part:
        options = [_words(schema, _resolved(schema, option)) for option in part["anyOf"]]
        return " or ".join(dict.fromkeys(o for o in options if o != "nothing"))
    if "enum" in part or "const" in part:
        return "one of " + ", ".join(repr(v) for v in part.get("enum", [part.get("const")]))
    text = _NOUNS.get(part.get("type", ""), "a value")
    if part.get("type") == "array":
        text = "a list of at least one value" if part.get("minItems") else text
        items = _resolved(schema, part.get("items", {}))
        return f"{text}, each {_words(schema, items)}" if items else text
    if "pattern" in part:
        return f"{text} that matches {part['pattern']}"
    low, high = part.get("minimum"), part.get("maximum")
    above, below = part.get("exclusiveMinimum"), part.get("exclusiveMaximum")
    lower = f">= {low}" if low is not None else f"> {above}" if above is not None else ""
    upper = f"<= {high}" if high is not None else f"< {below}" if below is not None else ""
    return " and ".join(filter(None, (f"{text} {lower}".rstrip(), upper)))

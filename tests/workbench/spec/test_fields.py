"""The list of fields is whole, and the page in docs/ is what the command prints."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
from command_line import recast

from workbench.errors import UserError
from workbench.spec.experiment import assignments, load_experiment
from workbench.spec.fields import fields_page, spec_fields
from workbench.spec.sweep import load_sweep

DOCS = Path(__file__).parents[3] / "docs"


def leaves(table: dict, above: str = "") -> set[str]:
    found = set()
    for name, value in table.items():
        if isinstance(value, dict) and value:
            found |= leaves(value, f"{above}{name}.")
        else:
            found.add(f"{above}{name}")
    return found


def test_every_field_of_an_experiment_and_a_sweep_is_listed_once_with_a_meaning():
    names = [field.name for field in spec_fields()]
    assert len(names) == len(set(names))
    own = {field.name for field in spec_fields() if not field.sweep}
    assert own == leaves(load_experiment("quick", {}).model_dump())
    assert leaves(load_sweep("sparsity").model_dump(exclude={"grid", "include", "exclude"})) <= set(
        names
    )
    assert {"grid", "include", "exclude", "tune.lr", "tune.extend"} <= set(names)
    for field in spec_fields():
        assert len(field.meaning) >= 10 or field.name == "policy.kind", field
        assert field.accepts not in ("", "a value"), field


@pytest.mark.parametrize("field", [f for f in spec_fields() if not f.sweep], ids=lambda f: f.name)
def test_each_default_is_what_an_experiment_has_and_can_be_set_as_written(field):
    if not field.default:
        assert field.name in ("strategies", "world.data", "world.category")
        return
    changes = assignments([f"{field.name}={field.default}"])
    value = load_experiment("default", changes).model_dump(mode="json")
    for part in field.name.split("."):
        value = value[part]
    assert value == tomllib.loads(f"x = {field.default}")["x"]


@pytest.mark.parametrize("field", [f for f in spec_fields() if not f.sweep], ids=lambda f: f.name)
def test_a_value_outside_the_stated_bounds_is_refused_in_the_stated_words(field):
    bound = re.search(r"(>=?|<=?) (-?[\d.]+)", field.accepts)
    outside = '"nonsense"' if bound is None else None
    if field.name in ("strategies", "world.data", "world.category"):
        return
    if bound is not None:
        sign, number = bound[1], float(bound[2])
        outside = repr(number - 1 if sign[0] == ">" else number + 1)
        if field.accepts.startswith(("an integer", "a list of at least one value, each an int")):
            outside = outside.removesuffix(".0")
        if "list" in field.accepts:
            outside = f"[{outside}]"
    with pytest.raises(UserError) as refused:
        load_experiment("default", assignments([f"{field.name}={outside}"]))
    words = field.accepts.split("each ")[-1]
    assert str(refused.value).startswith(field.name)
    assert str(refused.value).endswith(f"expected {words}")


def test_the_page_in_docs_is_what_the_command_prints():
    done = recast("fields", "--format", "markdown")
    assert done.stdout == fields_page()
    assert (DOCS / "fields.md").read_text(encoding="utf-8") == fields_page(), (
        "docs/fields.md: write it anew with `recast fields --format markdown > docs/fields.md`"
    )


def test_the_command_prints_a_table_and_json():
    assert "train.kl_estimator" in recast("fields").stdout
    rows = json.loads(recast("fields", "--format", "json").stdout)
    assert [row["name"] for row in rows] == [field.name for field in spec_fields()]


def test_the_help_of_run_says_where_the_fields_are():
    assert "recast fields" in " ".join(recast("run", "--help").stdout.split())

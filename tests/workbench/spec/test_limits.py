"""Limits: every number has bounds, plans are counted without being built, and what is too large is
refused with the flag that lifts it."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recast.items import read_folder
from workbench.errors import UserError
from workbench.spec.experiment import Experiment, load_experiment, preset_names
from workbench.spec.keys import folder_fingerprint
from workbench.spec.limits import lifted, need_of
from workbench.spec.plain_data import DEEPEST, checked, parsed_toml
from workbench.spec.sweep import Sweep, load_sweep, sweep_names

SMALL = st.lists(st.integers(1, 64), min_size=1, max_size=4, unique=True)


def numbers(schema: dict[str, Any], part: dict[str, Any], where: str) -> dict[str, dict[str, Any]]:
    """Every number in a JSON schema by its place."""
    if "$ref" in part:
        part = schema["$defs"][part["$ref"].rsplit("/", 1)[-1]]
    found = {}
    if part.get("type") in ("integer", "number"):
        found[where] = part
    for name, inner in part.get("properties", {}).items():
        found |= numbers(schema, inner, f"{where}.{name}")
    for inner in (*part.get("anyOf", ()), *filter(None, [part.get("items")])):
        found |= numbers(schema, inner, where)
    return found


def test_every_number_of_the_schema_has_a_lower_and_an_upper_bound():
    schema = Sweep.model_json_schema()
    found = numbers(schema, schema, "")
    assert len(found) > 25
    for place, part in found.items():
        if place.split(".")[1] in ("grid", "include", "exclude"):
            continue  # fields of an experiment, checked there
        assert {"minimum", "exclusiveMinimum"} & set(part), place
        assert {"maximum", "exclusiveMaximum"} & set(part), place


@settings(max_examples=30)
@given(SMALL, SMALL, st.lists(st.tuples(SMALL, SMALL), max_size=2), st.integers(1, 3))
def test_a_plan_is_counted_as_if_it_had_been_built(steps, batches, rules, seeds):
    plan = Sweep(
        strategies=("grpo", "sft"),
        seeds=seeds,
        grid={"train.steps": tuple(steps), "train.batch": tuple(batches)},
        include=tuple(
            {"train.mini_batch": tuple(one), "train.evaluations": tuple(two), "strategy": ("rloo",)}
            for one, two in rules
        ),
    )
    runs, cells = plan.size()
    built = list(plan.cells())
    assert cells == len(built)
    assert runs == sum(len(names) for _, names, _ in built) * seeds


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"world.items": 4096, "world.test_prompts": 100_000}, "GiB"),
        ({"policy.kind": "transformer", "policy.width": 4096}, "GiB"),
        ({"policy.width": 4096}, "GiB"),
        ({"train.batch": 4096, "train.group": 4096}, "GiB"),
        ({"train.steps": 10_000_000, "seeds": 1000}, "hours of one core"),
        ({"seeds": 1000, "train.lr": [1e-3 + 1e-6 * k for k in range(1000)]}, "runs"),
    ],
)
def test_what_needs_too_much_is_refused_with_the_flag_that_lifts_it(changes, reason):
    with pytest.raises(UserError, match=f"{reason}.*--no-limits") as caught:
        load_experiment("quick", changes)
    assert len(str(caught.value)) <= 300
    with lifted():
        load_experiment("quick", changes)


def test_a_grid_of_a_billion_cells_is_refused_without_being_built(tmp_path):
    values = list(range(1, 1001))
    rule = f"train.steps = {values}\ntrain.batch = {values}\nstart.max_steps = {values}\n"
    for table in ("[grid]\n", "[[include]]\n"):
        path = tmp_path / "large.toml"
        path.write_text(f'base = "quick"\n{table}{rule}')
        with pytest.raises(UserError, match="runs; expected at most"):
            load_sweep(str(path))


def test_everything_that_is_packaged_is_within_the_limits():
    for name in sweep_names():
        load_sweep(name)
    for name in preset_names():
        load_experiment(name, {})


def test_an_estimate_of_memory_never_shrinks_when_a_size_grows():
    base = load_experiment("quick", {})
    for field, larger in {
        "world.items": 4096,
        "world.test_prompts": 2000,
        "world.validation_prompts": 20_000,
        "policy.width": 256,
        "train.batch": 128,
        "train.group": 512,
    }.items():
        grown = load_experiment("quick", {field: larger})
        assert need_of(grown, 8).gibibytes > need_of(base, 8).gibibytes, field


@given(st.integers(1, 5000), st.sampled_from(["[", "{a=", "a."]))
def test_nesting_of_any_depth_is_read_or_refused_in_one_line(depth, kind):
    text = {
        "[": f"a = {'[' * depth}{']' * depth}",
        "{a=": f"a = {'{a=' * depth}1{'}' * depth}",
        "a.": f"{'a.' * depth}a = 1",
    }[kind]
    if depth <= DEEPEST - 2:
        parsed_toml(text)
    elif depth > DEEPEST:
        with pytest.raises(ValueError, match="nested more than"):
            parsed_toml(text)


@given(
    st.sampled_from(
        [1 << 63, -(1 << 70), 1 << 100_000, "x" * 10_001, "\ud800", {"\udfff": 1}, {1: [2**64]}]
    )
)
def test_a_value_that_could_not_be_stored_is_refused(value):
    with pytest.raises(ValueError, match=r"at most|Unicode"):
        checked({"world": {"seed": [value]}})


def test_a_dictionary_that_is_fine_is_left_as_it_is():
    tree = Experiment(strategies=("grpo",)).model_dump()
    assert checked(tree) is tree


@pytest.mark.parametrize("place", ["index/tiny.index.json", "train/tiny.csv", "test/tiny.csv"])
def test_a_pipe_in_a_data_folder_is_refused_and_never_waited_for(place, data_folder):
    (data_folder / place).unlink()
    os.mkfifo(data_folder / place)
    with pytest.raises(UserError, match="no regular file"):
        folder_fingerprint(str(data_folder))
    with pytest.raises(ValueError, match="no regular file"):
        read_folder(data_folder)


def test_an_index_nested_ten_thousand_deep_is_one_line(data_folder):
    path = data_folder / "index" / "tiny.index.json"
    path.write_text("[" * 100_000)
    with pytest.raises(ValueError, match="not an index"):
        read_folder(data_folder)

"""Numbers on the axes of charts: how many there are, and that they can be read where they stand."""

from __future__ import annotations

import re

import polars as pl
import pytest
from test_chart_rules import RUNS

from workbench import charts
from workbench.charts.style import log_ticks


@pytest.mark.parametrize("many", [3, 10])
def test_rows_of_bars_keep_zero_and_another_number_with_room_for_each(many: int) -> None:
    rows = [
        {"strategy": f"name{row}", "slot": slot, "place": place, "origin": "policy"}
        | {"weight": 2.47 if place else -1.0}
        for row in range(many)
        for place, slot in enumerate("abcd")
    ]
    spec = charts.advantages(pl.DataFrame(rows)).to_dict()
    wanted = spec["spec"]["layer"][0]["encoding"]["y"]["axis"]
    assert wanted["labelFontSize"] <= 1 + spec["spec"]["height"] / 3.47 * wanted["values"][-1] / (
        len([tick for tick in wanted["values"] if tick >= 0]) - 1
    )  # digits are lower than their line
    spec["config"] = {"axis": {"labelOverlap": True, "labelSeparation": 4}}  # as Streamlit's theme
    drawn = pytest.importorskip("vl_convert").vegalite_to_svg(spec)
    for tick in wanted["values"]:
        assert len(re.findall(f">{tick:g}<".replace("-", "[-\u2212]"), drawn)) == many
    assert 0 in wanted["values"]
    assert len(wanted["values"]) > 1


def test_a_logarithmic_axis_shows_three_even_steps_or_more() -> None:
    assert log_ticks(2, 300) == [3, 10, 30, 100, 300]
    assert log_ticks(90, 700) == [100, 200, 500]
    assert log_ticks(0.001, 100) == [0.001, 0.01, 0.1, 1, 10, 100]


def test_values_among_lines_stand_on_plates_that_are_wide_enough() -> None:
    spec = charts.parallel(RUNS, ["lr", "group"], "greedy").to_dict()
    plates = [one["mark"]["shape"] for one in spec["layer"] if one["mark"].get("size") == 4]
    among = {
        len(row["value"])
        for one in spec["layer"]
        if one["mark"].get("align") == "left" and one["mark"]["type"] == "text"
        for row in spec["datasets"][one["data"]["name"]]
    }
    assert [int(re.search(r"H(\d+)V", shape)[1]) for shape in plates] == [
        12 + 6 * letters for letters in sorted(among)
    ]

"""How strategies look: apart without colour, by hue within a family, on both themes."""

from __future__ import annotations

import polars as pl
import pytest

from recast import STRATEGIES
from workbench import charts
from workbench.charts import strategy_style as style
from workbench.theory.regimes import regime_frame

FAMILIAR = charts.STYLE["grpo"]


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two hex colours, as WCAG defines it."""

    def luminance(colour: str) -> float:
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_every_strategy_has_its_own_look_without_colour():
    assert list(charts.STYLE) == list(STRATEGIES)
    looks = [(tuple(style.dash), style.shape) for style in charts.STYLE.values()]
    assert len(set(looks)) == len(looks)


@pytest.mark.parametrize("name", style.FAMILIES)
def test_a_family_shares_a_hue_that_shows_on_both_themes_and_its_first_fourteen_differ(name):
    looks = [style._look(name, place) for place in range(14)]
    assert len({(tuple(look.dash), look.shape) for look in looks}) == 14
    assert {look.colour for look in looks} == set(style.FAMILIES[name].tints)
    for look in looks:
        assert contrast(look.colour, "#FFFFFF") >= 3
        assert contrast(look.colour, "#0E1117") >= 3


def test_what_most_pictures_show_differs_in_colour_and_mark():
    looks = [charts.STYLE[name] for name in style._FIRST]
    assert len({(look.colour, look.shape) for look in looks}) == len(looks)
    legend = charts.regimes_by_group(regime_frame(0.01, 0.5, [2, 8])).to_dict()
    assert "'symbolType': 'stroke'" in str(legend)  # a dash frays a dot


def test_strategies_that_would_meet_in_one_colour_part_where_they_are_shown_together():
    met = [name for name, look in charts.STYLE.items() if look.colour == FAMILIAR.colour]
    assert {"grpo", "ngrpo"} <= set(met)
    shown = style.colours(["ngrpo", "grpo", "dr_grpo", "maxrl", "grpo averaged"])
    assert shown["grpo"] == shown["grpo averaged"] == FAMILIAR.colour
    assert len(set(shown.values())) == 4
    assert set(shown.values()) <= set(style.FAMILIES["credit"].tints)
    assert style.colours(["ngrpo", "sft"])["ngrpo"] == FAMILIAR.colour  # alone it keeps its own


def test_runs_of_one_strategy_are_told_apart():
    rows = [
        {
            "run": f"{lr:.3f}{seed} {name}",
            "label": f"{name}, seed {seed}",
            "strategy": name,
            "lr": lr,
        }
        | {"seed": seed, "step": step, "area": 0.1 + seed / 10}
        for name in ("grpo", "dr_grpo")
        for seed, lr in ((0, 0.01), (1, 0.01), (1, 0.1))
        for step in (0, 5)
    ]
    drawn = charts.run_curves(pl.DataFrame(rows), "area").to_dict()["layer"][0]  # beside its key
    dashed = next(one for one in drawn["layer"] if "strokeDash" in one["encoding"])
    hues, dashes = (dashed["encoding"][name]["scale"] for name in ("color", "strokeDash"))
    assert len(hues["domain"]) == len(set(hues["domain"])) == 6
    looks = zip(hues["range"], [tuple(dash) for dash in dashes["range"]], strict=True)
    assert len(set(looks)) == 6
    assert len(set(hues["range"])) == 4  # all that their family has
    many = pl.DataFrame([row | {"run": f"{n}"} for n in range(9) for row in rows[:2]])
    assert "'domain': ['grpo']" in str(charts.run_curves(many, "area").to_dict())


def test_no_two_families_share_a_mark():
    shapes = [shape for family in style.FAMILIES.values() for shape in family.shapes]
    assert len(set(shapes)) == len(shapes)

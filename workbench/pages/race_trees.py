"""Trees of a race, drawn in the browser: play, scrub by step, strategies side by side."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from recast import STRATEGIES
from workbench import charts
from workbench.charts.strategy_style import colours
from workbench.jobs.race import Race

_HERE = Path(__file__).parent
HTML = """
<div id="growing-bar">
  <button id="growing-play" type="button">Play</button>
  <input id="growing-scrub" type="range" min="0" max="0" step="1" value="0"
    aria-label="Optimizer step of the trees">
  <span id="growing-step"></span>
  <div id="growing-prompts" role="group" aria-label="Prompt"></div>
</div>
<div id="growing"></div>
"""
_DRAW = st.components.v2.component(
    "recast_growing",
    html=HTML,
    css=(_HERE / "race_trees.css").read_text(encoding="utf-8"),
    js=(_HERE / "race_trees.js").read_text(encoding="utf-8"),
)
READ = (
    "The way to one prompt's target, left to right: at each level the children of its node, the "
    "target's own in green; the width of a branch is the square root of the probability that a "
    "rollout passes it. The ring is the anchor, as thick as the share of all-zero groups in which "
    "it steps in. Below: the target's probability over the steps. One seed of the race, test users "
    "that nobody trains on, chosen at the start."
)


def race_trees(race: Race, name: str, *, plays: bool) -> None:
    """Draw a race's trees. name: of the race; another name begins anew. plays: on arrival."""
    shown = [one for one in charts.in_order(list(race.spec.strategies)) if one in race.trees]
    _DRAW(
        key="growing",
        data={
            "race": name,
            "plays": plays,
            "group": race.spec.train.group,
            "steps": race.spec.train.steps,
            "strategies": shown,
            "forest": race.forest,
            "trees": {one: race.trees[one] for one in shown},
            "repairs": {one: STRATEGIES[one].has_repair for one in shown},
            "colours": colours(shown),
        },
    )
    st.caption(f"**How to read this.** {READ}")

"""Home: one prompt and its 32 rollouts, a story in seven steps; each leads to its page.

The first steps draw without torch, which loads while they are read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import polars as pl
import streamlit as st

from workbench import charts
from workbench.pages.address import Address
from workbench.pages.figure import draw
from workbench.pages.navigation import page_of
from workbench.theory import story
from workbench.theory.group import DEPTH, write_group

POINT = charts.PAPER_POINT


@dataclass(frozen=True)
class StoryStep:
    """One step: its heading, its sentence (Markdown of the project's own), its picture, and the
    page and address to try it in."""

    title: str
    sentence: str
    chart: charts.Chart | None
    page: str
    query: dict[str, str] = field(default_factory=dict)
    note: str = ""
    width: Literal["stretch", "content"] = "content"


def one_group() -> StoryStep:
    share, _ = story.all_zero_share(POINT["mean"], POINT["cv"])
    nodes, edges, _ = story.leaves()
    return StoryStep(
        "A policy tries 32 times and never finds the item",
        "A generative recommender writes an item as a few codes, level by level, and draws "
        f"{story.WIDTH} rollouts for a prompt; at the paper's point **{share:.1%} of all groups "
        "look like this one: no rollout is a hit.**",
        charts.group_story(nodes, edges, DEPTH),
        "learnability",
        {"group": str(story.WIDTH)},
        f"The paper's point: a hit rate of {POINT['mean']:.2%} with a coefficient of variation of "
        f"{POINT['cv']:g}, which gives its 85 / 13 / 2 regimes.",
        "stretch",
    )


def grpo_is_silent() -> StoryStep:
    _, price = story.all_zero_share(POINT["mean"], POINT["cv"])
    hit, here = story.pushes("grpo", story.with_one_hit()), story.pushes("grpo")
    return StoryStep(
        "GRPO learns nothing from it",
        "GRPO's weight is the reward minus the group's mean: one hit would give "
        f"{hit.pushed} rollouts a weight, without a hit **{here.pushed} of {story.WIDTH} rollouts "
        f"teach, and one group that does costs {price:,.0f} rollouts.**",
        drawn({"GRPO, had one hit": hit, "GRPO, this group": here}, "GRPO, this group"),
        "gradient_signals",
        {"group": group_text(), "strategies": "grpo"},
    )


def the_anchor() -> StoryStep:
    here, after = story.pushes("grpo"), story.pushes("repair_only")
    weights = after.bars.group_by("origin").agg(pl.col("weight").abs().max())
    most = dict(weights.iter_rows())
    return StoryStep(
        "Repair: the ground truth takes the worst slot",
        f"ReCast puts the known target, the anchor, into the slot of R{after.anchor}, the miss "
        f"that leaves the target's branch first: now **{after.pushed} of {story.WIDTH} rollouts "
        f"have a weight**, the anchor's {most['anchor'] / most['policy']:.0f} times as large as a "
        "miss's.",
        drawn({"GRPO, before": here, "GRPO, repaired": after}, "GRPO, repaired", after),
        "gradient_signals",
        {"group": group_text(), "strategies": "repair_only"},
        "`repair_only` is GRPO on repaired groups.",
    )


def the_pair() -> StoryStep:
    wide, pair = story.pushes("repair_only"), story.pushes("recast")
    return StoryStep(
        "Contrast: only the boundary pair reaches the actor",
        f"With the repair, this is ReCast: the anchor goes up, its hardest miss, R{pair.negative}, "
        f"goes down, and **{pair.pushed} of {story.WIDTH} rows are updated, "
        f"{wide.pushed / pair.pushed:.0f} times fewer.**",
        drawn({"repaired": wide, "ReCast": pair}, "ReCast", pair),
        "gradient_signals",
        {"group": group_text(), "strategies": "recast"},
    )


def plain_sft() -> StoryStep:
    from workbench.theory.frames import weight_frame

    names, most = ["grpo", "recast", "sft"], 0.5
    curves = weight_frame(names, POINT["mean"], story.WIDTH)
    apart = story.pull_apart("recast", "sft", POINT["mean"], most)
    pair, target = story.pushes("recast"), story.pushes("sft")
    return StoryStep(
        "Plain supervised training does nearly the same",
        f"SFT pushes the target up without any rollout, {target.pushed} row instead of "
        f"{pair.pushed}: for every prompt whose hit rate p is up to {most:.0%} the pull towards "
        f"the target is **the same line w(p) to {apart:.0e}**, and what ReCast adds is a push "
        "against one miss.",
        charts.weights(curves, POINT["mean"], "shape", "the paper's p"),
        "learnability",
        {"strategies": "sft"},
        "The weight w(p) multiplies grad log p in the expected update. ReCast's line lies under "
        "the green one of SFT, which is the point of the picture.",
    )


def verdicts() -> StoryStep:
    from workbench.analysis.answers import standing, value
    from workbench.spec.metrics import METRICS
    from workbench.studies.packaged import packaged
    from workbench.studies.phase_map import RIVALS, world_of

    study = packaged("phase-map")
    title = "Where does ReCast help, and where do SFT or GRPO win?"
    if study is None or "duels" not in study.tables:
        return StoryStep(title, "No packaged result.", None, "sweeps", {"view": "map"})
    table = study.tables["duels"].filter(metric="area")
    rows = list(table.iter_rows(named=True))
    table = table.with_columns(
        label=pl.Series([world_of(row) for row in rows], dtype=pl.String),
        tone=pl.Series([standing(row["difference"], row["p"]) for row in rows], dtype=pl.String),
    )
    said = [
        f"against {rival} ReCast is ahead in {won.count('first')}, behind in "
        f"{won.count('second')} and not told apart in {won.count('open')}"
        for rival in RIVALS
        for won in (table.filter(rival=rival)["tone"].to_list(),)
    ]
    worlds = table["label"].n_unique()
    return StoryStep(
        title,
        f"In {worlds} simulated worlds, each side at its own best rate and with averaged "
        f"weights: **{'; '.join(said)} of {worlds}.**",
        charts.verdict_map(
            tiles(table, value),
            "Who is ahead, and in which world?",
            "ReCast against SFT and GRPO in the packaged worlds, one tile per world.",
            "World",
        ),
        "budget",
        {"data": "packaged"},
        f"{METRICS['area']}; {table['seeds'][0]} paired seeds; p < .05, corrected over the worlds "
        "of a rival. A world: share of groups without a hit at the start, "
        "noise of the targets, rollouts per prompt, share of targets that cannot be learnt. "
        f"Data: {study.source}.",
    )


def real_model() -> StoryStep:
    from workbench.analysis.answers import standing, value
    from workbench.real.saved import packaged

    found = next((one for one in packaged() if one.kind == "differences"), None)
    if found is None:
        return StoryStep("And on a real model?", "No packaged result.", None, "real_models")
    table = found.table.filter(
        (pl.col("strategy") == "recast") & pl.col("control").is_in(["sft", "grpo"])
    ).sort(pl.col("control") != "sft", maintain_order=True)
    table = table.with_columns(
        label=pl.col("metric").replace(dict(charts.METRICS)),
        rival="control",
        low="difference_low",
        high="difference_high",
        p="p_corrected",
        tone=pl.Series(
            [standing(d, p) for d, p in table.select("difference", "p_corrected").iter_rows()],
            dtype=pl.String,
        ),
    )
    tones = table["tone"].to_list()
    against = {rival: table.filter(rival=rival)["tone"].to_list() for rival in ("sft", "grpo")}
    return StoryStep(
        "And on a real language model?",
        "A causal language model that writes semantic IDs, trained by the same strategies: "
        f"against SFT ReCast is ahead on **{against['sft'].count('first')} and behind on "
        f"{against['sft'].count('second')} of {len(against['sft'])} metrics, against GRPO ahead on "
        f"{against['grpo'].count('first')} and behind on {against['grpo'].count('second')}.**",
        charts.verdict_map(
            tiles(table, value),
            "Who is ahead on a real model?",
            "ReCast against SFT and GRPO on a real language model, one tile per metric.",
        ),
        "real_models",
        {"data": "packaged"},
        f"Packaged results; {tones.count('open')} of {len(tones)} comparisons are not told apart "
        "at .05 after correction over all strategies and metrics.",
    )


def group_text() -> str:
    return write_group(story.GROUP)


def tiles(table: pl.DataFrame, value: Callable[[float], str]) -> pl.DataFrame:
    """Label and words of each tile."""
    words = []
    for number, rival, tone, low, high in table.select(
        "difference", "rival", "tone", "low", "high"
    ).iter_rows():
        ahead = "recast" if number > 0 else rival
        leaning = low is not None and high is not None and (low > 0 or high < 0)
        said = f"{ahead} ahead" if tone != "open" else f"leans to {ahead}" if leaning else "open"
        words.append(f"{'+' if number >= 0 else '-'}{value(abs(number))}, {said}")
    return table.select(
        "rival",
        "tone",
        "difference",
        "low",
        "high",
        "p",
        "label",
        said=pl.Series(words, dtype=pl.String),
    ).with_columns(rival=pl.format("against {}", "rival"))


def drawn(
    panels: dict[str, story.Pushed], lit: str, repaired: story.Pushed | None = None
) -> charts.Chart:
    """The tree with one panel of bars per strategy; a repaired group shows where its anchor went,
    whose bar stands at the target."""
    nodes, edges, rows = story.leaves()
    end = float(nodes.filter(pl.col("kind") == "target")["row"][0])
    moved = None
    if repaired is not None and repaired.anchor is not None:
        start = float(rows.filter(rollout=repaired.anchor)["row"][0])
        moved = (repaired.anchor, start, end)
    bars = pl.concat(
        one.bars.select(
            "slot",
            "origin",
            "weight",
            panel=pl.lit(title),
            row=pl.when(pl.col("origin") == "anchor").then(pl.lit(end)).otherwise("row"),
        )
        for title, one in panels.items()
    )
    return charts.group_story(nodes, edges, DEPTH, bars, moved, lit)


STEPS: tuple[Callable[[], StoryStep], ...] = (
    one_group,
    grpo_is_silent,
    the_anchor,
    the_pair,
    plain_sft,
    verdicts,
    real_model,
)


@st.cache_resource(max_entries=len(STEPS), show_spinner=False)
def made(place: int) -> StoryStep:
    """A step of the story; the same for everybody."""
    return STEPS[place]()


def go(places: int) -> None:
    """A step on or back."""
    view.put({"step": st.session_state["step"] + places})


view = Address("home")
number = view.number("step", 1, low=1, high=len(STEPS))["key"]
place = int(st.session_state[number])
st.title("What does RL learn from 32 rollouts?")
step = made(place - 1)
with st.container(horizontal=True, vertical_alignment="center"):
    st.button(
        "Back",
        key="back",
        icon=":material/arrow_back:",
        disabled=place == 1,
        on_click=go,
        args=(-1,),
        width=120,
    )
    st.button(
        "Next",
        key="next",
        icon=":material/arrow_forward:",
        type="primary",
        disabled=place == len(STEPS),
        on_click=go,
        args=(1,),
        width=120,
    )
    st.page_link(
        page_of(step.page),
        label="Try it yourself",
        icon=":material/science:",
        query_params=step.query,
        width="content",
    )
    st.caption(f"Step {place} of {len(STEPS)}", width="content")
st.header(step.title)
st.markdown(step.sentence)
if step.chart is not None:
    with st.container(key=f"step-{place}"):
        draw(step.chart, width=step.width, key=f"story-{place}")
if step.note:
    st.caption(step.note)
if place < len(STEPS):
    made(place)  # the next step is ready before it is asked for

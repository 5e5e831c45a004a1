"""Train live: strategies race in a process of their own while the page draws."""

from __future__ import annotations

import time

import polars as pl
import streamlit as st

from recast import REGIMES, STRATEGIES
from workbench import charts
from workbench.analysis.budget import curve_table
from workbench.analysis.race import compared_with, simulated_cell, tuned_rates, verdict
from workbench.errors import StoreError, UserError
from workbench.jobs.race import Race
from workbench.jobs.recorded import USUAL_RATE, recorded_race
from workbench.pages.address import Address
from workbench.pages.figure import answer, figure, plain
from workbench.pages.notice import show_notice, tell
from workbench.pages.race_seats import Seat, races, track, visitor
from workbench.pages.race_trees import race_trees
from workbench.pages.server_shelf import WORD
from workbench.pages.stored import (
    PACKAGED,
    data_switch,
    packaged_runs,
    store_folder,
    stored_runs,
)
from workbench.plurals import number_of
from workbench.spec.experiment import Experiment
from workbench.spec.messages import validated
from workbench.store.runs import Store

RATES = (0.0003, 0.0007, 0.001, 0.002, 0.003, 0.005, 0.01, 0.015, 0.03)
WORLDS = (256, 512, 1024, 2048)
FIRST = ["grpo", "recast", "sft", "grpo_sft"]
LADDER = ["grpo", "contrast_only", "repair_only", "recast", "sft"]
MOST = 8
AXES = {"optimizer_steps": "Optimizer steps", "rollouts": "Rollouts sampled"}
# What is drawn stays as it is while the next second of the race is on its way.
STEADY = '<style>[data-stale="true"] { opacity: 1 !important; }</style>'

view = Address("train_live")
st.title("Who learns fastest? Watch them race")
metrics = [
    name for name in charts.METRICS if name not in ("entropy", "hr_at_1", "hr_at_5", "hr_at_10")
]
names = charts.in_order(
    st.multiselect(
        "Strategies",
        list(STRATEGIES),
        max_selections=MOST,
        **view.some_of("strategies", list(STRATEGIES), FIRST),
    )
)
with st.expander("World, start, steps, seeds and learning rates"):
    view.presets(
        {
            "ReCast and its controls": {"strategies": FIRST, "all_zero": 85, "items": 512},
            "The ablation ladder": {"strategies": LADDER, "all_zero": 85, "items": 512},
            "A dense start": {"strategies": FIRST, "all_zero": 50, "items": 512},
            "A very sparse start": {"strategies": FIRST, "all_zero": 94, "items": 1024},
        }
    )
    boxes = st.columns(5, vertical_alignment="bottom")
    items = boxes[0].selectbox("Items", WORLDS, **view.one_of("items", WORLDS, 512))
    all_zero = boxes[1].slider(
        "All-zero at the start (%)", 5, 98, **view.number("all_zero", 85, low=5, high=98)
    )
    group = boxes[2].slider("Group size, G", 2, 64, **view.number("group", 32, low=2, high=64))
    steps = boxes[3].slider(
        "Optimizer steps", 20, 5000, step=20, **view.number("steps", 120, low=20, high=5000)
    )
    seeds = boxes[4].slider("Seeds", 1, 10, **view.number("seeds", 8, low=1, high=10))
    state = data_switch(view)
    stored = simulated_cell(stored_runs(state)[0])
    tuned = tuned_rates(packaged_runs()[0]) | tuned_rates(stored)
    rates = {}
    places = st.columns(4)
    for place, name in enumerate(names):
        usual = tuned.get(name, USUAL_RATE)
        rates[name] = places[place % 4].selectbox(
            f"Rate of {name}",
            sorted({*RATES, usual}),
            **view.one_of(f"lr_{name}", sorted({*RATES, usual}), usual),
        )
    st.caption(
        "Advantages differ in scale, so one rate is not fair to all. A rate opens with the one "
        "that validation users chose in these data, else in the packaged runs, "
        f"{USUAL_RATE:g} for a strategy that neither holds. Another world may want another. The "
        "verdict is compared with the same data."
    )
word = view.text("race", longest=WORD)["key"]


def wanted() -> Experiment:
    """What the controls ask for. Raises SpecError."""
    return validated(
        Experiment,
        {
            "strategies": names,
            "seeds": seeds,
            "world": {"items": items, "test_prompts": 128, "validation_prompts": 128},
            "start": {"all_zero": all_zero / 100},
            "train": {"group": group, "steps": steps, "evaluations": min(30, steps // 4)},
        },
    )


def outdated(race: Race) -> bool:
    """Whether the controls ask for another race than the one that is shown."""
    try:
        return race.spec != wanted() or dict(race.rates) != rates
    except UserError:
        return True


def current() -> Seat | None:
    """The race of this address; None where there is none, or none any more."""
    name = st.session_state[word]
    found = races().get(name) if name else None
    if found is not None:
        races().hold(name, visitor())
    return found


def start() -> None:
    """Check the choices and send the worker off."""
    try:
        name = races().put(Seat(track(), wanted(), rates))
    except UserError as problem:
        tell(problem)
        return
    races().hold(name, visitor())
    view.put({"race": name})


def keep() -> None:
    """Put finished runs into the store."""
    seat = current()
    try:
        kept = seat.look().keep(Store(store_folder())) if seat is not None else 0
        tell(f"{number_of(kept, 'run is', 'runs are')} in the store {store_folder()}.")
    except StoreError as problem:
        tell(problem)


def buttons(seat: Seat | None) -> None:
    """Start, pause or resume, stop, keep."""
    race = seat.look() if seat is not None else None
    going = race is not None and not race.over
    with st.container(horizontal=True):
        st.button(
            "Start a race" if race is None else "Start again",
            key="start",
            type="primary",
            icon=":material/play_arrow:",
            on_click=start,
            disabled=going or not names,
        )
        if seat is None:
            return
        if seat.race.state == "paused":
            st.button("Resume", key="resume", on_click=seat.steer, args=("resume",))
        else:
            st.button(
                "Pause", key="pause", on_click=seat.steer, args=("pause",), disabled=not going
            )
        st.button("Stop", key="stop", on_click=seat.steer, args=("stop",), disabled=not going)
        st.button(
            "Keep in the store",
            key="keep",
            on_click=keep,
            disabled=going or not seat.race.records,
        )


def left(race: Race) -> str:
    """Time to go in words, at the pace of the steps so far; empty before there is one."""
    if race.first_step is None or race.share < 0.02:
        return ""
    pace = (time.monotonic() - race.first_step) / race.share
    seconds = pace * (1 - race.share)
    return (
        f" About {seconds:.0f} s left." if seconds < 100 else f" About {seconds / 60:.0f} min left."
    )


def say(race: Race) -> None:
    """One line on how the race stands, and a verdict when it is over."""
    have = f"Finished: {', '.join(race.complete) or 'none yet'}."
    match race.state:
        case "running" | "paused":
            text = "Paused" if race.state == "paused" else race.text
            to_go = left(race) if race.state == "running" else ""
            st.progress(
                min(race.share, 1.0), text=plain(f"{text}. {race.share:.0%} of all steps.{to_go}")
            )
        case "finished":
            st.caption(f"All strategies took {number_of(race.spec.train.steps, 'step')}.")
        case "stopped":
            st.info(plain(f"Stopped. {have} What was drawn stays until the next start."))
        case "lost":
            st.warning(plain(f"{race.text} {have} What is finished can still be kept."))
        case _:
            st.error(plain(race.text))
    for name, text in race.failures.items():
        st.warning(plain(f"{name} gave up: {text}"))


def judge(race: Race, frame: pl.DataFrame) -> None:
    """The verdict of a race that is over, and whether the packaged runs agree."""
    said = verdict(frame, metric, charts.METRICS[metric])
    if said is not None:
        whose = (
            "The packaged runs of Budget to target"
            if state[0] == PACKAGED
            else f"The runs of Budget to target in {state[0]}"
        )
        more = [compared_with(frame, stored, metric, whose)]
        rated = ", ".join(f"{name} {rate:g}" for name, rate in race.rates.items())
        answer(said, [line for line in (*more, f"Rates: {rated}.") if line])


def pace(race: Race) -> float | None:
    """Seconds between two looks at a race: short until there are curves, none when it is over."""
    if race.over:
        return None
    return 1.0 if len({row["step"] for row in race.rows}) > 1 else 0.15


def board() -> None:
    """Buttons, how the race stands, and its trees."""
    seat = current()
    race = seat.look() if seat is not None else None
    if (pace(race) if race is not None else None) != ticking:
        st.rerun()  # the whole page, which starts, slows or ends the ticking
    buttons(seat)
    show_notice(once=False)
    if race is None and st.session_state[word]:
        st.info("The race of this address is no longer on this server. Start it again.")
    shown = race if race is not None else recorded_race()
    if shown is None:
        st.info("Nothing trained yet in this tab. Press Start.")
        return
    if race is None:
        st.caption(
            "A recorded race of the package plays: "
            f"{plain(', '.join(shown.spec.strategies))}, {number_of(shown.spec.seeds, 'seed')}. "
            "Press Start to run your own."
        )
    else:
        say(race)
        if outdated(race):
            spec = race.spec
            st.warning(
                "Outdated: the controls have moved since this race was started. It shows "
                f"{plain(', '.join(spec.strategies))} with {number_of(spec.seeds, 'seed')}, "
                f"{number_of(spec.train.steps, 'step')}, G = {spec.train.group}, "
                f"{spec.world.items} items; press Start again for what the controls say."
            )
    if shown.trees:
        race_trees(shown, st.session_state[word] or "recorded", plays=race is None)


def results() -> None:
    """The verdict and the curves of the same race."""
    seat = current()
    shown = seat.look() if seat is not None else recorded_race()
    if shown is None:
        return
    frame = shown.frame()
    if frame.is_empty():
        return
    if shown.over and frame["step"].n_unique() > 1:
        judge(shown, frame)
    draw(frame, shown)


def pictures(frame: pl.DataFrame, race: Race) -> None:
    """Curves of what has come in; nothing is spent where no rollout is sampled."""
    curves = curve_table(frame, metric, axis)
    begin = frame.filter(pl.col("step") == 0)[metric].cast(pl.Float64).to_numpy().mean()
    if curves.is_empty():
        st.info("None of these strategies samples rollouts: choose optimizer steps.")
        return
    end = axis_end(frame, race)
    figure(
        charts.learning_curves(curves, metric, axis, start=float(begin), end=end).properties(
            title="Who gets further for the same budget?"
        ),
        curves,
        name="live-curves",
        read="Left is cheaper, up is better; band: 95% interval from 5 seeds on. "
        "Supervised training samples no rollouts, so it shows against steps only.",
    )


def axis_end(frame: pl.DataFrame, race: Race) -> float:
    """Where the race will end on the axis: by what its steps have cost, and before the first by
    what a step is asked to cost."""
    train = race.spec.train
    asked = 1 if axis == "optimizer_steps" else train.batch * train.group
    costs = [spent / step for spent, step in frame.select(axis, "step").iter_rows() if step]
    return max(costs, default=asked) * train.steps


def trade_off(frame: pl.DataFrame, _: Race) -> None:
    """Pass@1 against the hits of beam search."""
    figure(
        charts.trade_off(frame, "c_at_1", "hr_at_10"),
        frame.group_by("strategy", "step", maintain_order=True).agg(
            pl.col("c_at_1", "hr_at_10").mean()
        ),
        name="live-trade-off",
        read="Every path begins at the warm start. Up and right is better on both counts.",
    )


def entropy(frame: pl.DataFrame, _: Race) -> None:
    """What is left of the policy's diversity."""
    curves = curve_table(frame, "entropy", "optimizer_steps")
    figure(
        charts.learning_curves(curves, "entropy", "optimizer_steps").properties(
            title="How much of its diversity does the policy give up?"
        ),
        curves,
        name="live-entropy",
        read="Falling entropy means a sharper policy: it raises Pass@1 even without learning.",
    )


def regimes(frame: pl.DataFrame, _: Race) -> None:
    """Which groups hold hits, as training goes on."""
    figure(
        charts.regimes_over_training(frame),
        frame.group_by("strategy", "step", maintain_order=True).agg(pl.col(REGIMES).mean()),
        name="live-regimes",
        read="The grey part teaches plain GRPO nothing; ReCast repairs it.",
        width="content",
    )


PARTS = {
    "curves": ("Who gets further?", pictures),
    "trade_off": ("More than sharpening?", trade_off),
    "entropy": ("Diversity", entropy),
    "regimes": ("Groups that teach", regimes),
}

st.html(STEADY)
now = current()
ticking = pace(now.look()) if now is not None else None
st.fragment(board, run_every=ticking)()
choice = st.columns([3, 2])
metric = choice[0].selectbox(
    "Metric", metrics, format_func=charts.METRICS.__getitem__, **view.one_of("metric", metrics)
)
axis = choice[1].selectbox(
    "Against", list(AXES), format_func=AXES.__getitem__, **view.one_of("axis", list(AXES))
)
draw = view.part_of(PARTS)
st.fragment(results, run_every=ticking)()

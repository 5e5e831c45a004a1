"""Train live: strategies race in a process of their own while the page draws."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import polars as pl
import streamlit as st

from recast import REGIMES, STRATEGIES
from workbench import charts
from workbench.analysis.budget import curve_table
from workbench.errors import StoreError, UserError
from workbench.jobs.race import Race, Worker
from workbench.jobs.track import Track
from workbench.pages.address import Address
from workbench.pages.figure import figure, plain
from workbench.pages.stored import store_folder
from workbench.spec.experiment import Experiment
from workbench.spec.messages import validated
from workbench.store.runs import Store

RATES = (0.0003, 0.001, 0.003, 0.01, 0.03)
WORLDS = (256, 512, 1024, 2048)
FIRST = ["grpo", "recast", "sft", "grpo_sft"]
LADDER = ["grpo", "contrast_only", "repair_only", "recast", "sft"]
MOST = 8
AXES = {"optimizer_steps": "Optimizer steps", "rollouts": "Rollouts sampled"}


class Seat:
    """The place of a browser tab: its process while it races, and the last race that it ran."""

    def __init__(self, places: Track) -> None:
        self._places = places
        self._worker: Worker | None = None
        self._root = Path()
        self.race: Race | None = None
        self.said = ""
        places.visit(self)

    def start(self, spec: Experiment, rates: Mapping[str, float]) -> None:
        """Race as soon as there is a place."""
        self.look()
        self.said = ""
        self._root = Store(store_folder()).prepare().root
        self.race = Race(spec, dict(rates))
        self.look()

    def look(self) -> Race | None:
        """The race as it stands: on its way, or still waiting for a place."""
        race = self.race
        if race is None:
            return None
        if self._worker is not None:
            self._worker.look()
            if race.over:
                self._worker = None
                self._places.done(self)
        elif not race.over:
            found = self._places.ask(self)
            if isinstance(found, int):
                race.text = f"Waiting: {found} {'race' if found == 1 else 'races'} before this one"
            else:
                self._worker = found
                found.start(race.spec, race.rates, self._root, race)
        return race

    def steer(self, word: Literal["pause", "resume", "stop"]) -> None:
        """Pass a word on to the race; one that waits can only be called off."""
        if self._worker is not None:
            {
                "pause": self._worker.pause,
                "resume": self._worker.resume,
                "stop": self._worker.stop,
            }[word]()
        elif word == "stop" and self.race is not None:
            self.race.state = "stopped"
            self._places.done(self)

    def close(self) -> None:
        """The tab is gone, and its process with it."""
        self._places.leave(self)


@st.cache_resource(show_spinner=False)
def track() -> Track:
    """The places of this server."""
    return Track()


@st.cache_resource(scope="session", show_spinner=False, on_release=lambda seat: seat.close())
def seat() -> Seat:
    """Lives as long as the tab: closing it ends the process."""
    return Seat(track())


view = Address("train_live")
st.title("Who learns fastest? Watch them race")
st.write(
    "Small policies train in a synthetic world, all strategies from the same warm start, on the "
    "same prompts and random draws. Choose, start, and watch the curves come in."
)
view.presets(
    {
        "ReCast and its controls": {"strategies": FIRST, "all_zero": 85, "items": 512},
        "The ablation ladder": {"strategies": LADDER, "all_zero": 85, "items": 512},
        "A dense start": {"strategies": FIRST, "all_zero": 50, "items": 512},
        "A very sparse start": {"strategies": FIRST, "all_zero": 94, "items": 1024},
    }
)
names = charts.in_order(
    st.multiselect(
        "Strategies",
        list(STRATEGIES),
        max_selections=MOST,
        **view.some_of("strategies", list(STRATEGIES), FIRST),
    )
)
boxes = st.columns(5, vertical_alignment="bottom")
items = boxes[0].selectbox("Items in the world", WORLDS, **view.one_of("items", WORLDS, 512))
all_zero = boxes[1].slider(
    "All-zero groups at the start (%)", 5, 98, **view.number("all_zero", 85, low=5, high=98)
)
group = boxes[2].slider("Rollouts per group, G", 2, 64, **view.number("group", 32, low=2, high=64))
steps = boxes[3].slider(
    "Optimizer steps", 20, 5000, step=20, **view.number("steps", 120, low=20, high=5000)
)
seeds = boxes[4].slider("Seeds", 1, 10, **view.number("seeds", 5, low=1, high=10))
with st.expander("Learning rate of each strategy"):
    rates = {}
    places = st.columns(4)
    for place, name in enumerate(names):
        rates[name] = places[place % 4].selectbox(
            name, RATES, **view.one_of(f"lr_{name}", RATES, 0.003)
        )
    st.caption(
        "Advantages differ in scale, so one rate is not fair to all: move a strategy's own rate "
        "before you call it slow. Sweeps tune it on validation users."
    )


metrics = [
    name for name in charts.METRICS if name not in ("entropy", "hr_at_1", "hr_at_5", "hr_at_10")
]
choice = st.columns(2)
metric = choice[0].selectbox(
    "Metric", metrics, format_func=charts.METRICS.__getitem__, **view.one_of("metric", metrics)
)
axis = choice[1].selectbox(
    "Against", list(AXES), format_func=AXES.__getitem__, **view.one_of("axis", list(AXES))
)


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


def start() -> None:
    """Check the choices and send the worker off."""
    try:
        seat().start(wanted(), rates)
    except UserError as problem:
        seat().said = f"error: {problem}"


def keep() -> None:
    """Put finished runs into the store."""
    race = seat().look()
    try:
        kept = race.keep(Store(store_folder())) if race is not None else 0
        seat().said = f"{kept} runs are in the store {store_folder()}."
    except StoreError as problem:
        seat().said = f"error: {problem}"


def is_moving(race: Race | None) -> bool:
    """Whether there is something to wait for."""
    return race is not None and not race.over


def buttons(race: Race | None) -> None:
    """Start, pause or resume, stop, keep."""
    going = is_moving(race)
    with st.container(horizontal=True):
        st.button(
            "Start" if race is None else "Start again",
            key="start",
            type="primary",
            icon=":material/play_arrow:",
            on_click=start,
            disabled=going or not names,
        )
        if race is not None and race.state == "paused":
            st.button("Resume", key="resume", on_click=seat().steer, args=("resume",))
        else:
            st.button(
                "Pause", key="pause", on_click=seat().steer, args=("pause",), disabled=not going
            )
        st.button("Stop", key="stop", on_click=seat().steer, args=("stop",), disabled=not going)
        st.button(
            "Keep in the store",
            key="keep",
            on_click=keep,
            disabled=race is None or going or not race.records,
        )


def say(race: Race) -> None:
    """One line on how the race stands."""
    have = f"Finished: {', '.join(race.complete) or 'none yet'}."
    match race.state:
        case "running" | "paused":
            text = "Paused" if race.state == "paused" else race.text
            st.progress(min(race.share, 1.0), text=plain(f"{text}. {race.share:.0%} of all steps."))
        case "finished":
            st.success(f"All strategies took {race.spec.train.steps} steps.")
        case "stopped":
            st.info(plain(f"Stopped. {have} Curves stay until the next start."))
        case "lost":
            st.warning(plain(f"{race.text} {have} What is finished can still be kept."))
        case _:
            st.error(plain(race.text))
    for name, text in race.failures.items():
        st.warning(plain(f"{name} gave up: {text}"))


def board() -> None:
    """Everything that moves."""
    race = seat().look()
    if is_moving(race) != moving:
        st.rerun()  # the whole page, which starts or ends the ticking
    buttons(race)
    said = seat().said
    if said:
        (st.error if said.startswith("error: ") else st.success)(
            plain(said.removeprefix("error: "))
        )
    if race is None:
        st.info("Nothing trained yet in this tab. Press Start.")
        return
    say(race)
    if outdated(race):
        spec = race.spec
        st.warning(
            "The controls have moved since this race was started. It shows "
            f"{plain(', '.join(spec.strategies))} with {spec.seeds} seeds, {spec.train.steps} "
            f"steps, G = {spec.train.group}, {spec.world.items} items; press Start again for what "
            "the controls say."
        )
    frame = race.frame()
    if not frame.is_empty() and frame["step"].n_unique() > 1:
        pictures(frame, race)


def pictures(frame: pl.DataFrame, race: Race) -> None:
    """Curves, trade-off, regimes and entropy of what has come in."""
    left, right = st.columns(2)
    curves = curve_table(frame, metric, axis)
    begin = frame.filter(pl.col("step") == 0)[metric].cast(pl.Float64).to_numpy().mean()
    with left:
        if curves.is_empty():
            st.info("None of these strategies samples rollouts: choose optimizer steps.")
        else:
            figure(
                charts.learning_curves(curves, metric, axis, start=float(begin)).properties(
                    title="Who gets further for the same budget?"
                ),
                curves,
                name="live-curves",
                read="Left is cheaper, up is better; band: 95% interval from 5 seeds on. "
                "Supervised training samples no rollouts, so it shows against steps only.",
            )
    with right:
        figure(
            charts.trade_off(frame, "c_at_1", "hr_at_10"),
            frame.group_by("strategy", "step", maintain_order=True).agg(
                pl.col("c_at_1", "hr_at_10").mean()
            ),
            name="live-trade-off",
            read="Every path begins at the warm start. Up and right is better on both counts.",
        )
    entropy = curve_table(frame, "entropy", "optimizer_steps")
    figure(
        charts.learning_curves(entropy, "entropy", "optimizer_steps").properties(
            title="How much of its diversity does the policy give up?"
        ),
        entropy,
        name="live-entropy",
        read="Falling entropy means a sharper policy: it raises Pass@1 even without learning.",
    )
    figure(
        charts.regimes_over_training(frame),
        frame.group_by("strategy", "step", maintain_order=True).agg(pl.col(REGIMES).mean()),
        name="live-regimes",
        read="The grey part teaches plain GRPO nothing; ReCast repairs it.",
        width="content",
    )


moving = is_moving(seat().look())
st.fragment(board, run_every=1.0 if moving else None)()

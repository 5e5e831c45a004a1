"""Real models: what strategies reach on a language model, and what their updates cost."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import streamlit as st

from workbench import charts
from workbench.analysis.answers import of_pairs, ranking
from workbench.analysis.tuning import HEADLINE
from workbench.charts.efficiency import PAPER_RATIO
from workbench.pages.address import Address
from workbench.pages.cheaper_experiments import cheaper_experiments
from workbench.pages.figure import answer, figure, grid, plain
from workbench.pages.stored import PACKAGED, data_switch, store_folder, stored_runs
from workbench.real import gpu
from workbench.real.saved import SavedTable, metrics_of, packaged, saved_tables, stored_scores
from workbench.stats.estimates import ENOUGH
from workbench.stats.two_way import LEAST_RESAMPLED_P, RESAMPLES

SLICES = {
    "all": "All targets",
    "seen": "Targets that training has seen",
    "new": "New targets",
    "popular": "Popular targets",
    "rare": "Rare targets",
}

view = Address("real_models")
st.title("Does it hold on a real language model, and what does it cost?")
st.write(
    "The same strategies, by the same names, train a causal language model that writes semantic "
    "IDs. Two questions: is the recommender better afterwards, and what does a step cost?"
)

state = data_switch(view)
shows_example = state[0] == PACKAGED
folder = (store_folder() if shows_example else Path(state[0])) / "real"
frame = pl.DataFrame() if shows_example else stored_runs(state)[0]
saved, faults = ([], []) if shows_example else saved_tables(folder)
for fault in faults[:3]:
    st.warning(plain(fault))
if len(faults) > 3:
    st.warning(f"And {len(faults) - 3} more files that cannot be used.")
own = [*stored_scores(frame), *saved]
example = packaged()
tables = own + [one for one in example if one.kind not in {mine.kind for mine in own}]


def of_kind(kind: str, label: str) -> SavedTable | None:
    """The table of a kind to show; a box to choose where there are several."""
    known = [one for one in tables if one.kind == kind]
    if len(known) < 2:
        return known[0] if known else None
    sources = [one.source for one in known]
    chosen = st.selectbox(label, sources, **view.one_of(kind, sources))
    return known[sources.index(chosen)]


def headline(found: SavedTable) -> None:
    """Who is ahead on the headline metric, in one sentence per control."""
    table = found.table
    known = table["metric"].unique(maintain_order=True).to_list()
    metric = HEADLINE if HEADLINE in known else known[0]
    names = table["strategy"].unique(maintain_order=True).to_list()
    first = "recast" if "recast" in names else names[0]
    label = charts.METRICS.get(metric, metric)
    said = of_pairs(table, first, metric, label)
    if said:
        whole = pl.DataFrame() if scores is None else scores.table.filter(pl.col("slice") == "all")
        scale = ", ".join(
            f"{values[0]:,} {words}"
            for name, words in (("seeds", "seeds"), ("prompts", "test prompts"))
            if name in whole.columns
            for values in [whole[name].drop_nulls().unique().to_list()]
            if len(values) == 1
        )
        placed = ranking(whole, metric, label, first) if metric in whole.columns else []
        answer(said, [*placed, f"{scale}. Data: {found.source}." if scale else found.source])


def origin(found: SavedTable) -> None:
    """Where a table comes from, and how to get it again."""
    st.caption(f"Data: {plain(found.source)}.")
    if found.command:
        with st.expander("The command that prints this table"):
            st.code(found.command, language=None, wrap_lines=True)


def quality(found: SavedTable) -> None:
    """Scores with intervals, of one slice and metric."""
    origin(found)
    table = found.table
    boxes = st.columns(2)
    metrics = metrics_of(table)
    metric = boxes[0].selectbox(
        "Metric",
        metrics,
        format_func=lambda name: charts.METRICS.get(name, name),
        **view.one_of("metric", metrics, HEADLINE if HEADLINE in metrics else metrics[0]),
    )
    slices = table["slice"].unique(maintain_order=True).to_list()
    part = boxes[1].selectbox(
        "Targets",
        slices,
        format_func=lambda name: SLICES.get(name, str(name)),
        **view.one_of("slice", slices),
    )
    rows = table.filter(pl.col("slice") == part)
    seeds = rows["seeds"].drop_nulls().cast(pl.Int64).to_list()
    if seeds and min(seeds) < ENOUGH:
        st.warning(
            f"{min(seeds)} seeds: intervals this wide tell no two strategies apart for sure; a "
            f"claim needs {ENOUGH} seeds or more.",
            icon=":material/balance:",
        )
    shown = [c for m in metrics for c in (m, f"{m}_low", f"{m}_high")]
    settings = [
        c for c in ("strategy", "lr", "edge", "step", "seeds", "prompts") if c in rows.columns
    ]
    figure(
        charts.final_scores(rows, metric),
        rows.select(*settings, *shown),
        name="real-scores",
        read="Right is better. A mark is the mean over seeds, its bar a 95% interval. The dashed "
        "rule is the supervised model that everyone started from: left of it, a strategy is worse "
        "than no further training. Pass@1 and Pass@32 at T = 1 also rise and fall with sharpening "
        "alone; C(k) and their mean, the area, do not.",
        columns={name: st.column_config.NumberColumn(format="%.4f") for name in shown},
    )


def differences(found: SavedTable) -> None:
    """Paired differences to a control."""
    origin(found)
    controls = found.table["control"].unique(maintain_order=True).to_list()
    boxes = st.columns(2)
    control = boxes[0].selectbox(
        "Compared with",
        controls,
        **view.one_of("control", controls, "sft" if "sft" in controls else controls[0]),
    )
    known = found.table["metric"].unique(maintain_order=True).to_list()
    metric = boxes[1].selectbox(
        "Metric of the difference",
        known,
        format_func=lambda name: charts.METRICS.get(name, name),
        **view.one_of("difference", known, HEADLINE if HEADLINE in known else known[0]),
    )
    rows = found.table.filter((pl.col("control") == control) & (pl.col("metric") == metric))
    figure(
        charts.differences(
            rows.select(
                label="strategy",
                setting=pl.format("strategy minus {}", "control"),
                value="difference",
                low="difference_low",
                high="difference_high",
                p="p_corrected",
            ),
            f"Which strategies differ from {control} on a real model?",
        ),
        rows,
        name="real-differences",
        read="Right of zero: better than the control. Hollow: not told apart at .05 after "
        "correction over all strategies and metrics. Users and seeds are resampled together "
        f"{RESAMPLES:,} times: no p is below {LEAST_RESAMPLED_P:.2g}.",
    )


def efficiency(found: SavedTable) -> None:
    """Update time of the baseline over a strategy, with the prompt encoded again and shared."""
    origin(found)
    names = found.table["strategy"].unique(maintain_order=True).to_list()
    baseline = names[0]
    if len(names) < 2:
        st.info("This table holds one strategy only; a ratio needs two: repeat --strategy.")
        return
    strategy = st.selectbox("Against", names[1:], **view.one_of("against", names[1:]))
    rows = found.table.filter(pl.col("strategy") == strategy)
    paper = int(charts.PAPER_POINT["group"])
    width = paper if paper in rows["group"].to_list() else rows["group"].max()
    widest = rows.filter(pl.col("group") == width)
    for column, (mode, words) in zip(
        st.columns(2),
        (("reencoded", "prompt encoded again"), ("shared", "prompt shared")),
        strict=True,
    ):
        ratios = widest.filter(pl.col("prefix") == mode)["ratio"].to_list()
        if ratios:
            column.metric(
                f"{baseline} / {strategy}, {words}, G = {widest['group'][0]}",
                f"{min(ratios):.1f} to {max(ratios):.1f} x"
                if max(ratios) - min(ratios) > 0.05
                else f"{ratios[0]:.1f} x",
            )
    if width == paper:
        st.caption(
            f"At the paper's G = {paper}, where it reports {PAPER_RATIO} x. The ratio grows with G."
        )
    figure(
        charts.update_ratio(found.table, baseline, strategy),
        rows,
        name="real-efficiency",
        read=f"How many times longer {plain(baseline)}'s update takes. Lines count tokens, marks "
        "are measured. Most of the saving is prompts that are encoded again for every rollout: "
        f"share the prompt and little of the paper's {PAPER_RATIO} is left. The whole step, with "
        "its rollouts, gains less (`step_ratio` in the numbers).",
    )


def better() -> None:
    """Scores, and differences to a control."""
    st.header("Is the model better?")
    if scores is None:
        st.info("No result of a real model yet. The commands below make one.")
    else:
        quality(scores)
    if gaps is not None:
        differences(gaps)


def update_costs() -> None:
    """What an update costs here, and on a GPU."""
    st.header("What does an update cost?")
    costs = of_kind("efficiency", "Measurements")
    if costs is None:
        st.info("No measurement yet. The last of the commands below makes one; it needs no data.")
    else:
        efficiency(costs)
    st.subheader("On a GPU, at the size of published models")
    measured = gpu.costs().select(
        "model", "prompt_tokens", "prefix", "strategy", "rows", "tokens", "update_seconds",
        "step_seconds", "peak_mib", "mfu", "ratio", "step_ratio", "memory_ratio",
    )  # fmt: skip
    st.write(
        "Architectures of Qwen3 with random weights, G = 32, groups without a hit: what GRPO's "
        "update costs over each strategy's (`ratio`), and the same of the whole step, of tokens "
        "and of memory."
    )
    with st.expander("The measured costs, GRPO's over each strategy's"):
        grid(measured, hide_index=True)
        st.caption(
            f"{gpu.provenance()}; updates below half a second vary by a fifth between cases."
        )


def beforehand() -> None:
    """What a cheaper experiment knows."""
    st.header("Does a cheaper experiment know it beforehand?")
    cheaper_experiments(view)


PARTS = {
    "better": ("Is the model better?", better),
    "costs": ("What does an update cost?", update_costs),
    "cheaper": ("Does a cheaper experiment know it?", beforehand),
}
scores = of_kind("scores", "Results")
gaps = of_kind("differences", "Differences")
if gaps is not None:
    headline(gaps)
view.draw_part(PARTS)

with st.expander("Run it on your data"):
    st.write(
        "DIR is a folder in the published layout of MiniOneRec or RecIF. The first line installs "
        "the optional extra. Every command can be stopped and given again; runs land in the store, "
        f"saved tables are read from {plain(str(folder))}."
    )
    st.code(
        "pip install -c constraints.txt -c constraints-lm.txt -e '.[lm]'\n"
        "recast lm data DIR\n"
        "recast lm sft DIR --out OUT\n"
        f"recast lm rl DIR --start OUT/model --strategy grpo --strategy recast --strategy sft "
        f"--seeds 5 --store {store_folder()}\n"
        f"mkdir -p {folder}\n"
        f"recast lm efficiency --format csv > {folder / 'efficiency.csv'}",
        language=None,
        wrap_lines=True,
    )

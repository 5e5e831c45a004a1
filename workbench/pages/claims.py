"""Claims: the paper's C1 to C12, what was measured, and a verdict for each."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import polars as pl
import streamlit as st

from workbench.analysis.answers import counted
from workbench.analysis.export import csv_text
from workbench.errors import UserError
from workbench.pages.address import Address
from workbench.pages.figure import answer, figure, plain
from workbench.pages.stored import PACKAGED, StoreState, cached_by_store, data_switch
from workbench.report.figures import claim_figures
from workbench.spec.sweep import sweep_names
from workbench.store.runs import Store
from workbench.studies.claims import (
    CLAIMS,
    SWEEPS,
    check,
    claims_table,
    least_told,
    settings_table,
)
from workbench.studies.evidence import SweepFrames, gather
from workbench.studies.measures import BASELINE, METRIC
from workbench.studies.packaged import packaged

MARKS = {
    "reproduced": ":material/check_circle:",
    "compatible": ":material/done:",
    "not reproduced": ":material/cancel:",
    "only where": ":material/contrast:",
    "inconclusive": ":material/help:",
    "shown, not judged": ":material/block:",
    "not measured": ":material/pending:",
}
HEADS = {
    "claim": "Claim",
    "verdict": "Verdict",
    "says": "The paper says",
    "measured": "Measured",
    "beside": "Beside it",
    "paper": "The paper's figure",
    "where": "Where it holds",
}
SETTINGS = {
    "mode": "Baseline",
    "setting": "Setting",
    "beside": "What stands beside",
    "value": "Value",
    "low": "Low",
    "high": "High",
    "n": "Pairs",
    "p": "p, corrected",
    "verdict": "Verdict",
    "decides": "Decides",
    "note": "Note",
}


class ShownClaims(NamedTuple):
    """Verdicts and settings as `recast claims` prints them; evidence: the runs behind them, None
    for results without their runs; source: where they come from."""

    verdicts: pl.DataFrame
    settings: pl.DataFrame
    evidence: SweepFrames | None
    source: str
    old: bool = False


def measure(folder: Path) -> ShownClaims:
    """Everything that a store says about the claims."""
    known = [name for name in SWEEPS if name in sweep_names()]
    evidence = gather(known, Store(folder), {})
    checked = [check(claim, evidence) for claim in CLAIMS]
    source = f"the runs of {folder}"
    return ShownClaims(claims_table(checked), settings_table(checked), evidence, source)


def shipped() -> ShownClaims | None:
    """What the package ships of a whole run of `recast claims`; None where it ships nothing."""
    study = packaged("claims")
    if study is None:
        return None
    tables = study.tables
    source = f"the package: {study.source}"
    return ShownClaims(tables["claims"], tables["settings"], None, source, not study.current)


def results(state: StoreState) -> ShownClaims:
    """The results of the data that is chosen; stops the page where there are none."""
    if state[0] != PACKAGED:
        with st.spinner("Measuring the claims on the stored sweeps"):
            return cached_by_store(state, "claims", lambda: measure(Path(state[0])))
    found = shipped()
    if found is None:
        st.info("The package ships no results. `recast claims` prints them, and can be stopped.")
        st.stop()
    return found


view = Address("claims")
st.title("Is the paper right?")
state = data_switch(view, "sweeps/claims*.json")
try:
    found = results(state)
except UserError as problem:
    st.error(plain(str(problem)))
    st.stop()
evidence, verdicts = found.evidence, found.verdicts
more = [
    f"Data: {found.source}.",
    "Twelve claims of arXiv 2604.22169, each with a statistic and a threshold fixed before "
    "measuring. A small simulated world shows mechanisms; it does not confirm or refute figures "
    "that need a GPU cluster.",
]
if found.old:
    more.insert(
        1,
        "These were printed by an earlier generation of the simulator, with other rules: read them "
        "for what was asked, and run recast claims for verdicts by today's rules.",
    )
answer(counted(verdicts["verdict"].to_list()), more)
if evidence is not None and not evidence.sweeps:
    st.info(
        "No packaged sweep of the claims is in this store yet, so no testable claim is measured. "
        "`What is missing` holds the commands that run them; they can be stopped and resumed."
    )
for warning in evidence.warnings(METRIC, BASELINE) if evidence is not None else ():
    st.warning(plain(warning))

st.dataframe(
    verdicts.select(*HEADS),
    hide_index=True,
    width="stretch",
    height=38 + 35 * verdicts.height,
    key="verdicts",
    placeholder="-",
    column_config={name: st.column_config.TextColumn(head) for name, head in HEADS.items()},
    alt="One row per claim: what the paper says, what was measured, and the verdict",
)
st.download_button(
    "CSV",
    lambda: csv_text(verdicts).encode(),
    file_name="claims.csv",
    mime="text/csv",
    key="claims-csv",
    on_click="ignore",
    type="tertiary",
    icon=":material/download:",
)
if evidence is not None:
    with st.expander(f"What is missing ({len(evidence.gaps)} sweeps)"):
        for gap in evidence.gaps:
            st.write(plain(gap.text))
            if gap.command:
                st.code(gap.command, language=None, wrap_lines=True)

keys = [claim.key for claim in CLAIMS]
key = st.radio("Claim", keys, horizontal=True, **view.one_of("claim", keys))
claim = next(one for one in CLAIMS if one.key == key)
row = verdicts.filter(claim=key).row(0, named=True)
st.header(f"{claim.key}: {claim.says}")
st.subheader(f"{MARKS.get(row['verdict'], '')} {row['verdict']} {row['where']}".strip())
st.table(
    {
        "The paper": claim.figure,
        "Statistic": claim.statistic,
        "Threshold": claim.threshold,
        "Stands for": claim.analogue,
        "Sweeps": ", ".join(claim.modes.values()) or "none",
    }
)
st.code(f"recast claims --claim {claim.key} --show settings", language=None, wrap_lines=True)
settings = found.settings.filter(claim=key)
if settings.is_empty():
    st.info("Nothing measured for this claim.")
else:
    st.dataframe(
        settings.select(*SETTINGS),
        hide_index=True,
        width="stretch",
        height=min(38 + 35 * settings.height, 420),
        key="settings",
        placeholder="-",
        column_config={
            name: st.column_config.NumberColumn(head, format="%.4g")
            if name in ("value", "low", "high", "p")
            else st.column_config.Column(head)
            for name, head in SETTINGS.items()
        },
        alt="What was measured in each setting",
    )
    for line in least_told(settings):
        st.caption(line)
sweeps = tuple(sorted(set(claim.modes.values())))
if evidence is None:
    st.caption(
        "The package ships these tables without their runs; with the runs in a store, curves and "
        "budgets of each setting stand here."
    )
elif st.toggle("Curves and budgets of each setting", **view.flag("curves")):
    runs = evidence
    for one in cached_by_store(state, f"claims {sweeps}", lambda: claim_figures(runs, sweeps)):
        figure(
            one.chart,
            one.data,
            name=one.key,
            read=plain(f"{one.note} Redraw it with {one.command}."),
        )
if not claim.modes:
    st.caption("This claim is a property of a device and has no analogue in the simulator.")

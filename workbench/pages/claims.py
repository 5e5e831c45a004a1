"""Claims: the paper's C1 to C12, what was measured, and a verdict for each."""

from __future__ import annotations

import streamlit as st

from workbench.analysis.answers import counted
from workbench.analysis.export import csv_text
from workbench.errors import UserError
from workbench.pages.address import Address
from workbench.pages.figure import answer, figure, plain
from workbench.pages.stored import cached_by_store, store_folder, store_state
from workbench.report.figures import claim_figures
from workbench.spec.sweep import sweep_names
from workbench.store.runs import Store
from workbench.studies.claims import CLAIMS, SWEEPS, Checked, check, claims_table, settings_table
from workbench.studies.evidence import Evidence, gather
from workbench.studies.measures import BASELINE, METRIC

MARKS = {
    "reproduced": ":material/check_circle:",
    "compatible": ":material/done:",
    "not reproduced": ":material/cancel:",
    "only where": ":material/contrast:",
    "inconclusive": ":material/help:",
    "shown, not judged": ":material/block:",
    "not measured": ":material/pending:",
}


def measure() -> tuple[Evidence, list[Checked]]:
    """Everything that the store says about the claims."""
    known = [name for name in SWEEPS if name in sweep_names()]
    evidence = gather(known, Store(store_folder()), {})
    return evidence, [check(claim, evidence) for claim in CLAIMS]


view = Address("claims")
st.title("Is the paper right?")
st.write(
    "Twelve claims of arXiv 2604.22169, each with a statistic and a threshold fixed before "
    "measuring. A small simulated world shows mechanisms; it does not confirm or refute figures "
    "that need a GPU cluster."
)
try:
    with st.spinner("Measuring the claims on the stored sweeps"):
        evidence, checked = cached_by_store(store_state(), "claims", measure)
except UserError as problem:
    st.error(plain(str(problem)))
    st.stop()
verdicts = claims_table(checked)
answer(counted([one.verdict for one in checked]))
if not evidence.sweeps:
    st.info(
        "No packaged sweep of the claims is in the store yet, so no testable claim is measured. "
        "`What is missing` holds the commands that run them; they can be stopped and resumed."
    )
for warning in evidence.warnings(METRIC, BASELINE):
    st.warning(plain(warning))

st.dataframe(
    verdicts.select("claim", "verdict", "says", "measured", "beside", "paper", "where"),
    hide_index=True,
    width="stretch",
    height=38 + 35 * verdicts.height,
    key="verdicts",
    placeholder="-",
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

with st.expander(f"What is missing ({len(evidence.gaps)} sweeps)"):
    for gap in evidence.gaps:
        st.write(plain(gap.text))
        if gap.command:
            st.code(gap.command, language=None, wrap_lines=True)

keys = [claim.key for claim in CLAIMS]
key = st.radio("Claim", keys, horizontal=True, **view.one_of("claim", keys))
chosen = next(one for one in checked if one.claim.key == key)
claim = chosen.claim
st.header(f"{claim.key}: {claim.says}")
st.subheader(f"{MARKS.get(chosen.verdict, '')} {chosen.verdict} {chosen.where}".strip())
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
settings = settings_table([chosen])
if settings.is_empty():
    st.info("Nothing measured for this claim.")
else:
    st.dataframe(
        settings.drop("claim"),
        hide_index=True,
        width="stretch",
        key="settings",
        placeholder="-",
        alt="What was measured in each setting",
    )
sweeps = tuple(sorted(set(claim.modes.values())))
for one in cached_by_store(
    store_state(), f"claims {sweeps}", lambda: claim_figures(evidence, sweeps)
):
    figure(
        one.chart,
        one.data,
        name=one.key,
        read=plain(f"{one.note} Redraw it with {one.command}."),
    )
if not claim.modes:
    st.caption("This claim is a property of a device and has no analogue in the simulator.")

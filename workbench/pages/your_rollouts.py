"""Your rollouts: a training log goes in; what is wrong and what to do comes out."""

from __future__ import annotations

import io
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import streamlit as st

from workbench.diagnosis.answer import DiagnosisSummary, answer, answer_of_scalars
from workbench.diagnosis.counterfactual import (
    DEFAULT,
    logged,
)
from workbench.diagnosis.diagnosis import (
    diagnose,
    over_training,
    predictions,
    regime_table,
)
from workbench.diagnosis.findings.finding import Finding
from workbench.diagnosis.findings.scalars import take_apart as scalar_run
from workbench.diagnosis.logs.groups import TEACHES
from workbench.diagnosis.logs.problems import CUT_LINE
from workbench.diagnosis.logs.scalars import Scalars
from workbench.diagnosis.savings import savings
from workbench.pages.address import Address
from workbench.pages.figure import plain
from workbench.pages.log_on_disk import asked_for, show_changes, watch
from workbench.pages.log_questions import PARTS, ShownDiagnosis, teaching_groups
from workbench.pages.log_reading import Choices, Unread, choices, columns_by_hand, read_in_turn
from workbench.pages.server_shelf import WORD, Shelf

EXAMPLE = Path(__file__).parents[1] / "example" / "rollouts.parquet"
LARGEST_MB = 50
TOTAL = 200_000_000
IN_FULL = 2  # findings; the others, less weighty, are named and unfold


class Upload(NamedTuple):
    """One uploaded file: an id that changes with its content, its name, its bytes."""

    file_id: str
    name: str
    content: Any


@st.cache_resource(show_spinner=False)
def kept_logs() -> Shelf[list[Upload]]:
    """Uploads by the word in their address, so that a page switch or a reload finds them again."""
    return Shelf(2 * TOTAL, lambda log: sum(len(one.content.getvalue()) for one in log))


@st.cache_resource(max_entries=3, show_spinner="Reading the log", scope="session")
def taken_apart(
    ids: tuple[str, ...], how: Choices, _uploads: Sequence[Upload], _files: Sequence[Path]
) -> ShownDiagnosis | Scalars | Unread:
    """Read and take apart: files on this machine, uploads, or the packaged example."""
    with tempfile.TemporaryDirectory() as folder:
        paths = list(_files)
        names = ["/".join(path.parts[-5:]) for path in paths]
        for place, upload in enumerate(_uploads):
            path = Path(folder) / str(place)
            path.write_bytes(upload.content.getvalue())
            paths.append(path)
            names.append(upload.name)
        if not paths:
            paths, names = [EXAMPLE], ["the packaged example"]
        log = read_in_turn(paths, how, names, ours=not _files)
    if isinstance(log, Scalars | Unread):
        return log
    found = diagnose(log, how.threshold)
    tensors = logged(found)
    return ShownDiagnosis(
        found,
        answer(found, DEFAULT, 0.5, tensors=tensors),
        over_training(found),
        regime_table(found),
        predictions(found),
        savings(found),
        tensors,
    )


def show_answer(said: DiagnosisSummary) -> None:
    """All of an answer."""
    st.write("  \n".join(plain(line) for line in said.read))
    show_findings(said)


def show_finding(finding: Finding) -> None:
    """What is wrong, and what to do about it."""
    text = (
        f"**{finding.name.replace('_', ' ').capitalize()}.** {plain(finding.says)}\n\n"
        f"**What to do:** {plain(finding.do)}"
    )
    if finding.level == "problem":
        st.warning(text, icon=":material/warning:")
    else:
        st.info(text, icon=":material/info:")


def show_findings(said: DiagnosisSummary) -> None:
    """What is wrong, what it would buy, and what could not be checked."""
    st.header("What is wrong?")
    st.write(plain(said.verdict))
    for finding in said.findings[:IN_FULL]:
        show_finding(finding)
    if rest := said.findings[IN_FULL:]:
        names = ", ".join(finding.name.replace("_", " ") for finding in rest)
        with st.expander(f"{len(rest)} more: {names}"):
            for finding in rest:
                show_finding(finding)
    st.header("What would it buy?")
    st.markdown("\n".join(f"- {plain(line)}" for line in said.buys))
    if said.unchecked:
        with st.expander("What could not be checked, and the column it needs"):
            lines = [
                f"- {plain(one.column)}: {plain(', '.join(one.names))}" for one in said.unchecked
            ]
            st.markdown("\n".join(lines))


view = Address("your_rollouts")
st.title("What is wrong with my run, and what would help?")
about = st.empty()  # told only while there is nothing else to read
ABOUT = (
    "Give the rollouts that your trainer logged: TRL's `completions_*.parquet`, a table of wandb, "
    "verl's `rollout_data_dir`, those of other trainers, or any table with step, prompt and "
    "reward. They are read as data and stay on this machine, in the memory of this server until it "
    "ends, you forget them, or later ones need the place. Larger logs, and those that still grow, "
    "are read from the disk: give their path."
)
word = view.text("log", longest=WORD)["key"]


def keep_upload() -> None:
    """Put what was dropped on the shelf, and its word into the address."""
    dropped = st.session_state["upload"]
    small = sum(file.size for file in dropped) <= TOTAL
    log = [Upload(file.file_id, file.name, io.BytesIO(file.getvalue())) for file in dropped]
    view.put({"log": kept_logs().put(log) if log and small else ""})


def forget_upload() -> None:
    """Take it out of the server's memory."""
    kept_logs().forget(st.session_state[word])
    view.put({"log": ""})


left, right = st.columns([3, 2])
files = left.file_uploader(
    "Files of one log",
    accept_multiple_files=True,
    max_upload_size=LARGEST_MB,
    key="upload",
    on_change=keep_upload,
)
with right:
    disk = asked_for(view)
uploads = [Upload(file.file_id, file.name, file) for file in files]
if sum(file.size for file in files) > TOTAL:
    st.error("More than 200 MB together; give fewer files, or their path.")
    st.stop()
if not files and st.session_state[word]:
    uploads = kept_logs().get(st.session_state[word]) or []
    if uploads:
        told = ", ".join(one.name for one in uploads[:3])
        left, right = st.columns([4, 1], vertical_alignment="center")
        left.caption(f"Your upload is still here: {plain(told)}.")
        right.button("Forget it", key="forget-upload", on_click=forget_upload)
    else:
        st.info("The upload of this address is no longer on this server. Drop it again.")
if uploads:
    disk = None
if disk and disk.problem:
    if disk.follow:
        watch(disk, 0.0)
    st.error(plain(f"{disk.problem}."))
    st.stop()
if not uploads and disk is None:
    view.presets({"Show me an example: a stuck TRL run": {"example": True, "path": ""}})
example = view.flag("example")
if not uploads and disk is None and not st.session_state[example["key"]]:
    about.write(ABOUT)
    st.info("Nothing to look at yet. Drop files above, name a path, or press the example.")
    st.stop()
if not uploads and disk is None:
    st.caption(
        "Example: a simulated run of 60 steps, written as TRL would have logged it. "
        "`tools/example_log.py` made it."
    )
how = choices(view)
if isinstance(how, str):
    st.error(plain(how))
    st.stop()
ids = disk.ids if disk else tuple(upload.file_id for upload in uploads)
began = time.monotonic()
said = taken_apart(ids, how, uploads, disk.files if disk else [])
if disk and disk.follow:
    watch(disk, time.monotonic() - began)
if isinstance(said, Unread):
    st.error(plain(said.reason))
    if said.columns:
        columns_by_hand(view, said.columns)
    st.stop()
if isinstance(said, Scalars):
    left, right = st.columns(2)
    used = left.number_input(
        "Rollouts per prompt (G) of this run; 0: not known",
        0,
        1024,
        **view.number("scalar_group", 0, low=0, high=1024),
    )
    prompts = right.number_input(
        "Prompts per step; 0: not known",
        0,
        1_000_000,
        help="slime counts groups of equal rewards, not all groups: its rollout_batch_size.",
        **view.number("scalar_prompts", 0, low=0, high=1_000_000),
    )
    run = scalar_run(said, used if used > 1 else None, prompts or None)
    summary = answer_of_scalars(run, 0.5)
    if disk and disk.follow:
        show_changes(disk, summary)
    show_answer(summary)
    st.stop()
found, problems = said.diagnosis, said.diagnosis.log.problems
if disk and disk.follow:
    show_changes(disk, said.answer)
st.write("  \n".join(plain(line) for line in said.answer.read))
# Of a log that grows, the last line may still be on its way.
growing = disk is not None and disk.follow and set(problems.kinds) <= {CUT_LINE}
if problems.summary() and not growing:
    st.warning(plain(f"{problems.summary()}."))
    with st.expander("What could not be read"):
        st.code("\n".join(problems.lines()), language=None, wrap_lines=True)

whole = said.regimes.row(0, named=True)
teaching = found.late_share(TEACHES)
zero = found.late_share(pl.col("regime") == "all_zero")
numbers = {"Groups of equal rewards, whole log": f"{whole['constant']:.0%}"}
if found.known:
    numbers = {
        "Groups without a hit, now": f"{zero:.0%}",
        "Groups that can teach, now": f"{teaching:.0%}",
        "Rollouts per such group": f"{found.group / teaching:,.0f}" if teaching else "none teaches",
        "Pass@1, whole log": f"{whole['pass_at_1']:.2%}",
    }
for column, (label, value) in zip(st.columns(4), numbers.items(), strict=False):
    column.metric(label, value)

show_findings(said.answer)


if not found.known:
    teaching_groups(view, said)
    st.info(plain(f"{found.rule.words[:1].upper()}{found.rule.words[1:]}."))
    st.stop()
view.draw_part(PARTS, view, said)

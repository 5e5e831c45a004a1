"""Uploads in the browser: diagnosed, kept over a reload, and never more than text."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from browsing import CHART, GOOD, Visit, nudge, upload
from planted_logs import rollouts as planted

pytestmark = pytest.mark.browser


def test_a_log_is_uploaded_and_diagnosed_and_hostile_files_stay_text(
    visit: Visit, tmp_path: Path
) -> None:
    visit.tab.on("dialog", lambda dialog: visit.complaints.append(dialog.message))
    visit.open("your_rollouts", 0)
    visit.tab.get_by_role("button", name="Show me an example").click()
    visit.tab.get_by_text("Starved.").wait_for()
    visit.settled(1)
    visit.tab.wait_for_url("**/your_rollouts?example=yes")
    text = "<img src=x onerror=alert(1)>"
    log = planted.as_jsonl(
        [{**row, "task": text, "prompt": text + row["prompt"]} for row in planted.log(steps=4)],
        tmp_path / f"{text}.jsonl",
    )
    with log.open("a") as stream:
        stream.write(f"{text}\n")
    drop = visit.tab.locator('[data-testid="stFileUploader"] input[type="file"]')
    drop.set_input_files(str(log))
    visit.tab.get_by_text("Nothing that is looked for is wrong").wait_for()
    visit.tab.get_by_text("1 of 513 rows").wait_for()
    visit.settled(1)
    visit.tab.get_by_text("Which G pays", exact=True).click()
    visit.tab.get_by_role("heading", name="What G is worth paying for?").wait_for()
    visit.settled(1)
    nudge(visit, "Learnable groups wanted", "PageUp")
    visit.tab.wait_for_url("**learnable=*")
    assert visit.tab.locator('img[src="x"]').count() == 0
    visit.healthy()
    (tmp_path / "empty.csv").write_bytes(b"")
    drop.set_input_files([str(tmp_path / "empty.csv")])
    visit.tab.get_by_text("and 1 file could not be read").wait_for()
    assert visit.complaints == []


def test_a_good_upload_is_diagnosed_and_hostile_ones_get_one_line_each(visit: Visit) -> None:
    visit.tab.on("dialog", lambda dialog: visit.complaints.append(dialog.message))
    visit.open("your_rollouts", 0)
    upload(visit, "log.csv", GOOD)
    visit.tab.locator(CHART).first.wait_for()
    visit.tab.wait_for_url("**log=*")
    visit.tab.reload()
    visit.tab.get_by_text("Your upload is still here: log.csv").wait_for()
    visit.tab.locator(CHART).first.wait_for()
    visit.healthy()
    many = b"step,prompt,completion,reward,truncated,kl,entropy\n" + b"".join(
        b"%d,%d %d,item %d,%d,%d,%d,%.2f\n"
        % (step, step, prompt, place, place + prompt + step == 3, place % 3 > 0, step, 9 / step)
        for step in range(1, 31)
        for prompt in range(8)
        for place in range(8 - prompt % 2)
    )
    visit.open("your_rollouts?part=width", 0)
    upload(visit, "many.csv", many)
    visit.tab.get_by_text(re.compile(r"^\d+ more: ")).wait_for()
    visit.settled(1)
    assert visit.length() <= 3 * 800
    evil = "<img src=x onerror=alert(1)>.csv"
    for name, content in (
        (evil, b"<script>alert(1)</script>"),
        ("cut.parquet", b"PAR1" + b"\x00" * 40),
        ("deep.json", b"[" * 100_000),
        ("text.csv", b"step,prompt,reward\n1,p,=cmd|' /C calc'!A0\n"),
    ):
        visit.open("your_rollouts", 0)
        upload(visit, name, content)
        said = visit.tab.get_by_test_id("stAlertContentError").first
        said.wait_for()
        assert "\n" not in said.inner_text().strip()
        assert visit.tab.locator("[data-testid=stMain] img").count() == 0
        assert visit.tab.get_by_test_id("stException").count() == 0
    assert visit.complaints == []

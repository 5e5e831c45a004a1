"""Claims, maps, search and report from an empty store to a file, on tiny sweeps."""

from __future__ import annotations

import io
import json
import re
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import get_args

import command_line
import polars as pl
import pytest
from markupsafe import escape
from sweeping import tiny_text

from workbench import charts
from workbench.errors import UserError
from workbench.report.figures import PARTS, Figure
from workbench.report.html import Report, export_charts, page
from workbench.spec import sweep
from workbench.spec.metrics import COMPARED
from workbench.spec.sweep import load_sweep
from workbench.store.runs import Store
from workbench.studies import phase_map as phases
from workbench.studies import search
from workbench.studies.claims import MAIN, SWEEPS
from workbench.studies.evidence import conditions, gather
from workbench.studies.questions import QUESTIONS
from workbench.studies.verdicts import Verdict

STRATEGIES = ["grpo", "recast", "repair_only", "contrast_only", "sft", "grpo_sft"]
TINY = (
    tiny_text(STRATEGIES, 5)
    + """
[tune]
lr = RATES
metric = "greedy"
extend = EXTEND
[grid]
"""
)
"""Rates are chosen in the first sweep alone: elsewhere one is enough."""
GRIDS = {
    "claims": "",
    "claims-openonerec": "train.temperature = [0.9]",
    "claims-scale": "policy.width = [4, 8]",
    "claims-scale-openonerec": "policy.width = [4, 8]\ntrain.temperature = [0.9]",
    "claims-start": "start.all_zero = [0.5, 0.55]",
    phases.SWEEP: "start.all_zero = [0.5, 0.55]",
    search.SWEEP: "world.seed = [0, 1]",
}
CHROMIUM = Path("/usr/bin/chromium")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A folder of tiny sweeps under the packaged names, and a store that all of them share."""
    folder = tmp_path_factory.mktemp("report")
    (folder / "sweeps").mkdir()
    for name, grid in GRIDS.items():
        rates, extend = ("[0.001, 0.01]", "1") if name == "claims" else ("[0.01]", "0")
        text = f'name = "{name}"\n{TINY}{grid}\n'.replace("EXTEND", extend)
        text = text.replace("RATES", rates)
        (folder / "sweeps" / f"{name}.toml").write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep, "SWEEPS", folder / "sweeps")
        yield folder


def recast(*arguments: str, store: Path) -> str:
    done = command_line.recast(*arguments, "--store", str(store))
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def filled(tiny):
    """A store in which every packaged sweep was run by the commands of this file."""
    store = tiny / "store"
    serial = ("--executor", "serial", "--format", "json")
    (tiny / "claims.json").write_text(recast("claims", *serial, store=store))
    (tiny / "map.json").write_text(recast("phase-map", *serial, store=store))
    (tiny / "search.json").write_text(recast("search", *serial, store=store))
    return store


@pytest.fixture(scope="module")
def written(tiny, filled):
    target, folder = str(tiny / "report.html"), str(tiny / "charts")
    out = recast("report", target, "--charts", folder, "--as", "svg", store=filled)
    assert "note:" not in out
    return tiny / "report.html"


def test_claims_go_from_an_empty_store_to_twelve_verdicts(tiny, filled):
    rows = json.loads((tiny / "claims.json").read_text())
    assert [row["claim"] for row in rows] == [f"C{i}" for i in range(1, 13)]
    assert {row["verdict"] for row in rows} <= set(get_args(Verdict)) - {"not measured"}
    assert rows[3]["verdict"] == "shown, not judged"
    assert "not measured" not in rows[0]["measured"]


def test_a_second_call_reads_the_same_verdicts_and_trains_nothing(tiny, filled):
    rates = Store(filled).load()["lr"].unique()
    assert len(rates) > 2  # a rate beyond the written grid was tried, and is read back
    before = sorted(path.name for path in (filled / "runs").rglob("*.parquet"))
    again = recast("claims", "--no-run", "--format", "json", store=filled)
    assert json.loads(again) == json.loads((tiny / "claims.json").read_text())
    assert sorted(path.name for path in (filled / "runs").rglob("*.parquet")) == before


def test_the_text_of_claims_names_statistic_threshold_and_cautions(filled):
    text = recast("claims", "--no-run", "--claim", "C1", store=filled)
    for word in ("C1", "paper: +9.1%", "measured:", "statistic:", "threshold:", "analogue:"):
        assert word in text
    assert "edge of its learning-rate grid" in text  # two rates: one is always on an edge
    settings = recast("claims", "--no-run", "--show", "settings", "--format", "csv", store=filled)
    columns = "claim,mode,setting,beside,value,low,high,n,p,verdict,decides,note\n"
    assert settings.startswith(columns)


def test_a_store_without_a_sweep_says_what_to_run(tiny, tmp_path):
    (tmp_path / "empty" / "runs").mkdir(parents=True)
    text = recast("claims", "--no-run", "--claim", "C9", store=tmp_path / "empty")
    assert "C9  not measured" in text
    assert "60 of 60 runs of the sweep claims are not in the store: recast sweep claims" in text


@pytest.mark.parametrize(
    ("command", "names"),
    [
        (("claims", "--claim", "C12"), ["claims-start"]),
        (("phase-map",), [phases.SWEEP]),
        (("search",), [search.SWEEP]),
    ],
)
def test_a_dry_run_says_what_is_missing_and_how_long_it_takes(
    tiny, filled, tmp_path, command, names
):
    text = recast(*command, "--dry-run", store=tmp_path / "none")
    done = recast(*command, "--dry-run", store=filled)
    for name in names:
        assert re.search(rf"^{name}: ([\d,]+) runs? in [\d,]+ cells?, \1 missing", text, re.M)
        assert re.search(rf"^{name}: .* 0 missing", done, re.M)
    assert text.count("about ") == len(names)
    assert "about " not in done
    assert not (tmp_path / "none").exists()


def test_a_cell_that_lacks_a_run_is_left_out_named_and_not_measured(tiny, filled, tmp_path):
    shutil.copytree(filled, tmp_path / "s")
    store, plan = Store(tmp_path / "s"), load_sweep("claims-start")
    (gone,) = [
        run
        for run in plan.runs()
        if (run.experiment.start.all_zero, run.strategy, run.lr, run.seed) == (0.5, "grpo", 0.01, 3)
    ]
    store.delete([gone.key])
    evidence = gather(["claims-start"], store, {})
    assert evidence.settings("claims-start") == ["all zero 0.55"]
    assert evidence.absent == {"claims-start": ("all zero 0.5",)}
    assert evidence.gaps[0].text.startswith("1 of 60 runs of the sweep claims-start")
    text = recast(
        "claims", "--no-run", "--claim", "C12", "--show", "settings", "--format", "csv",
        store=store.root,
    )  # fmt: skip
    table = pl.read_csv(io.StringIO(text))
    assert table.filter(verdict="not measured")["setting"].to_list() == ["all zero 0.5"]


def test_a_question_is_answered_from_the_store_alone(tiny, filled, tmp_path):
    before = Store(filled).files()
    assert "none can be below" in recast("questions", "tempered", store=filled)
    for name in set(QUESTIONS) - {"tempered"}:
        rows = json.loads(recast("questions", name, "--format", "json", store=filled))
        assert rows, name
    assert Store(filled).files() == before
    (tmp_path / "empty" / "runs").mkdir(parents=True)
    for arguments, message in (
        (("rate", "--setting", "task mixd"), "--setting: unknown"),
        (("rate", "--store", str(tmp_path / "empty")), "recast sweep claims --store"),
    ):
        done = command_line.recast("questions", "--store", str(filled), *arguments)
        assert done.returncode == 2
        assert message in done.stderr


def test_the_map_has_a_row_per_cell_and_metric(tiny, filled):
    rows = json.loads((tiny / "map.json").read_text())
    assert len(rows) == 2 * len(COMPARED)
    assert {row["winner"] for row in rows} == {phases.NOBODY}  # five seeds cannot be significant
    assert {row["start.all_zero"] for row in rows} == {0.5, 0.55}


def test_the_search_compares_candidates_with_both_controls_at_both_budgets(tiny, filled):
    rows = json.loads((tiny / "search.json").read_text())
    assert {row["matched"] for row in rows} == {"rollouts", "updated_rows"}
    assert {row["control"] for row in rows} == {"sft", "grpo"}
    assert not any(row["outcome"].startswith("beats") for row in rows)


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)


def test_the_report_is_one_file_that_asks_the_network_for_nothing(written):
    parsed = _Page()
    parsed.feed(written.read_text())
    named = {attributes.get("id") for _, attributes in parsed.tags}
    for tag, attributes in parsed.tags:
        assert tag not in ("link", "iframe", "img", "object", "embed"), tag
        assert not attributes.keys() & {"src", "srcset", "action"}
        target = attributes.get("href", "#")
        assert target[:1] == "#"
        assert target == "#" or target[1:] in named
    assert sum(tag == "a" for tag, _ in parsed.tags) == 4 + len(PARTS)
    policies = [a["content"] for t, a in parsed.tags if a.get("http-equiv")]
    assert policies[0].startswith("default-src 'none'")
    assert "connect-src" not in policies[0]
    assert written.stat().st_size < 3_000_000


def test_every_chart_of_the_report_has_its_data_its_command_and_alt_text(written, tiny):
    text = written.read_text()
    specs = json.loads(re.search(r'<script id="specs"[^>]*>(.*?)</script>', text, re.S)[1])
    assert len(specs) == text.count("<figure ") == text.count("<summary>Data: ") >= 15
    assert all(spec["title"] and spec["description"] for spec in specs.values())
    for command in ("recast sweep claims", "recast phase-map", "recast search"):
        assert f"<code>{command}" in text
    for key in MAIN.values():
        assert f'<figure id="{key}-1-budget"' in text


def test_the_report_says_what_was_run_and_under_which_conditions(written, filled):
    text = written.read_text()
    for heading in ("Which claims hold?", "How is each claim judged?", "What was run?", *PARTS):
        assert f"{escape(heading)}</h2>" in text
    assert "<h1>What of ReCast" in text
    assert "<strong>Of 12 claims: " in text
    shown, _, rest = text.partition("What stands beside, and what is not judged?")
    assert "control: sft" not in shown.partition("What was measured in each setting?</h2>")[2]
    assert "control: sft" in rest
    table = conditions(gather(SWEEPS, Store(filled), {}))
    assert table["sweep"].to_list() == list(SWEEPS)
    first = table.row(0, named=True)
    assert first["runs"] >= 60
    assert (first["seeds"], first["steps"], first["test_prompts"]) == ("5", "4", "16")
    assert first["rates"].startswith("0.0001 to") or first["rates"].endswith("to 0.1")
    assert re.match(r"area \d+ lowest, \d+ highest of \d+; hr_at_10 ", first["edges"])
    assert table.filter(sweep="claims-start")["settings"][0] == "all zero 0.5; all zero 0.55"


def test_many_cautions_are_all_there_and_the_first_are_in_sight():
    texts = [f"caution number {i}" for i in range(11)]
    markup = page(Report("", texts, [], []))
    shown, _, rest = markup.partition("<summary>3 more</summary>")
    assert [text in shown for text in texts] == [True] * 8 + [False] * 3
    assert all(text in rest for text in texts[8:])


def test_every_chart_of_the_report_is_exported(written, tiny):
    files = sorted((tiny / "charts").iterdir())
    assert len(files) == written.read_text().count("<figure ")
    assert all(path.read_bytes().startswith(b"<svg") for path in files)


def test_charts_are_exported_in_all_three_formats(tmp_path):
    table = pl.DataFrame({"strategy": ["grpo"], "budget": [1.0], "waiting": [1.0], "n_runs": [1]})
    figure = Figure("one", charts.waiting_curves(table, "rollouts", 0.1), table, "again")
    files = export_charts([figure], tmp_path)
    assert [path.name for path in files] == ["one.png", "one.svg", "one.pdf"]
    heads = [path.read_bytes()[:4] for path in files]
    assert heads == [b"\x89PNG", b"<svg", b"%PDF"]


def test_text_from_a_store_cannot_become_markup():
    evil = "</script><img src=x onerror=alert(1)>"
    table = pl.DataFrame({"strategy": [evil], "budget": [1.0], "waiting": [1.0], "n_runs": [1]})
    figure = Figure(evil, charts.waiting_curves(table, "rollouts", 0.1), table, evil, evil)
    parsed = _Page()
    parsed.feed(page(Report(evil, [evil], [(evil, table, evil)], [figure])))
    assert all(tag != "img" for tag, _ in parsed.tags)
    assert sum(evil in text for text in parsed.text) >= 5
    assert sum(tag == "script" for tag, _ in parsed.tags) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("out.txt",), "ends in .html"),
        (("no/such/folder/out.html",), "a folder that exists"),
        (("out.html", "--as", "png"), "--charts"),
        (("out.html", "--store", "nowhere"), "no such folder"),
        (("out.html", "--store", "."), "holds none of the packaged sweeps"),
    ],
)
def test_a_report_that_cannot_be_written_is_refused_in_one_line(
    tiny, tmp_path, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    done = command_line.recast("report", *arguments)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert message in line
    assert not (tmp_path / "out.html").exists()


def test_without_the_converter_the_hint_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    table = pl.DataFrame({"strategy": ["grpo"], "budget": [1.0], "waiting": [1.0], "n_runs": [1]})
    figure = Figure("one", charts.waiting_curves(table, "rollouts", 0.1), table, "again")
    for attempt in (
        lambda: export_charts([figure], tmp_path),
        lambda: page(Report("", [], [], [figure])),
    ):
        with pytest.raises(UserError, match="pip install vl-convert-python"):
            attempt()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.browser
def test_a_browser_draws_every_chart_without_a_request_or_an_error(written):
    if not CHROMIUM.exists() and shutil.which("chromium") is None:
        pytest.skip("chromium is not installed: apt-get install chromium to run this test")
    sync = pytest.importorskip("playwright.sync_api")
    with sync.sync_playwright() as driver:
        found = str(CHROMIUM) if CHROMIUM.exists() else shutil.which("chromium")
        browser = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        view, asked, complaints = browser.new_page(), [], []
        view.on("request", lambda request: asked.append(request.url))
        view.on("console", lambda line: complaints.append(line.text))
        view.on("pageerror", lambda error: complaints.append(str(error)))
        view.goto(written.as_uri())
        wanted = written.read_text().count("<figure")
        view.wait_for_function(f"document.querySelectorAll('figure svg.marks').length >= {wanted}")
        assert asked == [written.as_uri()]
        # Charts keep the dash out of the legend on purpose, and Vega-Lite says that it noticed.
        known = 'WARN Conflicting legend property "disable" (false and true). Using false.'
        assert [text for text in complaints if text != known] == []
        browser.close()

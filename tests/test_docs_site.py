"""`make docs`: README, docs/ and docstrings as one site that loads nothing from elsewhere."""

from __future__ import annotations

import functools
import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import recast

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site. Strict: a broken link, a missing page or a dangling reference fails."""
    out = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return out


def test_the_site_has_every_page_of_docs_and_the_readme(site):
    for page in (ROOT / "docs").glob("*.md"):
        assert (site / f"{page.stem}.html").exists(), page.name
    for name in ("index", "contributing", "changelog", "commands"):
        assert (site / f"{name}.html").exists()
    assert "recast diagnose" in (site / "commands.html").read_text(encoding="utf-8")


def test_every_name_of_the_library_has_a_place_in_the_site(site):
    text = "".join(page.read_text(encoding="utf-8") for page in (site / "api").glob("recast.*html"))
    anchors = set(re.findall(r'id="(recast[\w.]*)"', text))
    for name in recast.__all__:
        places = {anchor for anchor in anchors if anchor.rpartition(".")[2] == name}
        assert places, name


def test_examples_are_code_and_no_quotations(site):
    page = (site / "api" / "recast.structure.html").read_text(encoding="utf-8")
    assert '<span class="gp">&gt;&gt;&gt; </span>' in page
    assert "<blockquote>" not in page


def test_nothing_in_the_site_is_loaded_from_elsewhere(site):
    loads = re.compile(
        r"""<(?:script|img|iframe|source|video|audio)[^>]*\ssrc=["']?(?:https?:)?//[^"'\s>]+"""
        r"""|<link[^>]*rel=["']?(?:stylesheet|preload|icon|preconnect)[^>]*href=["']?https?://[^>]+"""
        r"""|@import[^;]*//"""
    )
    for page in site.rglob("*.html"):
        assert loads.findall(page.read_text(encoding="utf-8")) == [], page
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(?:https?:)?//", sheet.read_text(encoding="utf-8"))


@pytest.fixture
def address(site: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Nothing."""

    handler = functools.partial(Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.browser
def test_the_site_opens_and_searches_without_asking_anybody_else(address):
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed: apt-get install chromium to run this test")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tab = browser.new_page()
        asked: list[str] = []
        tab.on("request", lambda request: asked.append(request.url))
        for page in ("index", "architecture", "api/recast.loss", "performance"):
            tab.goto(f"{address}/{page}.html", wait_until="networkidle")
            assert tab.locator("h1").first.inner_text()
        tab.locator(".md-search__input").press_sequentially("structural_score")  # it hears keys
        tab.wait_for_selector(".md-search-result__item")
        browser.close()
    assert {
        url.partition("/")[0] + "//" + url.split("/")[2] for url in asked if ":" in url[:6]
    } == {address}

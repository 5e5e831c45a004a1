"""Take the pictures of `docs/images`: `make screenshots`, or with a folder and options:

python benchmarks/screenshots.py [FOLDER] [--width 768] [--dark] [--only budget]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from browser import DRAWN, ROOT, app, tab

PAGES = {
    "home": ("?step=3", 1),
    "learnability": ("learnability", 2),
    "gradient-signals": ("gradient_signals?group=0*0_0*1_0*0_0*2_0*0_0*0_0*1_0*0", 1),
    "train-live": ("train_live", 1),
    "budget": ("budget", 2),
    "sweeps": ("sweeps?view=compare&strategy_0=recast&strategy_1=sft", 1),
    "real-models": ("real_models", 2),
    "your-rollouts": ("your_rollouts?example=yes", 1),
    "claims": ("claims", 0),
}
HEIGHT = "document.querySelector('[data-testid=stMainBlockContainer]').scrollHeight"


def seeming_home(folder: Path) -> Path:
    """A folder that looks like a fresh checkout to the app, so that no path of this one shows."""
    (folder / ".streamlit").symlink_to(ROOT / ".streamlit")
    return folder


def show_whole(page: Any, charts: int) -> None:
    """Make the window as high as the page, until that stands still: components come in last."""
    seen = None
    while seen != (height := page.evaluate(HEIGHT)):
        seen = height
        page.set_viewport_size({"width": page.viewport_size["width"], "height": height + 20})
        page.wait_for_function(DRAWN, arg=charts)
        page.wait_for_function("!document.querySelector('[data-testid=stSkeleton]')")
        page.wait_for_timeout(1000)


def main() -> None:
    """Open every page with the packaged example and save it as a PNG of its whole length."""
    options = argparse.ArgumentParser()
    options.add_argument("folder", nargs="?", default=ROOT / "docs" / "images", type=Path)
    options.add_argument("--width", type=int, default=1280)
    options.add_argument("--dark", action="store_true")
    options.add_argument("--only", choices=PAGES, action="append", help="repeatable")
    chosen = options.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    with (
        TemporaryDirectory() as folder,
        app(Path("runs"), seeming_home(Path(folder))) as address,
        tab(chosen.width, "dark" if chosen.dark else "light") as page,
    ):
        for name in chosen.only or PAGES:
            path, charts = PAGES[name]
            page.set_viewport_size({"width": chosen.width, "height": 900})
            page.goto(f"{address}/{path}")
            page.wait_for_selector('[data-testid="stMain"] h1')
            page.wait_for_function(DRAWN, arg=charts)
            if name == "claims":
                page.get_by_role("heading", name="C1:").wait_for()
            show_whole(page, charts)
            if name == "train-live":
                page.get_by_role("button", name="Play", exact=True).wait_for()  # it has ended
            page.screenshot(path=chosen.folder / f"{name}.png")
            print(f"{chosen.folder / name}.png")


if __name__ == "__main__":
    main()

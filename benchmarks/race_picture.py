"""Draw the moving picture of the recorded race: `make screenshots`, or

python benchmarks/race_picture.py [FILE]
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from browser import ROOT, app, tab
from PIL import Image
from screenshots import seeming_home

FILE = ROOT / "docs" / "images" / "race.gif"
PAUSE, END = 180, 1800
"""Milliseconds of a frame, and of the last one."""
COLOURS = 64
SCRUB = """(slider, at) => {
    slider.value = String(at);
    slider.dispatchEvent(new Event('input', {bubbles: true}));
}"""


def main() -> None:
    """Scrub through every evaluation of the race and keep what is seen as frames."""
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else FILE
    frames = []
    with (
        TemporaryDirectory() as folder,
        app(Path("runs"), seeming_home(Path(folder))) as address,
        tab(1280) as page,
    ):
        page.goto(f"{address}/train_live")
        slider = page.get_by_role("slider", name="Optimizer step of the trees")
        slider.wait_for()
        page.locator("#growing svg").first.wait_for()
        bar, trees = page.locator("#growing-bar"), page.locator("#growing")
        slider.evaluate(SCRUB, 0)
        page.wait_for_timeout(500)
        for at in range(int(slider.get_attribute("max") or 0) + 1):
            slider.evaluate(SCRUB, at)
            top, below = bar.bounding_box(), trees.bounding_box()
            assert top is not None
            assert below is not None
            clip = {
                "x": top["x"] - 6,
                "y": top["y"] - 6,
                "width": top["width"] + 12,
                "height": below["y"] + below["height"] - top["y"] + 12,
            }
            picture = Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB")
            frames.append(picture.quantize(COLOURS))
    durations = [PAUSE] * (len(frames) - 1) + [END]
    frames[0].save(
        target, save_all=True, append_images=frames[1:], duration=durations, loop=0, optimize=True
    )
    print(f"{target}: {len(frames)} frames, {target.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()

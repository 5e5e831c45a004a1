"""A chart as a picture file, as it is or at the size and in the type of a paper."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, Literal

from workbench.charts.style import Chart

FONTS = {"sans": "sans-serif", "serif": "serif"}


@dataclass(frozen=True)
class PictureStyle:
    """How a downloaded picture differs from the one on the page. width, height: of the plot in
    points (1/72 inch), 0 = as on the page, for charts of one panel; size: of the type in points, 0
    = as on the page; font: a key of `FONTS`."""

    width: int = 0
    height: int = 0
    size: int = 0
    font: str = "sans"


AS_DRAWN = PictureStyle()


def picture(
    chart: Chart,
    kind: Literal["png", "svg", "pdf"],
    *,
    scale: float = 2.0,
    look: PictureStyle = AS_DRAWN,
) -> bytes:
    """The chart as PNG (scale x its size in pixels), SVG or PDF bytes.

    Raises RuntimeError, one line, when vl-convert-python is not installed.
    """
    try:
        vl_convert: Any = importlib.import_module("vl_convert")
    except ImportError:
        raise RuntimeError(
            "pictures need vl-convert-python: pip install vl-convert-python"
        ) from None
    spec = sized(chart.to_dict(), look)
    if kind == "svg":
        drawing: str = vl_convert.vegalite_to_svg(spec)
        return drawing.encode()
    if kind == "pdf":
        document: bytes = vl_convert.vegalite_to_pdf(spec)
        return document
    pixels: bytes = vl_convert.vegalite_to_png(spec, scale=scale)
    return pixels


def sized(spec: dict[str, Any], look: PictureStyle) -> dict[str, Any]:
    """A chart's specification with the look of a paper."""
    if look == AS_DRAWN:
        return spec
    config = dict(spec.get("config", {}))
    config["font"] = FONTS[look.font]
    if look.size:
        for part in ("axis", "legend", "header"):
            type_ = {"labelFontSize": look.size, "titleFontSize": look.size}
            config[part] = dict(config.get(part, {})) | type_
        config["title"] = dict(config.get("title", {})) | {"fontSize": look.size + 1}
        config["text"] = dict(config.get("text", {})) | {"fontSize": look.size}
    sides = {name: side for name in ("width", "height") if (side := getattr(look, name))}
    panels = any(name in spec for name in ("facet", "hconcat", "vconcat", "concat"))
    return spec | {"config": config} | ({} if panels else sides)

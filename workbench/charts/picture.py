"""A chart as a picture file."""

from __future__ import annotations

import importlib
from typing import Any, Literal

from workbench.charts.style import Chart


def picture(chart: Chart, kind: Literal["png", "svg", "pdf"], *, scale: float = 2.0) -> bytes:
    """The chart as PNG (scale x its size in pixels), SVG or PDF bytes.

    Raises RuntimeError, one line, when vl-convert-python is not installed.
    """
    try:
        vl_convert: Any = importlib.import_module("vl_convert")
    except ImportError:
        raise RuntimeError(
            "pictures need vl-convert-python: pip install vl-convert-python"
        ) from None
    spec: dict[str, Any] = chart.to_dict()
    if kind == "svg":
        drawing: str = vl_convert.vegalite_to_svg(spec)
        return drawing.encode()
    if kind == "pdf":
        document: bytes = vl_convert.vegalite_to_pdf(spec)
        return document
    pixels: bytes = vl_convert.vegalite_to_png(spec, scale=scale)
    return pixels

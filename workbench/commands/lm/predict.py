"""`recast lm predict`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from workbench.commands.bounds import BATCH
from workbench.commands.lm.session import (
    CODEBOOK,
    DATA,
    category,
    on_device,
    one_line,
    reads_models,
)
from workbench.commands.output import FORMAT
from workbench.commands.predict_case import (
    CaseQuestion,
    ask,
    ask_model,
    case_options,
    hold_against,
    results_of,
)

if TYPE_CHECKING:
    from recast.lm.device import Placement
    from recast.lm.pretrained import ModelReading

THEORY, DISTILLED = "theory", "replay_mlp_distilled"


@click.command()
@DATA
@CODEBOOK
@click.option(
    "--start", required=True, help="Your model: a folder or hub name, with or without recast.json."
)
@click.option(
    "--rung",
    type=click.Choice([THEORY, DISTILLED]),
    default=THEORY,
    show_default=True,
    help="theory takes the model's hits; the other trains a small policy that begins as its copy.",
)
@click.option("--group", type=BATCH, default=32, show_default=True, help="Rollouts per prompt.")
@case_options
@on_device
@reads_models
@FORMAT
def predict(
    folder: Path,
    codebook: int | None,
    start: str,
    rung: str,
    metric: str,
    names: tuple[str, ...],
    group: int,
    seeds: int,
    out: Path,
    followed: Path | None,
    time_only: bool,
    style: str,
    placement: Placement,
    reading: ModelReading,
) -> None:
    """Which strategy would win from this very model, before it is trained?

    Columns: docs/columns.md, those of `recast predict --data`.
    """
    from workbench.studies.prediction.language_models import Given

    with one_line("transformers", "safetensors"):
        model = Given(start, 0, placement, reading, trained=False)
        asked = CaseQuestion(
            names, None, None, group, seeds, out, time_only, style, category(), codebook
        )
        results = results_of(followed, metric)
        if rung == THEORY:
            found = ask_model(asked, folder, model, metric)
        else:
            found = ask(asked, (folder,), None, rung, metric, model)
        if results is not None and found is not None:
            hold_against(found, results, style)

"""`recast lm`: real language models on semantic IDs. Needs the optional extra `[lm]` to train."""

from __future__ import annotations

import click

from workbench.commands.lm.data import data
from workbench.commands.lm.efficiency import efficiency
from workbench.commands.lm.evaluate import evaluate
from workbench.commands.lm.predict import predict
from workbench.commands.lm.rl import rl
from workbench.commands.lm.sft import sft
from workbench.commands.lm.study import study


@click.group("lm")
def lm() -> None:
    """Real causal language models: check data, train, evaluate, measure."""


for command in (data, sft, rl, evaluate, efficiency, study, predict):
    lm.add_command(command)

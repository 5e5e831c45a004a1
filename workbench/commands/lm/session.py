"""What the `lm` commands share: one-line errors, quiet libraries, options."""

from __future__ import annotations

import functools
import importlib
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from recast.lm.optional_extra import LMError
from workbench.commands.bounds import BATCH, CODES, FEW, RANK, WHOLE
from workbench.errors import UserError
from workbench.spec.limits import are_lifted

if TYPE_CHECKING:
    from recast.lm.checkpoint import Checkpoint
    from recast.lm.dataset import LMData
    from recast.lm.pretrained import ModelReading

CODEBOOK = click.option(
    "--codebook",
    type=click.IntRange(1, CODES),
    default=None,
    help="Codes per level. Default: 256 (RecIF: 8192).",
)
LORA = click.option(
    "--lora", type=click.IntRange(1, RANK), default=None, help="Train LoRA adapters of this rank."
)
SEARCH = click.option("--search", type=click.Choice(["sample", "beam"]), default="sample")
SCHEDULE = click.option(
    "--schedule",
    type=click.Choice(["constant", "linear"]),
    default="constant",
    show_default=True,
    help="Of the learning rate: constant, or falling linearly to 0.",
)
ROLLOUTS = 262_144
"""Of a step, drawn together."""
_CATEGORY = "recast.category"


def _keep_category(context: click.Context, _: click.Parameter, value: str | None) -> None:
    context.meta[_CATEGORY] = value


def DATA(command: Callable[..., None]) -> Callable[..., None]:  # beside CODEBOOK
    """The data folder, and which category of it."""
    category = click.option(
        "--category",
        expose_value=False,
        callback=_keep_category,
        help="Which one, where DIR holds several (the start of the files' names).",
    )
    folder = click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
    return folder(category(command))


def BATCHES(command: Callable[..., None]) -> Callable[..., None]:  # beside DATA
    """How many prompts a step draws, how many rollouts each, and how many rows a pass holds."""
    rows = click.option(
        "--micro-rows", type=click.IntRange(1, WHOLE), default=1024, show_default=True
    )
    group = click.option("--group", type=BATCH, default=32, show_default=True)
    batch = click.option("--batch", type=BATCH, default=32, show_default=True)
    return batch(group(rows(command)))


def category() -> str | None:
    """The category that the command at hand was given."""
    chosen: str | None = click.get_current_context().meta.get(_CATEGORY)
    return chosen


@contextmanager
def one_line(*packages: str) -> Iterator[None]:
    """Import the optional packages or say how to get them; turn what a user can put right into one
    line. Raises UserError."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # a hub out of reach is one line of ours
    try:
        from recast.lm.optional_extra import require

        for package in packages:
            require(package)
        if "transformers" in packages:
            logging = importlib.import_module("transformers.utils.logging")
            logging.disable_progress_bar()
        with warnings.catch_warnings():
            # What libraries say to each other of names that a later release will drop.
            warnings.simplefilter("ignore", FutureWarning)
            yield
    except MemoryError:
        raise UserError("too little memory; lower --batch, --group or --micro-rows") from None
    except RuntimeError as problem:
        # torch raises a bare RuntimeError when an allocation fails on the CPU.
        if "allocate memory" not in str(problem) and "out of memory" not in str(problem):
            raise
        raise UserError("too little memory; lower --batch, --group or --micro-rows") from None
    except LMError as problem:
        raise UserError(str(problem)) from None


def _one_process() -> None:
    """Raise UserError, one line, where a launcher started several: each would train alone."""
    count = os.environ.get("WORLD_SIZE", "1")
    if "LOCAL_RANK" in os.environ and count != "1":
        raise UserError(
            f"started {count} times by torchrun or accelerate, and `recast lm` is one process; "
            "start it by itself, or take the strategy to several processes inside TRL "
            "(docs/adapters.md)"
        )


def on_device(command: Callable[..., None]) -> Callable[..., None]:
    """Options that say where a command computes; it gets them as one `placement`."""

    @click.option(
        "--device",
        default="auto",
        show_default=True,
        help="auto (a GPU where there is one), cpu, cuda or cuda:1.",
    )
    @click.option(
        "--dtype",
        type=click.Choice(["float32", "bfloat16"]),
        default="float32",
        show_default=True,
        help="Of the weights; bfloat16 trains through float32 copies.",
    )
    @click.option(
        "--checkpointing",
        is_flag=True,
        help="Recompute activations in the backward pass: less memory, more time.",
    )
    @click.option(
        "--attention",
        type=click.Choice(["sdpa", "eager"]),
        default="sdpa",
        show_default=True,
        help="Attention kernels: fused (with flash attention where it fits), or plain.",
    )
    @functools.wraps(command)
    def wrapped(
        *args: Any, device: str, dtype: str, checkpointing: bool, attention: Any, **kwargs: Any
    ) -> None:
        _one_process()
        with one_line("transformers"):
            from recast.lm.device import described, place

            placement = place(device, dtype, checkpointing, attention)
            idle = device == "cpu" and place().device.type == "cuda"
        if placement.device.type != "cpu":
            click.echo(f"device: {described(placement.device)}, {dtype}", err=True)
        elif idle:
            click.echo("device: cpu, as asked for; a GPU is idle beside it", err=True)
        command(*args, placement=placement, **kwargs)

    return wrapped


def reads_models(command: Callable[..., None]) -> Callable[..., None]:
    """Options that say how a model without `recast.json` is read; it gets them as one `reading`."""

    @click.option(
        "--prompt",
        default="plain",
        show_default=True,
        help="plain, minionerec (as its RL asks), minionerec_sft, minionerec_eval, or a text with "
        "{history} in it.",
    )
    @click.option("--chat", is_flag=True, help="Put the prompt into the model's chat template.")
    @click.option("--no-wrap", is_flag=True, help="Leave out tokens around items (<|sid_begin|>).")
    @click.option("--recent", type=click.IntRange(1, FEW), default=10, help="Items of a history.")
    @click.option("--trust-remote-code", is_flag=True, help="Run code that comes with the model.")
    @functools.wraps(command)
    def wrapped(
        *args: Any,
        prompt: str,
        chat: bool,
        no_wrap: bool,
        recent: int,
        trust_remote_code: bool,
        **kwargs: Any,
    ) -> None:
        with one_line("transformers"):
            from recast.lm.pretrained import ModelReading
            from recast.lm.vocabulary import Wording

            wording = Wording(prompt, chat, not no_wrap, recent)
            wording.parts()
            reading = ModelReading(wording, trust_remote_code)
        command(*args, reading=reading, **kwargs)

    return wrapped


def check_rollouts(batch: int, group: int) -> None:
    """Raise UserError, one line, for a step of too many rollouts, unless limits are lifted."""
    if batch * group > ROLLOUTS and not are_lifted():
        raise UserError(
            f"--batch {batch} x --group {group}: {batch * group:,} rollouts per step; expected at "
            f"most {ROLLOUTS:,}; `recast --no-limits ...` starts it all the same"
        )


def show_start(start: Checkpoint, data: LMData, reading: ModelReading) -> None:
    """Say on stderr, before anything is trained, how a foreign model spells items, and that a
    checkpoint of this project keeps the prompt that it was trained with."""
    from recast.lm.pretrained import AS_IT_IS, example

    if "spelling" in start.meta:
        size = f"{data.depth} levels, {len(data.sids):,} semantic IDs"
        click.echo(f"{start.meta['base']}: {start.meta['spelling']}; {size}", err=True)
        click.echo(f"a prompt: {example(start, data)!r}", err=True)
    elif reading.wording != AS_IT_IS.wording:
        click.echo(
            "note: this checkpoint keeps the prompt that it was trained with; --prompt, --chat, "
            "--no-wrap and --recent change nothing",
            err=True,
        )

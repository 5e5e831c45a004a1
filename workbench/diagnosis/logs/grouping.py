"""Which rollouts are one group, where ids, prompts, files and steps do not say it plainly.

Every rule needs the sizes to come out even: a split or a merge that does not give the log's usual
size is not made, so that a trainer's mistake in grouping stays visible.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from workbench.diagnosis.logs.evaluation_rows import training_rows

ENOUGH = 20
"""Groups of a log from which on prompts without ids may be pieced together."""

MOSTLY = 0.9
"""Share of the groups concerned whose size must come out right."""


def group(
    table: pl.DataFrame, ordered: bool, folders: Sequence[int]
) -> tuple[pl.DataFrame, list[str]]:
    """The table with a key for every group, in the log's order, and what was decided, a line each.

    table: as `Reader.frame` gives; ordered: the rollouts of a group stand together; folders: which
    folder each source (a file) is in.
    """
    notes: list[str] = []
    table = table if table["order"].is_sorted() else table.sort("order")
    for rule in (training_rows, _by_id, _by_task):
        table, said = rule(table)
        notes += said
    for decide in (
        lambda one: _by_sight(one, "target", "several ground truths"),
        lambda one: _by_sight(one, "image", "several images"),
        _by_attempt,
        lambda one: _by_file(one, folders),
        _over_steps,
    ):
        table, said = decide(table)
        notes += said
    if ordered:
        table = _in_a_row(table)
    else:
        for divide in (_apart, _twice_over_files):
            table, said = divide(table)
            notes += said
    for tell in (_answers, _beams):
        table, said = tell(table)
        notes += said
    return table, notes


def _by_id(table: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
    """Ids of rollouts or of their outputs become ids of groups: `<sample>_<rollout>_<output>`, as
    verl writes them, or `<sample>_<rollout>`; of a rollout's outputs the last one counts.

    Ids that come twice are ids of groups as they are.
    """
    own = pl.when(pl.col("uid").is_not_null()).then(pl.col("uid")).otherwise(pl.col("prompt"))
    plain = table.with_columns(key=pl.struct("step", own.alias("own")).hash())
    if not names_rows(table):
        return plain, []
    if table["sample"].null_count() == 0 and _one_prompt(table, "sample", "session"):
        turns = table.height
        # From here on the id is the group's: its rollouts may stand at two steps.
        table = table.with_columns(key=pl.struct("step", "sample").hash(), uid=pl.col("sample"))
        last = pl.col("turn") == pl.col("turn").max().over("step", "session")
        table = table.filter(last)
        left = turns - table.height
        words = f"{left:,} rows are earlier outputs of a rollout: the last output counts"
        return table, [words] * bool(left)
    if table["session"].null_count() == 0 and _one_prompt(table, "session", ""):
        own = pl.col("session")
        return table.with_columns(key=pl.struct("step", "session").hash(), uid=own), [
            "ids are of rollouts: their last number is left out to tell groups"
        ]
    return plain, []


def names_rows(table: pl.DataFrame) -> bool:
    """Whether ids are of rollouts or of their outputs: all rows have one, hardly any twice."""
    if "uid" not in table.columns or not table.height or table["uid"].null_count():
        return False
    once = pl.struct("step", "uid").n_unique()
    return bool(table.select(once).item() >= 0.99 * table.height)


def _by_task(table: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
    """Where every rollout has a prompt of its own (agents with a memory, times in prompts), those
    of one task are a group, if these come out even."""
    if table["uid"].count() or table["asked"].null_count():
        return table, []
    alone = table.group_by("key").len()["len"]
    sizes = table.group_by("step", "asked").len()["len"]
    usual = _usual(sizes)
    if _share(alone == 1) < MOSTLY or usual < 2 or _share(sizes == usual) < MOSTLY:
        return table, []
    words = "every rollout has a prompt of its own: those of one task are a group"
    return table.with_columns(key=pl.struct("step", "asked").hash()), [words]


def _one_prompt(table: pl.DataFrame, name: str, rollout: str) -> bool:
    """Whether each id stands for one prompt; rollout: the id of a rollout, whose first row says the
    prompt."""
    first = table
    if rollout:
        first = table.filter(pl.col("turn") == pl.col("turn").min().over("step", rollout))
    each = first.group_by("step", name).agg(prompts=pl.col("prompt").n_unique())
    return _share(each["prompts"] == 1) >= MOSTLY


def _usual(sizes: pl.Series) -> int:
    found = sizes.mode().max()
    return int(found) if isinstance(found, int) else 0


def _share(those: pl.Series) -> float:
    return int(those.sum()) / max(1, len(those))


def _by_sight(table: pl.DataFrame, name: str, what: str) -> tuple[pl.DataFrame, list[str]]:
    """Prompts of equal text and different ground truths, or images, are different prompts.

    name: target or image."""
    if table["uid"].count() or table[name].null_count():
        return table, []
    pieces = table.group_by("key", name).agg(size=pl.len())
    several = pieces.filter(pl.col("key").is_duplicated())
    if several.is_empty():
        return table, []
    usual = _usual(pieces["size"])
    even = _share(several["size"] % usual == 0) if usual > 1 else 0.0
    if even < MOSTLY or _compared(table, several["key"], name):
        return table, []
    count = several["key"].n_unique()
    return table.with_columns(key=pl.struct("key", name).hash()), [
        f"{count:,} prompts have equal text and {what}: told apart by those"
    ]


def _compared(table: pl.DataFrame, keys: pl.Series, name: str) -> bool:
    """Whether the logged advantages sum to 0 over these groups, but not over their parts of one
    target: the trainer did compare them."""
    return _sums_to_nothing(table.filter(pl.col("key").is_in(keys.unique().to_list())), name)


def _sums_to_nothing(mine: pl.DataFrame, part: str) -> bool:
    """Whether logged advantages sum to 0 over groups, but not over their parts."""
    mine = mine.drop_nulls("advantage")
    if mine.is_empty():
        return False
    level = pl.col("advantage").mean().abs() < 1e-3
    whole = _share(mine.group_by("key").agg(zero=level)["zero"])
    return whole > MOSTLY > 2 * _share(mine.group_by("key", part).agg(zero=level)["zero"])


def _by_attempt(table: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
    """Steps that come again further down in a file, whole groups each time (a run that went on from
    a checkpoint), are batches of their own."""
    back = (pl.col("step").diff() < 0).fill_null(False).cum_sum().over("source")
    table = table.with_columns(attempt=back.cast(pl.Int32))
    # Steps that go to and fro are those of workers, not of a run that began again; those that
    # begin from the first one each time are counted within epochs.
    many = int(table["attempt"].max() or 0)  # type: ignore[arg-type]
    epochs = many > 0 and _from_the_first(table)
    if not many or not (epochs or many <= max(3, table["step"].n_unique() // 10)):
        return table.drop("attempt"), []
    pieces = table.group_by("key", "source", "attempt").agg(
        size=pl.len(), step=pl.col("step").first()
    )
    several = pieces.filter(pl.struct("key", "source").is_duplicated())
    usual = _usual(pieces["size"])
    few = pieces.height < ENOUGH or usual < 2
    if few or several.is_empty() or _share(several["size"] == usual) < MOSTLY:
        return table.drop("attempt"), []
    key = pl.when(pl.col("attempt") > 0).then(pl.struct("key", "attempt").hash())
    table = table.with_columns(key=key.otherwise("key"))
    if epochs and many > 1:
        span = pl.col("step").max() - pl.col("step").min() + 1
        table = table.with_columns(step=pl.col("step") + pl.col("attempt").cast(pl.Int64) * span)
        words = f"steps begin again {many} times (epochs?): they are counted on"
        return table.drop("attempt"), [words]
    return table.drop("attempt"), [
        f"{several['step'].n_unique():,} steps come again in one file (a resumed run?): their "
        "groups are kept apart"
    ]


def _from_the_first(table: pl.DataFrame) -> bool:
    """Whether every attempt in one file begins at the first step and has nearly all of them."""
    if table["source"].n_unique() > 1:
        return False
    each = table.group_by("attempt").agg(
        least=pl.col("step").min(), most=pl.col("step").max(), many=pl.col("step").n_unique()
    )
    total = table["step"].n_unique()
    whole = each.filter(pl.col("attempt") < pl.col("attempt").max())
    return total > 1 and each["least"].n_unique() == 1 and bool((whole["many"] > 0.9 * total).all())


def _by_file(table: pl.DataFrame, folders: Sequence[int]) -> tuple[pl.DataFrame, list[str]]:
    """A step that two files hold, whole groups in each (a resumed run), is two batches."""
    if table["source"].n_unique() < 2:
        return table, []
    pieces = table.group_by("key", "source").agg(size=pl.len(), step=pl.col("step").first())
    several = pieces.filter(pl.col("key").is_duplicated())
    if several.is_empty():
        return table, []
    alone = pieces.filter(~pl.col("key").is_duplicated())
    place = pl.Series([folders[int(one)] for one in several["source"]])
    here = (
        several.with_columns(place=place).group_by("key").agg(one=pl.col("place").n_unique() == 1)
    )
    if _share(here["one"]) >= MOSTLY and alone.height < 0.1 * pieces.height:
        return table, []
    usual = _usual(alone["size"] if alone.height else pieces["size"])
    if usual < 2 or _share(several["size"] == usual) < MOSTLY:
        return table, []
    steps = several["step"].n_unique()
    return table.with_columns(key=pl.struct("key", "source").hash()), [
        f"{steps:,} steps are in several files (a resumed run?): their groups are kept apart"
    ]


def _over_steps(table: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
    """Two parts of a group that stand at steps one after the other are one group."""
    own = pl.coalesce("uid", "prompt")
    steps = table["step"].unique().sort()
    if len(steps) < 2:
        return table, []
    place = dict(zip(steps.to_list(), range(len(steps)), strict=True))
    parts = (
        table.group_by(own.alias("own"), "key")
        .agg(size=pl.len(), step=pl.col("step").first())
        .with_columns(place=pl.col("step").replace_strict(place, return_dtype=pl.Int64))
    )
    totals = parts.group_by("own").agg(
        pl.len(),
        whole=pl.col("size").sum(),
        first=pl.col("place").min(),
        last=pl.col("place").max(),
    )
    near = pl.col("last") - pl.col("first") == 1
    two = totals.filter((pl.col("len") == 2) & near)
    apart = totals.filter((pl.col("len") > 1) & ~((pl.col("len") == 2) & near))
    if two.is_empty() or apart.height > 0.01 * totals.height:
        return table, []
    usual = _usual(totals["whole"])
    whole_parts = _share(parts["size"] == _usual(parts["size"]))
    if _usual(parts["size"]) < usual and (table["uid"].null_count() or whole_parts >= 0.5):
        # Most parts are of one size: those are the groups, logged at one step after the other.
        return table, []
    broken = parts.join(two.filter(pl.col("whole") == usual), on="own", how="semi")
    broken = broken.filter(pl.col("size") < usual)
    if broken.is_empty():
        return table, []
    first = (
        broken.sort("place")
        .group_by("own")
        .agg(whole_key=pl.col("key").first(), whole_step=pl.col("step").first())
    )
    to = broken.select("own", "key").join(first, on="own").drop("own")
    table = (
        table.join(to, on="key", how="left", maintain_order="left")
        .with_columns(key=pl.coalesce("whole_key", "key"), step=pl.coalesce("whole_step", "step"))
        .drop("whole_key", "whole_step")
    )
    return table, [f"{first.height:,} groups stand at two steps in a row: counted at the first"]


def _answers(table: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
    """A ground truth that differs inside most groups of one prompt, sizes even, is none where no
    answer is logged or where the best paid rollouts have the same: a column called so (`answer`)
    holds what the rollouts answered."""
    if table["uid"].count() or not table["target"].count() or (table["depth"] > 1).any():
        return table, []
    best = (pl.col("named") == pl.col("named").max()) & (pl.col("named") > pl.col("named").min())
    top = (
        table.filter(best.over("key"))
        .group_by("key")
        .agg(alone=pl.col("target").n_unique() == 1, many=pl.len())
    )
    top = top.filter(pl.col("many") > 1)
    if table["prediction"].count() and (top.height < ENOUGH or _share(top["alone"]) < MOSTLY):
        return table, []
    groups = table.group_by("key").agg(several=pl.col("target").n_unique() > 1, size=pl.len())
    groups = groups.filter(pl.col("size") > 1)
    usual = _usual(groups["size"])
    if groups.height < ENOUGH or _share(groups["several"]) < 0.5:
        return table, []
    if _share(groups["size"] == usual) < MOSTLY:
        return table, []
    words = "ground truths differ between rollouts of one prompt: they are read as their answers"
    said = pl.coalesce("prediction", "target")
    nothing = {name: pl.lit(None, table.schema[name]) for name in ("target", "matched", "depth")}
    return table.with_columns(prediction=said, **nothing), [words]


def _beams(table: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
    """Ranks that repeat inside groups are of workers, not of beams."""
    if not table["beam_rank"].count():
        return table, []
    groups = table.group_by("key").agg(
        alone=pl.col("beam_rank").n_unique() == pl.len(), size=pl.len()
    )
    several = groups.filter(pl.col("size") > 1)
    if several.is_empty() or _share(several["alone"]) >= 0.5:
        return table, []
    return table.with_columns(beam_rank=pl.lit(None, pl.Int32)), [
        "ranks repeat inside groups, so they are not read as those of beams"
    ]


def _apart(table: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
    """Without ids, a prompt whose rows come in runs of the usual size, or of a multiple of it, is
    that many groups, where the rollouts of nearly all others stand together."""
    if table["uid"].count():
        return table, []
    new = (pl.col("key") != pl.col("key").shift()).fill_null(True)
    runs = table.with_columns(run=new.cum_sum())
    usual = _usual(runs.group_by("run").len()["len"])
    if usual < 2:
        return table, []
    runs = runs.with_columns(run=pl.struct("run", pl.int_range(pl.len()).over("run") // usual))
    pieces = runs.group_by("key", "run").agg(size=pl.len())
    several = pieces.filter(pl.col("key").is_duplicated())
    groups, keys = pieces["key"].n_unique(), several["key"].unique().to_list()
    if groups < ENOUGH or not keys or len(keys) > 0.1 * groups:
        return table, []
    if _share(several["size"] == usual) < MOSTLY:
        return table, []
    if _sums_to_nothing(runs.filter(pl.col("key").is_in(keys)), "run"):
        return table, []
    key = pl.when(pl.col("key").is_in(keys)).then(pl.struct("key", "run").hash())
    words = f"{len(keys):,} prompts come again in a step, rollouts standing together: each time is "
    return runs.with_columns(key=key.otherwise("key")).drop("run"), [words + "a group"]


def _twice_over_files(table: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
    """Where workers' files share every group, a prompt that came twice in a step has a multiple of
    the usual rollouts, and that many shares in each file, one after the other."""
    if table["uid"].count() or table["source"].n_unique() < 2:
        return table, []
    groups = table.group_by("key").agg(size=pl.len(), files=pl.col("source").n_unique())
    usual = _usual(groups["size"])
    times = pl.col("size") // usual if usual > 1 else pl.lit(0)
    several = groups.filter((pl.col("size") % usual == 0) & (times > 1)) if usual > 1 else groups
    shared = usual > 1 and _share(groups["files"] > 1) >= MOSTLY
    if not shared or several.is_empty() or several.height > 0.1 * groups.height:
        return table, []
    several = several.select("key", times=times)
    rows = table.join(several, on="key", how="left", maintain_order="left")
    share = pl.len().over("key", "source")
    place = pl.int_range(pl.len()).over("key", "source") * pl.col("times") // share
    uneven = rows.filter(pl.col("times").is_not_null() & (share % pl.col("times") != 0))
    if uneven.height:
        return table, []
    key = pl.when(place > 0).then(pl.struct("key", place.alias("place")).hash())
    words = f"{several.height:,} prompts come again in a step, a share in each file: each time is "
    rows = rows.with_columns(key=key.otherwise("key")).drop("times")
    return rows, [words + "a group"]


def _in_a_row(table: pl.DataFrame) -> pl.DataFrame:
    """A multiple of the usual size, rollouts standing together, is that many groups of one
    prompt."""
    size = pl.len().over("key")
    usual = _usual(table.group_by("key").len()["len"])
    if usual < 2 or table["uid"].count():
        return table
    place = pl.int_range(pl.len()).over("key")
    several = (size % usual == 0) & (size > usual)
    part = pl.when(several).then(place // usual).otherwise(0)
    return (
        table.with_columns(part=part)
        .with_columns(
            key=pl.when(pl.col("part") > 0).then(pl.struct("key", "part").hash()).otherwise("key")
        )
        .drop("part")
    )


__all__ = ["group"]

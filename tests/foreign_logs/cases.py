"""What a stranger's log is made of: prompts, answers, files of trainers, and the truth beside them.

What is true of a log is counted from what was sampled for it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import stdev
from typing import Any

import polars as pl

from recast import REGIMES

Row = dict[str, Any]
Hits = list[bool]
Group = Callable[[random.Random, int, int, Hits], list[Row]]
WORDS = [
    "so",
    "then",
    "we",
    "add",
    "divide",
    "count",
    "check",
    "carry",
    "over",
    "total",
    "again",
    "step",
    "first",
    "next",
    "now",
    "each",
]


@dataclass
class Truth:
    """What was sampled, and what a right answer says.

    must: findings that have to be there (of a tuple one); never: those that must not be a problem;
    clean: no problem at all; counted: whether hits can be counted by whoever reads the log; size:
    the usual G where it is not that of `rows`; refused: words of a refusal; says: words of the
    screen; args: options of the command; path: what is given.
    """

    rows: list[tuple[Any, bool, float]] = field(default_factory=list)
    must: tuple[str | tuple[str, ...], ...] = ()
    never: tuple[str, ...] = ()
    clean: bool = False
    counted: bool = True
    refused: tuple[str, ...] = ()
    says: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    path: str = "log"

    def add(self, group: Any, hit: bool, reward: float) -> None:
        """One rollout."""
        self.rows.append((str(group), hit, reward))

    def counts(self) -> Row | None:
        """Groups, usual size, regimes and groups of equal rewards; None of a log of scalars."""
        if not self.rows:
            return None
        table = pl.DataFrame(self.rows, schema=["group", "hit", "reward"], orient="row")
        groups = table.group_by("group").agg(
            size=pl.len(),
            hits=pl.col("hit").sum(),
            spread=pl.col("reward").max() - pl.col("reward").min(),
        )
        found = {"groups": groups.height, "size": int(groups["size"].mode().max())}  # type: ignore[arg-type]
        found["constant"] = int((groups["spread"] <= 1e-6).sum())
        if self.counted:
            kind = (
                pl.when(pl.col("hits") == 0).then(0).when(pl.col("hits") == pl.col("size")).then(3)
            ).when(pl.col("hits") == 1).then(1).otherwise(2)  # fmt: skip
            at = groups.select(kind.alias("k"))["k"]
            found |= {name: int((at == place).sum()) for place, name in enumerate(REGIMES)}
        return found


Case = Callable[[Path], Truth]
CASES: dict[str, Case] = {}


def case(make: Case) -> Case:
    """Register a log; `make` writes below a folder and returns what is true of it."""
    CASES[make.__name__] = make
    return make


def rng(name: str) -> random.Random:
    return random.Random(f"stranger/{name}")


def batches(
    r: random.Random,
    steps: int = 30,
    batch: int = 6,
    group: int = 8,
    mean: float | Callable[[float], float] = 0.45,
    spread: float = 2.0,
) -> Iterator[tuple[int, int, str, int, Hits]]:
    """step, place in the batch, prompt, its answer, and which rollouts are right.

    mean: share of hits, or a function of how far the run is; spread: of prompts, small is wide.
    """
    for step in range(1, steps + 1):
        for place in range(batch):
            a, b, c = r.randint(12, 99), r.randint(12, 99), r.randint(2, 9)
            at = mean(step / steps) if callable(mean) else mean
            at = min(max(at, 1e-12), 1 - 1e-3)
            p = r.betavariate(at * spread, (1 - at) * spread) if at > 1e-9 else 0.0
            hits = [r.random() < p for _ in range(group)]
            prompt = f"Case {step}.{place}: {a} bolts and {b} more, shared {c} ways. What is left?"
            yield step, place, prompt, (a + b) % c, hits


def told(r: random.Random, answer: int, words: int = 0) -> str:
    """An answer with its working; it ends."""
    many = words or r.randint(14, 60)
    said = " ".join(r.choice(WORDS) for _ in range(many))
    return f"{said} {r.randint(0, 10**9)}. Answer: {answer}"


def answer_of(r: random.Random, answer: int, hit: bool) -> str:
    return told(r, answer if hit else answer + r.randint(1, 5))


def grpo(rewards: Sequence[float], eps: float = 1e-4) -> list[float]:
    mean = sum(rewards) / len(rewards)
    spread = stdev(rewards) if len(rewards) > 1 else 0.0
    return [(x - mean) / (spread + eps) for x in rewards]


def jsonl(path: Path, rows: Sequence[Row]) -> None:
    """Append rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as stream:
        stream.writelines(json.dumps(row, default=str) + "\n" for row in rows)


def parquet(folder: Path, step: int, rows: Sequence[Row]) -> None:
    """TRL's completions of one step."""
    place = folder / "completions"
    place.mkdir(parents=True, exist_ok=True)
    table = pl.DataFrame(list(rows), infer_schema_length=None)
    table.write_parquet(place / f"completions_{step:05d}.parquet")


def rise(t: float) -> float:
    """The share of hits of a run that learns."""
    return 0.3 + 0.3 * t


def table(
    folder: Path, name: str, group: Group, truth: Truth | None = None, **options: Any
) -> Truth:
    """A hand-written table. group: (chance, step, place, hits) to what each row has besides; its
    reward is the truth's."""
    r, truth = rng(name), truth or Truth()
    held: list[Row] = []
    for step, place, prompt, answer, hits in batches(r, **options):
        for hit, more in zip(hits, group(r, step, place, hits), strict=True):
            row = {"step": step, "prompt": prompt, "reward": float(hit),
                   "response": answer_of(r, answer, hit), **more}  # fmt: skip
            held.append(row)
            truth.add((step, place), hit, row["reward"])
    jsonl(folder / "log" / "rollouts.jsonl", held)
    return truth

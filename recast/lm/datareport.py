"""What is in a data folder: sizes, collisions, leakage between splits, the popularity baseline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from recast.items import DataFolder, Interaction

ReportRow = dict[str, str | float | int]


def describe(data: DataFolder) -> list[ReportRow]:
    """Rows with `quantity`, `value` and `meaning`; shares lie in [0, 1]."""
    splits = {"train": data.train, "valid": data.valid, "test": data.test}
    rows: list[ReportRow] = []

    def add(quantity: str, value: float, meaning: str) -> None:
        rows.append({"quantity": quantity, "value": value, "meaning": meaning})

    add("items", data.items, "items of the catalogue")
    add("distinct_sids", len(data.sids), "distinct semantic IDs; a hit means the ID")
    add("collisions", data.collisions, "items that share their ID with an earlier one")
    add("depth", len(data.sids[0]), "codes per semantic ID")
    add("codebook", data.codebook, "codes per level that the reader accepts")
    for name, split in splits.items():
        add(f"rows_{name}", len(split), f"rows of {name}")
        add(f"users_{name}", len({row.user for row in split}), f"users of {name}")
        mean = sum(len(row.history) for row in split) / len(split)
        add(f"history_{name}", mean, f"mean items of history in {name}")
    users = {name: {row.user for row in split} for name, split in splits.items()}
    pairs = {name: {(r.history, r.target) for r in split} for name, split in splits.items()}
    for early, late in (("train", "valid"), ("train", "test"), ("valid", "test")):
        add(
            f"users_of_{late}_in_{early}",
            len(users[late] & users[early]),
            f"users of {late} who are in {early} too",
        )
        repeated = sum((r.history, r.target) in pairs[early] for r in splits[late])
        add(
            f"rows_of_{late}_in_{early}",
            repeated,
            f"rows of {late} whose history and target both occur in a row of {early}",
        )
    known = {sid for row in data.train for sid in (*row.history, row.target)}
    later = {row.target for row in data.valid}
    test = [row.target for row in data.test]
    add(
        "test_targets_seen", _share(t in known for t in test), "share of test rows: target in train"
    )
    add(
        "test_targets_new_but_in_valid",
        _share(t not in known and t in later for t in test),
        "share of test rows: target not in train, but a target of valid",
    )
    add(
        "test_targets_nowhere_before",
        _share(t not in known and t not in later for t in test),
        "share of test rows: target neither in train nor a target of valid",
    )
    for k in (1, 10):
        add(
            f"popularity_hr_at_{k}",
            popularity_hit_rate(data.train, data.test, k),
            f"test hit rate of the {k} most frequent train targets, for everyone alike",
        )
    return rows


def popularity_hit_rate(
    train: tuple[Interaction, ...], test: tuple[Interaction, ...], k: int
) -> float:
    """Share of test rows whose target is among the k most frequent train targets.

    Ties go to the smaller ID.
    """
    counts = Counter(row.target for row in train)
    top = set(sorted(counts, key=lambda sid: (-counts[sid], sid))[:k])
    return _share(row.target in top for row in test)


def _share(flags: Iterable[bool]) -> float:
    listed = list(flags)
    return sum(listed) / max(1, len(listed))

"""What a person says of a sweep: tags, a note, and whether it is put away.

`STORE/labels/<name>-<hash>.json`, beside the sweep's record; results are never touched.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from workbench.store.files import replace
from workbench.store.records import label_record
from workbench.store.runs import Store

FOLDER = "labels"
LONGEST = 2000


@dataclass(frozen=True)
class Labels:
    """title: instead of the sweep's name; tags; text; archived: left out of the list unless asked
    for."""

    title: str = ""
    tags: tuple[str, ...] = ()
    text: str = ""
    archived: bool = False


def labels_of(store: Store, name: str) -> Labels:
    """The labels of a sweep; none where nothing readable is written."""
    try:
        found = label_record(store.root / FOLDER / f"{name}.json")
    except (OSError, ValueError):
        return Labels()
    return Labels(
        found["title"][:LONGEST],
        tuple(str(tag)[:LONGEST] for tag in found["tags"])[:50],
        found["text"][:LONGEST],
        found["archived"],
    )


def label(store: Store, name: str, labels: Labels) -> None:
    """Write them down. Raises DiskError."""
    replace(json.dumps(asdict(labels)).encode(), store.root / FOLDER / f"{name}.json")

"""The replay world: a published data folder's catalogue, histories and next items.

SFT on train, RL on the prompts of 80% of the validation split's users, tuning on the other 20%,
reporting on the untouched test split. Items that share a semantic ID are one item here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from recast.items import Codes, Interaction, read_folder
from sim.seeds import stream
from sim.worlds.catalogue import build_catalogue
from sim.worlds.world import Prompts, World

RECENT = 10


def load_replay(
    folder: Path, seed: int = 0, test_sample: int = 0, category: str | None = None
) -> World:
    """Build the world of a data folder. test_sample: how many of the test prompts are kept, a
    random sample that `seed` fixes; 0 = all of them; category: as in `read_folder`.

    The context is a multi-hot of the codes of the last 10 history items, weighted 1, 1/2, 1/3, ...
    from the latest backwards, beside the codes of the latest alone. Slices: `seen` (the target
    occurs in train, as a target or inside a history) and `new`.
    Raises ValueError as `read_folder` does.
    """
    data = read_folder(folder, category=category)
    users = sorted({row.user for row in data.valid})
    order = stream(seed, "validation users").permutation(len(users))
    tuning = {users[i] for i in order[: max(1, round(0.2 * len(users)))]}
    shown = data.test
    if 0 < test_sample < len(shown):
        picked = stream(seed, "test sample").permutation(len(shown))[:test_sample]
        shown = tuple(shown[i] for i in sorted(picked))
    test_users = {row.user for row in data.test}
    overlap = len(test_users & set(users))
    learning = tuple(row for row in data.valid if row.user not in tuning)
    held_out = tuple(row for row in data.valid if row.user in tuning)
    return replay_world(
        folder.name if category is None else f"{folder.name}/{category}",
        data.sids,
        data.codebook,
        {"sft": data.train, "train": learning, "validation": held_out, "test": shown},
        notes=(
            f"{data.items} items, {len(data.sids)} distinct semantic IDs, "
            f"{data.collisions} collisions (a hit means the ID, not the item)",
            f"prompts: {len(data.train)} SFT, {len(learning)} RL, {len(held_out)} tuning, "
            f"{len(shown)} of {len(data.test)} test",
            f"the split is temporal, not user-disjoint: {overlap} of {len(test_users)} test users "
            "are validation users too",
        ),
    )


def replay_world(
    name: str,
    sids: Sequence[Codes],
    codebook: int,
    roles: Mapping[str, Sequence[Interaction]],
    notes: tuple[str, ...] = (),
) -> World:
    """The world of a catalogue and of rows by role: sft, train, validation, test."""
    place = {sid: i for i, sid in enumerate(sids)}
    known = {sid for row in roles["sft"] for sid in (*row.history, row.target)}

    def prompts(rows: Sequence[Interaction]) -> Prompts:
        target = torch.tensor([place[row.target] for row in rows])
        seen = torch.tensor([row.target in known for row in rows])
        context = _context(rows, len(sids[0]), codebook)
        return Prompts(context, target, slices={"seen": seen, "new": ~seen})

    found = {role: prompts(rows) for role, rows in roles.items()}
    return World(name, build_catalogue(np.array(sids), codebook), **found, notes=notes)


def _context(rows: Sequence[Interaction], depth: int, codes: int) -> torch.Tensor:
    table = np.zeros((len(rows), 2, depth, codes), dtype=np.float32)
    levels = np.arange(depth)
    for i, row in enumerate(rows):
        for back, sid in enumerate(reversed(row.history[-RECENT:])):
            table[i, 0, levels, sid] += 1.0 / (1 + back)
            if back == 0:
                table[i, 1, levels, sid] = 1.0
    return torch.from_numpy(table.reshape(len(rows), -1))

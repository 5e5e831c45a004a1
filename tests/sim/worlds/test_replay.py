"""The replay world: what it makes of a published data folder, and what it must not look at."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
import torch

from recast import STRATEGIES
from recast.items import read_folder
from sim.general.runs import Runs
from sim.policies.mlp import MLP
from sim.settings import Training
from sim.training.trainer import train
from sim.worlds.replay import RECENT, load_replay
from sim.worlds.world import World
from workbench.errors import UserError
from workbench.execution.tasks import build_world
from workbench.spec.experiment import load_experiment

SPLITS = ("train", "valid", "test")


def rows_of(root: Path, split: str) -> list[dict[str, str]]:
    with next((root / split).glob("*.csv")).open(newline="") as handle:
        return list(csv.DictReader(handle))


def write(root: Path, split: str, rows: list[dict[str, str]]) -> None:
    with next((root / split).glob("*.csv")).open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def codes(text: str) -> tuple[int, ...]:
    return tuple(int(n) for n in re.findall(r"_(\d+)>", text))


def context_by_loops(history: list[str], codebook: int = 256) -> list[float]:
    """Ten latest items weighted 1, 1/2, 1/3, ..., then the latest alone; a slot per level, code."""
    recent, latest = [0.0] * 3 * codebook, [0.0] * 3 * codebook
    for back, text in enumerate(reversed(history)):
        for level, code in enumerate(codes(text)):
            if back < RECENT:
                recent[level * codebook + code] += 1 / (1 + back)
            if back == 0:
                latest[level * codebook + code] = 1.0
    return recent + latest


def tensors(world: World, *splits: str) -> list[torch.Tensor]:
    parts = [getattr(world, split) for split in splits]
    return [tensor for part in parts for tensor in (part.context, part.target)]


def same(one: World, other: World, *splits: str) -> bool:
    pairs = zip(tensors(one, *splits), tensors(other, *splits), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_every_prompt_is_a_row_of_the_folder(data_folder):
    world = load_replay(data_folder)
    sids = [tuple(c) for c in world.catalogue.codes.tolist()]
    for split, name in (("sft", "train"), ("test", "test")):
        prompts = getattr(world, split)
        rows = rows_of(data_folder, name)
        assert [sids[t] for t in prompts.target.tolist()] == [codes(r["item_sid"]) for r in rows]
        for row, context in zip(rows, prompts.context.tolist(), strict=True):
            history = re.findall(r"(?:<\w_\d+>)+", row["history_item_sid"])
            assert context == pytest.approx(context_by_loops(history))


def test_a_long_history_counts_its_last_ten_items(data_folder):
    rows = rows_of(data_folder, "test")
    items = ["<a_0><b_0><c_0>"] * 5 + ["<a_1><b_2><c_1>"] * 4 + ["<a_2><b_1><c_0>"] * 7
    rows[0]["history_item_sid"] = str(items)
    write(data_folder, "test", rows)
    context = load_replay(data_folder).test.context[0].tolist()
    assert context == pytest.approx(context_by_loops(items))
    # The twelve that came before the ten latest left nothing: code 0 of level a is not in them.
    assert context[0] == 0.0


def test_items_that_share_an_id_are_one_item_and_are_counted(data_folder):
    world = load_replay(data_folder)
    index = json.loads((data_folder / "index" / "tiny.index.json").read_text())
    distinct = {tuple(row) for row in index.values()}
    assert world.catalogue.items == len(distinct) == len(index) - 1
    assert "19 items, 18 distinct semantic IDs, 1 collisions" in world.notes[0]
    assert "a hit means the ID, not the item" in world.notes[0]


def test_seen_targets_are_those_of_the_training_log_and_the_rest_are_new(data_folder):
    world = load_replay(data_folder)
    known: set[str] = set()
    for row in rows_of(data_folder, "train"):
        known |= {row["item_sid"], *re.findall(r"(?:<\w_\d+>)+", row["history_item_sid"])}
    want = [row["item_sid"] in known for row in rows_of(data_folder, "test")]
    assert world.test.slices["seen"].tolist() == want
    assert world.test.slices["new"].tolist() == [not seen for seen in want]
    assert 0 < sum(want) < len(want)


def test_reinforcement_and_tuning_never_share_a_user_and_use_every_row(data_folder):
    """Every user gets a history of their own, so that a prompt tells whose it is."""
    rows, sids = rows_of(data_folder, "valid"), read_folder(data_folder).sids
    text = ["".join(f"<{x}_{v}>" for x, v in zip("abc", sid, strict=True)) for sid in sids]
    for user, row in enumerate(rows):
        row["history_item_sid"] = str([text[user % 18], text[user // 18]])
    rows += [dict(row) for row in rows[:20]]
    write(data_folder, "valid", rows)
    for seed in (0, 1):
        world = load_replay(data_folder, seed)
        assert len(world.train) + len(world.validation) == len(rows)
        learning, tuning = (
            {tuple(context) for context in part.context.tolist()}
            for part in (world.train, world.validation)
        )
        assert (len(learning), len(tuning)) == (48, 12)
        assert not learning & tuning
    assert not same(load_replay(data_folder, 0), load_replay(data_folder, 1), "validation")


def test_the_split_says_how_many_users_it_shares(data_folder):
    assert "temporal, not user-disjoint: 60 of 60 test users" in load_replay(data_folder).notes[2]
    rows = rows_of(data_folder, "test")
    for row in rows[:25]:
        row["user_id"] = f"other {row['user_id']}"
    write(data_folder, "test", rows)
    assert "temporal, not user-disjoint: 35 of 60 test users" in load_replay(data_folder).notes[2]


@pytest.mark.parametrize("split", SPLITS)
def test_the_answer_never_stands_in_the_question(data_folder, split):
    """Another target changes the target alone: no context, no other prompt."""
    before = load_replay(data_folder)
    rows = rows_of(data_folder, split)
    for row in rows:
        row["item_sid"] = "<a_2><b_2><c_1>"
    write(data_folder, split, rows)
    after = load_replay(data_folder)
    for name in ("sft", "train", "validation", "test"):
        assert torch.equal(getattr(before, name).context, getattr(after, name).context)
    touched = {"train": ["sft"], "valid": ["train", "validation"], "test": ["test"]}[split]
    for name in {"sft", "train", "validation", "test"} - set(touched):
        assert same(before, after, name)


def test_what_is_learnt_does_not_depend_on_the_test_file(data_folder):
    before = load_replay(data_folder)
    rows = rows_of(data_folder, "test")
    write(data_folder, "test", list(reversed(rows))[:30])
    after = load_replay(data_folder)
    assert same(before, after, "sft", "train", "validation")
    policy, how = MLP(4), Training(steps=2, batch=8, group=8, evaluations=1)
    found = []
    for world in (before, after):
        start = policy.init(world.catalogue, world.sft.context.shape[1], (0,), torch.float64)
        run = train(
            Runs(policy, world, STRATEGIES["recast"], start, (0,), how), torch.tensor([0.01])
        )
        found.append([r for r in run[0].rows if r["split"] == "validation"])
    assert found[0] == found[1]


def break_index(root: Path) -> None:
    (root / "index" / "tiny.index.json").write_text('{"0": ["<a_1>", "<b_2>"], "1": ["<a_300>"]}')


def break_row(column: str, value: str):
    def change(root: Path) -> None:
        rows = rows_of(root, "valid")
        rows[3][column] = value
        write(root, "valid", rows)

    return change


def drop_column(root: Path) -> None:
    rows = [{"user_id": r["user_id"], "item_sid": r["item_sid"]} for r in rows_of(root, "train")]
    write(root, "train", rows)


def second_file(root: Path) -> None:
    (root / "test" / "more.csv").write_text("user_id,history_item_sid,item_sid\n")


BROKEN = {
    "an item outside the trie": (break_row("item_sid", "<a_2><b_2><c_2>"), r"row 5: .*not in the"),
    "a history outside it": (break_row("history_item_sid", "['<a_9><b_0><c_0>']"), "not in the"),
    "no ID": (break_row("item_sid", "shoes"), "row 5: 'shoes' is not a semantic ID"),
    "no list": (
        break_row("history_item_sid", "exit()"),
        r"row 5: history 'exit\(\)' is not a list",
    ),
    "a word": (break_row("history_item_sid", "nan"), "row 5: history 'nan' is not a list of IDs"),
    "uneven IDs": (break_index, "item 1 has 1 codes; the first has 2"),
    "a lost column": (drop_column, "missing column history_item_sid; it has 'user_id, item_sid'"),
    "two files": (second_file, "expected exactly one"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_folder_that_cannot_be_used_is_refused_in_one_line(data_folder, name):
    damage, message = BROKEN[name]
    damage(data_folder)
    spec = load_experiment("replay", {"world.data": str(data_folder)})
    with pytest.raises(UserError, match=message) as found:
        build_world(spec)
    assert "\n" not in str(found.value)


def test_a_real_folder_has_what_its_notes_say(real_data):
    world, data = load_replay(real_data), read_folder(real_data)
    assert world.catalogue.items == len(data.sids)
    assert len(world.sft) == len(data.train)
    assert len(world.test) == len(data.test)
    assert len(world.train) + len(world.validation) == len(data.valid)
    assert 0.1 < len(world.validation) / len(data.valid) < 0.3
    assert f"{data.collisions} collisions" in world.notes[0]
    for part in (world.sft, world.train, world.validation, world.test):
        assert int(part.target.min()) >= 0
        assert int(part.target.max()) < world.catalogue.items
        assert bool((part.slices["seen"] ^ part.slices["new"]).all())
    assert bool(world.sft.slices["seen"].all())


def test_a_sample_of_the_test_prompts_is_a_fixed_part_of_them_and_says_so(data_folder):
    whole = load_replay(data_folder)
    part = load_replay(data_folder, test_sample=20)
    assert len(whole.test) == 60
    assert len(part.test) == 20
    assert torch.equal(part.test.context, load_replay(data_folder, test_sample=20).test.context)
    everyone = list(zip(whole.test.context.tolist(), whole.test.target.tolist(), strict=True))
    for prompt in zip(part.test.context.tolist(), part.test.target.tolist(), strict=True):
        assert prompt in everyone
    assert "20 of 60 test" in part.notes[1]
    assert len(load_replay(data_folder, test_sample=99).test) == 60
    for split in ("sft", "train", "validation"):
        assert len(getattr(part, split)) == len(getattr(whole, split))


def test_a_folder_of_several_categories_needs_one_and_gives_its_world(data_folder):
    alone = load_replay(data_folder)
    for path in [*data_folder.glob("*/*.csv"), *data_folder.glob("index/*")]:
        (path.parent / path.name.replace("tiny", "other")).write_bytes(path.read_bytes())
    spec = {"world.kind": "replay", "world.data": str(data_folder)}
    with pytest.raises(UserError, match=r"several categories \(other, tiny\).*--category"):
        build_world(load_experiment("replay", spec))
    world = build_world(load_experiment("replay", {**spec, "world.category": "tiny"}))
    assert world.name.endswith("/tiny")
    assert torch.equal(world.test.target, alone.test.target)

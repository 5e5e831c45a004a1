"""Names of codes: any regular spelling is found from one semantic ID and read back."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recast.code_names import FAMILIES, MINIONEREC, CodeNames, names_of
from recast.items import read_folder, read_index, read_sid

AROUND = [("<", "_", ">"), ("[", "", "]"), ("<|sid_", "_", "|>"), ("<s_", "_", ">"), ("|", "-", ""),
          ("<v2_", "_", ">"), ("", "", "")]  # fmt: skip
SPELLINGS = [CodeNames(*around, family) for around in AROUND for family in FAMILIES
             if around[1] or not family[0].isdigit()]  # fmt: skip
SIDS = st.lists(st.integers(0, 9999), min_size=2, max_size=8).map(tuple)


@given(st.sampled_from(SPELLINGS), SIDS, SIDS)
def test_the_names_of_one_id_read_every_other_one(names, first, other):
    found = names_of([names.name(level, code) for level, code in enumerate(first)])
    assert found == names
    assert found.read(names.joined(other)) == other


@given(st.sampled_from(SPELLINGS), SIDS)
def test_a_text_that_is_cut_doubled_or_out_of_order_is_no_id(names, sid):
    codes = [names.name(level, code) for level, code in enumerate(sid)]
    assert names.read("".join(reversed(codes))) is None
    assert names.read("".join(codes + codes)) is None
    assert names.read("x" + "".join(codes)) is None
    cut = names.read("".join(codes)[: -1 - len(names.after)])
    assert cut is None or (cut != sid and names.joined(cut) == "".join(codes)[:-1])


@pytest.mark.parametrize(
    "codes", [["<3>", "<7>"], ["<b_1>", "<a_2>"], ["<a_1>", "<a_2>"], ["shoe"]]
)
def test_codes_whose_levels_cannot_be_told_apart_are_refused(codes):
    names = names_of(codes)
    with pytest.raises(ValueError, match="is not a semantic ID such as '<a_1><b_2><c_3>'"):
        read_sid("".join(codes), None, names or MINIONEREC)


def respelt(folder, names):
    """The folder in another spelling, with a byte order mark, as spreadsheets write."""
    old = read_index(next((folder / "index").glob("*.json")))[1]
    for path in [*folder.glob("*/*.csv"), *folder.glob("index/*.json")]:
        text = path.read_text(encoding="utf-8")
        for sid in old.values():
            for level, code in enumerate(sid):
                text = text.replace(MINIONEREC.name(level, code), names.name(level, code))
        path.write_text("\ufeff" + text, encoding="utf-8")
    return folder


@pytest.mark.parametrize("number", range(0, len(SPELLINGS), 5))
def test_a_folder_in_any_spelling_holds_what_minionerecs_does(number, data_folder):
    before = read_folder(data_folder, 3)
    after = read_folder(respelt(data_folder, SPELLINGS[number]), 3)
    assert after == before
    assert json.dumps(after.sids) == json.dumps(before.sids)


def test_codes_filled_with_zeros_are_read_and_named():
    names = CodeNames("<", "_", ">", FAMILIES[0], 3)
    assert names.joined((1, 20, 300)) == "<a_001><b_020><c_300>"
    assert names.read("<a_001><b_020><c_300>") == (1, 20, 300)
    found = names_of(["[A07]", "[B10]"])
    assert found is not None
    assert found.read("[A01][B22]") == (1, 22)

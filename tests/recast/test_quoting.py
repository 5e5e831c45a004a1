"""Messages: one printable line, short quotations, the nearest name."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

from hypothesis import given
from hypothesis import strategies as st

from recast.quoting import LONGEST_LINE, LONGEST_QUOTE, nearest, one_line, quoted
from recast.strategies import STRATEGIES
from workbench.cli import COMMANDS

ANYTHING = st.recursive(
    st.text(alphabet=st.characters()) | st.integers() | st.floats() | st.none() | st.booleans(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(ANYTHING)
def test_a_quotation_is_short_printable_and_never_fails(value):
    said = quoted(value)
    assert len(said) <= LONGEST_QUOTE
    assert said.isprintable()


@given(st.text(alphabet=st.characters()), st.integers(0, 2000))
def test_a_message_is_one_printable_line_whatever_is_in_it(text, times):
    said = one_line(text * times)
    assert len(said) <= LONGEST_LINE
    assert said.isprintable()


@given(st.text(alphabet="ab 'x", max_size=200), st.text(alphabet="abc", min_size=61))
def test_a_long_quotation_in_a_message_is_cut_and_both_ends_of_the_message_stay(around, inside):
    around = around.replace("'", "")
    said = one_line(f"begin {around}'{inside}' end")
    assert f"'{inside}'" not in said
    assert said.startswith("begin")
    assert said.endswith("end")


def test_a_number_of_a_million_digits_is_described():
    assert quoted(1 << 3_000_000) == "a whole number of about 900000 digits"


def test_an_unknown_name_is_answered_with_one_name_and_not_with_all():
    said = nearest("zzz", STRATEGIES)
    assert sum(name in said.split("'") for name in STRATEGIES) == 1
    assert nearest("x" * 1_000_000, STRATEGIES)
    for name in ("GRPO", "\uff47\uff52\uff50\uff4f"):  # the second is grpo in wide letters
        assert nearest(name, STRATEGIES) == "did you mean 'grpo'?"


def test_the_list_of_commands_says_what_their_own_help_says():
    for name, row in COMMANDS.items():
        module, attribute = row.place.split(":")
        command = getattr(import_module(f"workbench.commands.{module}"), attribute)
        assert command.name == name
        assert command.help.startswith(row.purpose)


def test_help_imports_nothing_heavy():
    check = (
        "import sys; from workbench.cli import cli; cli.main(['--help'], standalone_mode=False); "
        "heavy = {'torch', 'numpy', 'polars', 'scipy', 'altair', 'pydantic', 'streamlit'}; "
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(name in done.stdout for name in COMMANDS)

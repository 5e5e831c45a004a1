"""The address of a view: what the controls say, there and back."""

from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest


def linked(**query: str | list[str]) -> AppTest:
    """A small page with one control of each kind, opened at an address."""

    def script() -> None:
        import streamlit as st

        from workbench.pages.address import Address

        view = Address("demo")
        ceiling = st.session_state.get("ceiling", 10.0)
        st.slider("Level", 0.0, ceiling, **view.number("level", 2.0, low=0.0, high=ceiling))
        st.slider("Count", 1, 9, **view.number("count", 3, low=1, high=9))
        st.selectbox("One", ["a", "b"], **view.one_of("one", ["a", "b"]))
        st.multiselect("Some", ["a", "b", "c"], **view.some_of("some", ["a", "b", "c"], ["a"]))
        st.toggle("Flag", **view.flag("flag"))
        st.text_input("Text", **view.text("text"))
        view.presets({"High": {"level": 9.0, "one": "b"}})

    app = AppTest.from_function(script, default_timeout=60)
    for name, value in query.items():
        app.query_params[name] = value
    app.run()
    assert not app.exception
    return app


def controls(app: AppTest) -> dict:
    names = ("level", "count", "one", "some", "flag", "text")
    return {name: app.session_state[name] for name in names}


def test_a_link_opens_the_view_that_it_was_copied_from():
    app = linked()
    app.slider(key="level").set_value(7.25).run()
    app.slider(key="count").set_value(5).run()
    app.selectbox(key="one").set_value("b").run()
    app.multiselect(key="some").set_value(["b", "c"]).run()
    app.toggle(key="flag").set_value(True).run()
    app.text_input(key="text").set_value("a&b=c d").run()
    assert not app.exception
    assert controls(linked(**app.query_params)) == controls(app)
    assert controls(app)["some"] == ["b", "c"]


def test_what_equals_its_default_stays_out_of_the_address():
    app = linked()
    assert dict(app.query_params) == {}
    app.slider(key="level").set_value(7.0).run()
    assert dict(app.query_params) == {"level": "7.0"}
    app.slider(key="level").set_value(2.0).run()
    assert dict(app.query_params) == {}


def test_nothing_chosen_is_a_view_of_its_own():
    app = linked()
    app.multiselect(key="some").set_value([]).run()
    assert controls(linked(**app.query_params))["some"] == []


def test_going_back_to_an_address_puts_the_controls_back():
    app = linked()
    app.slider(key="level").set_value(7.0).run()
    app.query_params.clear()
    app.run()
    assert controls(app) == controls(linked())


def test_a_preset_is_one_click_and_lands_in_the_address():
    app = linked()
    app.button(key="preset High").click().run()
    assert not app.exception
    assert dict(app.query_params) == {"level": "9.0", "one": "b"}
    assert controls(app)["level"] == 9.0


@pytest.mark.parametrize(
    "query",
    [
        {"level": "much"},
        {"level": "nan"},
        {"level": "inf"},
        {"count": "2.5"},
        {"one": "<script>"},
        {"some": "zebra"},
        {"flag": "maybe"},
    ],
)
def test_an_address_that_does_not_fit_opens_the_default(query):
    assert controls(linked(**query)) == controls(linked())


def test_what_an_address_asked_for_is_quoted_in_printable_letters():
    (said,) = linked(one="`\u202e\x1b[31m\n# x").warning
    assert said.value.isprintable()
    assert "`'\\u202e\\x1b[31m\\n# x`" in said.value


def test_a_number_outside_its_range_is_clipped():
    assert controls(linked(level="99", count="-4")) == controls(linked()) | {
        "level": 10.0,
        "count": 1,
    }


def test_a_control_follows_bounds_that_move():
    app = linked(level="9")
    app.session_state["ceiling"] = 5.0
    app.run()
    assert not app.exception
    assert controls(app)["level"] == 5.0

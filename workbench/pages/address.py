"""The address of a view: what the controls of a page say is in the query string.

A copied link, a reload and the browser's back and forward therefore open the same view, and every
change of a control is one step of the history. A page asks for a control's key and callback and
gives the widget no default of its own:

    view = Address("learnability")
    st.slider("Mean (%)", 0.0, 50.0, **view.number("mean", 0.54, low=0.0, high=50.0))
    st.selectbox("Metric", metrics, **view.one_of("metric", metrics))

A value equal to its default is left out of the address. One that does not fit is replaced, and the
page says so. Coming back to a page by the navigation finds its controls as they were left; an
address with anything in it is taken as it is. What a part of a page that is not drawn just now
holds stays in the address too.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import streamlit as st

from recast.quoting import plain_line

T = TypeVar("T", int, float)
_HERE, _DEFAULTS, _ARRIVALS = "_address", "_address_defaults", "_address_arrivals"
_KEPT, _TOLD, _LINKED = "_address_kept", "_address_told", "_address_linked"
_SHOWN = 40  # letters of a bad value
_QUOTED = 200  # letters of anything that the page quotes


class Address:
    """The linked controls of one page, in one run of its script."""

    def __init__(self, page: str) -> None:
        self._page = page
        self._defaults: dict[str, Any] = {}
        before = st.session_state.get(_HERE)
        self._arrived = before != self._here()
        if self._arrived:
            kept = st.session_state.setdefault(_KEPT, {})
            if before is not None:
                kept[before[0]] = {name: list(texts) for name, texts in before[1:]}
            if before is not None and before[0] != page and not len(st.query_params):
                st.query_params.from_dict(kept.get(page, {}))
            st.session_state[_ARRIVALS] = self.arrivals + 1
            st.session_state[_TOLD] = {}
        self._before = {} if self._arrived else st.session_state.get(_DEFAULTS, {})
        st.session_state[_HERE] = self._here()
        st.session_state[_DEFAULTS] = self._defaults

    @property
    def arrivals(self) -> int:
        """How often a view was opened from its address in this session; part of the key of a
        widget that must not outlive such a change."""
        return int(st.session_state.get(_ARRIVALS, 0))

    def number(self, name: str, default: T, *, low: T, high: T) -> dict[str, Any]:
        """Key and callback of a slider or number field over [low, high], of default's type."""

        def read(texts: list[str]) -> T | None:
            try:
                value = float(texts[-1])
            except ValueError:
                return None
            whole = isinstance(default, int)
            if not math.isfinite(value) or (whole and value != int(value)):
                return None
            return type(default)(value)

        return self._link(name, default, read, lambda value: min(max(value, low), high))

    def one_of(
        self, name: str, options: Sequence[Any], default: Any | None = None
    ) -> dict[str, Any]:
        """Key and callback of a box that holds one of the options; the default is the first."""
        known = {str(option): option for option in options}
        first = options[0] if default is None else default
        return self._link(
            name,
            first,
            lambda texts: known.get(texts[-1]),
            lambda value: value if value in options else first,
        )

    def some_of(
        self, name: str, options: Sequence[Any], default: Sequence[Any] = ()
    ) -> dict[str, Any]:
        """Key and callback of a box that holds any number of the options."""
        known = {str(option): option for option in options}

        def read(texts: list[str]) -> list[Any] | None:
            chosen = [known[text] for text in texts if text in known]
            if len(chosen) < len(texts) and texts != [""]:
                st.session_state.setdefault(_TOLD, {})[name] = ", ".join(
                    text for text in texts if text not in known
                )[:_SHOWN]
            return chosen if chosen or texts == [""] else None

        return self._link(
            name, list(default), read, lambda value: [one for one in value if one in options]
        )

    def flag(self, name: str, default: bool = False) -> dict[str, Any]:
        """Key and callback of a toggle or check box."""
        words = {"yes": True, "no": False}
        return self._link(name, default, lambda texts: words.get(texts[-1]), bool)

    def text(self, name: str, default: str = "", *, longest: int = 2000) -> dict[str, Any]:
        """Key and callback of a text field, or of a text that only the page itself writes."""
        return self._link(name, default, lambda texts: texts[-1][:longest], str)

    def put(self, values: Mapping[str, Any]) -> None:
        """Give controls new values, as one step of the history; only inside a callback."""
        for name, value in values.items():
            st.session_state[name] = value
        self.push()

    def push(self) -> None:
        """Put what the controls say into the address; the callback of every linked control."""
        query: dict[str, list[str]] = {}
        for name, default in self._defaults.items():
            value = st.session_state.get(name, default)
            if value != default:
                query[name] = _texts(value)
        for name in self._linked().difference(self._defaults):
            if texts := st.query_params.get_all(name):
                query[name] = texts
        st.query_params.from_dict(query)
        st.session_state[_HERE] = self._here()
        st.session_state[_TOLD] = {}

    def presets(self, choices: Mapping[str, Mapping[str, Any]]) -> None:
        """One button per named view."""
        with st.container(horizontal=True):
            for label, values in choices.items():
                st.button(label, key=f"preset {label}", on_click=self.put, args=(dict(values),))

    def part_of(self, parts: Mapping[str, tuple[str, Callable[..., None]]]) -> Callable[..., None]:
        """A row of buttons, one for each part of the page with its label; what draws the part that
        it says, the first one at first."""
        chosen = st.segmented_control(
            "Part of the page",
            list(parts),
            format_func=lambda name: parts[name][0],
            required=True,
            label_visibility="collapsed",
            **self.one_of("part", list(parts)),
        )
        return parts[str(chosen or next(iter(parts)))][1]

    def draw_part(
        self, parts: Mapping[str, tuple[str, Callable[..., None]]], *given: object
    ) -> None:
        """The row of buttons and, below it, the part of the page that it says, drawn of `given`."""
        self.part_of(parts)(*given)

    def _linked(self) -> builtins.set[str]:
        """Names of this page's controls that were drawn in this session."""
        known: dict[str, builtins.set[str]] = st.session_state.setdefault(_LINKED, {})
        return known.setdefault(self._page, builtins.set())

    def _here(self) -> tuple[Any, ...]:
        query = sorted((name, tuple(st.query_params.get_all(name))) for name in st.query_params)
        return (self._page, *query)

    def _link(
        self,
        name: str,
        default: Any,
        read: Callable[[list[str]], Any],
        fit: Callable[[Any], Any],
    ) -> dict[str, Any]:
        self._defaults[name] = default
        self._linked().add(name)
        if self._arrived or name not in st.session_state:
            texts = st.query_params.get_all(name)
            value = read(texts) if texts else None
            st.session_state[name] = fit(default if value is None else value)
            if texts and _texts(st.session_state[name]) != _texts(value):
                st.session_state.setdefault(_TOLD, {})[name] = ", ".join(texts)[:_SHOWN]
        elif st.session_state[name] == self._before.get(name, default):
            st.session_state[name] = fit(default)
        else:
            st.session_state[name] = fit(st.session_state[name])
        if name in (told := st.session_state.get(_TOLD, {})):
            st.warning(
                f"The address asks for {_quoted(name)} = {_quoted(told[name])}, which this page "
                f"does not have; it shows {_quoted(', '.join(_texts(st.session_state[name])))}."
            )
        return {"key": name, "on_change": self.push}


def _quoted(text: str) -> str:
    """A text from outside as Markdown code, which holds no markup."""
    return f"`{plain_line(text, _QUOTED).replace('`', chr(39)) or ' '}`"


def _texts(value: Any) -> list[str]:
    if isinstance(value, bool):
        return ["yes" if value else "no"]
    if isinstance(value, (list, tuple)):
        return [str(one) for one in value] or [""]
    return [str(value)]

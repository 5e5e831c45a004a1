"""The examples of docstrings as code blocks of the documentation site: an extension of Griffe."""

from __future__ import annotations

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"^( *)>>> .*\n(?:(?! *$).*\n?)*", re.MULTILINE)
"""From a prompt to the next empty line."""


class DoctestBlocks(griffe.Extension):
    """Fences each example, which Markdown would read as three nested quotations."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for each module, class, function and attribute once it is read."""
        if obj.docstring is not None:
            obj.docstring.value = EXAMPLE.sub(
                lambda m: f"```pycon\n{m[0].rstrip()}\n```\n", obj.docstring.value
            )

"""A log that is known row by row."""

import planted
import pytest


@pytest.fixture(scope="session")
def rows() -> planted.Rows:
    return planted.log(3, steps=6)

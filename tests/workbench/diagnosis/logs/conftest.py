"""A log that is known row by row."""

import pytest
from planted_logs import rollouts as planted


@pytest.fixture(scope="session")
def rows() -> planted.Rows:
    return planted.log(3, steps=6)

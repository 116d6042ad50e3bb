"""The contexts of tests of the embedded backend: nothing here runs on Spark."""

from collections.abc import Iterator

import pytest

from engine import LocalContext


@pytest.fixture(params=["local", "local[2]"])
def context(request: pytest.FixtureRequest) -> Iterator[LocalContext]:
    """Each embedded backend in turn: in this process, and over two others."""
    if request.param == "local":
        with LocalContext("local", "test") as made:
            yield made
    else:
        yield request.getfixturevalue("local_two")

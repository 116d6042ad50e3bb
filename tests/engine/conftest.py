"""The contexts that operator tests run on: each test runs on both backends."""

from collections.abc import Iterator

import pytest

from engine import LocalContext


@pytest.fixture(scope="session")
def local_two() -> Iterator[LocalContext]:
    """Two executor processes for the whole session."""
    with LocalContext("local[2]", "test") as context:
        yield context


@pytest.fixture(params=["local", "local[2]"])
def context(request: pytest.FixtureRequest) -> Iterator[LocalContext]:
    """Each backend in turn: in this process, and over two others."""
    if request.param == "local":
        with LocalContext("local", "test") as made:
            yield made
    else:
        yield request.getfixturevalue("local_two")

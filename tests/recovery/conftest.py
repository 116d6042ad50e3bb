"""What the tests of recoveries share."""

from collections.abc import Iterator

import pytest

from tests.recovery.victims import Victims, serving


@pytest.fixture(scope="package")
def victims() -> Iterator[Victims]:
    """The parent of victims, which has imported everything once for all of them."""
    with serving() as parent:
        yield parent

"""What every test of a source leaves behind: no context that runs."""

from collections.abc import Iterator

import pytest

from engine import StreamingContext


@pytest.fixture(autouse=True)
def _no_context_is_left() -> Iterator[None]:
    """A test that failed half way does not fail those after it."""
    yield
    active = StreamingContext.getActive()
    if active is not None:
        active.stop(stopSparkContext=False)

"""What every test of a source leaves behind: no context that runs, and no folder."""

from collections.abc import Iterator

import pytest

from engine import StreamingContext
from tests.engine.sources.receiving import folders


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """A test that failed half way does not fail those after it."""
    yield
    active = StreamingContext.getActive()
    if active is not None:
        active.stop(stopSparkContext=False)
    folders.close()

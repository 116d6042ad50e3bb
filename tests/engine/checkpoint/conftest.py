"""A checkpoint folder for the tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.checkpoint.volume import Volume


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Volume]:
    """An open folder."""
    made = Volume(tmp_path).open()
    yield made
    made.close()

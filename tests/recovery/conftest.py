"""What the tests of recoveries share.

Owns: the fixtures context, victims, system_time and memory_group.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import LocalContext
from tests.closing import keep_back
from tests.recovery.machine import FAKETIME, MemoryGroup, SystemTime
from tests.recovery.victims import Victims, serving


def _why_no_group() -> str:
    """Why this machine lets us make no control group; "" when it does."""
    try:
        MemoryGroup().remove()
    except OSError as error:
        return error.strerror or type(error).__name__
    return ""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the tests that cannot run from failing, and remember them for the closing section."""
    timed, limited = (
        [item for item in items if fixture in getattr(item, "fixturenames", ())]
        for fixture in ("system_time", "memory_group")
    )
    if FAKETIME is None:
        keep_back(config, timed, "a clock that can be set", "install Debian's package libfaketime")
    if limited and not config.option.collectonly and (why := _why_no_group()):
        keep_back(
            config, limited, "a control group of memory", f"{why}; it takes root, outside of containers"
        )


@pytest.fixture(scope="module", name="context")
def one_context() -> Iterator[LocalContext]:
    """The driver's own process."""
    with LocalContext("local", "test") as made:
        yield made


@pytest.fixture(scope="package")
def victims() -> Iterator[Victims]:
    """The parent of victims, which has imported everything once for all of them."""
    with serving() as parent:
        yield parent


@pytest.fixture
def system_time(tmp_path: Path) -> SystemTime:
    """A clock to start processes under; it shows the real time until it is set."""
    assert FAKETIME is not None
    return SystemTime(FAKETIME, tmp_path / "faketime")


@pytest.fixture
def memory_group() -> Iterator[MemoryGroup]:
    """A control group with a limit of memory, and nothing in it."""
    group = MemoryGroup()
    yield group
    group.remove()

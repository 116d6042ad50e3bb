"""Inputs on the block log, killed for real."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engine.children import python
from tests.engine.sources import taker

POINTS = (
    "before_begin",
    "after_begin",
    "before_commit",
    "after_commit",
    "purge",
    "before_block",
    "after_block",
)
ALL = list(range(taker.STEPS * taker.ROWS))
PARENT = "from tests.engine import forks; from tests.engine.sources import taker; forks.serve(taker.run)"


@pytest.fixture(scope="module")
def parent() -> Iterator[Any]:
    """The process that forks a victim for each start."""
    with python(PARENT, stdin=True) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


def start(parent: Any, kind: str, folder: Path, point: str = "", after: int = 0) -> int:
    """One start; returns its exit code, negative for the signal that killed it."""
    parent.stdin.write(json.dumps([kind, str(folder), point, after]) + "\n")
    parent.stdin.flush()
    return int(parent.stdout.readline())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["queue", "receiver", "files"])
@pytest.mark.parametrize("point", POINTS)
def test_a_kill_at_any_point_loses_and_doubles_nothing(
    parent: Any, tmp_path: Path, kind: str, point: str
) -> None:
    """Killed in the first batch and in later ones, every element of a queue, a receiver or a folder is in one batch, in order."""
    for after in (0, 1, 2):
        assert start(parent, kind, tmp_path, point, after) == -signal.SIGKILL
    assert start(parent, kind, tmp_path) == 0

    assert taker.found(tmp_path) == ALL
    assert (tmp_path / "total").read_text() == str([sum(ALL)])

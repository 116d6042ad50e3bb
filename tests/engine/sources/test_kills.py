"""Inputs on the block log, killed for real, failing and held up."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engine.children import python
from tests.engine.sources import taker
from tests.recovery.victims import reached

POINTS = (
    "before_begin",
    "after_begin",
    "before_commit",
    "after_commit",
    "purge",
    "before_block",
    "after_block",
)
INPUTS = ("queue", "receiver", "files")
ALL = list(range(taker.STEPS * taker.ROWS))
PARENT = "from tests.engine import forks; from tests.engine.sources import taker; forks.serve(taker.run)"


@pytest.fixture(scope="module")
def parent() -> Iterator[Any]:
    """The process that forks a victim for each start."""
    with python(PARENT, stdin=True) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


def start(parent: Any, inputs: str, folder: Path, **settings: Any) -> int:
    """One start, with the settings of `app.Start`; returns its exit code, negative for the signal that killed it."""
    (folder / "reached").unlink(missing_ok=True)
    parent.stdin.write(json.dumps([inputs, str(folder), settings]) + "\n")
    parent.stdin.flush()
    return int(parent.stdout.readline())


def assert_all_there(folder: Path) -> None:
    """Every number is in one batch, in order, and in the state once."""
    assert taker.found(folder) == ALL
    assert (folder / "total").read_text() == str([sum(ALL)])


@pytest.mark.slow
@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize("point", POINTS)
def test_a_kill_at_any_point_loses_and_doubles_nothing(
    parent: Any, tmp_path: Path, inputs: str, point: str
) -> None:
    """Killed in the first batch and in later ones, every element of a queue, a receiver or a folder is in one batch, in order."""
    for after in (0, 1, 2):
        assert start(parent, inputs, tmp_path, point=point, after=after) == -signal.SIGKILL
        assert reached(tmp_path) == [point]
    assert start(parent, inputs, tmp_path) == 0

    assert_all_there(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize("point", POINTS)
def test_an_error_at_any_point_loses_and_doubles_nothing(
    parent: Any, tmp_path: Path, inputs: str, point: str
) -> None:
    """An error ends the process in the first batch and in later ones, and every element is in one batch, in order."""
    for after in (0, 1, 2):
        assert start(parent, inputs, tmp_path, point=point, kind="raise", after=after) == 1
        assert reached(tmp_path)[:1] == [point]
    assert start(parent, inputs, tmp_path) == 0

    assert_all_there(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("inputs", INPUTS)
def test_a_pause_at_every_point_loses_and_doubles_nothing(parent: Any, tmp_path: Path, inputs: str) -> None:
    """Inputs that are held up at every point, every time they get there, give the same elements, in one start."""
    assert start(parent, inputs, tmp_path, point=",".join(POINTS), kind="delay:0.002") == 0
    assert set(reached(tmp_path)) == set(POINTS)

    assert_all_there(tmp_path)

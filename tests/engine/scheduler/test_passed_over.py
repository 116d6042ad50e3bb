"""Windows at times that a catch-up batch takes over have no result, and the log says so."""

import logging
from pathlib import Path
from typing import Any

import pytest

from engine import LocalContext, StreamingContext
from engine.dstream.dstream import DStream
from tests.engine.app import App


def job(_: StreamingContext, numbers: DStream[Any], app: App) -> None:
    """A window every two batches, and an output of every batch."""
    numbers.window(2, 2).foreachRDD(lambda rdd: rdd.count(), name="pairs")
    app.collect(numbers, "all")


@pytest.mark.parametrize(("is_every", "said"), [(False, 1), (True, 0)])
def test_windows_that_are_passed_over_are_told_once(
    context: LocalContext,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    is_every: bool,
    said: int,
) -> None:
    """While the engine stays behind, one line names the output with the number of windows; every interval leaves none out."""
    with (
        caplog.at_level(logging.WARNING, "engine"),
        App(context, tmp_path, job, [[1]] * 9, every_interval=is_every) as app,
    ):
        app.run()
        app.clock.advance(3_000)
        app.run()
        app.clock.advance(3_000)
        app.run()

    lines = [line for line in caplog.messages if "takes over" in line]
    assert len(lines) == said
    assert all("output 'pairs' has no window of 2 of them" in line for line in lines)


def test_windows_are_told_also_when_the_engine_was_behind_before(
    context: LocalContext, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A batch that took over times at which no window ends keeps nobody from being told of the windows that the next one passes over."""
    with (
        caplog.at_level(logging.WARNING, "engine"),
        App(context, tmp_path, job, [[1]] * 9, every_interval=False) as app,
    ):
        app.run(2)
        app.clock.advance(1_000)
        app.run()
        assert [line for line in caplog.messages if "takes over" in line] == []
        app.clock.advance(3_000)
        app.run()

    (line,) = [line for line in caplog.messages if "takes over" in line]
    assert "output 'pairs' has no window of 1 of them" in line


def test_first_batch_takes_over_nothing(
    context: LocalContext, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A start that takes long is no lag: before the first batch of an application no window could have had a result."""
    with (
        caplog.at_level(logging.WARNING, "engine"),
        App(context, tmp_path, job, [[1]] * 3) as app,
    ):
        app.clock.advance(3_000)
        app.run()

    assert [line for line in caplog.messages if "takes over" in line] == []


def both_slides(_: StreamingContext, numbers: DStream[Any], app: App) -> None:
    """A window every two batches, one every six, and an output of every batch."""
    job(_, numbers, app)
    numbers.window(6, 6).foreachRDD(lambda rdd: rdd.count(), name="sixes")


def test_each_output_is_told_of_its_windows(
    context: LocalContext, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """While the engine stays behind, an output that loses its first window later than another has a line of its own."""
    with (
        caplog.at_level(logging.WARNING, "engine"),
        App(context, tmp_path, both_slides, [[1]] * 9, every_interval=False) as app,
    ):
        app.run()
        for _ in range(3):
            app.clock.advance(3_000)
            app.run()

    lines = [line for line in caplog.messages if "takes over" in line]
    assert ["'pairs'" in line for line in lines] == [True, False]
    assert "'sixes'" in lines[1]

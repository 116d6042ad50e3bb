"""What section 4 of the design demands where others fail: each test is named after the demand.

A batch's effect is exactly once whatever an output reads, however often it is asked, and wherever the process dies; real kills
are in tests/recovery.
"""

import os
from operator import add, sub
from pathlib import Path
from typing import Any

import pytest

from engine import LocalContext, StreamingContext
from engine.dstream.dstream import DStream
from engine.errors import CorruptLogError, UserFunctionError
from tests.engine.app import App

BATCHES = [[("a", n), ("b", 10 * n)] for n in range(1, 7)]
TOTALS = [[("a", n * (n + 1) // 2), ("b", 10 * n * (n + 1) // 2)] for n in range(1, 7)]
"""The sums of a and b after each batch."""


def total(values: list[int], state: int | None) -> int:
    """Adds up."""
    return sum(values) + (state or 0)


def run_with(
    context: LocalContext, folder: Path, output: Any, *, crash_after: int = 3
) -> dict[str, list[Any]]:
    """State with an output of the test's own beside one that collects, over a crash."""

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        totals = stream.updateStateByKey(total, name="totals")
        output(totals)
        app.collect(totals, "totals")

    with App(context, folder, job, BATCHES) as app:
        return app.run(crash_after).crash().run(len(BATCHES) - crash_after).out


def test_an_output_that_takes_one_loses_no_state(context: LocalContext, tmp_path: Path) -> None:
    """An output that looks at one element leaves every shard of the state advanced, each batch."""
    out = run_with(context, tmp_path, lambda totals: totals.foreachRDD(lambda rdd: rdd.take(1)))

    assert out["totals"] == TOTALS


def test_an_output_that_takes_one_is_enough(context: LocalContext, tmp_path: Path) -> None:
    """State advances and is durable when its only output looks at one element."""
    seen: list[Any] = []

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        totals = stream.updateStateByKey(total, name="totals")
        totals.foreachRDD(lambda rdd: rdd.take(1) if len(seen) < 3 else None)
        totals.foreachRDD(lambda rdd: seen.append(sorted(rdd.collect()) if len(seen) >= 5 else None))

    with App(context, tmp_path, job, BATCHES) as app:
        app.run(2).crash().run(2).crash().run(2)

    assert seen == [None] * 5 + [TOTALS[5]]


def test_an_output_that_returns_early_loses_no_state(context: LocalContext, tmp_path: Path) -> None:
    """An output that returns without a look at its RDD leaves the state advanced."""
    out = run_with(context, tmp_path, lambda totals: totals.foreachRDD(lambda _rdd: None))

    assert out["totals"] == TOTALS


def test_an_output_that_runs_twice_doubles_no_state(context: LocalContext, tmp_path: Path) -> None:
    """An output that runs several jobs on its RDD counts each batch once, and each of its jobs sees the same."""
    seen: list[bool] = []

    def twice(rdd: Any) -> None:
        seen.append(sorted(rdd.collect()) == sorted(rdd.collect()))
        seen.append(rdd.count() == 2)

    out = run_with(context, tmp_path, lambda totals: totals.foreachRDD(twice))

    assert out["totals"] == TOTALS
    assert all(seen)


def test_two_outputs_on_one_state_see_the_same(context: LocalContext, tmp_path: Path) -> None:
    """Two outputs on one state, and two operators on it, all see each batch once."""

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        totals = stream.updateStateByKey(total, name="totals")
        app.collect(totals, "first")
        app.collect(totals, "second")
        app.collect(totals.mapValues(lambda n: -n).mapValues(lambda n: -n), "third")
        app.collect(
            totals.join(totals).mapValues(lambda pair: pair[0] if pair[0] == pair[1] else None), "joined"
        )

    with App(context, tmp_path, job, BATCHES) as app:
        out = app.run(2).crash().run(4).out

    assert out["first"] == out["second"] == out["third"] == out["joined"] == TOTALS


def test_state_is_computed_once_however_many_look(context: LocalContext, tmp_path: Path) -> None:
    """The update function is called once for each key and batch, with many outputs, windows and jobs on its state."""
    calls = context.accumulator(0)

    def counted(values: list[int], state: int | None) -> int:
        calls.add(1)
        return total(values, state)

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        totals = stream.updateStateByKey(counted, name="totals")
        app.collect(totals, "first")
        app.collect(totals.window(2), "second")
        app.collect(totals.updateStateByKey(total, name="totals of totals"), "third")
        totals.foreachRDD(lambda rdd: rdd.take(1) and rdd.count())

    with App(context, tmp_path, job, BATCHES) as app:
        app.run(3).crash().run(3)

    assert calls.value == 2 * 6


def test_an_output_that_is_never_reached_again_loses_no_state(context: LocalContext, tmp_path: Path) -> None:
    """When the first of two outputs fails, the batch runs again for both, over the state before it."""

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        totals = stream.updateStateByKey(total, name="totals")
        app.collect(totals, "first")
        app.collect(totals, "second")

    with App(context, tmp_path, job, BATCHES) as app:
        app.run()
        app.crash_in = "first"
        with pytest.raises(UserFunctionError):
            app.run()
        app.crash().run(4)

    assert app.out["second"] == TOTALS
    assert app.out["first"] == [TOTALS[0], TOTALS[1], *TOTALS[1:]]


def test_a_slide_that_skips_a_batch_loses_nothing(context: LocalContext, tmp_path: Path) -> None:
    """A window whose slide passes over batches takes in every one of them, crash or not."""

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        app.collect(stream.reduceByKeyAndWindow(add, sub, 4, 3), "windows")

    with App(context, tmp_path, job, BATCHES) as app:
        for _ in BATCHES:
            app.run().crash()

    assert app.out["windows"] == [
        [("a", 1 + 2 + 3), ("b", 60)],
        [("a", 3 + 4 + 5 + 6), ("b", 180)],
    ]


def test_a_window_over_state_keeps_each_batchs_state(context: LocalContext, tmp_path: Path) -> None:
    """A window over state holds the states as they were at each of its batches, also those from before a crash."""

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        app.collect(stream.updateStateByKey(total, name="totals").window(3, 2), "history")

    with App(context, tmp_path, job, BATCHES) as app:
        for _ in BATCHES:
            app.run().crash()

    assert app.out["history"] == [
        sorted(pair for at in range(max(0, end - 3), end) for pair in TOTALS[at]) for end in (2, 4, 6)
    ]


def test_a_reduced_window_over_state_keeps_each_batchs_state(context: LocalContext, tmp_path: Path) -> None:
    """A reduced window over state adds up the states of its batches, also those from before a crash."""

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        totals = stream.updateStateByKey(total, name="totals")
        app.collect(totals.reduceByKeyAndWindow(add, sub, 2, name="pairs"), "sums")

    with App(context, tmp_path, job, BATCHES) as app:
        for _ in BATCHES:
            app.run().crash()

    a = [state[0][1] for state in TOTALS]
    assert [batch[0] for batch in app.out["sums"]] == [("a", x + y) for x, y in zip([0, *a], a, strict=False)]


def test_state_over_state_counts_each_batch_once(context: LocalContext, tmp_path: Path) -> None:
    """State that is fed by another state sees it once a batch, crash or not."""

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        totals = stream.updateStateByKey(total, name="totals")
        app.collect(totals.updateStateByKey(total, name="sums of totals"), "sums")

    with App(context, tmp_path, job, BATCHES) as app:
        for _ in BATCHES:
            app.run().crash()

    a = [state[0][1] for state in TOTALS]
    assert [batch[0][1] for batch in app.out["sums"]] == [sum(a[: n + 1]) for n in range(6)]


def test_a_catch_up_batch_counts_everything_once_at_one_time(context: LocalContext, tmp_path: Path) -> None:
    """A batch that takes over missed times belongs to the newest whole: state counts it once, the window of that time holds it."""

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        app.collect(stream.updateStateByKey(total, name="totals"), "totals")
        app.collect(stream.reduceByKeyAndWindow(add, sub, 3, name="windows"), "windows")

    with App(context, tmp_path, job, BATCHES, every_interval=False) as app:
        app.run(3)
        # Down for two intervals: the window still reaches back to the third batch.
        app.clock.advance(1_000)
        app.crash().run(1)
        # And far behind: nothing older is in the window.
        app.clock.advance(60_000)
        app.run(2)

    assert app.out["totals"] == TOTALS
    assert [batch[0][1] for batch in app.out["windows"]] == [1, 1 + 2, 1 + 2 + 3, 3 + 4, 5, 5 + 6]


def test_a_kill_across_a_slide_boundary_changes_no_window(context: LocalContext, tmp_path: Path) -> None:
    """A batch on which a window slides runs again after a failed output, before and after a restart, with the same window."""

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        app.collect(stream.reduceByKeyAndWindow(add, sub, 3, 2, name="windows"), "windows")
        app.collect(stream, "batches")

    with App(context, tmp_path, job, BATCHES) as app:
        app.run(3)
        app.crash_in = "windows"
        with pytest.raises(UserFunctionError):
            app.run()
        app.crash_in = "windows"
        with pytest.raises(UserFunctionError):
            app.crash()
        app.start().run(2)

    fourth = [("a", 2 + 3 + 4), ("b", 90)]
    assert app.out["windows"] == [
        [("a", 3), ("b", 30)],
        fourth,
        fourth,
        fourth,
        [("a", 4 + 5 + 6), ("b", 150)],
    ]
    assert app.out["batches"] == BATCHES


def test_a_torn_frame_is_cut_and_its_batch_runs_again(context: LocalContext, tmp_path: Path) -> None:
    """A commit that was torn by the crash counts as not made: its batch runs again with its own time and ranges."""

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        app.collect(stream.updateStateByKey(total, name="totals"), "totals")

    with App(context, tmp_path, job, BATCHES) as app:
        app.run(3)
        (segment,) = tmp_path.glob("test/journal/*.log")
        size = segment.stat().st_size
        app.ssc.stop(stopSparkContext=False)
        os.truncate(segment, size - 7)
        app.start().run(3)

    assert app.out["totals"] == [*TOTALS[:3], TOTALS[2], *TOTALS[3:]]


def test_a_damaged_frame_is_refused_and_not_cut(context: LocalContext, tmp_path: Path) -> None:
    """A flipped bit in an acknowledged frame is an error with file, offset and remedy, and the folder stays as it is."""

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        app.collect(stream.updateStateByKey(total, name="totals"), "totals")

    with App(context, tmp_path, job, BATCHES) as app:
        app.run(3)
        (segment,) = tmp_path.glob("test/journal/*.log")
        damaged = bytearray(segment.read_bytes())
        damaged[len(damaged) // 2] ^= 1
        app.ssc.stop(stopSparkContext=False)
        segment.write_bytes(damaged)
        for _ in range(2):
            with pytest.raises(
                CorruptLogError, match=rf"{segment} is damaged at byte \d+: .* restore the file from a copy"
            ):
                app.start()

    assert segment.read_bytes() == damaged
    assert app.out["totals"] == TOTALS[:3]

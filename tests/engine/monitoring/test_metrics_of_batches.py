"""Metrics of batches by value: counters and delays, lag and latency, and what listeners are told of outputs."""

from functools import partial
from operator import add
from pathlib import Path
from typing import Any

import pytest

from engine import LocalContext, ManualClock, StreamingContext, StreamingListener
from engine.errors import UserFunctionError
from engine.monitoring.metrics import PrometheusListener
from tests.engine.app import START_MS
from tests.engine.monitoring.metered import FIRST, PAIRS, SECOND, TABLE, TOPIC, Metered, metered, value_of


def test_batches_move_counters_and_delays(tmp_path: Path) -> None:
    """A committed batch is counted with its records, its delays, its stages, its tasks and its offsets."""
    with metered(tmp_path) as app:
        app.in_output = lambda: app.clock.advance(250)
        app.write(0, *[(0, value_of("a", 0))] * 3)
        app.write(1, (0, value_of("b", 0)))
        app.clock.advance(500)
        app.run()

        assert app.value("engine_batches_total", outcome="completed") == 1
        assert app.value("engine_batches_total", outcome="failed") == 0
        assert app.value("engine_records_total", topic=TOPIC) == 4
        assert app.histogram("engine_batch_records") == (1, 4)
        assert app.histogram("engine_scheduling_delay_seconds") == (1, 0.5)
        assert app.histogram("engine_processing_seconds") == (1, 0.25)
        assert app.histogram("engine_total_delay_seconds") == (1, 0.75)
        assert app.histogram("engine_output_seconds", **TABLE) == (1, 0.25)
        assert app.histogram("engine_stage_seconds", stage="outputs") == (1, 0.25)
        for stage in ("plan", "begin", "state", "finish", "ledger", "commit", "snapshot", "purge"):
            assert app.histogram("engine_stage_seconds", stage=stage) == (1, 0)
        assert app.value("engine_offset", **FIRST) == 3
        assert app.value("engine_offset", **SECOND) == 1
        assert app.value("engine_last_batch_time_seconds") == START_MS / 1_000 + 1
        assert app.value("engine_last_commit_time_seconds") == START_MS / 1_000 + 1.75
        assert (app.value("engine_tasks_total", outcome="completed") or 0) >= 6
        assert app.value("engine_tasks_total", outcome="failed") == 0


def test_running_batch_is_told_while_it_runs(tmp_path: Path) -> None:
    """engine_running_batches is 1 in an output and 0 after the commit."""
    seen: list[float | None] = []
    with metered(tmp_path) as app:
        app.in_output = lambda: seen.append(app.value("engine_running_batches"))
        app.run()

        assert seen == [1]
        assert app.value("engine_running_batches") == 0


def test_sliding_output_is_observed_when_it_runs(tmp_path: Path) -> None:
    """Over four batches an output with a slide of two runs twice, the other four times."""
    with metered(tmp_path) as app:
        app.run(4)

        assert app.value("engine_output_seconds_count", **TABLE) == 4
        assert app.value("engine_output_seconds_count", **PAIRS) == 2


def test_failed_output_is_counted_by_name(tmp_path: Path) -> None:
    """An output that raises is a failure of this output and a failed run, and no duration."""

    def fail() -> None:
        raise ValueError("no")

    with metered(tmp_path, in_output=fail) as app:
        with pytest.raises(UserFunctionError):
            app.run()

        assert app.value("engine_output_failures_total", **TABLE, outcome="stopped") == 1
        assert app.value("engine_output_failures_total", **PAIRS, outcome="stopped") == 0
        assert app.histogram("engine_output_seconds", **TABLE) == (0, 0)
        assert app.value("engine_batches_total", outcome="failed") == 1
        assert app.value("engine_running_batches") == 0
        assert app.value("engine_checkpoint_failures_total") == 0


def test_function_that_raises_is_a_failed_task(tmp_path: Path) -> None:
    """A task whose function raises counts as failed."""
    listener = PrometheusListener()
    with LocalContext("local", "failing") as context:
        clock = ManualClock(START_MS)
        ssc = StreamingContext(context, 1, clock=clock)
        ssc.addStreamingListener(listener)
        ssc.queueStream([[0]]).map(lambda n: 1 // n).foreachRDD(lambda rdd: rdd.collect(), name="all")
        ssc.start(thread=False)
        clock.advance(1_000)
        with pytest.raises(UserFunctionError):
            ssc.runBatch()
        ssc.stop(stopSparkContext=False)

    assert listener.value("engine_tasks_total", outcome="failed") == 1
    assert listener.value("engine_output_failures_total", job="", output="all", outcome="stopped") == 1


@pytest.mark.slow
def test_killed_executor_is_told(tmp_path: Path) -> None:
    """A killed executor costs lost tasks, a failed run, a replayed batch and a restart; the new one's process is read."""
    with metered(tmp_path, "local[2]") as app:
        app.write(0, (0, value_of("a", 0)))
        app.run()
        before = [app.value("engine_executor_cpu_seconds_total", executor=number) for number in "01"]
        app.kill_executor(1)
        app.run()

        assert all(seconds is not None and seconds > 0 for seconds in before)
        assert app.value("engine_executors") == 2
        assert app.value("engine_executor_restarts_total") == 1
        assert (app.value("engine_tasks_total", outcome="lost") or 0) >= 1
        assert app.value("engine_batches_total", outcome="failed") == 1
        assert app.value("engine_batches_total", outcome="completed") == 2
        assert app.value("engine_replayed_batches_total") == 1
        for number in "01":
            memory = app.value("engine_executor_resident_memory_bytes", executor=number)
            assert memory is not None
            assert memory > 1e6


@pytest.mark.slow
def test_dead_executor_has_no_memory(tmp_path: Path) -> None:
    """A scrape after an executor's death, before any task has met it, finds the other one only."""
    with metered(tmp_path, "local[2]") as app:
        app.kill_executor(0)
        while app.value("engine_executor_resident_memory_bytes", executor="0") is not None:
            pass  # the signal is on its way

        assert app.value("engine_executor_resident_memory_bytes", executor="1") is not None
        assert app.value("engine_executor_cpu_seconds_total", executor="0") is None


def test_lag_is_what_is_not_committed(tmp_path: Path) -> None:
    """While a batch runs the lag is all that it and later ones will take, after it what it left; seconds grow with the clock."""
    seen: list[float | None] = []
    with metered(tmp_path, rate=2) as app:
        app.in_output = lambda: seen.append(app.value("engine_lag_records", **FIRST))
        app.write(0, *[(at, value_of("a", 0)) for at in (100, 200, 300)])
        app.run()

        assert seen == [3]
        assert app.value("engine_lag_records", **FIRST) == 1
        assert app.value("engine_lag_records", **SECOND) == 0
        assert app.value("engine_lag_seconds", **FIRST) == 0.8
        assert app.value("engine_lag_seconds", **SECOND) == 0
        app.clock.advance(5_000)
        assert app.value("engine_lag_seconds", **FIRST) == 5.8
        app.run()
        assert app.value("engine_lag_records", **FIRST) == 0
        assert app.value("engine_lag_seconds", **FIRST) == 0


def test_record_after_a_silence_is_not_old(tmp_path: Path) -> None:
    """A record that comes after an hour without any is behind since the last batch, and not since the record before it."""
    seen: list[float | None] = []
    with metered(tmp_path) as app:
        app.write(0, (0, value_of("a", 0)))
        app.run()
        app.clock.advance(3_600_000)
        app.run()
        app.write(0, (3_602_500, value_of("a", 0)))
        app.in_output = lambda: seen.append(app.value("engine_lag_seconds", **FIRST))
        app.run()

    assert seen == [1]


def test_latency_is_from_creation_to_acknowledgement(tmp_path: Path) -> None:
    """The first and last record of a slice are observed when the output that shows them is acknowledged."""
    with metered(tmp_path) as app:
        app.in_output = lambda: app.clock.advance(100)
        app.write(0, (400, value_of("a", 0)), (500, value_of("a", 0)), (700, value_of("a", 0)))
        app.run()

        assert app.histogram("engine_end_to_end_seconds", **TABLE) == (2, 0.7 + 0.4)


def test_record_waits_for_the_next_run_of_a_sliding_output(tmp_path: Path) -> None:
    """A record of a batch that the output skips is visible at the output's next run, once."""
    with metered(tmp_path) as app:
        app.write(0, (400, value_of("a", 0)))
        app.run()
        assert app.histogram("engine_end_to_end_seconds", **PAIRS) == (0, 0)
        app.write(1, (1_500, value_of("a", 0)))
        app.run()

        assert app.histogram("engine_end_to_end_seconds", **PAIRS) == (4, 2 * 1.6 + 2 * 0.5)
        app.run(2)
        assert app.histogram("engine_end_to_end_seconds", **PAIRS)[0] == 4


def test_watermark_and_dead_letters_are_told(tmp_path: Path) -> None:
    """Records that do not decode or come late are counted by topic and reason; the watermark is that of the last batch."""
    seen: list[float | None] = []
    letters = partial(Metered.value, name="engine_dead_letters_total", topic=TOPIC)
    with metered(tmp_path) as app:
        app.in_output = lambda: seen.append(letters(app, reason="late"))
        app.write(0, (0, value_of("a", 0)), (0, b"no"), (0, b"nor this"))
        app.run()
        assert app.value("engine_watermark_seconds", topic=TOPIC) is None
        app.clock.advance(300_000)
        app.write(0, (0, value_of("a", 200_000)))
        app.write(1, (0, value_of("a", 200_000)))
        app.run()
        app.write(0, (0, value_of("a", 0)))
        app.run()

        assert letters(app, reason="undecodable") == 2
        assert letters(app, reason="late") == 1
        assert seen == [0, 0, 0]
        assert app.value("engine_watermark_seconds", topic=TOPIC) == START_MS / 1_000 + 200


def test_listener_bus_tells_each_output_with_its_end(tmp_path: Path) -> None:
    """An output is told when it begins and when it ends, and a failed one with the reason."""

    class Told(StreamingListener):
        def __init__(self) -> None:
            self.events: list[Any] = []

        def onOutputOperationStarted(self, outputOperationStarted: Any) -> None:
            """Note it."""
            self.events.append(outputOperationStarted.output)

        def onOutputOperationCompleted(self, outputOperationCompleted: Any) -> None:
            """Note it."""
            self.events.append(outputOperationCompleted.output)

    told = Told()
    with LocalContext("local", "told") as context:
        clock = ManualClock(START_MS)
        ssc = StreamingContext(context, 1, clock=clock)
        ssc.addStreamingListener(told)
        with ssc.job("shop"):
            pairs = ssc.queueStream([[("a", 1)]]).reduceByKey(add)
        pairs.foreachRDD(lambda rdd: rdd.collect(), name="good")
        pairs.foreachRDD(lambda rdd: rdd.first() / 0, name="bad")
        ssc.start(thread=False)
        clock.advance(1_000)
        with pytest.raises(UserFunctionError):
            ssc.runBatch()
        ssc.stop(stopSparkContext=False)
    good, bad = told.events[1], told.events[3]

    assert [event.name for event in told.events] == ["good", "good", "bad", "bad"]
    assert (good.inputs, good.slide, good.failureReason) == (("shop.queue",), 1_000, None)
    assert bad.failureReason.startswith("output 'bad', batch 1000000001000: TypeError")

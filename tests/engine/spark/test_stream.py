"""Streams on a real cluster: what differs from the embedded backend is held here; the operators are held by their own tests."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyspark
import pytest

from engine import LocalContext, StreamingContext
from engine.dstream.dstream import DStream
from engine.dstream.run import batch_time
from engine.errors import ConfigurationError, UserFunctionError
from engine.sources.direct import create_direct_stream
from engine.sources.log import LogSource, LogWriter, create_topic
from tests.engine.app import START_MS, App

pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.timeout(300)]

BATCHES = [[("a", n), ("b", 10 * n), ("c", 1)] for n in range(1, 8)]


def total(values: list[int], state: int | None) -> int:
    """Adds up."""
    return sum(values) + (state or 0)


def flaky(marker: Path) -> Callable[[Any], Any]:
    """A function that fails the first time that it is called anywhere, and never again."""

    def call(element: Any) -> Any:
        if not marker.exists():
            marker.touch()
            raise OSError("the first attempt")
        return element

    return call


def test_state_moves_between_backends(spark_context: pyspark.SparkContext, tmp_path: Path) -> None:
    """A job goes on over one checkpoint folder on Spark where it stopped on local, and back."""
    out: list[Any] = []

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        app.out = {"totals": out}
        app.collect(stream.updateStateByKey(total, name="totals"), "totals")

    with LocalContext("local", "test") as local:
        for context, batches in ((local, 2), (spark_context, 3), (local, 2)):
            with App(context, tmp_path, job, BATCHES) as app:
                app.clock.advance(1_000 * len(out))
                app.run(batches)

    assert out == [
        [("a", n * (n + 1) // 2), ("b", 10 * n * (n + 1) // 2), ("c", n)] for n in range(1, len(BATCHES) + 1)
    ]


def test_an_attempt_that_fails_is_made_again_by_spark_and_counts_once(
    spark_context: pyspark.SparkContext, tmp_path: Path
) -> None:
    """A task that failed once runs again: state, dead letters and reports are those of one run."""
    create_topic(tmp_path / "log", "numbers", 2)
    for partition in range(2):
        with LogWriter(tmp_path / "log", "numbers", partition) as writer:
            writer.append([(START_MS, None, b"poison" if n == 3 else b"%d" % n) for n in range(6)])
    letters: list[Any] = []
    seen: list[Any] = []
    once = flaky(tmp_path / "failed")

    class Letters:
        """A ledger that keeps what was put aside."""

        def put_aside(self, _batch: Any, found: list[Any]) -> None:
            """Keep them."""
            letters.extend(found)

        def record(self, _batch: Any, _zero: Any) -> None:
            """Nothing."""

    def job(ssc: StreamingContext, _stream: DStream[Any], app: App) -> None:
        numbers = create_direct_stream(
            ssc, LogSource(tmp_path / "log", ["numbers"]), name="n", decoder=int, reset="earliest"
        )
        totals = numbers.map(lambda n: ("all", n)).map(once).updateStateByKey(total)
        totals.foreachRDD(lambda rdd: seen.append(rdd.collect()))
        ssc.recordBatches(Letters())

    with App(spark_context, tmp_path / "checkpoints", job, BATCHES) as app:
        app.run(2)

    assert (tmp_path / "failed").exists()
    assert seen == [[("all", 2 * (0 + 1 + 2 + 4 + 5))]] * 2
    assert sorted((letter.partition, letter.offset) for letter in letters) == [(0, 3), (1, 3)]


def test_a_function_that_raises_ends_the_stream_with_its_own_traceback(
    spark_context: pyspark.SparkContext, tmp_path: Path
) -> None:
    """What a user's function raises in an executor arrives as a UserFunctionError that shows his frames."""

    def unlucky(_element: Any) -> Any:
        raise KeyError("page")

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        app.collect(stream.map(unlucky), "all")

    with App(spark_context, tmp_path, job, BATCHES) as app, pytest.raises(UserFunctionError) as raised:
        app.run()

    assert "KeyError: 'page'" in str(raised.value)
    assert f"output 'collect all', batch {START_MS + 1_000}" in str(raised.value)
    assert "in unlucky" in raised.value.user_traceback
    assert "pyspark" not in raised.value.user_traceback


def test_batches_of_a_thread_know_their_time(spark_context: pyspark.SparkContext, tmp_path: Path) -> None:
    """Batches run in another thread than the start, as does the restore of state; their tasks know their batch all the same."""
    seen: list[Any] = []

    def keep(time: Any, rdd: Any) -> None:
        seen.append((int(time.timestamp() * 1_000), rdd.collect()))

    for starts in range(1, 3):
        ssc = StreamingContext(spark_context, 0.5, shards=2, everyInterval=True)
        ssc.checkpoint(tmp_path)
        stream = ssc.queueStream([[("a", 1)], [("a", 2)], [("a", 3)], [("a", 4)]])
        totals = stream.updateStateByKey(total, name="totals")
        totals.map(lambda pair: (int(batch_time()), pair)).foreachRDD(keep, name="keep")
        ssc.start()
        try:
            while len(seen) < 2 * starts and not ssc.awaitTerminationOrTimeout(0.05):
                pass
        finally:
            ssc.stop(stopSparkContext=False)
        del seen[2 * starts :]

    sums = [rows for _, rows in seen]
    assert sums[:2] == [[(seen[0][0], ("a", 1))], [(seen[1][0], ("a", 3))]]
    # The second start goes on where the first was when it was stopped.
    assert all(rows == [(time, ("a", rows[0][1][1]))] for time, rows in seen)
    assert sums[2][0][1][1] > 3


def test_a_window_on_spark_asks_for_a_folder(spark_context: pyspark.SparkContext) -> None:
    """Whatever keeps state on Spark needs a checkpoint folder, where a shard can be had by another worker, and says so."""
    ssc = StreamingContext(spark_context, 1.0)
    pairs = ssc.queueStream([[("a", 1)]])
    pairs.reduceByKeyAndWindow(lambda x, y: x + y, None, 2, 1, name="sums").foreachRDD(lambda _rdd: None)

    with pytest.raises(
        ConfigurationError, match=r"checkpoint directory has not been set.*'sums' keeps state"
    ):
        ssc.start()
    ssc.stop(stopSparkContext=False)

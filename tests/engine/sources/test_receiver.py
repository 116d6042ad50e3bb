"""Receivers: what they store, how they live, what listeners are told."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import pytest

from engine import LocalContext, ManualClock, StreamingContext, StreamingListener
from engine.batch import ReceiverInfo
from engine.errors import (
    CheckpointWriteError,
    ConcurrentRunError,
    ConfigurationError,
    LifecycleError,
    UserFunctionError,
)
from engine.sources.receiver import Receiver
from tests.engine.app import START_MS
from tests.engine.children import wait_until


class Told(Receiver):
    """A receiver that does nothing but what it is told."""

    def __init__(self, on_start: Callable[["Told"], object] = lambda _: None) -> None:
        super().__init__()
        self.calls: list[str] = []
        self._on_start = on_start

    def onStart(self) -> None:
        """Note it."""
        self.calls.append("start")
        self._on_start(self)

    def onStop(self) -> None:
        """Note it."""
        self.calls.append("stop")


class Heard(StreamingListener):
    """Notes what it is told of receivers."""

    def __init__(self) -> None:
        self.events: list[tuple[str, ReceiverInfo]] = []

    def onReceiverStarted(self, receiverStarted: Any) -> None:
        """Note it."""
        self.events.append(("started", receiverStarted.receiverInfo))

    def onReceiverError(self, receiverError: Any) -> None:
        """Note it."""
        self.events.append(("error", receiverError.receiverInfo))

    def onReceiverStopped(self, receiverStopped: Any) -> None:
        """Note it."""
        self.events.append(("stopped", receiverStopped.receiverInfo))

    @property
    def kinds(self) -> list[str]:
        """The events' kinds."""
        return [kind for kind, _ in self.events]


class Times(StreamingListener):
    """Notes when the records of each batch were stored."""

    def __init__(self) -> None:
        self.created: list[list[int]] = []

    def onBatchCompleted(self, batchCompleted: Any) -> None:
        """Note it."""
        self.created += map(list, batchCompleted.created.values())


class Receiving:
    """A context with one receiver; `seen` has what each batch held."""

    def __init__(
        self, context: LocalContext, receiver: Receiver, folder: Path | None = None, **settings: Any
    ) -> None:
        self.clock = ManualClock(START_MS)
        self.ssc = StreamingContext(context, 1.0, clock=self.clock, shards=4, **settings)
        self.seen: list[list[Any]] = []
        self.heard = Heard()
        self.ssc.addStreamingListener(self.heard)
        if folder is not None:
            self.ssc.checkpoint(folder)
        self.ssc.receiverStream(receiver).foreachRDD(lambda rdd: self.seen.append(rdd.collect()))

    def __enter__(self) -> Self:
        self.ssc.start(thread=False)
        return self

    def __exit__(self, *_: object) -> None:
        self.ssc.stop(stopSparkContext=False)

    def run(self) -> Self:
        """A batch."""
        self.clock.advance(1_000)
        self.ssc.runBatch()
        return self


def test_every_form_of_store_keeps_the_order(context: LocalContext) -> None:
    """Single records, lists, iterators and bytes are in the batch in the order in which they were stored."""
    receiver = Told()
    with Receiving(context, receiver) as receiving:
        receiver.store("a")
        receiver.store(("b", 1))
        receiver.store([{"c": 2}, [3]])
        receiver.store(iter(range(3)))
        receiver.store(bytearray(b"\x00"))
        receiver.store(None)
        receiving.run().run()

    assert receiving.seen == [["a", ("b", 1), {"c": 2}, [3], 0, 1, 2, b"\x00", None], []]


def test_records_are_counted_and_spread(context: LocalContext) -> None:
    """A batch of many records is cut into partitions, keeps their order, and tells their number."""
    receiver = Told()
    counts: list[int] = []
    with Receiving(context, receiver) as receiving:
        receiving.heard.onBatchCompleted = lambda told: counts.append(told.batchInfo.numRecords)  # type: ignore[method-assign]
        receiver.store(list(range(9_999)))
        receiving.run()
        (stream,) = receiving.ssc.graph.inputs
        batch = receiving.ssc.graph.batch(START_MS + 1_000)  # type: ignore[arg-type]
        assert stream.range_rdd(batch, batch.ranges[stream.name]).getNumPartitions() == 4

    assert receiving.seen == [list(range(9_999))]
    assert counts == [9_999]


def test_a_stored_record_does_not_change_with_the_receivers(context: LocalContext) -> None:
    """What a receiver changes after the store is not seen."""
    receiver = Told()
    with Receiving(context, receiver) as receiving:
        row = ["a"]
        receiver.store((row, 1))
        row.append("b")
        receiving.run()

    assert receiving.seen == [[(["a"], 1)]]


def test_a_list_is_durable_when_store_returns(context: LocalContext, tmp_path: Path) -> None:
    """A list that was stored is in a later start's first batch, though no batch had begun; its metadata is known there."""
    receiver = Told()
    with Receiving(context, receiver, tmp_path) as receiving:
        receiver.store([1, 2], metadata={"position": 7})
    assert receiving.seen == []
    again = Told()
    with Receiving(context, again, tmp_path) as later:
        assert again.lastMetadata == {"position": 7}
        later.run().run()

    assert later.seen == [[1, 2], []]


def test_single_records_become_a_block_each_interval(context: LocalContext) -> None:
    """Single records are in the log after the block interval, without a batch."""
    receiver = Told()
    with Receiving(context, receiver, blockInterval=0.2) as receiving:
        (stream,) = receiving.ssc.graph.inputs
        receiver.store(1)
        receiver.store(2)
        assert not stream.has_backlog

        def is_written() -> bool:
            receiving.clock.advance(200)
            return stream.has_backlog

        wait_until(is_written, "a block")
        assert stream.log.end == 2  # type: ignore[attr-defined]


def test_rate_bounds_what_is_stored(context: LocalContext) -> None:
    """With a rate, whoever stores waits until the clock allows the next record."""
    receiver = Told()

    def feed() -> None:
        for number in range(15):
            receiver.store(number)
        receiver.store(list(range(15, 25)))
        receiver.store(25)

    with Receiving(context, receiver, receiverMaxRate=10) as receiving:
        thread = threading.Thread(target=feed)
        thread.start()

        def is_done() -> bool:
            receiving.clock.advance(20)
            return not thread.is_alive()

        wait_until(is_done, "the last record")
        assert receiving.clock.wall_ms() - START_MS >= 2_499
        receiving.run()

    assert receiving.seen == [list(range(26))]


def test_restart_stops_and_starts_after_the_delay(context: LocalContext) -> None:
    """A restart tells its reason, stops the receiver at once and starts it when the delay is over."""
    receiver = Told()
    with Receiving(context, receiver) as receiving:
        assert receiver.isStarted()
        receiver.restart("connection lost", ValueError("reset"), delay=1.5)
        receiver.restart("again", delay=1.5)
        assert receiver.isStopped()
        wait_until(lambda: receiver.calls == ["start", "stop"], "the stop")
        receiving.clock.advance(1_499)
        assert receiver.isStopped()

        def is_started_again() -> bool:
            receiving.clock.advance(100)
            return receiver.calls == ["start", "stop", "start"]

        wait_until(is_started_again, "onStart")
        assert receiver.isStarted()
        receiver.store([1])
        receiving.run()

    assert receiving.seen == [[1]]
    assert receiving.heard.kinds == ["started", "error", "started", "stopped"]
    _, error = receiving.heard.events[1]
    assert error.lastErrorMessage == "Restarting receiver with delay 1500 ms: connection lost"
    assert "ValueError: reset" in error.lastError
    assert error.lastErrorTime == START_MS
    assert receiver.calls == ["start", "stop", "start", "stop"]


def test_infos_name_stream_and_place(context: LocalContext) -> None:
    """Listeners are told the number and name of the stream, and where the receiver runs as long as it does."""
    receiver = Told()
    with Receiving(context, receiver) as receiving:
        assert receiver.streamId == 0
        receiver.reportError("odd record")
    started, error, stopped = (info for _, info in receiving.heard.events)

    assert (started.streamId, started.name, started.active, started.executorId) == (
        0,
        "receiver",
        True,
        "driver",
    )
    assert (error.active, error.lastErrorMessage, error.lastError) == (True, "odd record", "")
    assert (stopped.active, stopped.location, stopped.lastErrorMessage) == (False, "", "odd record")


def test_receiver_that_cannot_start_is_stopped(context: LocalContext) -> None:
    """An error in onStart is told and stops the receiver, and the stream goes on without it."""

    def refuse(_: Told) -> None:
        raise ConnectionRefusedError("no server")

    receiver = Told(refuse)
    with Receiving(context, receiver) as receiving:
        wait_until(lambda: receiving.heard.kinds[-1:] == ["stopped"], "the stop")
        receiving.run()

    assert receiving.heard.kinds == ["started", "error", "stopped"]
    assert "no server" in receiving.heard.events[1][1].lastError
    assert receiving.seen == [[]]


def test_receiver_stops_itself(context: LocalContext) -> None:
    """A receiver that stops for good is not started again, and what it stored is in the next batch."""
    receiver = Told()
    with Receiving(context, receiver) as receiving:
        receiver.store("last")
        receiver.stop("no more")
        wait_until(lambda: receiving.heard.kinds[-1:] == ["stopped"], "the stop")
        receiver.restart("too late")
        receiving.run()

    assert receiver.calls == ["start", "stop"]
    assert receiving.seen == [["last"]]


def test_graceful_stop_runs_what_was_received(context: LocalContext) -> None:
    """A graceful stop stops the receiver first, and runs one more batch of what it stored until then."""
    receiver = Told()
    receiver.onStop = lambda: receiver.store(["from onStop"])  # type: ignore[method-assign]
    receiving = Receiving(context, receiver)
    receiving.ssc.start(thread=False)
    receiver.store("waits for its block")
    receiving.ssc.stop(stopSparkContext=False, stopGraceFully=True)

    assert receiving.seen == [["waits for its block", "from onStop"]]
    with pytest.raises(LifecycleError, match="nothing was stored"):
        receiver.store([1])


@pytest.mark.slow
def test_graceful_stop_of_a_running_context_drains(context: LocalContext) -> None:
    """With batches on their own thread, everything that a busy receiver stored until the stop is in a batch."""
    stored: list[int] = []

    def feed(receiver: Told) -> None:
        def store_all() -> None:
            number = 0
            while receiver.isStarted():
                receiver.store([number] if number % 2 else number)
                stored.append(number)
                number += 1

        threading.Thread(target=store_all, daemon=True).start()

    seen: list[int] = []
    ssc = StreamingContext(context, 0.05)
    ssc.receiverStream(Told(feed)).foreachRDD(lambda rdd: seen.extend(rdd.collect()))
    ssc.start()
    wait_until(lambda: len(seen) > 50, "a few batches")
    ssc.stop(stopSparkContext=False, stopGraceFully=True)

    assert seen[: len(stored)] == stored
    assert ssc.awaitTerminationOrTimeout(0)


def test_time_of_a_graceful_stop_is_bounded(context: LocalContext, tmp_path: Path) -> None:
    """When the time for it is over no batch begins, and what was received is in the next start's first batch."""
    receiver = Told()
    receiving = Receiving(context, receiver, tmp_path)
    receiving.ssc.start(thread=False)
    receiver.store([1])
    receiving.ssc.stop(stopSparkContext=False, stopGraceFully=True, gracefulStopTimeout=0)
    assert receiving.seen == []
    with Receiving(context, Told(), tmp_path) as later:
        later.run()

    assert later.seen == [[1]]


def test_plain_stop_leaves_the_blocks_for_the_next_start(context: LocalContext, tmp_path: Path) -> None:
    """Without grace no batch runs, single records that wait are made a block, and the next start has them."""
    receiver = Told()
    with Receiving(context, receiver, tmp_path) as receiving:
        receiver.store("single")
    with Receiving(context, Told(), tmp_path) as later:
        later.run()

    assert (receiving.seen, later.seen) == ([], [["single"]])


def test_full_volume_keeps_single_records(context: LocalContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list that the volume refuses is refused to the receiver, and single records wait for the next try."""
    receiver = Told()
    with Receiving(context, receiver) as receiving:
        receiver.store("waits")
        (stream,) = receiving.ssc.graph.inputs
        writer = stream.log._writer  # type: ignore[attr-defined]

        def refuse(_records: object) -> int:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(writer, "append", refuse)
            with pytest.raises(CheckpointWriteError, match="volume is full"):
                receiver.store(["refused"])
        receiver.store(["taken"])
        receiving.run()

    assert receiving.seen == [["waits", "taken"]]


def test_full_volume_does_not_hold_up_the_stop(
    context: LocalContext, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A stop whose last block the volume refuses ends all the same, and the log tells how many records are lost."""
    receiver = Told()
    with Receiving(context, receiver) as receiving:
        receiver.store("lost")

        def refuse(_records: object) -> int:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(receiving.ssc.graph.inputs[0].log._writer, "append", refuse)  # type: ignore[attr-defined]

    assert "1 single records are lost" in caplog.text


def test_receiver_without_a_context_is_refused() -> None:
    """A receiver that belongs to no running context cannot store."""
    receiver = Told()
    assert receiver.isStopped()
    assert receiver.preferredLocation() is None
    with pytest.raises(LifecycleError, match=r"hand it to ssc.receiverStream\(\)"):
        receiver.store(1)


def test_unknown_records_are_refused_to_the_receiver(context: LocalContext) -> None:
    """A record that the log cannot hold is refused by the store itself."""
    receiver = Told()
    with Receiving(context, receiver), pytest.raises(ConfigurationError, match="of type object"):
        receiver.store(object())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"blockInterval": 0}, "blockInterval is 0 s; give a number above 0"),
        ({"receiverMaxRate": 0}, "receiverMaxRate is 0; give a number above 0, or none"),
    ],
)
def test_impossible_settings_are_refused(
    context: LocalContext, settings: dict[str, float], words: str
) -> None:
    """A block interval or rate that cannot be is refused with the value."""
    with pytest.raises(ConfigurationError, match=words):
        StreamingContext(context, 1.0, **settings)  # type: ignore[arg-type]


def test_window_reads_blocks_again_after_a_restart(context: LocalContext, tmp_path: Path) -> None:
    """A window over a receiver's stream has the blocks of its batches, those of before a restart too, and old ones go."""

    def start() -> tuple[Told, StreamingContext, ManualClock]:
        receiver, clock = Told(), ManualClock(START_MS)
        ssc = StreamingContext(context, 1.0, clock=clock, everyInterval=True)
        ssc.checkpoint(tmp_path)
        stream = ssc.receiverStream(receiver, name="numbers").window(3, 1)
        stream.foreachRDD(lambda rdd: seen.append(rdd.collect()))
        ssc.start(thread=False)
        return receiver, ssc, clock

    seen: list[list[int]] = []
    for number in range(5):
        receiver, ssc, _ = start()
        receiver.store([number])
        ssc.runBatch()
        ssc.stop(stopSparkContext=False)

    assert seen == [[0], [0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 4]]


def test_listeners_learn_when_records_were_stored(context: LocalContext, tmp_path: Path) -> None:
    """A completed batch tells the times of its first and last block, of an earlier process too."""
    receiver, told = Told(), Times()
    with Receiving(context, receiver, tmp_path) as app:
        app.ssc.addStreamingListener(told)
        receiver.store([1, 2])
        app.clock.advance(300)
        receiver.store([3])
        app.run().run()
        receiver.store([4])
    later = Receiving(context, Told(), tmp_path)
    later.clock.advance(5_000)
    later.ssc.addStreamingListener(told)
    with later:
        later.run()

    assert told.created == [
        [START_MS, START_MS + 300],
        [],
        [START_MS + 2_300, START_MS + 2_300],
    ]


def test_failed_batch_ends_the_receivers(context: LocalContext) -> None:
    """An error of runBatch stops the receivers, not only stop()."""
    receiver = Told()
    with Receiving(context, receiver) as app:
        del app.seen
        with pytest.raises(UserFunctionError, match="seen"):
            app.run()

        assert receiver.calls == ["start", "stop"]


def test_takeover_goes_on_with_what_a_living_process_stored(
    context: LocalContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start with takeover reads the blocks of the process that still runs, whose receiver is refused from then on."""
    first, second = Told(), Told()
    with Receiving(context, first, tmp_path) as held:
        first.store([1])
        held.run()
        first.store([2, 3])
        monkeypatch.setattr(StreamingContext, "_active", None)
        taker = Receiving(context, second)
        taker.ssc.checkpoint(tmp_path, takeover=True)
        with taker:
            with pytest.raises(ConcurrentRunError, match="has taken over"):
                first.store([4])
            second.store([5])
            taker.clock.advance(1_000)
            taker.run()

    assert (held.seen, taker.seen) == ([[1]], [[2, 3, 5]])

"""Receivers: what they store, how they live, what listeners are told."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import pytest

from engine import LocalContext, ManualClock, StreamingContext, StreamingListener
from engine.batch import ReceiverInfo
from engine.dstream.graph import DStreamGraph
from engine.errors import (
    CheckpointWriteError,
    ConcurrentRunError,
    ConfigurationError,
    LifecycleError,
    UserFunctionError,
)
from engine.sources import portions
from engine.sources import receiver as receivers
from engine.sources.blocks import BlockLog
from engine.sources.receiver import Receiver, ReceiverInputDStream
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


def appends(patch: pytest.MonkeyPatch, refuse_from: int | None = None) -> list[int]:
    """Number of records of each append from now on; the volume is full from one of them on."""
    append: Any = BlockLog.append
    sizes: list[int] = []

    def counted(log: BlockLog, values: list[bytes], key: bytes | None = None) -> int:
        sizes.append(len(values))
        if refuse_from is not None and len(sizes) >= refuse_from:
            raise CheckpointWriteError("the volume is full")
        return int(append(log, values, key))

    patch.setattr(BlockLog, "append", counted)
    return sizes


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
        if folder is None and not context.master.startswith("local"):
            self._temporary = TemporaryDirectory()
            folder = Path(self._temporary.name)
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


def test_blocks_are_bounded_by_bytes(context: LocalContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large records, single ones and those of an iterator, are several blocks, each of bounded size, and keep their order."""
    monkeypatch.setattr(receivers, "BLOCK_BYTES", 1_000)
    monkeypatch.setattr(portions, "BLOCK_BYTES", 1_000)
    sizes = appends(monkeypatch)
    texts = [f"{number}" * 400 for number in range(7)]
    receiver = Told()
    with Receiving(context, receiver) as receiving:
        for text in texts:
            receiver.store(text)
        receiver.store(iter(texts))
        receiver.store("x" * 5_000)
        receiver.store("last")
        receiving.run()

    assert receiving.seen == [[*texts, *texts, "x" * 5_000, "last"]]
    assert sizes == [2, 2, 2, 1, 2, 2, 2, 1, 1, 1]


def test_large_list_is_several_blocks(context: LocalContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list that no append takes whole is several, and its metadata are known when the last one is there, not before."""
    monkeypatch.setattr(portions, "LIST_BYTES", 1_000)
    receiver = Told()
    with Receiving(context, receiver) as receiving:
        receiver.store([1], metadata="before")
        with monkeypatch.context() as patch:
            sizes = appends(patch, refuse_from=2)
            with pytest.raises(CheckpointWriteError, match="full"):
                receiver.store(["a" * 400] * 4, metadata="all")
            assert receiver.lastMetadata == "before"
        receiver.store(["b" * 400] * 3, metadata="all")
        assert receiver.lastMetadata == "all"
        receiving.run()

    assert sizes == [2, 2]
    assert receiving.seen == [[1, *["a" * 400] * 2, *["b" * 400] * 3]]


def test_metadata_of_an_iterator_come_with_its_last_portion(
    context: LocalContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An iterator that fails half way leaves the metadata of what was there whole before it."""
    monkeypatch.setattr(portions, "CHUNK_RECORDS", 2)

    def fails() -> Iterator[int]:
        yield from range(7)
        raise ValueError("connection lost")

    receiver = Told()
    with Receiving(context, receiver) as receiving:
        receiver.store([1], metadata="before")
        with pytest.raises(ValueError, match="connection lost"):
            receiver.store(fails(), metadata="all")
        assert receiver.lastMetadata == "before"
        receiver.store(iter(range(5)), metadata="all")
        assert receiver.lastMetadata == "all"
        receiving.run()

    assert receiving.seen == [[1, *range(4), *range(5)]]


def test_record_that_is_too_large_is_refused_to_the_receiver(
    context: LocalContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record or metadata that no append has room for are refused by the store itself, and the stream goes on."""
    for name in ("MAX_RECORD_BYTES", "MAX_METADATA_BYTES", "BLOCK_BYTES"):
        monkeypatch.setattr(portions, name, 1_000)
    monkeypatch.setattr(receivers, "BLOCK_BYTES", 1_000)
    receiver = Told()
    with Receiving(context, receiver) as receiving:
        for store in (["x" * 2_000], iter(["x" * 2_000]), "x" * 2_000, b"x" * 2_000):
            with pytest.raises(ConfigurationError, match=r"a record has 200\d bytes, .* at most 1000"):
                receiver.store(store)
        with pytest.raises(ConfigurationError, match=r"metadata of a block has 200\d bytes"):
            receiver.store("small", metadata="x" * 2_000)
        receiver.store("small")
        receiving.run()

    assert receiving.seen == [["small"]]


@pytest.mark.slow
def test_largest_records_fit_into_an_append(context: LocalContext) -> None:
    """A record of the largest size with metadata of the largest is stored, alone and in a list that is more than an append takes."""
    receiver = Told()
    largest = b"x" * (portions.MAX_RECORD_BYTES - 5)
    metadata = "m" * (portions.MAX_METADATA_BYTES - 5)
    with Receiving(context, receiver) as receiving:
        receiver.store(largest, metadata)
        receiver.store([largest, *[b"y" * 100] * 200_000], metadata)
        (stream,) = receiving.ssc.graph.inputs
        assert stream.log.end == 200_002  # type: ignore[attr-defined]
        assert receiver.lastMetadata == metadata


def test_thread_of_blocks_outlives_an_error(context: LocalContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that nobody thought of while a block is made is told, and later blocks are made all the same."""
    receiver = Told()
    with Receiving(context, receiver, blockInterval=0.2) as receiving:
        (stream,) = receiving.ssc.graph.inputs

        def time_passes() -> None:
            receiving.clock.advance(200)

        with monkeypatch.context() as patch:
            patch.setattr(BlockLog, "append", lambda *_: 1 // 0)
            receiver.store("waits")
            wait_until(lambda: time_passes() or "error" in receiving.heard.kinds, "the error")
        wait_until(lambda: time_passes() or stream.has_backlog, "a block")
        receiving.run()

    assert receiving.seen == [["waits"]]
    assert "ZeroDivisionError" in receiving.heard.events[1][1].lastError


def test_replay_that_fails_at_once_leaves_no_receiver(
    context: LocalContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the batch that runs again has failed before a receiver is started, it is ended all the same."""
    first = Told()
    with Receiving(context, first, tmp_path) as app:
        del app.seen
        first.store([1])
        with pytest.raises(UserFunctionError, match="seen"):
            app.run()
    second = Told()
    app = Receiving(context, second, tmp_path)
    del app.seen
    begin = ReceiverInputDStream.begin_receiving

    def late(stream: ReceiverInputDStream, number: int, tell: Any) -> None:
        assert app.ssc._ended.wait(30)
        begin(stream, number, tell)

    monkeypatch.setattr(ReceiverInputDStream, "begin_receiving", late)
    app.ssc.start()

    assert second.calls == ["start", "stop"]
    with pytest.raises(UserFunctionError, match="seen"):
        app.ssc.awaitTermination(30)
    app.ssc.stop(stopSparkContext=False)


def test_blocks_on_a_cluster_need_a_folder(tmp_path: Path) -> None:
    """A receiver on a cluster is refused without a checkpoint folder, as its executors could not read the blocks; a queue is not."""
    with LocalContext("local") as context:
        context.master = "spark://master:7077"
        for needs in (True, False):
            ssc = StreamingContext(context, 1.0)
            (ssc.receiverStream(Told()) if needs else ssc.queueStream([])).foreachRDD(lambda _: None)
            ssc.graph.validate(has_checkpoint=True)
            if needs:
                with pytest.raises(
                    ConfigurationError, match="'receiver' writes blocks that the executors of spark:"
                ):
                    ssc.start(thread=False)
            else:
                ssc.start(thread=False)
                ssc.stop(stopSparkContext=False)


def test_letting_go_does_not_look_at_every_batch(
    context: LocalContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a batch's end costs does not grow with the batches that are remembered."""
    receiver = Told()
    receiving = Receiving(context, receiver)
    receiving.ssc.remember(60)
    with receiving:
        monkeypatch.delattr(DStreamGraph, "batches_in")
        for number in range(5):
            receiver.store([number])
            receiving.run()
        (stream,) = receiving.ssc.graph.inputs
        assert isinstance(stream, ReceiverInputDStream)
        assert stream.oldest_needed(receiving.ssc.graph.first_remembered().time) == 0  # type: ignore[union-attr]

    assert receiving.seen == [[0], [1], [2], [3], [4]]

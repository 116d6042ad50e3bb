"""Receivers: how they live and end, and what listeners and later starts know of them."""

import threading
from pathlib import Path
from typing import Any

import pytest

from engine import LocalContext, ManualClock, StorageLevel, StreamingContext
from engine.dstream.graph import DStreamGraph
from engine.errors import ConcurrentRunError, ConfigurationError, LifecycleError, UserFunctionError
from engine.sources.receiver import ReceiverInputDStream
from engine.sources.sockets import SocketReceiver, text_lines
from tests.engine.app import START_MS
from tests.engine.children import wait_until
from tests.engine.sources.receiving import Receiving, Times, Told, folder_for_blocks


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


def test_receiver_that_cannot_start_is_started_again(
    context: LocalContext, caplog: pytest.LogCaptureFixture
) -> None:
    """An error in onStart is told with its type, and the receiver is started again after two seconds."""

    def refuse(told: Told) -> None:
        if len(told.calls) == 1:
            raise ConnectionRefusedError("no server")
        told.store([1])

    receiver = Told(refuse)
    with Receiving(context, receiver) as receiving:
        wait_until(lambda: receiver.calls == ["start", "stop"], "the stop")
        receiving.clock.advance(1_999)
        assert receiver.isStopped()

        def is_started_again() -> bool:
            receiving.clock.advance(100)
            return receiver.calls == ["start", "stop", "start"] and receiver.isStarted()

        wait_until(is_started_again, "onStart")
        receiving.run()

    assert receiving.heard.kinds == ["started", "error", "started", "stopped"]
    _, error = receiving.heard.events[1]
    assert error.lastErrorMessage == "Restarting receiver with delay 2000 ms: Error starting receiver 0"
    assert "no server" in error.lastError
    assert "Error starting receiver 0: ConnectionRefusedError: no server" in caplog.text
    assert [1] in receiving.seen


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
    folder = folder_for_blocks(context)
    if folder is not None:
        ssc.checkpoint(folder)
    ssc.receiverStream(Told(feed)).foreachRDD(lambda rdd: seen.extend(rdd.collect()))
    ssc.start()
    wait_until(lambda: len(seen) > 50, "a few batches", 60)
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


def test_receiver_without_a_context_is_refused() -> None:
    """A receiver that belongs to no running context cannot store."""
    receiver = Told()
    assert receiver.isStopped()
    assert receiver.preferredLocation() is None
    with pytest.raises(LifecycleError, match=r"hand it to ssc.receiverStream\(\)"):
        receiver.store(1)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"blockInterval": 0}, "blockInterval is 0; give seconds above 0"),
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
    begin, release = ReceiverInputDStream.begin_receiving, StreamingContext._end_failed
    failed = threading.Event()

    def late(stream: ReceiverInputDStream, number: int, tell: Any) -> None:
        assert failed.wait(30)
        begin(stream, number, tell)

    def end(ssc: StreamingContext) -> None:
        failed.set()
        release(ssc)

    monkeypatch.setattr(StreamingContext, "_end_failed", end)

    monkeypatch.setattr(ReceiverInputDStream, "begin_receiving", late)
    app.ssc.start()

    assert second.calls == ["start", "stop"]
    with pytest.raises(UserFunctionError, match="seen"):
        app.ssc.awaitTermination(30)
    app.ssc.stop(stopSparkContext=False)


def test_storage_level_of_a_receiver_is_kept() -> None:
    """A receiver tells the level that it was made with."""
    receiver = SocketReceiver("127.0.0.1", 9, text_lines, StorageLevel.MEMORY_ONLY)

    assert receiver.storageLevel is StorageLevel.MEMORY_ONLY


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

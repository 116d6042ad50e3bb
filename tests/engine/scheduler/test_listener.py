"""Listeners: what they are told, in both spellings, and that they cannot harm the stream."""

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine import LocalContext, StreamingContext, StreamingListener
from engine.batch import Batch, BatchInfo, OffsetRange, ReceiverInfo, Time
from engine.dstream.dstream import DStream
from engine.errors import LifecycleError
from engine.scheduler import events
from engine.scheduler.listener import StreamingListenerBus
from tests.engine.app import START_MS, App

Job = Callable[[StreamingContext, DStream[Any], App], None]


def two_outputs(*listeners: Any) -> Job:
    """Two outputs, the second every other batch, with these listeners."""

    def job(ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        for listener in listeners:
            ssc.addStreamingListener(listener)
        app.collect(stream, "one")
        app.collect(stream.window(2, 2), "two")

    return job


class Plain(StreamingListener):
    """Written for the engine: reads attributes."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def onStreamingStarted(self, streamingStarted: Any) -> None:
        """Note it."""
        self.told.append(("started", streamingStarted.time))

    def onBatchSubmitted(self, batchSubmitted: Any) -> None:
        """Note it."""
        self._note("submitted", batchSubmitted.batchInfo)

    def onBatchStarted(self, batchStarted: Any) -> None:
        """Note it."""
        self._note("run", batchStarted.batchInfo)

    def onOutputOperationStarted(self, outputOperationStarted: Any) -> None:
        """Note it."""
        info = outputOperationStarted.outputOperationInfo
        self.told.append(("output", info.id, info.name, info.endTime, info.duration, info.failureReason))

    def onOutputOperationCompleted(self, outputOperationCompleted: Any) -> None:
        """Note it."""
        info = outputOperationCompleted.outputOperationInfo
        self.told.append(("done", info.id, info.batchTime, info.duration >= 0, info.failureReason))

    def onBatchCompleted(self, batchCompleted: Any) -> None:
        """Note it."""
        self._note("completed", batchCompleted.batchInfo)

    def _note(self, what: str, info: Any) -> None:
        inputs = {number: (one.name, one.numRecords) for number, one in info.streamIdToInputInfo.items()}
        delays = (info.schedulingDelay, info.processingDelay is None, info.totalDelay is None)
        self.told.append((what, info.batchTime, inputs, *delays, sorted(info.outputOperationInfos)))


class Ported(StreamingListener):
    """Written for PySpark: everything is a method."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def onStreamingStarted(self, streamingStarted: Any) -> None:
        """Note it."""
        self.told.append(("started", streamingStarted.time()))

    def onBatchSubmitted(self, batchSubmitted: Any) -> None:
        """Note it."""
        self._note("submitted", batchSubmitted.batchInfo())

    def onBatchStarted(self, batchStarted: Any) -> None:
        """Note it."""
        self._note("run", batchStarted.batchInfo())

    def onOutputOperationStarted(self, outputOperationStarted: Any) -> None:
        """Note it."""
        info = outputOperationStarted.outputOperationInfo()
        self.told.append(
            ("output", info.id(), info.name(), info.endTime(), info.duration(), info.failureReason())
        )

    def onOutputOperationCompleted(self, outputOperationCompleted: Any) -> None:
        """Note it."""
        info = outputOperationCompleted.outputOperationInfo()
        done = (info.batchTime().milliseconds(), info.duration() >= 0, info.failureReason())
        self.told.append(("done", info.id(), *done))

    def onBatchCompleted(self, batchCompleted: Any) -> None:
        """Note it."""
        self._note("completed", batchCompleted.batchInfo())

    def _note(self, what: str, info: Any) -> None:
        inputs = {
            number: (one.name(), one.numRecords()) for number, one in info.streamIdToInputInfo().items()
        }
        delays = (info.schedulingDelay(), info.processingDelay() == -1, info.totalDelay() == -1)
        outputs = sorted(info.outputOperationInfos())
        self.told.append((what, info.batchTime().milliseconds(), inputs, *delays, outputs))


def test_both_spellings_tell_the_same(context: LocalContext, tmp_path: Path) -> None:
    """A listener that reads attributes and one that calls PySpark's methods are told the same events with the same values."""
    plain, ported = Plain(), Ported()
    with App(context, tmp_path, two_outputs(plain, ported), [["a"]]) as app:
        app.run(2)

    first, second = START_MS + 1_000, START_MS + 2_000
    (name,) = {told[2][0][0] for told in plain.told if told[0] == "submitted"}
    (records,) = {told[2][0][1] for told in plain.told if told[0] == "submitted" and told[1] == first}
    full, empty = {0: (name, records)}, {0: (name, 0)}
    assert plain.told == [
        ("started", START_MS),
        ("submitted", first, full, None, True, True, []),
        ("run", first, full, 0, True, True, []),
        ("output", 0, "collect one", None, None, None),
        ("done", 0, first, True, None),
        ("completed", first, full, 0, False, False, [0]),
        ("submitted", second, empty, None, True, True, []),
        ("run", second, empty, 0, True, True, []),
        ("output", 0, "collect one", None, None, None),
        ("done", 0, second, True, None),
        ("output", 1, "collect two", None, None, None),
        ("done", 1, second, True, None),
        ("completed", second, empty, 0, False, False, [0, 1]),
    ]
    unset = {"submitted": (3,), "output": (3, 4)}
    assert ported.told == [
        tuple(-1 if place in unset.get(told[0], ()) else value for place, value in enumerate(told))
        for told in plain.told
    ]


def test_input_info_tells_the_ranges() -> None:
    """What an input brought has its ranges, and describes those with records, the largest first."""
    ranges = (OffsetRange("t", 0, 5, 7), OffsetRange("t", 1, 3, 3), OffsetRange("t", 2, 0, 9))
    batch = Batch(Time(1_000), {"other": (), "clicks": ranges})
    info = BatchInfo(batch, 1_000, 1_010, 1_030, streams=("clicks", "gone", "other"))
    description = (
        "topic: t\tpartition: 2\toffsets: 0 to 9\tcount: 9\ntopic: t\tpartition: 0\toffsets: 5 to 7\tcount: 2"
    )

    assert sorted(info.streamIdToInputInfo) == [0, 2]
    assert info.streamIdToInputInfo[0].metadata == {"offsets": list(ranges), "Description": description}
    assert info().streamIdToInputInfo()[0].metadataDescription() == description
    assert info().streamIdToInputInfo()[0].inputStreamId() == 0
    assert (info().numRecords(), info().processingDelay(), info().totalDelay()) == (11, 20, 30)


class Refused(StreamingListener):
    """Raises in every event that it is told."""

    def onBatchStarted(self, batchStarted: Any) -> None:
        """Raise."""
        raise ValueError("no batch for me")

    def onBatchCompleted(self, batchCompleted: Any) -> None:
        """Leave, as a script would."""
        raise SystemExit(3)


def test_listener_that_raises_is_named_and_harms_nobody(
    context: LocalContext, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What a listener raises is logged with its name and traceback, and the stream and the other listeners go on."""
    plain = Plain()
    with App(context, tmp_path, two_outputs(Refused(), plain), [["a"], ["b"]]) as app:
        app.run(2)

    said = [record for record in caplog.records if record.name == "engine.scheduler.listener"]
    assert [record.getMessage() for record in said] == [
        "listener Refused failed in onBatchStarted",
        "listener Refused failed in onBatchCompleted",
    ] * 2
    assert said[0].exc_info is not None
    assert str(said[0].exc_info[1]) == "no batch for me"
    assert app.out["one"] == [["a"], ["b"]]
    assert [told[0] for told in plain.told].count("completed") == 2


def test_listener_without_a_method_is_not_asked_for_it(
    context: LocalContext, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An object with one of the methods is a listener too, and nothing is logged of the others."""

    class Only:
        """Hears of commits."""

        completed = 0

        def onBatchCompleted(self, batchCompleted: Any) -> None:
            """Count."""
            self.completed += 1

    only = Only()
    caplog.set_level(logging.ERROR)
    with App(context, tmp_path, two_outputs(only), [["a"]]) as app:
        app.run()

    assert only.completed == 1
    assert caplog.messages == []


def test_stop_in_a_listener_is_refused() -> None:
    """While a listener is told something its thread may not stop the context; others may, and so may it afterwards."""
    bus = StreamingListenerBus()
    refused: list[str] = []
    elsewhere: list[bool] = []

    def may_stop() -> None:
        bus.refuse_stop()
        elsewhere.append(True)

    class Stops(StreamingListener):
        """Stops the context that tells it."""

        def onBatchCompleted(self, batchCompleted: Any) -> None:
            """Ask for it here and on another thread."""
            with pytest.raises(LifecycleError) as error:
                bus.refuse_stop()
            refused.append(str(error.value))
            other = threading.Thread(target=may_stop)
            other.start()
            other.join(10)

    bus.add(Stops())
    bus.post("onBatchCompleted", None)
    bus.refuse_stop()

    assert elsewhere == [True]
    assert refused[0].startswith("Cannot stop StreamingContext within listener bus thread.")


def test_context_is_not_stopped_by_its_listener(context: LocalContext, tmp_path: Path) -> None:
    """A listener that stops its context gets Spark's error, and the stream goes on."""
    errors: list[Exception] = []

    def job(ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        class Stops(StreamingListener):
            """Stops the context."""

            def onBatchCompleted(self, batchCompleted: Any) -> None:
                """Ask for it."""
                with pytest.raises(LifecycleError) as refused:
                    ssc.stop()
                errors.append(refused.value)

        ssc.addStreamingListener(Stops())
        app.collect(stream, "all")

    with App(context, tmp_path, job, [["a"], ["b"]]) as app:
        app.run(2)

    assert app.out["all"] == [["a"], ["b"]]
    assert [str(error)[:61] for error in errors] == [
        "Cannot stop StreamingContext within listener bus thread. Let "
    ] * 2


def test_removed_listener_is_told_no_more() -> None:
    """A listener is told of what comes between its adding and its removal, and nothing after the bus was closed."""
    bus, early, late = StreamingListenerBus(), Plain(), Plain()
    bus.add(early)
    bus.post("onStreamingStarted", events.StreamingListenerStreamingStarted(1))
    bus.add(late)
    bus.remove(early)
    bus.remove(early)
    bus.post("onStreamingStarted", events.StreamingListenerStreamingStarted(2))
    bus.close()
    bus.post("onStreamingStarted", events.StreamingListenerStreamingStarted(3))

    assert (early.told, late.told) == ([("started", 1)], [("started", 2)])


def test_listener_may_remove_itself() -> None:
    """A listener that leaves while it is told something does not keep the next one from being told."""
    bus, last = StreamingListenerBus(), Plain()

    class Once(StreamingListener):
        """Leaves after its first event."""

        def onStreamingStarted(self, streamingStarted: Any) -> None:
            """Leave."""
            bus.remove(self)

    bus.add(Once())
    bus.add(last)
    bus.post("onStreamingStarted", events.StreamingListenerStreamingStarted(1))

    assert last.told == [("started", 1)]


def test_receivers_are_told_in_both_spellings() -> None:
    """Start, error and stop of a receiver come with its info, in which an error's time is None or -1 until there is one."""
    told: list[Any] = []

    class Both(StreamingListener):
        """Notes attributes and methods."""

        def onReceiverStarted(self, receiverStarted: Any) -> None:
            """Note it."""
            info = receiverStarted.receiverInfo
            told.append(("started", info.name, info.active, info.lastErrorTime))
            told.append(("started", info().name(), info().active(), info().lastErrorTime()))

        def onReceiverError(self, receiverError: Any) -> None:
            """Note it."""
            info = receiverError.receiverInfo()
            told.append(("error", info.lastErrorMessage(), info.lastError(), info.lastErrorTime()))

        def onReceiverStopped(self, receiverStopped: Any) -> None:
            """Note it."""
            info = receiverStopped.receiverInfo()
            told.append(("stopped", info.streamId(), info.location(), info.executorId(), info.active()))

    bus = StreamingListenerBus()
    bus.add(Both())
    bus.post(
        "onReceiverStarted",
        events.StreamingListenerReceiverStarted(ReceiverInfo(2, "socket", True, "here", "driver")),
    )
    bus.post(
        "onReceiverError",
        events.StreamingListenerReceiverError(
            ReceiverInfo(2, "socket", True, "here", "driver", "refused", "OSError: refused", 5)
        ),
    )
    bus.post(
        "onReceiverStopped", events.StreamingListenerReceiverStopped(ReceiverInfo(2, "socket", False, "", ""))
    )

    assert told == [
        ("started", "socket", True, None),
        ("started", "socket", True, -1),
        ("error", "refused", "OSError: refused", 5),
        ("stopped", 2, "", "", False),
    ]


def test_two_threads_are_told_one_after_the_other() -> None:
    """While a listener is in an event of one thread, another thread's event waits."""
    bus = StreamingListenerBus()
    info = ReceiverInfo(0, "r", True, "", "")
    other = threading.Thread(
        target=lambda: bus.post("onReceiverStopped", events.StreamingListenerReceiverStopped(info))
    )
    told: list[str] = []

    class Slow(StreamingListener):
        """Lets another thread try while it is told something."""

        def onReceiverStarted(self, receiverStarted: Any) -> None:
            """Give the other thread time to come in."""
            other.start()
            other.join(0.1)
            told.append("started")

        def onReceiverStopped(self, receiverStopped: Any) -> None:
            """Note it."""
            told.append("stopped")

    bus.add(Slow())
    bus.post("onReceiverStarted", events.StreamingListenerReceiverStarted(info))
    other.join(10)

    assert told == ["started", "stopped"]


def test_method_that_no_attribute_stands_behind_is_named() -> None:
    """A misspelled method of a ported listener is named with the value's type."""
    info = ReceiverInfo(0, "r", True, "", "")

    with pytest.raises(AttributeError, match=r"'ReceiverInfo' object has no attribute 'nme'"):
        info().nme()
    assert repr(info()) == repr(info)

"""Queues: what a batch takes, what later starts find."""

import queue
from collections import deque
from pathlib import Path
from typing import Any

import pytest

from engine import LocalContext, ManualClock, StreamingContext, StreamingListener
from engine.errors import CheckpointError, ConfigurationError, SourceError, UserFunctionError
from engine.sources.blocks import Blocks
from engine.sources.queues import QueueInputDStream
from tests.engine.app import START_MS


class Fed:
    """A context over a queue, whose batches are collected; each start may have another queue."""

    def __init__(self, context: LocalContext, folder: Path | None = None, **arguments: Any) -> None:
        self.seen: list[list[Any]] = []
        self.records: list[int] = []
        self.partitions: list[int] = []
        self.fail = False
        self._context, self._folder, self._arguments = context, folder, arguments
        self._clock = ManualClock(START_MS)

    def start(self, items: Any) -> "Fed":
        """A start with this queue."""
        self.ssc = StreamingContext(self._context, 1.0, clock=self._clock, shards=2, everyInterval=True)
        if self._folder is not None:
            self.ssc.checkpoint(self._folder)
        told = self.records

        class Counts(StreamingListener):
            def onBatchCompleted(self, batchCompleted: Any) -> None:
                told.append(batchCompleted.batchInfo.numRecords)

        self.ssc.addStreamingListener(Counts())
        self.ssc.queueStream(items, **self._arguments).foreachRDD(self._keep)
        try:
            self.ssc.start(thread=False)
        except BaseException:
            self.stop()
            raise
        return self

    def _keep(self, rdd: Any) -> None:
        if self.fail:
            raise ValueError("killed here")
        self.seen.append(rdd.collect())
        self.partitions.append(rdd.getNumPartitions())

    def run(self, batches: int = 1) -> "Fed":
        """So many batches."""
        for _ in range(batches):
            self._clock.advance(1_000)
            self.ssc.runBatch()
        return self

    def fail_once(self) -> "Fed":
        """A batch that is begun and does not end."""
        self.fail = True
        with pytest.raises(UserFunctionError):
            self.run()
        self.fail = False
        return self

    def stop(self) -> "Fed":
        """The end of this start."""
        self.ssc.stop(stopSparkContext=False)
        return self


def test_later_items_are_seen(context: LocalContext) -> None:
    """Items that are appended after the start come into batches, and a queue that runs dry gives empty ones."""
    items: list[list[int]] = []
    fed = Fed(context).start(items).run()
    items.append([1, 2])
    fed.run()
    items += [[3], [4]]
    fed.run(3).stop()

    assert fed.seen == [[], [1, 2], [3], [4], []]
    assert fed.records == [0, 2, 1, 1, 0]


@pytest.mark.parametrize("with_folder", [False, True])
def test_all_at_a_time_takes_what_waits(context: LocalContext, tmp_path: Path, with_folder: bool) -> None:
    """Without oneAtATime a batch has every item that waits, in order."""
    fed = Fed(context, tmp_path if with_folder else None, oneAtATime=False).start([[1], [], [2, 3]]).run(2)
    fed.stop()

    assert fed.seen == [[1, 2, 3], []]
    assert fed.records == [4, 0]  # an item without elements counts as one


@pytest.mark.parametrize("with_folder", [False, True])
def test_default_stands_in_when_none_waits(context: LocalContext, tmp_path: Path, with_folder: bool) -> None:
    """An item without elements is a batch without elements, and the default comes when there is no item."""
    fed = Fed(context, tmp_path if with_folder else None, default=[9]).start([[1], []]).run(4).stop()

    assert fed.seen == [[1], [], [9], [9]]


def test_item_without_elements_has_its_partitions(tmp_path: Path) -> None:
    """A list of nothing is spread as any list, also when its batch runs again; a queue that runs dry has no partitions."""
    with LocalContext("local[2]") as wide:
        fed = Fed(wide, tmp_path).start([[], [1]]).fail_once().stop().start([[], [1]]).run(2).stop()

    assert fed.seen == [[], [1], []]
    assert fed.partitions == [2, 2, 0]


@pytest.mark.parametrize("make", [deque, queue.Queue, queue.SimpleQueue])
def test_items_are_taken_out_of_a_queue(context: LocalContext, tmp_path: Path, make: Any) -> None:
    """Out of a deque or a queue of the standard library items are taken, and those of a later start are new."""
    first, second = make(), make()
    put = "append" if make is deque else "put"
    for item in ([1], [2]):
        getattr(first, put)(item)
    fed = Fed(context, tmp_path).start(first).run().fail_once().stop()
    getattr(second, put)([3])
    fed.start(second).run().stop()

    assert fed.seen == [[1], [2], [3]]


def test_begun_batch_has_its_item_again(context: LocalContext, tmp_path: Path) -> None:
    """An item that came after the start is in the batch that runs again, though the new list does not hold it yet."""
    items: list[Any] = []
    fed = Fed(context, tmp_path).start(items).run()
    items.append([("a", 1), ("b", [2])])
    fed.fail_once().stop().start([]).run().stop()

    assert fed.seen == [[], [("a", 1), ("b", [2])], []]


def test_list_that_is_filled_again_goes_on_where_it_was(context: LocalContext, tmp_path: Path) -> None:
    """A list with the same items goes on behind those that were taken, empty ones among them."""
    items = [[1], [], [2], [], [], [3], [4]]
    fed = Fed(context, tmp_path).start(items)
    for _ in range(3):
        fed.run().fail_once().stop().start(items)
    fed.run().stop()

    assert [batch for batch in fed.seen if batch] == [[1], [2], [3], [4]]


def test_empty_list_holds_new_items_from_then_on(context: LocalContext, tmp_path: Path) -> None:
    """After a restart with an empty list, what is appended to it is new."""
    fed = Fed(context, tmp_path).start([[1], [2]]).run(2).stop()
    items: list[list[int]] = []
    fed.start(items)
    items += [[1], [3]]
    fed.run(2).stop()

    assert fed.seen == [[1], [2], [1], [3]]


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ([[1]], "holds 1 items, and 2 were taken before the restart; start with the same items in it"),
        ([[1], [5], [3]], "item 1 in the list of 'queue' is another than was taken"),
    ],
)
def test_list_with_other_items_is_refused(
    context: LocalContext, tmp_path: Path, items: list[Any], words: str
) -> None:
    """A list that is neither empty nor what it was is refused, as items would be left out in silence."""
    fed = Fed(context, tmp_path).start([[1], [2], [3]]).run(2).stop()
    with pytest.raises(SourceError, match=words):
        fed.start(items)


def test_lost_log_is_refused(context: LocalContext, tmp_path: Path) -> None:
    """A folder whose blocks are gone is refused with the remedy."""
    fed = Fed(context, tmp_path).start([[1], [2]]).run(2).stop()
    for path in (tmp_path / "test" / "blocks" / "queue" / "0").glob("*.log"):
        path.unlink()
    with pytest.raises(CheckpointError, match="restore the folder blocks"):
        fed.start([[1], [2]])


@pytest.mark.parametrize("with_folder", [False, True])
def test_queue_takes_rdds(context: LocalContext, tmp_path: Path, with_folder: bool) -> None:
    """An RDD in the queue is a batch with its elements; with a checkpoint folder they are in the log with their partitions."""
    items = [context.parallelize([1, 2, 3], 2).map(lambda n: n * 10), [4]]
    fed = Fed(context, tmp_path if with_folder else None).start(items)
    if with_folder:
        fed.fail_once().stop().start([])
    else:
        fed.run()
    fed.stop()

    assert fed.seen == [[10, 20, 30]]


def test_elements_of_a_class_come_from_the_list_again(context: LocalContext, tmp_path: Path) -> None:
    """What the log cannot hold comes again from a list that holds it again, and is refused without it."""
    items = [[complex(1, 2)], [3]]
    fed = Fed(context, tmp_path).start(items).fail_once().stop().start(items).run().stop()
    assert fed.seen == [[complex(1, 2)], [3]]

    other = Fed(context, tmp_path / "other").start(items).fail_once().stop()
    with pytest.raises(SourceError, match="has elements that the block log cannot hold"):
        other.start([])
    other.stop()
    with pytest.raises(ConfigurationError, match=r"of type complex .* cannot be written to the block log"):
        Fed(context, tmp_path / "third").start(deque(items)).run()


def test_item_that_is_no_batch_is_refused(context: LocalContext) -> None:
    """An item that is neither elements nor an RDD ends the stream with its value."""
    fed = Fed(context).start([5])
    with pytest.raises(ConfigurationError, match="an item of the queue is 5, of type int; give a list"):
        fed.run()
    fed.stop()


def test_queue_and_batches_share_nothing(context: LocalContext) -> None:
    """A function that changes elements in place changes neither the queue's items nor what another reader sees."""
    items = [[[1]], [[2]]]
    seen = []
    ssc = StreamingContext(context, 1.0, clock=ManualClock(START_MS), everyInterval=True)

    def change(element: list[int]) -> list[int]:
        element.append(0)
        return element

    stream = ssc.queueStream(items)
    stream.map(change).foreachRDD(lambda rdd: seen.append(rdd.collect()))
    stream.map(change).window(2, 1).foreachRDD(lambda rdd: seen.append(rdd.collect()))
    ssc.start(thread=False)
    ssc.runBatch()
    items[0][0].append(7)
    ssc.runBatch()
    ssc.stop(stopSparkContext=False)

    assert seen == [[[1, 0]], [[1, 0]], [[2, 0]], [[1, 0], [2, 0]]]


def test_old_items_are_let_go(context: LocalContext, tmp_path: Path) -> None:
    """Items that no window needs are neither kept in memory nor listed."""
    fed = Fed(context, tmp_path).start([[n] for n in range(20)]).run(20)
    (stream,) = fed.ssc.graph.inputs

    assert len(stream._kept) <= 2  # type: ignore[attr-defined]
    assert len(stream._places) <= 2  # type: ignore[attr-defined]
    fed.stop()


def test_kill_before_the_first_commit_loses_no_item(context: LocalContext, tmp_path: Path) -> None:
    """A list that is empty after a start that committed nothing holds new items, and one with other items is refused."""
    fed = Fed(context, tmp_path).start([["a"]]).fail_once().stop()
    with pytest.raises(SourceError, match="item 0 in the list of 'queue' is another than was taken"):
        fed.start([["b"]])
    items: list[list[str]] = []
    fed.start(items)
    items += [["b"], ["c"]]
    fed.run(2).stop()

    assert fed.seen == [["a"], ["b"], ["c"]]


def test_folder_that_is_given_up_leaves_nothing_behind(context: LocalContext, tmp_path: Path) -> None:
    """A stream that is opened again on an empty folder takes its list from the first item on."""
    Fed(context, tmp_path / "old").start([[1], [2]]).run(2).stop()
    ssc = StreamingContext(context, 1.0)
    ssc.queueStream([[1], [2]])
    (stream,) = ssc.graph.inputs
    assert isinstance(stream, QueueInputDStream)
    for folder, known in (("old/test", 2), ("new", 0)):
        stream._first, stream._kept = 7, {0: stream}  # type: ignore[dict-item]
        stream.open(Blocks(tmp_path / folder, ManualClock()))
        assert (stream._first, stream._kept, len(stream._places)) == (0, {}, known)
        stream.close()

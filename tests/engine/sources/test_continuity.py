"""Whether a log is still the one that was read before, and inputs that are away for a while, on the embedded log."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from engine import LocalContext
from engine.batch import Batch, OffsetRange, Time, TopicPartition
from engine.checkpoint.records import BatchRecord, Begin, Catalog, Commit, decode, encode
from engine.dstream.dstream import DStream
from engine.errors import SourceError
from engine.sources.direct import create_direct_stream
from engine.sources.log import LogSource, LogWriter, create_topic
from tests.engine.app import START_MS, CrashError
from tests.engine.sources.reader import TOPIC, Reader, all_of


def make_again(folder: Path, values: int) -> None:
    """Another topic of the same name, with so many records in its first partition."""
    shutil.rmtree(folder / "log" / TOPIC)
    create_topic(folder / "log", TOPIC, 2)
    with LogWriter(folder / "log", TOPIC, 0) as writer:
        writer.append([(START_MS, None, b"9")] * values)


@pytest.mark.fault(
    31, "the topic's folder is removed while the engine is down, and written past the old offset"
)
def test_topic_made_again_while_down_is_refused(context: LocalContext, tmp_path: Path) -> None:
    """A topic that was made again between two runs is refused by name, though its log reaches further than the old one."""
    with Reader(context, tmp_path, all_of) as reader:
        reader.write(0, b"1", b"2")
        reader.run().run()
        make_again(tmp_path, 5)
        reader.crash()
        with pytest.raises(
            SourceError, match=r"'events' was deleted and made again \(its id was \d+, now \d+\)"
        ):
            reader.run()

    assert reader.seen["all"] == [[1, 2], []]


@pytest.mark.fault(31, "the topic is made again while a begun batch waits for its next run")
def test_begun_batch_does_not_read_another_topic(context: LocalContext, tmp_path: Path) -> None:
    """The very first batch, begun and not committed, does not run again over a topic that was made again."""
    reader = Reader(context, tmp_path, all_of).start()
    reader.write(0, b"1", b"2")
    reader.crash_in_ledger = True
    with pytest.raises(CrashError):
        reader.run()
    make_again(tmp_path, 5)
    with pytest.raises(SourceError, match="made again"):
        reader.crash()
    reader.ssc.stop(stopSparkContext=False)

    assert reader.seen["all"] == [[1, 2]]


def test_input_that_was_away_goes_on_where_it_was(context: LocalContext, tmp_path: Path) -> None:
    """An input that one version of the job does not have goes on behind its last batch when it is there again."""
    create_topic(tmp_path / "log", "other", 1)
    starts = iter(range(10))

    def outputs(stream: DStream[Any], reader: Reader) -> None:
        reader.collect(stream, "known")
        if next(starts) in {0, 3}:
            source = LogSource(tmp_path / "log", ["other"])
            other = create_direct_stream(reader.ssc, source, name="other", decoder=json.loads, reset="latest")
            reader.collect(other, "other")

    def write(number: int) -> None:
        with LogWriter(tmp_path / "log", "other", 0) as writer:
            writer.append([(START_MS, None, b"%d" % number)])

    with Reader(context, tmp_path, outputs) as reader:
        reader.run()
        write(1)
        reader.run().crash()
        write(2)
        reader.run().crash().run().crash().run()

    assert [list(batch.ranges) for batch in reader.batches] == [[TOPIC, "other"]] * 2 + [[TOPIC]] * 2 + [
        [TOPIC, "other"]
    ]
    assert reader.seen["other"] == [[], [1], [2]]


def test_partition_that_was_away_goes_on_where_it_was() -> None:
    """The journal keeps the last range of each partition, those that are in no batch for a while too."""
    catalog = Catalog()
    for ranges in ([(0, 0, 3), (1, 0, 5)], [(0, 3, 4)], [(0, 4, 4), (2, 0, 1)]):
        parts = tuple(OffsetRange("pages", *part) for part in ranges)
        catalog.take_ranges(BatchRecord.of(Batch(Time(1), {"in": parts})))

    ends = {part.topicPartition(): part.untilOffset for part in catalog.last_ranges()["in"]}
    assert ends == {TopicPartition("pages", number): end for number, end in ((0, 4), (1, 5), (2, 1))}


def test_journal_of_before_is_read() -> None:
    """A journal without ids and kept ranges gives the ranges of its last commit."""
    batch = BatchRecord.of(Batch(Time(1), {"in": (OffsetRange("pages", 0, 0, 3),)}))
    begin = decode(b'{"type":"begin","batch":{"time":1,"attempt":0,"ranges":{}}}', "here")
    catalog = Catalog(commit=Commit(batch=batch, operators={}, versions={}))

    assert isinstance(begin, Begin)
    assert begin.topics == {}
    assert catalog.last_ranges() == {"in": (OffsetRange("pages", 0, 0, 3),)}


def test_begin_tells_of_topics_once() -> None:
    """The id of a topic is in the first begin that knows it, and the begins after it are as small as without."""
    catalog, batch = Catalog(), Batch(Time(1), {})
    first = catalog.begin(batch, {"in": {"pages": "a"}})
    catalog.take_begin(first)
    second = catalog.begin(batch, {"in": {"pages": "a"}})
    third = catalog.begin(batch, {"in": {"pages": "a", "ads": "b"}})
    catalog.take_begin(third)

    assert (first.topics, second.topics) == ({"in": {"pages": "a"}}, {})
    assert b"topics" not in encode(second)
    assert catalog.topics == {"in": {"pages": "a", "ads": "b"}}


def test_windows_that_read_again_are_known_at_the_start(context: LocalContext, tmp_path: Path) -> None:
    """Windows over windows add up, and those behind a state or of reduced values read nothing again."""

    def outputs(stream: DStream[Any], reader: Reader) -> None:
        reader.collect(stream.window(4).map(abs).window(3), "windows")
        pairs = stream.map(lambda n: (n, 1))
        pairs.reduceByKeyAndWindow(max, None, 30).pprint()
        pairs.updateStateByKey(lambda new, old: sum(new) + (old or 0)).window(60).pprint()

    with Reader(context, tmp_path, outputs) as reader:
        (stream,) = reader.ssc.graph.inputs
        assert stream.rereads == 7_000

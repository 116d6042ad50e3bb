"""An application over Kafka when records, topics and offsets are not what they were, on a real broker."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine import StreamingContext
from engine.batch import TopicPartition
from engine.errors import ConfigurationError, OffsetOutOfRangeError, SourceError, UserFunctionError
from engine.sources.decoders import json_decoder
from engine.sources.kafka import Assign, KafkaDStream, KafkaUtils, PreferConsistent
from services.pipeline.records import PageView
from tests.engine.sources.kafka.job import Job
from tests.engine.sources.kafka.world import TopicWriter, eventually, numbered
from tests.recovery.kafka_world import (
    Noted,
    add_partitions,
    delete_before,
    job_over,
    log_file,
    make_again,
    make_topic,
    tiles,
)
from tests.servers import KafkaServer

pytestmark = [pytest.mark.servers, pytest.mark.slow]


@pytest.fixture
def topic(fresh_topic: Callable[[int], str]) -> str:
    """A new topic with one partition."""
    return fresh_topic(1)


@pytest.fixture
def writer(kafka_server: KafkaServer, topic: str) -> TopicWriter:
    """Writes to the topic."""
    return TopicWriter(kafka_server.bootstrap, topic)


@pytest.fixture
def noted() -> Noted:
    """What the application records."""
    return Noted()


def texts(begin: int, end: int) -> list[str]:
    """Values that tell their number, decoded."""
    return [str(number) for number in range(begin, end)]


class TestExpired:
    """Records that retention removed before they were read."""

    @pytest.mark.fault(30, "deleteRecords behind the committed offset while the engine is down")
    def test_expired_offsets_are_an_error(
        self, kafka_server: KafkaServer, writer: TopicWriter, tmp_path: Path, noted: Noted
    ) -> None:
        """Offsets that are gone end the stream with an error that names them, and nothing behind them is read."""
        writer.write(numbered(0, 10))
        with job_over(kafka_server, writer.topic, tmp_path, noted) as job:
            job.run()
            writer.write(numbered(10, 100))
            delete_before(kafka_server, writer.topic, 40)
            job.restart()
            with pytest.raises(
                OffsetOutOfRangeError, match=r"the records of offsets \[10, 40\) are lost, their retention"
            ):
                job.run()

        assert job.values() == texts(0, 10)
        assert noted.letters == []

    @pytest.mark.fault(30, "the same with failOnDataLoss=False")
    def test_expired_offsets_are_passed_over_where_it_was_asked_for(
        self, kafka_server: KafkaServer, writer: TopicWriter, tmp_path: Path, noted: Noted
    ) -> None:
        """With failOnDataLoss=False the rest is read; what is lost is one letter, is counted, and is a gap in the ledger."""
        writer.write(numbered(0, 10))
        with job_over(kafka_server, writer.topic, tmp_path, noted, failOnDataLoss=False) as job:
            job.run()
            writer.write(numbered(10, 100))
            delete_before(kafka_server, writer.topic, 40)
            job.restart().run(2)

        assert job.values() == texts(0, 10) + texts(40, 100)
        (letter,) = noted.letters
        assert letter == (
            writer.topic,
            0,
            10,
            "lost: offsets [10, 40) were gone from the log, and passed over",
            None,
        )
        assert (noted.counted("lost"), noted.ranges()) == (30, [(0, 10), (40, 100)])

    @pytest.mark.parametrize(("until", "rest"), [(40, texts(40, 60)), (60, []), (70, [])])
    @pytest.mark.fault(
        30, "deleteRecords within the range of a batch that was begun, with failOnDataLoss=False"
    )
    def test_begun_batch_passes_over_what_expired(
        self,
        kafka_server: KafkaServer,
        writer: TopicWriter,
        tmp_path: Path,
        noted: Noted,
        until: int,
        rest: list[str],
    ) -> None:
        """A batch that runs again reads what is left of its range; what is lost is counted once, and the next batch goes on."""
        writer.write(numbered(0, 10))
        with job_over(kafka_server, writer.topic, tmp_path, noted, failOnDataLoss=False) as job:
            job.run()
            writer.write(numbered(10, 60))
            job.fails = True
            with pytest.raises(UserFunctionError):
                job.run()
            writer.write(numbered(60, 100))
            delete_before(kafka_server, writer.topic, until)
            job.fails = False
            job.batches.clear()
            job.restart().run()

        assert job.values() == rest + texts(max(until, 60), 100)
        assert noted.counted("lost") == until - 10
        assert noted.ranges() == [(0, 10), (10, 60), (max(until, 60), 100)]


class TestTopics:
    """Topics that are others, or have lost or gained something."""

    @pytest.mark.fault(
        31, "the topic is deleted and made again while the engine is down, and grows past the old offset"
    )
    def test_topic_made_again_while_down_is_refused(
        self, kafka_server: KafkaServer, writer: TopicWriter, tmp_path: Path, noted: Noted
    ) -> None:
        """A topic of the same name is refused by its id, though its log reaches further than the old one."""
        writer.write(numbered(0, 10))
        with job_over(kafka_server, writer.topic, tmp_path, noted) as job:
            job.run()
            job.ssc.stop(stopSparkContext=False)
            make_again(kafka_server, writer.topic)
            TopicWriter(kafka_server.bootstrap, writer.topic).write(numbered(100, 120))
            job.start()
            with pytest.raises(
                SourceError, match=rf"{writer.topic}' was deleted and made again \(its id was"
            ):
                job.run()

        assert job.values() == texts(0, 10)

    @pytest.mark.fault(31, "the topic is made again while a begun batch waits for its next run")
    def test_begun_batch_does_not_read_another_topic(
        self, kafka_server: KafkaServer, writer: TopicWriter, tmp_path: Path, noted: Noted
    ) -> None:
        """A batch that was begun over a topic does not run again over another one of its name."""
        writer.write(numbered(0, 10))
        with job_over(kafka_server, writer.topic, tmp_path, noted) as job:
            job.fails = True
            with pytest.raises(UserFunctionError):
                job.run()
            job.fails = False
            job.ssc.stop(stopSparkContext=False)
            make_again(kafka_server, writer.topic)
            TopicWriter(kafka_server.bootstrap, writer.topic).write(numbered(100, 120))
            job.batches.clear()
            with pytest.raises(SourceError, match="was deleted and made again"):
                job.start()

        assert (job.values(), noted.batches) == ([], [])

    @pytest.mark.fault(32, "two partitions are added and written while the engine is down")
    def test_partitions_added_while_down_are_read_from_their_first_record(
        self, kafka_server: KafkaServer, writer: TopicWriter, tmp_path: Path, noted: Noted
    ) -> None:
        """Partitions that were added while the engine was down are read from offset 0, also with auto.offset.reset=latest."""
        job = job_over(kafka_server, writer.topic, tmp_path, noted)
        job.params["auto.offset.reset"] = "latest"
        with job:
            job.run()
            add_partitions(kafka_server, writer.topic, 3)
            TopicWriter(kafka_server.bootstrap, writer.topic).write([b"new"], 2)
            writer.write([b"old"])
            job.restart().run()

        assert sorted(job.values()) == ["new", "old"]
        assert (noted.ranges(2), len(noted.batches[-1].ranges["in"])) == ([(0, 1)], 3)

    @pytest.mark.fault(
        33, "the broker's file is cut behind its first records while it is down, as an unclean election does"
    )
    def test_lost_tail_is_an_error(
        self, kafka_server: KafkaServer, writer: TopicWriter, tmp_path: Path, noted: Noted
    ) -> None:
        """A log that ends before the committed offset is an error for the process that runs and for the next one."""
        for number in range(10):
            writer.write(numbered(number, number + 1))
        with job_over(kafka_server, writer.topic, tmp_path, noted) as job:
            job.run()
            kafka_server.kill()
            path = log_file(kafka_server, writer.topic)
            with path.open("r+b") as file:
                file.truncate(path.stat().st_size // 2)
            kafka_server.start()
            with pytest.raises(
                SourceError, match=r"ended at offset 10 and now ends at [1-9]: it lost its tail"
            ):
                job.run()
            job.restart()
            with pytest.raises(
                OffsetOutOfRangeError, match=r"to read is 10.*the log lost its tail \[[1-9], 10\)"
            ):
                job.run()

        assert (job.values(), noted.ranges()) == (texts(0, 10), [(0, 10)])

    def test_partition_that_was_not_assigned_for_a_while_goes_on(
        self, kafka_server: KafkaServer, fresh_topic: Callable[[int], str], tmp_path: Path
    ) -> None:
        """A partition that one version of the job leaves out goes on behind its last record when it is assigned again."""
        writer = TopicWriter(kafka_server.bootstrap, fresh_topic(2))
        assigned = iter([(0, 1), (0,), (0, 1)])

        def build(ssc: StreamingContext, job: Job) -> KafkaDStream[Any]:
            places = [(writer.topic, number) for number in next(assigned)]
            return KafkaUtils.createDirectStream(
                ssc, PreferConsistent(), Assign(places, job.params), name="in"
            )

        with Job(kafka_server.bootstrap, tmp_path, build) as job:
            for value in (b"a", b"b", b"c"):
                writer.write([value], 1)
                job.run()
                if value != b"c":
                    job.restart()

        assert job.batches == [["a"], [], ["b", "c"]]

    @pytest.mark.parametrize(("kept", "is_refused"), [("59999", True), ("60000", False), ("-1", False)])
    def test_retention_shorter_than_a_window_is_refused(
        self, kafka_server: KafkaServer, tmp_path: Path, noted: Noted, kept: str, is_refused: bool
    ) -> None:
        """A topic that keeps its records for less than a window of 60 s that reads them again is refused at the start."""
        name = f"kept-{tmp_path.name}"
        make_topic(kafka_server, name, retention_ms=kept)
        TopicWriter(kafka_server.bootstrap, name).write([b"1"])
        with job_over(kafka_server, name, None, noted, window=60) as job:
            if is_refused:
                with pytest.raises(
                    ConfigurationError, match=rf"'{name}' keeps its records for {kept} ms.*the last 60000 ms"
                ):
                    job.run()
            else:
                job.run()

        assert job.values() == ([] if is_refused else ["1"])


class TestRecords:
    """Records that no job can use, and records that come twice."""

    @pytest.mark.fault(35, "broken JSON, a wrong type, a missing field, null, and 10 MB that do not decode")
    def test_poison_is_put_aside_and_the_batch_goes_on(
        self, kafka_server: KafkaServer, tmp_path: Path, noted: Noted
    ) -> None:
        """Each record that no job can use is a letter with its place, reason and bytes, and the records around it count."""
        name = f"poison-{tmp_path.name}"
        make_topic(kafka_server, name, max_message_bytes=str(12 << 20))
        good = b'{"page": "/home", "event_time": 1, "user_id": "u"}'
        poison = [b"{broken", b'{"page": 7, "event_time": 1}', b"{}", None, b"x" * (10 << 20)]
        writer = TopicWriter(kafka_server.bootstrap, name, message_bytes=12 << 20)
        for bad in poison:
            writer.write([good, bad])
        writer.write([good])
        decoder = json_decoder(PageView)
        with job_over(kafka_server, name, tmp_path, noted, decoder=decoder) as job:
            job.run(2)

        assert [record.page for record in job.values()] == ["/home"] * 6
        assert [letter.offset for letter in noted.letters] == [1, 3, 5, 7, 9]
        assert [letter.value for letter in noted.letters] == poison
        assert all(letter.reason.startswith("undecodable: ") for letter in noted.letters)
        assert (noted.counted("undecodable"), tiles(noted.ranges())) == (5, True)

    @pytest.mark.fault(
        36, "the same event is produced twice, as a producer without idempotence does after a timeout"
    )
    def test_event_that_was_sent_twice_counts_for_each_offset(
        self, kafka_server: KafkaServer, writer: TopicWriter, tmp_path: Path, noted: Noted
    ) -> None:
        """An event at two offsets counts twice, over a restart too: exactly once is said of offsets, not of what a value means."""
        writer.write([b"event-1", b"event-1"])
        with job_over(kafka_server, writer.topic, tmp_path, noted) as job:
            job.run().restart().run()

        assert job.values() == ["event-1", "event-1"]
        assert noted.ranges() == [(0, 2)]

    @pytest.mark.fault(
        34, "commits, aborts and markers over several batches, and one transaction open between them"
    )
    def test_transactions_over_batches_count_once(
        self, kafka_server: KafkaServer, writer: TopicWriter, tmp_path: Path, noted: Noted
    ) -> None:
        """Over batches and a restart each committed record counts once, no aborted one does, and the ranges tile the log."""
        with job_over(kafka_server, writer.topic, tmp_path, noted) as job:
            writer.commit(numbered(0, 5))
            writer.abort(numbered(5, 10))
            job.run()
            end = writer.begin(numbered(10, 15))
            job.run().restart().run()
            end(True)
            writer.abort(numbered(15, 20))
            job.run_until(texts(0, 5) + texts(10, 15))
            eventually(lambda: job.run().stream.node.ends[TopicPartition(writer.topic, 0)] == 24)

        assert tiles(noted.ranges())
        assert noted.ranges()[-1][1] == 24

"""Where a stream of Kafka's starts, and which offsets it commits when, on a real Kafka."""

import threading
from pathlib import Path
from typing import Any

import pytest

from engine import StreamingContext
from engine.errors import ConfigurationError, SourceError, UserFunctionError
from engine.sources.kafka import KafkaDStream, KafkaUtils, PreferConsistent, Subscribe, TopicPartition
from tests.engine.sources.kafka.job import Job, MakeTopic, subscribed
from tests.engine.sources.kafka.world import TopicWriter, eventually, numbered
from tests.servers import KafkaServer

pytestmark = [pytest.mark.servers, pytest.mark.slow]


@pytest.fixture
def topic(fresh_topic: MakeTopic) -> str:
    """A new topic with two partitions."""
    return fresh_topic(2)


class TestStart:
    """Where a fresh application starts."""

    def test_given_offsets_win(self, kafka_server: KafkaServer, writer: TopicWriter) -> None:
        """Offsets of the strategy are where a partition starts; the others follow the group's offsets, and then the reset."""
        writer.write(numbered(0, 4), 0)
        writer.write(numbered(10, 14), 1)

        def build(ssc: StreamingContext, job: Job) -> KafkaDStream[Any]:
            offsets = {TopicPartition(writer.topic, 0): 3}
            return KafkaUtils.createDirectStream(
                ssc, PreferConsistent(), Subscribe([writer.topic], job.params, offsets)
            )

        job = Job(kafka_server.bootstrap, None, build)
        job.commit_as_another({(writer.topic, 0): 1, (writer.topic, 1): 2})
        with job:
            job.run()

        assert job.batches == [["3", "12", "13"]]

    def test_offsets_out_of_the_log_follow_the_reset(
        self, kafka_server: KafkaServer, writer: TopicWriter
    ) -> None:
        """A committed offset that the log does not hold is replaced by the reset, and refused when that is none."""
        writer.write(numbered(0, 4), 0)
        job = Job(kafka_server.bootstrap, None, subscribed(writer.topic))
        job.commit_as_another({(writer.topic, 0): 9, (writer.topic, 1): 0})
        with job:
            job.run()
            job.params["auto.offset.reset"] = "none"
            job.restart()
            with pytest.raises(ConfigurationError, match=r"has offset 9, outside of the log \[0, 4\)"):
                job.run()

        assert job.batches == [["0", "1", "2", "3"]]

    def test_none_needs_a_place(self, kafka_server: KafkaServer, writer: TopicWriter) -> None:
        """With auto.offset.reset=none a group without offsets is refused, and one with offsets starts there."""
        writer.write(numbered(0, 4), 0)
        job = Job(kafka_server.bootstrap, None, subscribed(writer.topic))
        job.params["auto.offset.reset"] = "none"
        with job:
            with pytest.raises(ConfigurationError, match=r"has no place to start: auto.offset.reset is none"):
                job.run()
            job.commit_as_another({(writer.topic, 0): 3, (writer.topic, 1): 0})
            job.restart().run()

        assert job.batches == [["3"]]

    def test_hint_is_no_place_to_start(self, kafka_server: KafkaServer, writer: TopicWriter) -> None:
        """The group's offsets that the engine stored by itself are seen by tools, and a fresh application reads from the first record."""
        writer.write(numbered(0, 4), 0)
        with Job(kafka_server.bootstrap, None, subscribed(writer.topic)) as job:
            job.run()
            job.restart()
            assert job.committed()[writer.topic, 0] == 4
            job.run()

        assert job.batches == [["0", "1", "2", "3"]] * 2

    def test_job_that_commits_goes_on_without_a_checkpoint(
        self, kafka_server: KafkaServer, writer: TopicWriter
    ) -> None:
        """An application without checkpoints that commits its offsets goes on behind them; no hint takes their place."""
        writer.write(numbered(0, 2), 0)
        with Job(kafka_server.bootstrap, None, subscribed(writer.topic)) as job:
            job.commits_with = lambda rdd: job.stream.commitAsync(rdd.offsetRanges())
            job.run()
            writer.write(numbered(2, 4), 0)
            job.restart().run()
            # From here on nothing is committed, so the same records come again at each fresh start.
            job.commits_with = lambda rdd: None
            writer.write(numbered(4, 5), 0)
            job.restart().run()
            job.restart().run()

        assert job.batches == [["0", "1"], ["2", "3"], ["4"], ["4"]]
        assert job.committed()[writer.topic, 0] == 4


class TestCommits:
    """commitAsync."""

    def test_commit_follows_the_success_of_its_batch(
        self, kafka_server: KafkaServer, writer: TopicWriter, tmp_path: Path
    ) -> None:
        """Offsets of a batch whose later output failed are not committed; they are after the batch ran again and succeeded."""
        told: list[tuple[dict[TopicPartition, int], Exception | None]] = []
        with Job(kafka_server.bootstrap, tmp_path, subscribed(writer.topic)) as job:
            job.commits_with = lambda rdd: job.stream.commitAsync(
                rdd.offsetRanges(), lambda offsets, failure: told.append((offsets, failure))
            )
            job.run()
            writer.write(numbered(0, 3), 0)
            job.fails = True
            with pytest.raises(UserFunctionError):
                job.run()
            job.fails = False
            job.ssc.stop(stopSparkContext=False)
            failed = job.committed()
            job.start()
            job.ssc.stop(stopSparkContext=False)
            succeeded = job.committed()
            job.start()

        place = TopicPartition(writer.topic, 0)
        assert (failed.get(place, 0), succeeded[place]) == (0, 3)
        assert job.batches == [[], ["0", "1", "2"], ["0", "1", "2"]]
        assert [offsets[place] for offsets, _ in told] == [0, 3, 3]
        assert [type(failure) for _, failure in told] == [type(None), SourceError, type(None)]
        assert "no batch with these records succeeded before the stop" in str(told[1][1])

    def test_last_commit_is_sent_at_the_stop(
        self, kafka_server: KafkaServer, writer: TopicWriter, tmp_path: Path
    ) -> None:
        """What another thread asks for after the last batch is committed by the stop, which tells the callback before it returns."""
        told: list[Exception | None] = []
        writer.write(numbered(0, 3), 0)
        with Job(kafka_server.bootstrap, tmp_path, subscribed(writer.topic)) as job:
            job.run()
            ranges = job.ranges[0]
            thread = threading.Thread(
                target=lambda: job.stream.commitAsync(ranges, lambda _, failure: told.append(failure))
            )
            thread.start()
            thread.join(10)
            assert told == []

        assert told == [None]
        assert job.committed()[writer.topic, 0] == 3

    def test_callback_is_told_by_a_later_batch(
        self, kafka_server: KafkaServer, writer: TopicWriter, tmp_path: Path
    ) -> None:
        """While the stream runs a callback is told of its commit by one of the next batches, also where nothing is committed any more."""
        told: list[dict[TopicPartition, int]] = []
        with Job(kafka_server.bootstrap, tmp_path, subscribed(writer.topic)) as job:
            job.commits_with = lambda rdd: job.stream.commitAsync(
                rdd.offsetRanges(), lambda offsets, _: told.append(offsets)
            )
            writer.write(numbered(0, 3), 1)
            job.run()
            job.commits_with = lambda rdd: None
            eventually(lambda: len(job.run() and told) == 1)

        assert told == [{TopicPartition(writer.topic, 0): 0, TopicPartition(writer.topic, 1): 3}]

    def test_callback_that_raises_stops_nothing(
        self,
        kafka_server: KafkaServer,
        writer: TopicWriter,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """An exception of a callback is logged with the stream's name, and the stream goes on."""
        writer.write(numbered(0, 1), 0)
        with Job(kafka_server.bootstrap, tmp_path, subscribed(writer.topic, name="clicks")) as job:
            job.commits_with = lambda rdd: job.stream.commitAsync(rdd.offsetRanges(), lambda *_: 1 / 0)
            job.run()
            eventually(lambda: bool(job.run() and caplog.messages))

        assert caplog.messages[0] == "the callback of commitAsync of stream 'clicks' failed"

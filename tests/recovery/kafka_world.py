"""What the tests of Kafka's faults share: an application that keeps its ledger and letters, and changes to topics."""

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

from confluent_kafka import TopicPartition as ClientPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # its py.typed omits what its docs export
    NewPartitions,
    NewTopic,
)

from engine import StreamingContext
from engine.batch import Batch, BatchInfo, Time
from engine.dstream.nodes import DeadLetter
from engine.scheduler.listener import StreamingListener
from engine.sources.kafka import KafkaDStream, KafkaUtils, PreferConsistent, Subscribe
from tests.engine.sources.kafka.job import Job
from tests.engine.sources.kafka.world import admin, eventually
from tests.servers import KafkaServer


class Noted(StreamingListener):
    """What one application recorded over all its runs: complete batches, put-aside records, and what listeners are told."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.letters: list[DeadLetter] = []
        self.infos: list[BatchInfo] = []
        self.behind: list[int] = []
        """Of each batch how many records waited when it was planned."""

    def put_aside(self, batch: Batch, letters: list[DeadLetter]) -> None:
        """Keep the letters."""
        self.letters += letters

    def record(self, batch: Batch, zero_time: Time) -> None:
        """Keep the batch."""
        self.batches.append(batch)

    def onBatchSubmitted(self, batchSubmitted: Any) -> None:
        """Keep how far behind it was."""
        self.behind.append(sum(lag.records for lag in batchSubmitted.lags.values()))

    def onBatchCompleted(self, batchCompleted: Any) -> None:
        """Keep how it went."""
        self.infos.append(batchCompleted.batchInfo)

    def ranges(self, partition: int = 0) -> list[tuple[int, int]]:
        """(from, until) of one partition in each batch that has some of it."""
        return [
            (part.fromOffset, part.untilOffset)
            for batch in self.batches
            for parts in batch.ranges.values()
            for part in parts
            if part.partition == partition and part.count()
        ]

    def counted(self, reason: str) -> int:
        """How many records, or offsets, were put aside for this reason, as listeners are told."""
        return sum(
            count for info in self.infos for (_, why), count in info.dead_letters.items() if why == reason
        )


def job_over(
    kafka: KafkaServer, topic: str, folder: Path | None, noted: Noted, bootstrap: str = "", **how: Any
) -> Job:
    """An application over a topic, which records what it does.

    Args:
        kafka: has the topic.
        topic: what is read.
        folder: of the checkpoints.
        noted: the ledger and the listener of every run.
        bootstrap: another way to Kafka.
        how: arguments of the stream; `window` in seconds reads it through a window.
    """
    window = how.pop("window", None)

    def build(ssc: StreamingContext, job: Job) -> KafkaDStream[Any]:
        ssc.recordBatches(noted)
        ssc.addStreamingListener(noted)
        stream = KafkaUtils.createDirectStream(
            ssc, PreferConsistent(), Subscribe([topic], job.params), name="in", **how
        )
        if window is not None:
            stream.window(window).map(lambda record: record.value).foreachRDD(lambda rdd: rdd.count())
        return stream

    return Job(bootstrap or kafka.bootstrap, folder, build)


def tiles(ranges: Iterable[tuple[int, int]]) -> bool:
    """Whether each range begins where the one before it ends."""
    return all(before[1] == after[0] for before, after in pairwise(ranges))


def delete_before(kafka: KafkaServer, topic: str, offset: int) -> None:
    """Remove the records of the first partition before an offset, as retention does."""
    client = admin(kafka.bootstrap)
    for future in client.delete_records([ClientPartition(topic, 0, offset)]).values():
        assert future.result(30).low_watermark == offset


def make_topic(kafka: KafkaServer, name: str, **config: str) -> None:
    """Make a topic with one partition and these settings, with _ for the dots, and write nothing."""
    client = admin(kafka.bootstrap)
    settings = {key.replace("_", "."): value for key, value in config.items()}
    client.create_topics([NewTopic(name, 1, 1, config=settings)])[name].result(30)


def make_again(kafka: KafkaServer, topic: str) -> None:
    """Delete the topic, and make another one of its name with one partition."""
    client = admin(kafka.bootstrap)
    client.delete_topics([topic])[topic].result(30)
    eventually(lambda: topic not in client.list_topics(timeout=10).topics)
    client.create_topics([NewTopic(topic, 1, 1)])[topic].result(30)
    eventually(lambda: topic in client.list_topics(timeout=10).topics)


def add_partitions(kafka: KafkaServer, topic: str, count: int) -> None:
    """Give the topic so many partitions, and wait until they are there."""
    client = admin(kafka.bootstrap)
    client.create_partitions([NewPartitions(topic, count)])[topic].result(30)
    eventually(lambda: len(client.list_topics(topic, timeout=10).topics[topic].partitions) == count)


def log_file(kafka: KafkaServer, topic: str) -> Path:
    """The file with the records of the topic's first partition."""
    (path,) = kafka.stack.settings.data_dir.rglob(f"{topic}-0/*.log")
    return path

"""What the tests of Kafka's streams share: an application over one of them."""

import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions
from confluent_kafka import TopicPartition as ClientPartition

from engine import LocalContext, ManualClock, StreamingContext
from engine.sources.kafka import KafkaDStream, KafkaUtils, OffsetRange, PreferConsistent, Subscribe
from tests.engine.app import START_MS, CrashError
from tests.engine.sources.kafka.world import admin, eventually

MakeTopic = Callable[[int], str]
Build = Callable[[StreamingContext, "Job"], KafkaDStream[Any]]


class Job:
    """An application over one Kafka stream, whose values it collects batch by batch.

    Args:
        bootstrap: of Kafka.
        folder: of the checkpoints; None for none.
        build: makes the stream.
        master: what computes.
    """

    def __init__(self, bootstrap: str, folder: Path | None, build: Build, master: str = "local") -> None:
        self.params: dict[str, str | int | float | bool] = {
            "bootstrap.servers": bootstrap,
            "group.id": f"group-{uuid.uuid4().hex[:8]}",
            "auto.offset.reset": "earliest",
        }
        self.bootstrap = bootstrap
        self.clock = ManualClock(START_MS)
        self.batches: list[list[Any]] = []
        self.ranges: list[list[OffsetRange]] = []
        self.fails = False
        """Whether the last output of the next batch raises."""
        self.commits_with: Callable[[Any], None] = lambda rdd: None
        self.ssc: StreamingContext
        self.stream: KafkaDStream[Any]
        self._context = LocalContext(master, "test")
        self._folder = folder
        self._build = build

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.ssc.stop()

    def start(self) -> Self:
        """Start, or start again."""
        self.ssc = StreamingContext(self._context, 1.0, clock=self.clock, shards=2)
        if self._folder is not None:
            self.ssc.checkpoint(self._folder)
        self.stream = self._build(self.ssc, self)

        def keep(rdd: Any) -> None:
            self.commits_with(rdd)
            self.ranges.append(rdd.offsetRanges())
            self.batches.append(rdd.map(_value).collect())

        def fail(_: Any) -> None:
            if self.fails:
                raise CrashError("the second output")

        self.stream.foreachRDD(keep, name="keep")
        self.stream.foreachRDD(fail, name="fail")
        self.ssc.start(thread=False)
        return self

    def restart(self) -> Self:
        """Stop and start again."""
        self.ssc.stop(stopSparkContext=False)
        return self.start()

    def run(self, batches: int = 1) -> Self:
        """Run the next batches."""
        for _ in range(batches):
            self.clock.advance(1_000)
            self.ssc.runBatch()
        return self

    def run_until(self, values: list[Any]) -> None:
        """Run batches until these values have come."""
        eventually(lambda: sorted(self.run().values()) == sorted(values))

    def values(self) -> list[Any]:
        """The values of all batches."""
        return [value for batch in self.batches for value in batch]

    def committed(self) -> dict[tuple[str, int], int]:
        """The group's offsets in Kafka."""
        asked = [ConsumerGroupTopicPartitions(str(self.params["group.id"]))]
        client = admin(self.bootstrap)
        answer = client.list_consumer_group_offsets(asked)
        places = answer[str(self.params["group.id"])].result(30).topic_partitions
        return {(place.topic, place.partition): place.offset for place in places}

    def commit_as_another(self, offsets: Mapping[tuple[str, int], int]) -> None:
        """Commit offsets for the group as another program would."""
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": self.params["group.id"]})
        places = [ClientPartition(*place, offset) for place, offset in offsets.items()]
        consumer.commit(offsets=places, asynchronous=False)
        consumer.close()


def _value(record: Any) -> Any:
    return getattr(record, "value", record)


def subscribed(topic: str, **how: Any) -> Build:
    """The stream of one topic."""
    return lambda ssc, job: KafkaUtils.createDirectStream(
        ssc, PreferConsistent(), Subscribe([topic], job.params), **how
    )

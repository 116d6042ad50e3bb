"""A topic of the test's own on a real Kafka, who writes to it, and sources that read it."""

from collections.abc import Callable, Iterator

import pytest

from engine.sources.kafka import KafkaSource
from tests.engine.sources.kafka.world import TopicWriter
from tests.servers import KafkaServer


@pytest.fixture
def topic(fresh_topic: Callable[[int], str]) -> str:
    """A new topic with one partition."""
    return fresh_topic(1)


@pytest.fixture
def writer(kafka_server: KafkaServer, topic: str) -> TopicWriter:
    """Writes to the topic."""
    return TopicWriter(kafka_server.bootstrap, topic)


@pytest.fixture
def make_source(kafka_server: KafkaServer) -> Iterator[Callable[..., KafkaSource]]:
    """Makes sources, closed when the test ends: params as keywords with _ for the dots."""
    made: list[KafkaSource] = []

    def make(
        *topics: str, partitions: tuple[tuple[str, int], ...] = (), compacted: bool = False, **params: str
    ) -> KafkaSource:
        properties = {name.replace("_", "."): value for name, value in params.items()}
        source = KafkaSource(
            {"bootstrap.servers": kafka_server.bootstrap, **properties},
            topics,
            partitions,
            allow_compacted=compacted,
        )
        made.append(source)
        return source

    yield make
    for source in made:
        source.close()

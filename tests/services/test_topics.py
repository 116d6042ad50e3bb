"""How the pipeline's topics are made, in Kafka and in the embedded log."""

import uuid
from pathlib import Path

import pytest

from engine.errors import ConfigurationError, StreamingError
from engine.sources.log import topic_partitions
from services.settings import Settings
from services.topics import KafkaAdmin, Topic, create_kafka_topics, create_topics, topics
from tests.servers import KafkaServer


def some_topic(partitions: int) -> Topic:
    """A topic that is nowhere yet."""
    return Topic(f"test-{uuid.uuid4().hex[:12]}", partitions)


def test_topics_follow_the_settings() -> None:
    """The pipeline has two topics, with the partition counts of AD_PARTITIONS and PAGE_PARTITIONS."""
    assert topics(Settings(ad_partitions=3, page_partitions=5)) == (
        Topic("ad-events", 3),
        Topic("page-views", 5),
    )


def test_embedded_topics_are_made_once(tmp_path: Path) -> None:
    """A second call finds the topics and changes nothing."""
    settings = Settings(stack="embedded", data_dir=tmp_path)
    create_topics(settings)
    create_topics(settings)
    assert topic_partitions(settings.log_dir, "ad-events") == 4
    assert topic_partitions(settings.log_dir, "page-views") == 2


def test_embedded_topic_of_another_size_is_refused(tmp_path: Path) -> None:
    """A topic that has another number of partitions is refused by its name."""
    create_topics(Settings(stack="embedded", data_dir=tmp_path))
    with pytest.raises(ConfigurationError, match="page-views"):
        create_topics(Settings(stack="embedded", data_dir=tmp_path, page_partitions=7))


@pytest.mark.slow
def test_kafka_that_does_not_answer_is_named() -> None:
    """Where no broker answers in time, the error names the address and the remedy."""
    with pytest.raises(StreamingError, match=r"no answer from Kafka at 127\.0\.0\.1:1 .*set KAFKA_BOOTSTRAP"):
        KafkaAdmin("127.0.0.1:1").partitions(timeout_seconds=0.3)


@pytest.mark.servers
@pytest.mark.slow
def test_kafka_topics_are_made_once(kafka_server: KafkaServer) -> None:
    """Topics are made with their partition counts, and a second call changes nothing."""
    wanted = [some_topic(3), some_topic(1)]
    create_kafka_topics(kafka_server.bootstrap, wanted[:1])
    create_kafka_topics(kafka_server.bootstrap, wanted)
    create_kafka_topics(kafka_server.bootstrap, wanted)
    found = KafkaAdmin(kafka_server.bootstrap).partitions()
    assert {topic: found[topic.name] for topic in wanted} == {wanted[0]: 3, wanted[1]: 1}


@pytest.mark.servers
@pytest.mark.slow
def test_kafka_topic_of_another_size_is_refused(kafka_server: KafkaServer) -> None:
    """A topic that has another number of partitions is refused with its name and both counts."""
    topic = some_topic(2)
    create_kafka_topics(kafka_server.bootstrap, [topic])
    with pytest.raises(ConfigurationError, match=f"{topic.name}.*has 2 partitions and not 4"):
        create_kafka_topics(kafka_server.bootstrap, [topic._replace(partitions=4)])


@pytest.mark.servers
@pytest.mark.slow
def test_topic_that_was_made_in_between_is_taken(kafka_server: KafkaServer) -> None:
    """A topic that somebody else made in between is taken as it is."""
    topic = some_topic(2)
    admin = KafkaAdmin(kafka_server.bootstrap)
    admin.create(topic)
    admin.create(topic)
    create_kafka_topics(kafka_server.bootstrap, [topic])
    assert admin.partitions()[topic.name] == 2

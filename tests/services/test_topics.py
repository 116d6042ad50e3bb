"""How the pipeline's topics are made, in Kafka and in the embedded log."""

import uuid
from pathlib import Path

import pytest

from engine.errors import ConfigurationError, StreamingError
from engine.sources.log import topic_partitions
from services.pipeline.units import sharing_of
from services.settings import JOB_NAMES, Settings
from services.topics import (
    ENGINE_CONTROL,
    ENGINE_UNITS,
    KafkaAdmin,
    Topic,
    cluster_topics,
    create_kafka_topics,
    create_topics,
    topics,
    unit_count,
)
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


def test_replicas_have_two_topics_of_their_own() -> None:
    """The topic that stands for the units has as many partitions as there are units, the one of orders one."""
    assert cluster_topics(Settings(engines=2), 7) == (Topic(ENGINE_UNITS, 7), Topic(ENGINE_CONTROL, 1))


def test_one_engine_has_no_topics_of_replicas() -> None:
    """With ENGINES=1 nothing is made beside the pipeline's topics."""
    assert cluster_topics(Settings(engines=1), 7) == ()


@pytest.mark.parametrize("jobs", [JOB_NAMES, *((name,) for name in JOB_NAMES)], ids="+".join)
def test_units_are_counted_as_they_are_fixed(jobs: tuple[str, ...], tmp_path: Path) -> None:
    """The topic that stands for the units is made for exactly those that the pipeline fixes, whichever jobs run."""
    settings = Settings(
        engines=2, jobs=jobs, ad_partitions=5, page_partitions=3, data_dir=tmp_path, app="counted"
    )
    assert unit_count(settings) == len(sharing_of(settings).units)


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


@pytest.mark.servers
@pytest.mark.slow
def test_topics_of_replicas_are_made_beside_the_pipelines(kafka_server: KafkaServer) -> None:
    """With ENGINES=2 the init step makes all four topics, and a second call changes nothing."""
    settings = Settings(engines=2, kafka_bootstrap=kafka_server.bootstrap)
    create_topics(settings)
    create_topics(settings)
    found = KafkaAdmin(kafka_server.bootstrap).partitions()
    wanted = {"ad-events": 4, "page-views": 2, "engine-units": 4, "engine-control": 1}
    assert {name: found[name] for name in wanted} == wanted


@pytest.mark.servers
@pytest.mark.slow
def test_topic_of_other_units_is_refused_with_the_variables_behind_it(kafka_server: KafkaServer) -> None:
    """Units follow from JOBS and PAGE_PARTITIONS: a topic that stands for another number of them names both variables."""
    settings = Settings(engines=2, kafka_bootstrap=kafka_server.bootstrap)
    create_topics(settings)
    with pytest.raises(
        ConfigurationError, match=r"'engine-units'.*has 4 partitions and not 1; set JOBS and PAGE_PARTITIONS"
    ):
        create_topics(settings.model_copy(update={"jobs": ("trending_pages",)}))

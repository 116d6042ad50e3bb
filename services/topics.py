"""The topics of the pipeline and their partition counts; `python -m services.topics` makes them.

Owns: Topic, topics, cluster_topics, unit_count, KafkaAdmin, create_topics.
Never: a change to a topic that is there; a wrong partition count is refused by name.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from threading import Event
from typing import Any, Final, NamedTuple

import click
import confluent_kafka.admin
from confluent_kafka import KafkaError, KafkaException

from engine.clock import SystemClock
from engine.errors import ConfigurationError, StreamingError
from engine.sources.log import create_topic
from services.settings import Settings, exit_code, load_settings

# The client is only half annotated: its calls are made through this name.
_admin: Final[Any] = confluent_kafka.admin

_CLOCK: Final = SystemClock()
REQUEST_SECONDS: Final = 10.0
"""How long a broker has to answer a question."""
_PAUSE_SECONDS: Final = 0.02

AD_EVENTS = "ad-events"
PAGE_VIEWS = "page-views"
ENGINE_UNITS = "engine-units"
"""Its partitions stand for the units that replicas share; it has no records."""
ENGINE_CONTROL = "engine-control"
"""Orders to the replicas."""

_REMEDIES: Final = {
    ENGINE_UNITS: "set JOBS and PAGE_PARTITIONS to what they were at the first start",
    ENGINE_CONTROL: "delete it while no replica runs, and it is made anew",
}
"""By topic what to do where no variable has its partition count."""


class Topic(NamedTuple):
    """A topic as the services need it."""

    name: str
    partitions: int


def topics(settings: Settings) -> tuple[Topic, ...]:
    """The topics of the pipeline.

    Example:
        >>> topics(Settings(ad_partitions=8))[0]
        Topic(name='ad-events', partitions=8)
    """
    return Topic(AD_EVENTS, settings.ad_partitions), Topic(PAGE_VIEWS, settings.page_partitions)


def cluster_topics(settings: Settings, units: int) -> tuple[Topic, ...]:
    """The topics by which the replicas of the engine share its jobs; one engine has none.

    Args:
        settings: of the stack.
        units: number of units.

    Example:
        >>> cluster_topics(Settings(engines=3), 4)
        (Topic(name='engine-units', partitions=4), Topic(name='engine-control', partitions=1))
    """
    return (Topic(ENGINE_UNITS, units), Topic(ENGINE_CONTROL, 1)) if settings.engines > 1 else ()


def unit_count(settings: Settings) -> int:
    """Number of units that the jobs come to: page_totals has one for each partition of its topic, any other job one.

    Example:
        >>> unit_count(Settings(page_partitions=6))
        8
    """
    return sum(settings.page_partitions if job == "page_totals" else 1 for job in settings.jobs)


class KafkaAdmin:
    """The few questions and orders that a broker gets at the start.

    Args:
        bootstrap: "HOST:PORT" of a broker.
    """

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        # Silent: while the broker is away the caller says so in one sentence.
        self._client = _admin.AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})

    def partitions(self, timeout_seconds: float = REQUEST_SECONDS) -> dict[str, int]:
        """The number of partitions of every topic that is there.

        Raises:
            StreamingError: the broker does not answer in time.
        """
        try:
            metadata = self._client.list_topics(timeout=timeout_seconds)
        except KafkaException as error:
            raise StreamingError(
                f"no answer from Kafka at {self.bootstrap} within {timeout_seconds:g} s ({error.args[0].name()}); "
                "start it or set KAFKA_BOOTSTRAP"
            ) from error
        return {topic.topic: len(topic.partitions) for topic in metadata.topics.values()}

    def create(self, topic: Topic) -> None:
        """Ask for a topic; somebody else may have made it in between, so look at its partitions afterwards."""
        order = _admin.NewTopic(topic.name, num_partitions=topic.partitions, replication_factor=1)
        done = self._client.create_topics([order], operation_timeout=REQUEST_SECONDS)[topic.name]
        try:
            done.result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise StreamingError(
                    f"Kafka at {self.bootstrap} does not make topic {topic.name!r}: {error}"
                ) from error


def create_kafka_topics(bootstrap: str, wanted: Sequence[Topic]) -> None:
    """Make the topics that are missing and wait until clients see them; a second call does nothing.

    Args:
        bootstrap: "HOST:PORT" of a broker that answers.
        wanted: the topics with their partition counts.

    Raises:
        ConfigurationError: a topic is there with another partition count.
        StreamingError: the broker does not answer or refuses.
    """
    admin = KafkaAdmin(bootstrap)
    found = admin.partitions(REQUEST_SECONDS)
    for topic in wanted:
        if topic.name not in found:
            admin.create(topic)
    deadline = _CLOCK.monotonic() + REQUEST_SECONDS
    # A topic that was just made shows up in the broker's metadata a moment later.
    while any(topic.name not in found for topic in wanted) and _CLOCK.monotonic() < deadline:
        found = admin.partitions(REQUEST_SECONDS)
        _CLOCK.wait(Event(), _PAUSE_SECONDS)
    for topic in wanted:
        _check(topic, found.get(topic.name, 0), f"Kafka at {bootstrap}")


def create_log_topics(log_dir: Path, wanted: Sequence[Topic]) -> None:
    """Make the topics that the embedded log lacks; a second call does nothing.

    Args:
        log_dir: folder of the log.
        wanted: the topics with their partition counts.

    Raises:
        ConfigurationError: a topic is there with another partition count.
    """
    for topic in wanted:
        create_topic(log_dir, topic.name, topic.partitions)


def create_topics(settings: Settings) -> None:
    """Make the pipeline's topics in the stack that the settings name, and with ENGINES above 1 those of the replicas.

    Raises:
        ConfigurationError: a topic is there with another partition count.
    """
    if settings.stack == "embedded":
        create_log_topics(settings.log_dir, topics(settings))
    else:
        create_kafka_topics(settings.kafka_bootstrap, _all_topics(settings))


def _all_topics(settings: Settings) -> tuple[Topic, ...]:
    return topics(settings) + cluster_topics(settings, unit_count(settings))


def _check(topic: Topic, partitions: int, place: str) -> None:
    if partitions != topic.partitions:
        remedy = _REMEDIES.get(topic.name, f"set the variable of its partition count to {partitions}")
        raise ConfigurationError(
            f"topic {topic.name!r} of {place} has {partitions} partitions and not {topic.partitions}; "
            f"{remedy}, or start on a new DATA_DIR"
        )


def _run() -> None:
    settings = load_settings()
    create_topics(settings)
    click.echo(", ".join(f"{topic.name}: {topic.partitions} partitions" for topic in _all_topics(settings)))


@click.command()
def command() -> None:
    """Make the pipeline's topics where they are missing.

    STACK, KAFKA_BOOTSTRAP and DATA_DIR say where, AD_PARTITIONS and PAGE_PARTITIONS how many partitions. With ENGINES above 1 it makes
    those by which the replicas share the JOBS.

    Exit codes: 0 done, 1 no answer, 2 refused, with the reason in one sentence.
    """
    sys.exit(exit_code(_run))


if __name__ == "__main__":
    command()

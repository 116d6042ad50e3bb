"""librdkafka's own group: confluent-kafka consumers without state, the least that any group of consumers can take.

`python -m tools.bench.takeover.librdkafka BOOTSTRAP TOPIC` is one member; SIGTERM lets it leave the group.

Owns: contender, consume.
Never: state; nothing is read back at a takeover but the committed offset.
"""

import signal
import sys
import threading
import time

from confluent_kafka import Consumer, KafkaException

from tools.bench.takeover.contender import Contender, Place, Processes

_POLL_SECONDS = 0.1


def contender(place: Place) -> Contender:
    """Members that are not yet started."""
    command = (sys.executable, "-m", "tools.bench.takeover.librdkafka", place.bootstrap, place.topic)
    return Processes("librdkafka", lambda _: command, place.folder)


def consume(bootstrap: str, topic: str, ended: threading.Event) -> None:
    """Tell of each record until the end, then leave the group.

    Raises:
        KafkaException: a record could not be read.
    """
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": topic,
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": 6_000,
            "heartbeat.interval.ms": 1_000,
            "auto.commit.interval.ms": 1_000,
            "auto.offset.reset": "earliest",
        }
    )
    consumer.subscribe([topic])
    while not ended.is_set():
        message = consumer.poll(_POLL_SECONDS)
        if message is None:
            continue
        error = message.error()
        if error is not None:
            raise KafkaException(error)
        print(message.partition(), message.offset(), int(time.time() * 1_000), flush=True)
    consumer.close()


def main(bootstrap: str, topic: str) -> None:
    """Consume until SIGTERM."""
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    consume(bootstrap, topic, ended)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""kafkaParams: what the engine sets for every client, what is the user's, and what it cannot be.

Properties go to librdkafka. Most have Kafka's own names there; those of the Java client that have another are renamed, and those that
have nothing to do there are left out with a log line.

Owns: reader_properties, fresh_start.
Never: a client.
"""

import logging

from engine.errors import ConfigurationError
from engine.sources.kafka.client import Properties

_DEFAULTS: Properties = {
    "isolation.level": "read_committed",
    # How long a client stops fetching when its queue is full; the default of a second costs a factor of eight.
    "fetch.queue.backoff.ms": 5,
    "fetch.error.backoff.ms": 100,
    # How long the end of a range that ends in a hole may take, and a jump away from the end of the log. An idle
    # partition costs its broker so many fetches: 16 of them a tenth of a core.
    "fetch.wait.max.ms": 20,
    # Read ahead, for each partition: enough for full speed; with librdkafka's own overhead about 12 MB.
    "queued.max.messages.kbytes": 4096,
    "reconnect.backoff.ms": 100,
    "reconnect.backoff.max.ms": 1000,
    "allow.auto.create.topics": False,
    "enable.metrics.push": False,
    "check.crcs": True,
    # The engine says itself what a person must know; librdkafka repeats it for each connection.
    "log_level": 0,
}

_OWNED: Properties = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "enable.partition.eof": True,
}
"""Properties on which the engine's exactness rests."""

_LOG = logging.getLogger("engine.sources.kafka")

_RENAMED = {
    "fetch.max.wait.ms": "fetch.wait.max.ms",
    "receive.buffer.bytes": "socket.receive.buffer.bytes",
    "send.buffer.bytes": "socket.send.buffer.bytes",
    "request.timeout.ms": "socket.timeout.ms",
}
"""The Java client's name and librdkafka's."""

_WITHOUT_EFFECT = frozenset(
    {
        "default.api.timeout.ms",
        "exclude.internal.topics",
        "interceptor.classes",
        "max.poll.records",
        "metric.reporters",
        "partition.assignment.strategy",
    }
)
"""The Java client's own; the engine needs nothing of the kind."""

_DESERIALIZERS = ("key.deserializer", "value.deserializer")
_RESETS = {
    "earliest": "earliest",
    "smallest": "earliest",
    "beginning": "earliest",
    "latest": "latest",
    "largest": "latest",
    "end": "latest",
    "none": "none",
    "error": "none",
}


def reader_properties(kafka_params: Properties) -> dict[str, str | int | float | bool]:
    """The properties of every client of a source: the user's over the defaults, below the engine's own.

    Raises:
        ConfigurationError: one is the engine's own, belongs to the JVM, or is no plain value.
    """
    if not kafka_params.get("bootstrap.servers"):
        raise ConfigurationError('kafkaParams have no "bootstrap.servers"; give host:port of a broker')
    taken: dict[str, str | int | float | bool] = {}
    for name, value in kafka_params.items():
        if name in _WITHOUT_EFFECT:
            _LOG.info("kafkaParams set %s, which has no effect here", name)
            continue
        if name in _DESERIALIZERS:
            raise ConfigurationError(
                f"kafkaParams set {name} to {value!r}, a class of the JVM; leave it out and give decoder= instead, or keyDecoder= and valueDecoder="
            )
        if not isinstance(value, str | int | float | bool):
            raise ConfigurationError(
                f"kafkaParams set {name} to {value!r}; give a string, a number or a bool"
            )
        if name in _OWNED and str(value).lower() != str(_OWNED[name]).lower():
            raise ConfigurationError(
                f"kafkaParams set {name} to {value!r}, which the engine needs at {str(_OWNED[name]).lower()}; leave it out"
            )
        taken[_RENAMED.get(name, name)] = value
    # The readers join no group; librdkafka wants a name all the same.
    group = f"{kafka_params.get('group.id') or 'dstreams'}-reader"
    return {**_DEFAULTS, **taken, **_OWNED, "auto.offset.reset": "error", "group.id": group}


def fresh_start(kafka_params: Properties) -> str:
    """Where a fresh application starts by auto.offset.reset: earliest, none, or latest as Kafka's own default."""
    reset = str(kafka_params.get("auto.offset.reset", "latest"))
    if reset not in _RESETS:
        raise ConfigurationError(
            f"kafkaParams set auto.offset.reset to {reset!r}; use earliest, latest or none, and offsets= for exact places"
        )
    return _RESETS[reset]

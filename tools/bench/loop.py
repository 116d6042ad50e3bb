"""The yardstick: what a good engineer writes by hand for the Yahoo query, without an engine.

One process for a set of partitions: confluent-kafka `consume(500)`, a typed msgspec decoder, a dict. It checkpoints nothing and
survives nothing.

`python -m tools.bench.loop BOOTSTRAP TOPIC PARTITION:UNTIL ...` waits for a line on standard input, counts, and prints one line of JSON.

Owns: the loop.
Never: an import of the engine.
"""

import json
import resource
import sys
import time
from collections.abc import Sequence

import msgspec
from confluent_kafka import Consumer, KafkaException, TopicPartition

from services.pipeline.campaigns import campaigns

WINDOW_MS = 10_000


class Event(msgspec.Struct, gc=False):
    """The fields that the query needs."""

    ad_id: str
    event_type: str
    event_time: int
    seq: int


def count(consumer: Consumer, until: dict[int, int]) -> dict[tuple[str, int], list[int]]:
    """Views and the sum of their seq by (campaign, window) of the assigned partitions up to their offsets."""
    decode, campaign_of = msgspec.json.Decoder(Event).decode, campaigns()
    counts: dict[tuple[str, int], list[int]] = {}
    left = sum(until.values())
    while left:
        for message in consumer.consume(500, 1.0):
            error = message.error()
            if error is not None:
                raise KafkaException(error)
            left -= 1
            event = decode(message.value() or b"")
            if event.event_type == "view":
                campaign = campaign_of.get(event.ad_id)
                if campaign is not None:
                    key = (campaign, event.event_time - event.event_time % WINDOW_MS)
                    known = counts.get(key)
                    if known is None:
                        counts[key] = [1, event.seq]
                    else:
                        known[0] += 1
                        known[1] += event.seq
    return counts


def main(bootstrap: str, topic: str, places: Sequence[str]) -> None:
    """Wait for the start, count, print."""
    until = {int(partition): int(end) for partition, end in (place.split(":") for place in places)}
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "loop",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "fetch.queue.backoff.ms": 5,
            "isolation.level": "read_committed",
        }
    )
    print("ready", flush=True)
    sys.stdin.readline()
    begin, cpu_before = time.time(), time.process_time()
    consumer.assign([TopicPartition(topic, partition, 0) for partition in until])
    counts = count(consumer, until)
    result = {
        "begin": begin,
        "end": time.time(),
        "cpu_seconds": time.process_time() - cpu_before,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "counts": [[*key, *known] for key, known in sorted(counts.items())],
    }
    print(json.dumps(result), flush=True)
    consumer.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])

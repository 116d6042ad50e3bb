"""A steady stream of page views into every partition of a topic, which tells how far it fell behind its own pace.

Owns: Feeder, RATE.
Never: a faster pace to catch up with a clock that jumped; what is due is written at once.
"""

import threading
import time
from typing import Self

from confluent_kafka import Producer

from engine.errors import StreamingError
from services.producer.events import page_event

RATE = 50
"""Records a second, for each partition."""
_SEED = 1
_FLUSH_SECONDS = 30.0


class Feeder:
    """A thread that writes while the block runs.

    Args:
        bootstrap: "HOST:PORT" of the broker.
        topic: it is there.
        partitions: of the topic.

    Example:
        with Feeder("127.0.0.1:9092", "page-views", 4) as feeder:
            measure()
        print(feeder.late_seconds)
    """

    def __init__(self, bootstrap: str, topic: str, partitions: int) -> None:
        self.late_seconds = 0.0
        """The most that records were written after they were due; a takeover may seem longer by so much."""
        self._bootstrap = bootstrap
        self._topic = topic
        self._partitions = partitions
        self._producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0})
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._write, name="feeder")

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        """End, with everything at the broker.

        Raises:
            StreamingError: the broker did not take it in time.
        """
        self._ended.set()
        self._thread.join()
        left = self._producer.flush(_FLUSH_SECONDS)
        if left and kind is None:
            raise StreamingError(
                f"Kafka at {self._bootstrap} did not take {left} records within {_FLUSH_SECONDS:g} s"
            )

    def _write(self) -> None:
        begin, seq = time.monotonic(), 0
        while not self._ended.wait(max(0.0, begin + seq / RATE - time.monotonic())):
            self.late_seconds = max(self.late_seconds, time.monotonic() - begin - seq / RATE)
            for partition in range(self._partitions):
                key, value = page_event(_SEED, partition, seq, int(time.time() * 1_000))
                self._producer.produce(self._topic, value, key, partition)
            self._producer.poll(0)
            seq += 1

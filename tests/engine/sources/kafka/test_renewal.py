"""Clients of librdkafka that have lost the cluster are made anew.

The faults are made by stand-ins: requests that never end and leaders that stay stale were seen on fenced brokers and on networks that
changed, offsets that are none on a broker that was held; they cannot be had from a broker on demand.
"""

import threading
from collections.abc import Iterable
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import OFFSET_INVALID, KafkaError, KafkaException

from engine.batch import OffsetRange, TopicPartition
from engine.sources.kafka import client as kafka_client
from engine.sources.kafka import reader as kafka_reader
from engine.sources.kafka.client import ClusterClient, Complaints
from engine.sources.kafka.reader import PartitionReader

PLACE = TopicPartition("pages", 0)


class Admin:
    """In place of librdkafka's: each answers what its class says."""

    made: list["Admin"]
    answers: Iterable[str]

    def __init__(self, _properties: object) -> None:
        self.answer = list(self.answers)[len(self.made)]
        self.made.append(self)

    def describe_topics(self, _topics: object, **_: float) -> dict[str, Future[Any]]:
        """The topic pages, with one partition."""
        future: Future[Any] = Future()
        if self.answer == "stale":
            future.set_exception(KafkaException(KafkaError(KafkaError.FENCED_LEADER_EPOCH)))
        if self.answer == "right":
            future.set_result(SimpleNamespace(topic_id="id", partitions=[0]))
        return {"pages": future}

    def list_offsets(self, partitions: Iterable[Any], **_: object) -> dict[Any, Future[Any]]:
        """The offset 7; without an offset and without an error where the broker hangs."""
        future: Future[Any] = Future()
        future.set_result(SimpleNamespace(offset=7 if self.answer == "right" else OFFSET_INVALID))
        return dict.fromkeys(partitions, future)


def cluster(monkeypatch: pytest.MonkeyPatch, *answers: str) -> ClusterClient:
    """A client whose librdkafka clients answer so, one after the other."""
    monkeypatch.setattr(Admin, "made", [], raising=False)
    monkeypatch.setattr(Admin, "answers", answers, raising=False)
    monkeypatch.setattr(kafka_client, "AdminClient", Admin)
    monkeypatch.setattr(kafka_client, "_PATIENCE_SECONDS", 0)
    return ClusterClient({"bootstrap.servers": "127.0.0.1:1"}, Complaints(), threading.Event())


def test_request_that_does_not_end_is_asked_again_by_a_new_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """A survey without an answer is incomplete, and the next one is made by another client."""
    client = cluster(monkeypatch, "none", "right")

    assert not client.survey(["pages"], [], []).is_complete
    assert client.trouble == "no answer"
    assert client.survey(["pages"], [], []).topics["pages"] == kafka_client.TopicIdentity("id", 1)


def test_client_whose_answers_stay_errors_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """After three incomplete surveys in a row another client asks; a complete one in between counts anew."""
    client = cluster(monkeypatch, "stale", "right")

    looks = [client.survey(["pages"], [], []).is_complete for _ in range(4)]

    assert looks == [False, False, False, True]
    assert len(Admin.made) == 2


class Consumer:
    """In place of a consumer: the first one never hears of the cluster again."""

    made: list["Consumer"]

    def __init__(self, _properties: object) -> None:
        self.is_deaf = not self.made
        self.trouble = ""
        self.closed = threading.Event()
        self.made.append(self)

    def jump(self, _partition: TopicPartition, _offset: int) -> None:
        """Read on from there."""

    def poll(self, _records: int, _seconds: float) -> list[Any]:
        """One record at offset 0, unless deaf."""
        record = SimpleNamespace(
            offset=lambda: 0, error=lambda: None, value=lambda: b"x", timestamp=lambda: (1, 5)
        )
        return [] if self.is_deaf else [record]

    def log_bounds(self, _partition: TopicPartition) -> None:
        """No answer."""

    def close(self) -> None:
        """Note it."""
        self.closed.set()


def test_reader_without_an_answer_goes_on_with_a_new_consumer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A consumer that has lost the cluster is replaced in the middle of a range, and closed."""
    monkeypatch.setattr(Consumer, "made", [], raising=False)
    monkeypatch.setattr(kafka_reader, "OffsetConsumer", Consumer)
    monkeypatch.setattr(kafka_reader, "_POLL_SECONDS", 0.0)
    # Methods of librdkafka's own type take no stand-in.
    methods = SimpleNamespace(value=lambda message: message.value(), error=lambda message: message.error())
    monkeypatch.setattr(kafka_reader, "Message", methods)
    reader = PartitionReader({}, PLACE, Complaints(), threading.Event())

    slices = list(reader.read(OffsetRange("pages", 0, 0, 1)))

    assert [values for piece in slices for values in piece.values] == [b"x"]
    assert len(Consumer.made) == 2
    assert Consumer.made[0].closed.wait(5)


def test_answer_without_an_offset_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """An offset that librdkafka could not learn leaves the survey incomplete, and is never taken for the end of the log."""
    client = cluster(monkeypatch, "held")

    survey = client.survey([], [PLACE], [PLACE])

    assert (survey.is_complete, survey.begins, survey.ends) == (False, {}, {})


def test_offsets_of_an_answer_are_those_of_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Offsets that the cluster tells are in the survey."""
    survey = cluster(monkeypatch, "right").survey([], [PLACE], [PLACE])

    assert (survey.is_complete, survey.begins, survey.ends) == (True, {PLACE: 7}, {PLACE: 7})

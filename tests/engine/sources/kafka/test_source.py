"""The Kafka source on a real Kafka: ranges, isolation, compaction and the group's offsets."""

import itertools
import multiprocessing
import pickle
import random
import time
from collections.abc import Callable

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # its py.typed omits what its docs export
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from engine.batch import OffsetRange, TopicPartition
from engine.errors import ConfigurationError
from engine.sources.kafka import KafkaSource
from tests.engine.sources.kafka.world import (
    MakeSource,
    TopicWriter,
    admin,
    eventually,
    numbered,
    read,
    values,
    wait_for_end,
    within,
)
from tests.servers import KafkaServer

pytestmark = [pytest.mark.servers, pytest.mark.slow]


class TestRanges:
    """Which records a range gives."""

    def test_consecutive_ranges_give_each_record_once(
        self, writer: TopicWriter, make_source: MakeSource
    ) -> None:
        """Ranges that tile the log, wherever they are cut, give every record exactly once and in order."""
        writer.write(numbered(0, 20_000))
        source = make_source(writer.topic)
        seed = random.Random(3)
        cuts = sorted({0, 20_000, *(seed.randrange(20_000) for _ in range(40))})

        got = [
            value
            for begin, end in itertools.pairwise(cuts)
            for value in values(source, OffsetRange(writer.topic, 0, begin, end))
        ]

        assert numbered(0, 20_000) == got

    def test_ranges_are_read_again_after_a_jump_back(
        self, writer: TopicWriter, make_source: MakeSource
    ) -> None:
        """Ranges in any order, forwards and back, each give their own records."""
        writer.write(numbered(0, 20_000))
        source = make_source(writer.topic)
        seed = random.Random(5)

        for _ in range(60):
            begin = seed.randrange(20_000)
            end = min(20_000, begin + seed.choice([1, 499, 500, 501, 3_000]))
            assert numbered(begin, end) == values(source, OffsetRange(writer.topic, 0, begin, end))

    def test_abandoned_range_is_read_again_whole(self, writer: TopicWriter, make_source: MakeSource) -> None:
        """A range whose reader stops after the first slice, as take() does, is complete the next time."""
        writer.write(numbered(0, 3_000))
        source = make_source(writer.topic)
        values(source, OffsetRange(writer.topic, 0, 0, 100))
        offsets = OffsetRange(writer.topic, 0, 100, 3_000)
        next(iter(source.read(offsets)))

        assert numbered(100, 3_000) == values(source, offsets)

    def test_one_range_is_read_by_two_at_once(self, writer: TopicWriter, make_source: MakeSource) -> None:
        """Two readers of one range of one process, step by step in turn, both get all of it."""
        writer.write(numbered(0, 3_000))
        source = make_source(writer.topic)
        offsets = OffsetRange(writer.topic, 0, 0, 3_000)

        pairs = list(zip(source.read(offsets), source.read(offsets), strict=False))

        assert (
            numbered(0, 3_000)[: len(pairs)]
            == [value for left, _ in pairs for value in left.values][: len(pairs)]
        )
        assert numbered(0, 3_000) == values(source, offsets)

    def test_empty_range_gives_nothing(self, writer: TopicWriter, make_source: MakeSource) -> None:
        """An empty range ends at once, also at the end of an empty log."""
        source = make_source(writer.topic)

        assert within(5, lambda: list(source.read(OffsetRange(writer.topic, 0, 0, 0)))) == []

    def test_record_has_its_coordinates(self, writer: TopicWriter, make_source: MakeSource) -> None:
        """A slice tells topic, partition, offset, time, key and value of each of its records."""
        before = time.time_ns() // 1_000_000
        writer.write([b"first", None], key=b"k")
        first, second = read(make_source(writer.topic), OffsetRange(writer.topic, 0, 0, 2))

        assert (writer.topic, 0, 0, b"k", b"first") == (*first[:3], *first[4:])
        assert (writer.topic, 0, 1, b"k", None) == (*second[:3], *second[4:])
        assert before <= first.timestamp <= time.time_ns() // 1_000_000
        (piece,) = make_source(writer.topic).read(OffsetRange(writer.topic, 0, 0, 2))
        assert piece.created() == [first.timestamp, second.timestamp]

    def test_two_processes_share_the_partitions(
        self, kafka_server: KafkaServer, fresh_topic: Callable[[int], str], make_source: MakeSource
    ) -> None:
        """A pickled source reads in other processes; two of them with a partition each give all records."""
        writer = TopicWriter(kafka_server.bootstrap, fresh_topic(2))
        for partition in (0, 1):
            writer.write(numbered(1_000 * partition, 1_000 * partition + 500), partition)
        shipped = pickle.dumps(make_source(writer.topic))
        context = multiprocessing.get_context("spawn")
        with context.Pool(2) as pool:
            got = pool.starmap(
                read_pickled,
                [(shipped, OffsetRange(writer.topic, part, 0, 500)) for part in (0, 1)],
                chunksize=1,
            )

        assert [numbered(0, 500), numbered(1_000, 1_500)] == got


def read_pickled(shipped: bytes, offsets: OffsetRange) -> list[bytes | None]:
    """What a worker process does; it ends without closing the source."""
    source: KafkaSource = pickle.loads(shipped)  # noqa: S301 - our own bytes
    return values(source, offsets)


class TestTransactions:
    """Aborted records, markers and open transactions."""

    @pytest.mark.fault(34, "ranges that end in aborted records and markers")
    @pytest.mark.parametrize(
        ("script", "expected"),
        [
            pytest.param("CA", numbered(0, 5), id="aborted at the end"),
            pytest.param("CAC", numbered(0, 5) + numbered(10, 15), id="aborted in the middle"),
            pytest.param("AC", numbered(5, 10), id="aborted at the beginning"),
            pytest.param("A", [], id="all aborted"),
            pytest.param("AAAA", [], id="many aborted"),
            pytest.param("C", numbered(0, 5), id="a marker at the end"),
        ],
    )
    def test_range_ends_in_a_hole(
        self, writer: TopicWriter, make_source: MakeSource, script: str, expected: list[bytes]
    ) -> None:
        """A range ends by itself where its last offsets are hidden from readers."""
        for index, kind in enumerate(script):
            wanted = numbered(5 * index, 5 * index + 5)
            (writer.commit if kind == "C" else writer.abort)(wanted)
        source = make_source(writer.topic)
        end = 6 * len(script)
        wait_for_end(source, {TopicPartition(writer.topic, 0): end})

        assert expected == values(source, OffsetRange(writer.topic, 0, 0, end))

    @pytest.mark.fault(34, "ranges of one offset each over commits, aborts and markers")
    def test_every_cut_of_a_log_with_holes_is_exact(
        self, writer: TopicWriter, make_source: MakeSource
    ) -> None:
        """Ranges of one offset each over commits, aborts and markers give each committed record once."""
        writer.commit(numbered(0, 3))
        writer.abort(numbered(3, 6))
        writer.commit(numbered(6, 8))
        source = make_source(writer.topic)
        wait_for_end(source, {TopicPartition(writer.topic, 0): 11})

        got = [values(source, OffsetRange(writer.topic, 0, offset, offset + 1)) for offset in range(11)]

        assert got == [[b"0"], [b"1"], [b"2"], [], [], [], [], [], [b"6"], [b"7"], []]

    @pytest.mark.fault(34, "16 MB that all of it was aborted")
    def test_large_aborted_transaction_is_passed(self, writer: TopicWriter, make_source: MakeSource) -> None:
        """A range of 16 MB that all of it was aborted ends, and the next one goes on behind it."""
        writer.abort(bytes(16_000) for _ in range(1_000))
        writer.commit([b"after"])
        source = make_source(writer.topic)
        wait_for_end(source, {TopicPartition(writer.topic, 0): 1_003})

        assert values(source, OffsetRange(writer.topic, 0, 0, 1_001)) == []
        assert values(source, OffsetRange(writer.topic, 0, 1_001, 1_003)) == [b"after"]

    @pytest.mark.fault(34, "a transaction that stays open")
    def test_open_transaction_bounds_the_plan(self, writer: TopicWriter, make_source: MakeSource) -> None:
        """With read_committed the end is the last stable offset, which an open transaction holds back."""
        place = TopicPartition(writer.topic, 0)
        writer.commit(numbered(0, 2))
        end_transaction = writer.begin(numbered(2, 4))
        source = make_source(writer.topic)
        wait_for_end(source, {place: 3})
        writer.write([b"outside"])

        assert source.bounds()[place] == (0, 3)
        assert values(source, OffsetRange(writer.topic, 0, 0, 3)) == numbered(0, 2)
        end_transaction(True)
        wait_for_end(source, {place: 7})
        assert values(source, OffsetRange(writer.topic, 0, 3, 7)) == [b"2", b"3", b"outside"]

    def test_planner_and_reader_share_read_uncommitted(
        self, writer: TopicWriter, make_source: MakeSource
    ) -> None:
        """With read_uncommitted the end is the high watermark and records of open transactions are given."""
        end_transaction = writer.begin(numbered(0, 3))
        source = make_source(writer.topic, isolation_level="read_uncommitted")

        wait_for_end(source, {TopicPartition(writer.topic, 0): 3})
        assert values(source, OffsetRange(writer.topic, 0, 0, 3)) == numbered(0, 3)
        end_transaction(False)


class TestCompaction:
    """Topics with cleanup.policy=compact."""

    @pytest.fixture
    def compacted(self, kafka_server: KafkaServer, fresh_topic: Callable[[int], str]) -> TopicWriter:
        """A compacted topic in which keys were written again and again."""
        client, name = admin(kafka_server.bootstrap), fresh_topic(1)
        (broker,) = client.list_topics(timeout=30).brokers
        change(client, ResourceType.BROKER, str(broker), {"log.cleaner.backoff.ms": "100"})
        change(
            client,
            ResourceType.TOPIC,
            name,
            {"cleanup.policy": "compact", "segment.ms": "100", "min.cleanable.dirty.ratio": "0.001"},
        )
        setting = ConfigResource(ResourceType.TOPIC, name)
        # The broker learns of it a moment after the controller has acknowledged it.
        eventually(
            lambda: (
                client.describe_configs([setting])[setting].result(30)["cleanup.policy"].value == "compact"
            )
        )
        return TopicWriter(kafka_server.bootstrap, name)

    @pytest.mark.fault(34, "a topic with cleanup.policy=compact")
    def test_compacted_topic_is_refused(self, compacted: TopicWriter, make_source: MakeSource) -> None:
        """A compacted topic is refused with the setting, its value and both remedies."""
        source = make_source(compacted.topic)

        with pytest.raises(ConfigurationError, match=r"cleanup.policy=compact.*allowCompacted=True"):
            source.bounds()

    @pytest.mark.fault(34, "a topic that the broker has compacted")
    def test_declared_compacted_topic_is_read_over_its_gaps(
        self, compacted: TopicWriter, make_source: MakeSource
    ) -> None:
        """A range over offsets that compaction removed ends by itself, whether the gap lies inside or at its end."""
        for number in range(50):
            compacted.write([b"%d" % number], key=b"same")
        source = make_source(compacted.topic, compacted=True)

        def is_compacted() -> bool:
            # A segment rolls only with a record after segment.ms; the last one is never compacted.
            compacted.write([b"x"], key=b"other")
            end = source.bounds()[TopicPartition(compacted.topic, 0)][1]
            fresh = make_source(compacted.topic, compacted=True, client_id=f"c{end}")
            # The cleaner takes the rolled segments in several rounds: only the last leaves one record.
            return len(read(fresh, OffsetRange(compacted.topic, 0, 0, 50))) == 1

        eventually(is_compacted, 90)
        assert values(source, OffsetRange(compacted.topic, 0, 0, 40)) == []
        assert values(source, OffsetRange(compacted.topic, 0, 40, 50)) == [b"49"]


def change(client: AdminClient, kind: ResourceType, name: str, entries: dict[str, str]) -> None:
    """Set configuration entries of a topic or of all brokers."""
    wanted = [
        ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET) for key, value in entries.items()
    ]
    resource = ConfigResource(kind, name, incremental_configs=wanted)
    for future in client.incremental_alter_configs([resource]).values():
        future.result(30)


class TestCommit:
    """The group's offsets in Kafka."""

    def test_commit_is_visible_as_group_offsets(
        self, kafka_server: KafkaServer, writer: TopicWriter, make_source: MakeSource
    ) -> None:
        """The last committed range is the group's offset once the source is closed, though no member ever joined."""
        writer.write(numbered(0, 10))
        group = f"group-of-{writer.topic}"
        source = make_source(writer.topic, group_id=group)
        source.bounds()
        for until in range(1, 10):
            source.commit([OffsetRange(writer.topic, 0, until - 1, until)])
        source.close()

        assert {(writer.topic, 0): 9} == group_offsets(kafka_server.bootstrap, group)

    def test_without_a_group_nothing_is_committed(self, writer: TopicWriter, make_source: MakeSource) -> None:
        """A source without group.id takes a commit and stores nothing."""
        source = make_source(writer.topic)
        source.bounds()

        source.commit([OffsetRange(writer.topic, 0, 0, 1)])
        source.close()


def group_offsets(bootstrap: str, group: str) -> dict[tuple[str, int], int]:
    """What lag tools see."""
    client = admin(bootstrap)
    answer = client.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])[group].result(30)
    return {(place.topic, place.partition): place.offset for place in answer.topic_partitions}

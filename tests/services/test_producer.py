"""The producer process on the embedded log: exact under kill -9, polite under SIGTERM, clear about what is wrong."""

import resource
import signal
from pathlib import Path

import pytest

from engine.batch import OffsetRange
from engine.sources.log import LogSource, create_topic
from services.producer.events import AD_TOPIC, PAGE_TOPIC, ad_event, page_event
from tests.services.producer_world import Spawn, events, spawn, starts, wait_until

__all__ = ["spawn"]

START = 1_700_000_000_000
PARTITIONS = {AD_TOPIC: 3, PAGE_TOPIC: 2}


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    """Settings of an embedded stack with its topics."""
    for topic, partitions in PARTITIONS.items():
        create_topic(tmp_path / "log", topic, partitions)
    return {
        "STACK": "embedded",
        "DATA_DIR": str(tmp_path),
        "AD_PARTITIONS": str(PARTITIONS[AD_TOPIC]),
        "PAGE_PARTITIONS": str(PARTITIONS[PAGE_TOPIC]),
        "AD_RATE": "3000",
        "PAGE_RATE": "700",
        "SEED": "7",
    }


def partition_values(tmp_path: Path, topic: str) -> list[list[bytes | None]]:
    """Everything in each partition of a topic."""
    source = LogSource(tmp_path / "log", [topic])
    return [
        [value for piece in source.read(OffsetRange(*place, *bounds)) for value in piece.values]
        for place, bounds in sorted(source.bounds().items())
    ]


def count(tmp_path: Path, topic: str) -> int:
    """Number of records of a topic."""
    return sum(end for _, end in LogSource(tmp_path / "log", [topic]).bounds().values())


@pytest.mark.slow
def test_content_and_limit(spawn: Spawn, tmp_path: Path, variables: dict[str, str]) -> None:
    """Back to back, each topic gets as many events as asked for, each the one that its number and time say."""
    producer = spawn(["--fast", "--limit", "2000", "--start-ms", str(START)], variables)
    assert producer.ended() == 0, producer.output
    for topic, content, rate in ((AD_TOPIC, ad_event, 3_000), (PAGE_TOPIC, page_event, 700)):
        found, partitions = partition_values(tmp_path, topic), PARTITIONS[topic]
        assert sum(map(len, found)) == 2_000
        assert found == [
            [
                content(7, p, seq, START + (seq * partitions + p) * 1_000 // rate)[1]
                for seq in range(len(found[p]))
            ]
            for p in range(partitions)
        ]
    record = next(iter(LogSource(tmp_path / "log", [AD_TOPIC]).read(OffsetRange(AD_TOPIC, 2, 5, 6)))).record(
        0
    )
    event_time = START + 17 * 1_000 // 3_000
    assert (record.offset, record.timestamp, record.key) == (5, event_time, ad_event(7, 2, 5, event_time)[0])


@pytest.mark.slow
def test_kills_neither_lose_nor_double_an_event(
    spawn: Spawn, tmp_path: Path, variables: dict[str, str]
) -> None:
    """Killed with -9 again and again in full flight, the producer leaves each partition whole, on one schedule."""
    reached = 0
    for round_number in range(10):
        producer = spawn(["--fast", "--start-ms", str(START + round_number)], variables)
        reached += 5_000
        wait_until(lambda: count(tmp_path, AD_TOPIC) > reached, f"event {reached}")  # noqa: B023  called before the next round
        producer.kill()
        reached = count(tmp_path, AD_TOPIC)
    # Of the page views none may be there yet: each process may have died over its ad events.
    last = ["--fast", "--limit", str(reached + 99), "--start-ms", str(START + 10)]
    assert spawn(last, variables).ended() == 0
    for topic, rate in ((AD_TOPIC, 3_000), (PAGE_TOPIC, 700)):
        found = [events(values) for values in partition_values(tmp_path, topic)]
        # The start is that of the first process whose append to the topic was whole.
        assert len(starts(found, rate)) == 1
        assert starts(found, rate) <= set(range(START, START + 11))
        assert sum(map(len, found)) >= reached + 99


@pytest.mark.slow
def test_the_rate_holds_and_a_short_absence_is_caught_up(
    spawn: Spawn, tmp_path: Path, variables: dict[str, str]
) -> None:
    """By the clock, events come when they are due; after a kill the next process sends what was due meanwhile."""
    for _ in range(2):
        before = count(tmp_path, PAGE_TOPIC)
        producer = spawn([], variables)
        wait_until(lambda: count(tmp_path, PAGE_TOPIC) >= before + 300, "300 more events")  # noqa: B023  called at once
        producer.kill()
    for topic, rate in ((AD_TOPIC, 3_000), (PAGE_TOPIC, 700)):
        found = [events(values) for values in partition_values(tmp_path, topic)]
        assert len(starts(found, rate)) == 1
        # Ten times as fast as the clock would not be open loop: at least 300 events' time has passed in each round.
        span = max(items[-1]["event_time"] for items in found) - min(
            items[0]["event_time"] for items in found
        )
        assert span >= 300 * 1_000 // 700


@pytest.mark.slow
def test_sigterm_ends_the_flush_and_exits_0(spawn: Spawn, tmp_path: Path, variables: dict[str, str]) -> None:
    """On SIGTERM the producer exits 0, and its last line tells what it has sent: exactly what is in the log."""
    producer = spawn([], variables)
    wait_until(lambda: count(tmp_path, PAGE_TOPIC) > 0, "the first event")
    producer.process.send_signal(signal.SIGTERM)
    assert producer.ended(20) == 0, producer.output
    last = producer.output.splitlines()[-1]
    assert f"{AD_TOPIC} {count(tmp_path, AD_TOPIC)} events, " in last
    assert f"; {PAGE_TOPIC} {count(tmp_path, PAGE_TOPIC)} events, " in last


@pytest.mark.slow
def test_a_second_producer_is_refused(spawn: Spawn, tmp_path: Path, variables: dict[str, str]) -> None:
    """While one producer runs another one exits 2 with one sentence, and the first goes on."""
    first = spawn([], variables)
    wait_until(lambda: count(tmp_path, PAGE_TOPIC) > 0, "the first event")
    second = spawn([], variables)
    assert second.ended(20) == 2
    assert second.output.endswith("is being written by another process; stop that one first\n")
    assert "Traceback" not in second.output
    before = count(tmp_path, PAGE_TOPIC)
    wait_until(lambda: count(tmp_path, PAGE_TOPIC) > before, "another event of the first")
    first.kill()


@pytest.mark.slow
def test_poison_is_appended_and_stepped_over(spawn: Spawn, tmp_path: Path, variables: dict[str, str]) -> None:
    """The poison command appends one undecodable record; the producer's sequence goes on behind it."""
    assert spawn(["--fast", "--limit", "90", "--start-ms", str(START)], variables).ended() == 0
    arguments = ["--topic", AD_TOPIC, "--partition", "1"]
    poison = spawn(arguments, variables, ("-m", "services.producer.poison"))
    assert poison.ended() == 0, poison.output
    assert poison.output == "ad-events[1] has an undecodable record at offset 30\n"
    assert spawn(["--fast", "--limit", "180"], variables).ended() == 0
    found = partition_values(tmp_path, AD_TOPIC)
    assert found[1][30] == b"{poison"
    assert [len(values) for values in found] == [60, 61, 60]
    assert starts([events(values) for values in found], 3_000) == {START}


@pytest.mark.slow
def test_a_full_volume_is_waited_for(spawn: Spawn, tmp_path: Path, variables: dict[str, str]) -> None:
    """When the volume refuses an append the producer says so, waits, and goes on without a gap."""
    producer = spawn([], variables)
    wait_until(lambda: count(tmp_path, PAGE_TOPIC) > 0, "the first event")
    unlimited = resource.prlimit(producer.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(producer.process.pid, resource.RLIMIT_FSIZE, (100_000, unlimited[1]))
    wait_until(lambda: "waiting: [Errno 27] File too large" in producer.output, "the line about the volume")
    full = count(tmp_path, AD_TOPIC)
    resource.prlimit(producer.process.pid, resource.RLIMIT_FSIZE, unlimited)
    wait_until(lambda: count(tmp_path, AD_TOPIC) > full + 3_000, "a second's events")
    producer.kill()
    for topic, rate in ((AD_TOPIC, 3_000), (PAGE_TOPIC, 700)):
        assert len(starts([events(values) for values in partition_values(tmp_path, topic)], rate)) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "arguments", "sentence"),
    [
        (
            {"AD_PARTITIONS": "4"},
            [],
            "topic 'ad-events' in LOG has 3 partitions and not 4; set its number of partitions to 3",
        ),
        (
            {"DATA_DIR": "NOWHERE"},
            [],
            "topic 'ad-events' does not exist in NOWHERE/log; run `scripts/stack up`",
        ),
        ({"AD_RATE": "many"}, [], "AD_RATE='many' is not valid: it must be a whole number"),
        ({}, ["--limit", "x"], "'x' is not a valid integer"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(
    spawn: Spawn,
    tmp_path: Path,
    variables: dict[str, str],
    change: dict[str, str],
    arguments: list[str],
    sentence: str,
) -> None:
    """A wrong setting, topic or argument ends the producer with exit code 2 and the remedy, without a traceback."""
    nowhere = str(tmp_path / "nowhere")
    change = {name: value.replace("NOWHERE", nowhere) for name, value in change.items()}
    producer = spawn(arguments, variables | change)
    assert producer.ended() == 2
    assert sentence.replace("LOG", str(tmp_path / "log")).replace("NOWHERE", nowhere) in producer.output
    assert "Traceback" not in producer.output

"""The schedule is kept to the millisecond over restarts, and no doubt about an append loses or doubles an event."""

import threading
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.clock import ManualClock
from engine.errors import ConfigurationError, SourceError
from services.producer.events import page_event
from services.producer.feed import JUMP_MS, Feed
from services.producer.main import run
from services.producer.schedule import NOTHING, Position, Schedule, newest_position, position_of

RATES = st.integers(1, 20_000)
PARTITIONS = st.integers(1, 7)
START = 1_700_000_000_000


class MemorySink:
    """A partition in memory that does with each append what it is told: ok, lost, or stored without an answer."""

    def __init__(self, outcomes: Iterator[str]) -> None:
        self.values: list[bytes] = []
        self.times: list[int] = []
        self._outcomes = outcomes

    def resume(self) -> Position:
        """The newest event, unless the server is away."""
        if next(self._outcomes, "ok") == "lost":
            raise ConnectionError("away")
        return newest_position("t[0]", 0, len(self.values), lambda begin, until: self.values[begin:until])

    def append(self, records: Sequence[tuple[int, bytes, bytes]]) -> None:
        """Store the records or not, and answer or not."""
        outcome = next(self._outcomes, "ok")
        if outcome != "lost":
            self.values += [value for _, _, value in records]
            self.times += [timestamp for timestamp, _, _ in records]
        if outcome != "ok":
            raise ConnectionError("no answer")

    def close(self) -> None:
        """Nothing is held."""


class RunningClock(ManualClock):
    """A clock on which waiting takes no time but moves it on."""

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Move on by the seconds."""
        self.advance(round(seconds * 1_000))
        return event.is_set()


def feed_of(sinks: Sequence[MemorySink], schedule: Schedule, limit: int | None = None) -> Feed:
    """A feed of page views into memory."""
    return Feed("page-views", page_event, 1, schedule, sinks, limit)


def positions(sinks: Sequence[MemorySink]) -> list[list[Position | None]]:
    """The positions of all events of each partition."""
    return [[position_of(value) for value in sink.values] for sink in sinks]


@given(rate=RATES, partitions=PARTITIONS, elapsed=st.integers(-5, 10_000))
def test_an_event_is_due_when_its_time_has_come(rate: int, partitions: int, elapsed: int) -> None:
    """due() counts exactly the events whose time is not after now, in every partition."""
    schedule, now = Schedule(START, rate, partitions), START + elapsed
    for partition in range(partitions):
        count = schedule.due(partition, now)
        assert count == 0 or schedule.time_of(partition, count - 1) <= now
        assert schedule.time_of(partition, count) > now


@given(partitions=PARTITIONS, events=st.integers(0, 100))
def test_events_go_round_the_partitions(partitions: int, events: int) -> None:
    """The first events are shared out one by one: event k is number k // partitions of partition k % partitions."""
    schedule = Schedule(START, 1_000, partitions)
    assert [schedule.share(p, events) for p in range(partitions)] == [
        len(range(p, events, partitions)) for p in range(partitions)
    ]
    times = [schedule.time_of(k % partitions, k // partitions) for k in range(events)]
    assert times == [START + k for k in range(events)]


@given(rate=RATES, partitions=PARTITIONS, data=st.data())
def test_a_schedule_is_found_again_from_any_event(rate: int, partitions: int, data: st.DataObject) -> None:
    """Whatever each partition's newest event is, a new process finds the very same schedule."""
    schedule = Schedule(START, rate, partitions)
    seqs = data.draw(st.lists(st.integers(-1, 10**9), min_size=partitions, max_size=partitions))
    newest = [Position(seq, schedule.time_of(p, seq)) if seq >= 0 else NOTHING for p, seq in enumerate(seqs)]
    resumed = Schedule(START + 99_999, rate, partitions).resumed(newest)
    assert resumed.start_ms == (START if max(seqs) >= 0 else START + 99_999)


@given(rate=RATES, partitions=PARTITIONS, data=st.data())
def test_a_jump_makes_the_oldest_next_event_due_now(rate: int, partitions: int, data: st.DataObject) -> None:
    """After a jump no event is older than now, and one is due this very millisecond."""
    next_seqs = data.draw(st.lists(st.integers(0, 10**6), min_size=partitions, max_size=partitions))
    jumped = Schedule(START, rate, partitions).jumped(next_seqs, START + 10**10)
    assert min(jumped.time_of(*item) for item in enumerate(next_seqs)) == START + 10**10
    assert jumped.behind_ms(next_seqs, START + 10**10) == 0


def test_a_rate_below_one_is_refused() -> None:
    """A schedule of no events is a wrong setting."""
    with pytest.raises(ConfigurationError, match="rate 0 is not valid"):
        Schedule(START, 0, 1)


@pytest.mark.parametrize(
    "value",
    [None, b"", b"{poison", b"\xff\xfe", b"[]", b'{"seq":"1","event_time":2}', b'{"seq":1}', b"\x00" * 9],
)
def test_what_is_no_event_has_no_position(value: bytes | None) -> None:
    """A record that does not decode tells no position."""
    assert position_of(value) is None


@given(poison=st.integers(0, 1_000), events=st.integers(1, 30))
def test_read_back_steps_over_what_is_no_event(poison: int, events: int) -> None:
    """The newest event is found behind any number of records that do not decode."""
    log = [page_event(1, 0, seq, START + seq)[1] for seq in range(events)] + [b"{poison"] * poison
    found = newest_position("t[0]", 0, len(log), lambda begin, until: log[begin:until])
    assert found == Position(events - 1, START + events - 1)


def test_a_partition_that_has_lost_all_events_is_refused() -> None:
    """Where retention has deleted every event the sequence is unknown; only a partition that begins at 0 is new."""
    assert newest_position("t[0]", 0, 3, lambda begin, until: [None] * (until - begin)) == NOTHING
    with pytest.raises(SourceError, match=r"t\[0\] has no event left after offset 5"):
        newest_position("t[0]", 5, 8, lambda begin, until: [None] * (until - begin))


@pytest.mark.slow
@settings(deadline=None)
@given(
    outcomes=st.lists(st.sampled_from(["ok", "ok", "ok", "lost", "stored"]), max_size=60),
    partitions=st.integers(1, 4),
    limit=st.integers(0, 200),
)
def test_no_doubt_loses_or_doubles_an_event(outcomes: list[str], partitions: int, limit: int) -> None:
    """Whether unanswered appends were stored or lost, each partition ends with its events once, in order, on schedule."""
    script = iter(outcomes)
    sinks = [MemorySink(script) for _ in range(partitions)]
    schedule = Schedule(START, 1_000, partitions)
    feed, now = feed_of(sinks, schedule, limit), START
    while not feed.is_done:
        now += 37
        try:
            feed.settle()
            feed.flush(now)
        except ConnectionError:
            continue
    assert positions(sinks) == [
        [Position(seq, schedule.time_of(p, seq)) for seq in range(schedule.share(p, limit))]
        for p in range(partitions)
    ]
    assert [sink.times for sink in sinks] == [
        [item.event_time for item in items if item] for items in positions(sinks)
    ]
    assert feed.sent == limit


@pytest.mark.slow
def test_a_short_absence_is_caught_up_in_portions() -> None:
    """A feed that is less than a minute behind sends everything with the times it was meant for, a portion at a time."""
    sinks = [MemorySink(iter(())) for _ in range(2)]
    schedule = Schedule(START, 1_000, 2)
    feed = feed_of(sinks, schedule)
    feed.settle()
    rounds = 1
    while feed.flush(START + 59_999):
        rounds += 1
    assert rounds == 15
    assert [len(sink.values) for sink in sinks] == [30_000, 30_000]
    assert sinks[1].times[-1] == START + 59_999


def test_after_a_long_absence_the_schedule_goes_on_from_now(caplog: pytest.LogCaptureFixture) -> None:
    """A feed more than a minute behind leaves the time out but no event, and says so."""
    sinks = [MemorySink(iter(())) for _ in range(2)]
    feed = feed_of(sinks, Schedule(START, 1_000, 2))
    feed.settle()
    feed.flush(START + 9)
    back = START + 9 + JUMP_MS + 2
    feed.flush(back)
    feed.flush(back + 3)
    assert [position and position.seq for position in positions(sinks)[0]] == list(range(7))
    assert sinks[0].times == [START, START + 2, START + 4, START + 6, START + 8, back, back + 2]
    assert sinks[1].times == [START + 1, START + 3, START + 5, START + 7, START + 9, back + 1, back + 3]
    assert "page-views is 60 s behind its schedule, which goes on from now" in caplog.text


def test_the_next_process_takes_over_the_schedule_and_the_sequence() -> None:
    """A new feed over uneven partitions fills the gaps of the round and goes on, to the millisecond."""
    sinks = [MemorySink(iter(())) for _ in range(3)]
    schedule = Schedule(START, 300, 3)
    first = feed_of(sinks, schedule)
    first.settle()
    first.flush(START + 1_000)
    for sink, killed_before in zip(sinks, (0, 7, 50), strict=True):
        del sink.values[len(sink.values) - killed_before :], sink.times[len(sink.times) - killed_before :]
    second = feed_of(sinks, Schedule(START + 5_555, 300, 3))
    second.settle()
    second.flush(START + 2_000)
    assert positions(sinks) == [
        [Position(seq, schedule.time_of(p, seq)) for seq in range(schedule.due(p, START + 2_000))]
        for p in range(3)
    ]


@pytest.mark.parametrize("fast", [False, True])
def test_run_ends_at_the_limit(fast: bool) -> None:
    """run() returns when each topic has its events; back to back it does not wait for their times."""
    sinks = [MemorySink(iter(["ok", "ok", "lost", "stored"])) for _ in range(2)]
    clock = RunningClock(START)
    run([feed_of(sinks, Schedule(START, 1_000, 2), limit=5_001)], clock, threading.Event(), fast=fast)
    assert [len(sink.values) for sink in sinks] == [2_501, 2_500]
    assert (clock.wall_ms() >= START + 5_000) is not fast


def test_run_ends_when_it_is_told_to() -> None:
    """run() returns when the event is set, also while the server is away."""
    stop = threading.Event()

    def away() -> Iterator[str]:
        yield from ["lost"] * 5
        stop.set()
        yield "lost"

    run([feed_of([MemorySink(away())], Schedule(START, 1_000, 1))], RunningClock(START), stop)
    assert stop.is_set()

"""Records on which a user's function raises, put aside with their places: each once, whatever reads them and how often."""

import json
from collections.abc import Callable
from itertools import chain
from operator import add, itemgetter
from pathlib import Path
from typing import Any

import pytest

from engine import LocalContext, ManualClock, StreamingContext
from engine.batch import Batch, Time
from engine.dstream.dstream import DStream
from engine.dstream.nodes import DeadLetter
from engine.errors import ConfigurationError, UserFunctionError
from engine.sources.decoders import json_decoder, raw_bytes
from engine.sources.direct import EventTime, create_direct_stream
from engine.sources.log import LogSource, LogWriter, create_topic
from tests.engine.app import START_MS

TOPIC = "lines"
ASIDE = "dead-letter"
Job = Callable[[DStream[Any]], Any]


class Letters:
    """A ledger that keeps the letters of each batch that it was given whole."""

    def __init__(self) -> None:
        self.batches: list[list[DeadLetter]] = []

    def put_aside(self, _batch: Batch, letters: list[DeadLetter]) -> None:
        """Keep them."""
        self.batches.append(list(letters))

    def record(self, batch: Batch, zero_time: Time) -> None:
        """Nothing more."""

    @property
    def places(self) -> list[tuple[int, int]]:
        """Partition and offset of each letter, as they came."""
        return [(letter.partition, letter.offset) for letter in chain.from_iterable(self.batches)]


class World:
    """A topic of two partitions, and one run of an application over it."""

    def __init__(self, context: LocalContext, folder: Path, **reader: Any) -> None:
        self.context, self.folder, self.reader = context, folder, {"decoder": raw_bytes, **reader}
        self.ledger = Letters()
        create_topic(folder / "log", TOPIC, 2)

    def write(self, partition: int, *values: bytes) -> None:
        """Append records, each in a frame of its own when they are few."""
        with LogWriter(self.folder / "log", TOPIC, partition) as writer:
            writer.append([(START_MS, None, value) for value in values])

    def run(self, job: Job, batches: int = 1, between: Callable[[], object] = lambda: None) -> None:
        """Start, run batches with something between them, and stop."""
        clock = ManualClock(START_MS)
        ssc = StreamingContext(self.context, 1.0, clock=clock)
        ssc.recordBatches(self.ledger)
        source = LogSource(self.folder / "log", [TOPIC])
        job(create_direct_stream(ssc, source, name=TOPIC, reset="earliest", **self.reader))
        if ssc.graph.stateful:
            ssc.checkpoint(self.folder / "checkpoints")
        try:
            ssc.start(thread=False)
            for number in range(batches):
                if number:
                    between()
                clock.advance(1_000)
                ssc.runBatch()
        finally:
            ssc.stop(stopSparkContext=False)


def kept(seen: list[Any]) -> Callable[[Any], None]:
    """An output that keeps each batch's elements, sorted."""
    return lambda rdd: seen.append(sorted(rdd.collect()))


@pytest.fixture
def world(context: LocalContext, tmp_path: Path) -> World:
    """Lines of which offsets 2 of partition 0 and 1 of partition 1 are no numbers."""
    made = World(context, tmp_path)
    made.write(0, b"1", b"2", b"x", b"4")
    made.write(1, b"5", b"y")
    return made


def test_record_of_several_elements_is_put_aside_whole(context: LocalContext, tmp_path: Path) -> None:
    """When one of a record's elements fails, none of them goes on: who sends the record again counts each of them once."""
    world, seen = World(context, tmp_path), []
    world.write(0, b"1 2", b"3 x 4", b"5")

    world.run(lambda s: s.flatMap(bytes.split).map(int, onError=ASIDE).foreachRDD(kept(seen)))

    assert seen == [[1, 2, 5]]
    assert world.ledger.places == [(0, 1)]


@pytest.mark.fault(46, 'a function raises on two records, and its stream has onError="dead-letter"')
@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (lambda s: s.map(int, onError=ASIDE), [1, 2, 4, 5]),
        (lambda s: s.filter(lambda line: int(line) > 1, onError=ASIDE).map(int), [2, 4, 5]),
        (
            lambda s: s.flatMap(lambda line: range(int(line)), onError=ASIDE).filter(bool),
            [1, 1, 1, 2, 2, 3, 3, 4],
        ),
        (
            lambda s: s.map(lambda line: (0, line)).mapValues(int, onError=ASIDE).map(itemgetter(1)),
            [1, 2, 4, 5],
        ),
    ],
    ids=["map", "filter", "flatMap", "mapValues"],
)
def test_record_that_fails_is_put_aside(world: World, step: Job, expected: list[int]) -> None:
    """Each operator puts the record aside on which its function raises, with place, reason and bytes, and the others go on."""
    seen: list[Any] = []

    world.run(lambda stream: step(stream).foreachRDD(kept(seen)))

    assert seen == [expected]
    first, second = world.ledger.batches[0]
    assert (first[:3], first.value) == ((TOPIC, 0, 2), b"x")
    assert (second[:3], second.value) == ((TOPIC, 1, 1), b"y")
    assert first.reason.startswith("failed: ")
    assert "ValueError: invalid literal for int() with base 10: b'x'" in first.reason


def test_without_the_policy_the_batch_fails(world: World) -> None:
    """The same function without the policy ends the stream, and no letter is written."""
    with pytest.raises(UserFunctionError, match="invalid literal"):
        world.run(lambda stream: stream.map(int).foreachRDD(lambda rdd: rdd.count()))
    assert world.ledger.batches == []


def test_letters_do_not_depend_on_outputs(world: World) -> None:
    """A record is put aside once, whether nobody reads the stream, one output a part of it, or several all of it."""
    for output in (
        lambda _: None,
        lambda s: s.foreachRDD(lambda rdd: rdd.take(1)),
        lambda s: [s.foreachRDD(lambda rdd: (rdd.count(), rdd.collect())) for _ in range(3)],
        lambda s: s.cache().foreachRDD(lambda rdd: rdd.count()),
    ):
        world.ledger.batches.clear()

        def job(stream: DStream[Any], output: Any = output) -> None:
            stream.foreachRDD(lambda rdd: rdd.count())
            output(stream.map(int, onError=ASIDE))

        world.run(job)
        assert world.ledger.places == [(0, 2), (1, 1)]


def test_record_that_fails_in_two_streams_has_one_letter(world: World) -> None:
    """Of two streams that put one record aside one gives the reason, and each leaves the record out for itself."""
    seen: list[Any] = []
    both: list[Any] = []

    def job(stream: DStream[Any]) -> None:
        stream.map(int, onError=ASIDE).foreachRDD(kept(seen))
        stream.map(lambda line: line.decode()).map(
            lambda text: {"1": 1, "x": 7}[text], onError=ASIDE
        ).foreachRDD(kept(both))

    world.run(job)

    assert (seen, both) == ([[1, 2, 4, 5]], [[1, 7]])
    assert sorted(world.ledger.places) == [(0, 1), (0, 2), (0, 3), (1, 0), (1, 1)]


def test_places_hold_behind_other_operators(world: World) -> None:
    """A chain of operators, of which some put aside and some drop or multiply elements, names the right records."""
    seen: list[Any] = []

    def job(stream: DStream[Any]) -> None:
        numbers = stream.filter(lambda line: line != b"1").map(int, onError=ASIDE)
        twice = numbers.flatMap(lambda n: [n, -n]).map(lambda n: 8 // (n - 4), onError=ASIDE)
        twice.filter(lambda n: n is not None).foreachRDD(kept(seen))

    world.run(job)

    # Of 4 one element fails, so the other is left out too.
    assert seen == [[-4, -2, -1, 8]]
    assert world.ledger.places == [(0, 2), (0, 3), (1, 1)]


def test_places_hold_in_slices_with_other_letters(context: LocalContext, tmp_path: Path) -> None:
    """Of long slices in which some records do not decode and some are late, the records that fail are named all the same."""
    event_time = EventTime(of=itemgetter("at"), window=10, grace=0)
    world = World(context, tmp_path, decoder=json_decoder(dict[str, Any]), event_time=event_time)

    def event(at: int, n: Any) -> bytes:
        return json.dumps({"at": at, "n": n}).encode()

    def second() -> None:
        world.write(0, *[event(99_000, n) for n in range(700)])
        world.write(
            0, b"{", event(1, 7), event(99_000, "a"), b"[]", event(99_000, 3), event(2, 9), event(99_000, "b")
        )

    world.write(0, event(99_000, 0))
    world.write(1, event(99_000, 0))
    seen: list[Any] = []
    world.run(
        lambda s: s.map(lambda e: e["n"] + 1, onError=ASIDE).foreachRDD(kept(seen)), batches=2, between=second
    )

    assert len(seen[1]) == 701
    reasons = {letter.offset: letter.reason.partition(":")[0] for letter in world.ledger.batches[1]}
    assert reasons == {
        701: "undecodable",
        702: "late",
        703: "failed",
        704: "undecodable",
        706: "late",
        707: "failed",
    }


def test_letters_belong_to_their_own_batch(world: World) -> None:
    """A window that reads older batches again puts nothing aside a second time, and leaves out what failed."""
    seen: list[Any] = []
    world.run(
        lambda s: s.map(int, onError=ASIDE).window(3, 1).foreachRDD(kept(seen)),
        batches=3,
        between=lambda: world.write(0, b"9", b"z"),
    )

    assert seen == [[1, 2, 4, 5], [1, 2, 4, 5, 9], [1, 2, 4, 5, 9, 9]]
    assert [[letter.value for letter in batch] for batch in world.ledger.batches] == [
        [b"x", b"y"],
        [b"z"],
        [b"z"],
    ]


def test_state_counts_the_others_once(world: World) -> None:
    """State behind a stream that puts aside counts every other record once, and letters come with the batch that is replayed."""
    seen: list[Any] = []
    crash = [True]

    def job(stream: DStream[Any]) -> None:
        ones = stream.map(int, onError=ASIDE).map(lambda n: ("sum", n)).reduceByKey(add)
        totals = ones.updateStateByKey(lambda new, old: sum(new) + (old or 0), name="totals")
        totals.foreachRDD(lambda rdd: 1 / 0 if crash else seen.append(rdd.collect()))

    with pytest.raises(UserFunctionError, match="ZeroDivisionError"):
        world.run(job)
    assert world.ledger.batches == []
    crash.clear()
    world.run(job)

    assert seen[0] == [("sum", 12)]
    assert world.ledger.places == [(0, 2), (1, 1)]


@pytest.mark.parametrize(
    "build",
    [
        lambda s: s.map(lambda line: (line, 1)).reduceByKey(add).map(str, onError=ASIDE),
        lambda s: s.window(2, 1).filter(bool, onError=ASIDE),
        lambda s: s.union(s).flatMap(list, onError=ASIDE),
        lambda s: s.mapPartitions(list).map(str, onError=ASIDE),
        lambda s: s.context().queueStream([]).map(str, onError=ASIDE),
        lambda s: s.map(str, onError="ignore"),
    ],
    ids=["shuffle", "window", "union", "partitions", "queue", "unknown"],
)
def test_policy_is_refused_where_places_are_unknown(world: World, build: Job) -> None:
    """Behind a shuffle, a window or whole partitions, and of an input without offsets, the policy is refused by name."""
    with pytest.raises(ConfigurationError, match=r"onError|cannot put records aside"):
        world.run(lambda stream: build(stream).pprint())

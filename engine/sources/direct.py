"""The direct stream: the driver plans ranges of offsets, tasks read, decode and account for them where they compute.

What passes through the driver for a partition is its range and, when it was read to its end, one report: the largest event
time and the records that were put aside. A range read twice reports the same.

Owns: EventTime, DirectInputDStream, RangeRead, ReadRanges, create_direct_stream, with_offset_ranges.
Never: a client library; the source brings it.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, NamedTuple, cast

from engine.batch import Batch, Duration, OffsetRange, Time, TopicPartition
from engine.context import StreamingContext
from engine.dstream.dstream import DStream
from engine.dstream.nodes import BatchScope, DeadLetter, InputDStream, Observed
from engine.dstream.steps import Step, whole_records
from engine.errors import ConfigurationError, OffsetOutOfRangeError, UserFunctionError
from engine.failpoints import fail_point
from engine.rdd.api import RDD
from engine.sources.accounts import ByRange, Cursor, RangeReport, letter_of, letters_of
from engine.sources.api import RecordSlice, Source
from engine.sources.continuity import count_by_topic, lost_letter, passed_over, prove_topics, what_is_gone
from engine.sources.limits import RateLimit

_LOG = logging.getLogger("engine.sources")


@dataclass(frozen=True, slots=True)
class EventTime:
    """When the records of an input happened, and when it is too late for one of them.

    A record is late when the watermark has passed the end of its fixed window by the grace; it is then a dead letter with
    reason "late" and counts nowhere. The watermark is that of the batch: the smallest of the partitions' largest
    event times before it.

    Example:
        >>> EventTime(of=lambda record: record, window=10, grace=60).late_before(watermark=85_000)
        20000
    """

    of: Callable[[Any], int]
    """Event time of a decoded record, milliseconds since the epoch."""
    window: float
    """Length of the fixed windows, seconds."""
    grace: float
    """How long after its end a window still takes records, seconds of event time."""

    def late_before(self, watermark: int | None) -> int | None:
        """Records with an event time before this are late; None when none can be."""
        if watermark is None:
            return None
        length = Duration.seconds(self.window)
        # [start, start + length) is closed when start + length + grace <= watermark.
        return (watermark - Duration.seconds(self.grace)) // length * length


class RangeRead(NamedTuple):
    """What the driver ships for one partition."""

    offsets: OffsetRange
    late_before: int | None
    reports: bool
    """Whether the range is of the running batch; a window that reads older ones again accounts for nothing."""


class ReadRanges:
    """The function of a partition that reads its ranges; shipped once."""

    def __init__(
        self,
        source: Source,
        decoder: Callable[[bytes], Any] | None,
        event_time: EventTime | None,
        report: Callable[[RangeReport], None],
        stream: str = "",
        steps: Sequence[Step] = (),
    ) -> None:
        self._source = source
        self._stream, self._steps = stream, tuple(steps)
        self._decoder = decoder
        self._event_time = event_time
        self._report = report

    def __call__(self, reads: Iterator[RangeRead]) -> Iterator[Any]:
        """The decoded records, after the steps of a stream that puts records aside."""
        cursor = Cursor() if self._steps else None
        # Every range is taken at once: Spark ends a worker of which a `take` left a part of its input.
        records = chain.from_iterable(chain.from_iterable([self._slices(read, cursor) for read in reads]))
        return records if cursor is None else whole_records(self._steps, records, cursor.put_aside)

    def _slices(self, read: RangeRead, cursor: Cursor | None) -> Iterator[Iterable[Any]]:
        # A decoder of whole records sees those without a value too, and makes no dead letter.
        whole: Callable[[RecordSlice], list[Any]] | None = getattr(self._decoder, "records", None)
        make = getattr(self._decoder, "function", None)
        decode = make() if make is not None else self._decoder
        dead: list[DeadLetter] = []
        created: list[int] = []
        lost: list[OffsetRange] = []
        largest: int | None = None
        for piece in self._source.read(read.offsets):
            if piece.lost is not None:
                lost.append(piece.lost)
                continue
            if read.reports:
                created += piece.created()
            records = _decoded(piece, decode, dead) if whole is None else whole(piece)
            if self._event_time is not None and records:
                times = list(map(self._event_time.of, records))
                if len(times) < len(records):
                    raise UserFunctionError("StopIteration: the function of the event time raised it")
                newest = max(times)
                largest = newest if largest is None else max(largest, newest)
                if read.late_before is not None and min(times) < read.late_before:
                    late_before = read.late_before
                    records = (
                        self._without_late(piece, decode, late_before, dead)
                        if whole is None
                        else _split_late(piece, zip(records, times, strict=True), late_before, dead)
                    )
            yield records if cursor is None else cursor.over(piece, records, dead)
        fail_point("run")
        if read.reports:
            self._report(RangeReport(read.offsets, largest, dead, created, lost, self._stream))

    def _without_late(
        self,
        piece: RecordSlice,
        decode: Callable[[bytes], Any] | None,
        late_before: int,
        dead: list[DeadLetter],
    ) -> list[Any]:
        """The slice's records without the late ones, which are put aside."""
        kept = []
        known = {letter.offset for letter in dead}
        for index in range(len(piece.values)):
            record = piece.record(index)
            if record.offset not in known:
                value = record if decode is None else decode(record.value or b"")
                if self._event_time is not None and self._event_time.of(value) < late_before:
                    dead.append(letter_of(record, "late"))
                else:
                    kept.append(value)
        return kept


def _split_late(
    piece: RecordSlice, records: Iterable[tuple[Any, int]], late_before: int, dead: list[DeadLetter]
) -> list[Any]:
    """Those of all records of a slice that are not late by their times; the late ones are put aside."""
    kept = []
    for index, (record, time) in enumerate(records):
        if time < late_before:
            dead.append(letter_of(piece.record(index), "late"))
        else:
            kept.append(record)
    return kept


def _decoded(piece: RecordSlice, decode: Callable[[bytes], Any] | None, dead: list[DeadLetter]) -> list[Any]:
    """The slice's records; one that does not decode is put aside and the others go on."""
    if decode is None:
        return [piece.record(index) for index in range(len(piece.values))]
    if None not in piece.values:
        try:
            records = list(map(decode, cast("Sequence[bytes]", piece.values)))
            if len(records) == len(piece.values):
                return records
        except Exception:  # noqa: BLE001, S110 - a decoder may raise anything; the loop below finds out which record
            pass
    records = []
    for index, value in enumerate(piece.values):
        try:
            records.append(_decode_one(decode, value))
        except Exception as cause:  # noqa: BLE001  as above: the record is put aside with the reason
            dead.append(letter_of(piece.record(index), f"undecodable: {type(cause).__name__}: {cause}"))
    return records


def _decode_one(decode: Callable[[bytes], Any], value: bytes | None) -> Any:
    if value is None:
        raise ValueError("the value is null")
    return decode(value)


def _exhaust(records: Iterator[Any]) -> None:
    for _ in records:
        pass


def with_offset_ranges(rdd: RDD[Any], ranges: Sequence[OffsetRange]) -> RDD[Any]:
    """The RDD, which tells its ranges when it is asked for `offsetRanges()`; what is made of it does not.

    Source: HasOffsetRanges of Spark's connector.
    """
    told = list(ranges)
    # On the object, as the RDD is the backend's, and of a type that knows nothing of ranges.
    rdd.offsetRanges = lambda: list(told)  # type: ignore[attr-defined]
    return rdd


class DirectInputDStream(InputDStream):
    """The records of a source's partitions, one RDD partition for each.

    Replay: a batch that runs again reads the ranges that its begin record has.
    """

    def __init__(
        self,
        scope: BatchScope,
        source: Source,
        name: str,
        reader: tuple[Callable[[bytes], Any] | None, EventTime | None],
    ) -> None:
        super().__init__(scope, [], scope.batch_duration, name, name)
        self._source = source
        self._decoder, self._event_time = reader
        self._reports: Any = scope.context.accumulator({}, ByRange())
        self._reads = {"": ReadRanges(source, *reader, self._reports.add)}
        """By stream that puts records aside, the deepest last; the input's own under no name."""
        self._covers: dict[str, set[str]] = {"": {""}}
        """By stream those whose functions saw the records too."""
        self._positions: dict[TopicPartition, int] = {}
        self._ends: dict[TopicPartition, int] = {}
        self._is_fresh = True
        self._topics: dict[str, str] = {}
        self.starting_offsets: Mapping[TopicPartition, int] = {}
        self.starts_at_end = False
        self.max_rate_per_partition: float | None = None
        self._rate = RateLimit()
        self.fails_on_loss = True
        """Whether offsets that the log no longer has are an error; else they are counted and passed over."""

    @property
    def ends(self) -> Mapping[TopicPartition, int]:
        """The end of each partition's log as the last plan saw it."""
        return self._ends

    @property
    def limit(self) -> float | None:
        """Records a second that the newest plan allowed at most; None for no limit."""
        return self._rate.told

    def limit_to(self, rate: float) -> None:
        """Bring at most so many records a second from the next plan on."""
        self._rate.rate = rate

    @property
    def topics(self) -> Mapping[str, str]:
        """By topic its id."""
        return self._topics

    def expect(self, topics: Mapping[str, str]) -> None:
        """Refuse another topic of one of these names."""
        self._topics = dict(topics)

    def _prove(self, topics: set[str]) -> None:
        prove_topics(self._source, sorted(topics), self._topics, self.rereads)

    def resume(self, ranges: Sequence[OffsetRange]) -> None:
        """Go on after these ranges."""
        self._is_fresh = False
        self._positions = {part.topicPartition(): part.untilOffset for part in ranges}

    def plan(self, time: Time) -> tuple[OffsetRange, ...]:  # noqa: ARG002  the end of the log is now, whatever the time
        """From where the last batch ended to the end of the log, at most the rate times the batch interval."""
        bounds = dict(sorted(self._source.bounds().items()))
        if bounds.keys() != self._ends.keys():
            # At the start and when partitions are added; while a source runs it sees by itself that a topic is another one.
            self._prove({place.topic for place in bounds})
        added = {place: limits for place, limits in bounds.items() if place not in self._positions}
        starts = self._starts(added) if added else {}
        begins = {
            place: starts.get(place, self._positions.get(place, limits[0]))
            for place, limits in bounds.items()
        }
        waiting = {place: max(0, end - begins[place]) for place, (_, end) in bounds.items()}
        most = self._rate.shares(waiting, self.scope.batch_duration / 1_000, self._most, self._least)
        ranges = tuple(
            self._plan_partition(place, begins[place], limits, most[place])
            for place, limits in bounds.items()
        )
        self._positions.update(starts)
        self._ends = {place: end for place, (_, end) in bounds.items()}
        self._is_fresh = False
        fail_point("plan")
        return ranges

    def accept(self, ranges: Sequence[OffsetRange]) -> tuple[OffsetRange, ...]:
        """The ranges that another application planned; they go on where this one is.

        Raises:
            ConfigurationError: one begins elsewhere.
            SourceError: a topic was deleted and made again.
        """
        topics = {part.topic for part in ranges}
        if not topics <= self._topics.keys():
            # BEFORE the begin record, which tells what the topics are.
            self._prove(topics)
        for part in ranges:
            position = self._positions.get(part.topicPartition(), part.fromOffset)
            if part.fromOffset != position and not self._explains(position, part):
                raise ConfigurationError(
                    f"backfill: {part.topic}[{part.partition}] of input {self.name!r} is at offset {position}, and the next batch "
                    f"given begins at {part.fromOffset}; give every batch of one application since its first, to a fresh one"
                )
        return tuple(ranges)

    def _explains(self, position: int, part: OffsetRange) -> bool:
        """Whether what is between a position and a range is gone from the log, and may be passed over."""
        if self.fails_on_loss or part.fromOffset < position:
            return False
        bounds = self._source.bounds().get(part.topicPartition())
        return bounds is not None and part.fromOffset <= bounds[0]

    def _plan_partition(
        self, place: TopicPartition, begin: int, bounds: tuple[int, int], most: int | None
    ) -> OffsetRange:
        earliest, end = bounds
        if begin < earliest and not self.fails_on_loss:
            _LOG.warning(
                "%s[%d]: offsets [%d, %d) are gone from the log, and passed over",
                *(*place, begin, earliest),
            )
            begin = earliest
        if not earliest <= begin <= end:
            raise OffsetOutOfRangeError(
                f"{place.topic}[{place.partition}]: the next offset to read is {begin}, the log holds [{earliest}, {end}); "
                f"{what_is_gone(begin, earliest, end)}: restore it, or start with an empty checkpoint folder"
            )
        until = end if most is None else min(end, begin + most)
        return OffsetRange(place.topic, place.partition, begin, until)

    def _most(self, place: TopicPartition) -> int | None:  # noqa: ARG002  one limit for all
        """How many records a batch takes of a partition; None for no limit."""
        if self.max_rate_per_partition is None:
            return None
        return max(1, int(self.max_rate_per_partition * self.scope.batch_duration / 1_000))

    def _least(self, place: TopicPartition) -> int:  # noqa: ARG002  one for all here; Kafka's stream has a least of its own for each
        """How many records of a partition backpressure leaves to a batch."""
        return 1

    def _starts(self, added: Mapping[TopicPartition, tuple[int, int]]) -> dict[TopicPartition, int]:
        """Where partitions begin that the stream has not read yet, by their bounds."""
        return {place: self._start(place, *limits) for place, limits in added.items()}

    def _start(self, place: TopicPartition, earliest: int, end: int) -> int:
        if self._is_fresh and place in self.starting_offsets:
            return self.starting_offsets[place]
        # A partition that was added while the application ran is read from its first record.
        return end if self._is_fresh and self.starts_at_end else earliest

    def compute(self, time: Time) -> RDD[Any] | None:
        """The records of the batch's ranges, which the RDD tells."""
        rdd = super().compute(time)
        ranges = self.scope.batch(time).ranges.get(self.name, ())
        return None if rdd is None else with_offset_ranges(rdd, ranges)

    def put_aside(
        self, stream: str, steps: Sequence[Step]
    ) -> Callable[[Batch, Sequence[OffsetRange]], RDD[Any]]:
        """Give the elements after these steps too."""
        self._reads[stream] = ReadRanges(
            self._source, self._decoder, self._event_time, self._reports.add, stream, steps
        )
        self._covers[stream] = {"", *(step.aside for step in steps)}
        return partial(self.range_rdd, stream=stream)

    def range_rdd(self, batch: Batch, ranges: Sequence[OffsetRange], stream: str = "") -> RDD[Any]:
        """The decoded records of the ranges, one partition each; what a stream that puts records aside makes of them."""
        late = (
            None
            if self._event_time is None
            else self._event_time.late_before(batch.watermarks.get(self.name))
        )
        is_running = batch.ranges.get(self.name) is not None and batch.time == self._running
        reads = [RangeRead(part, late, is_running) for part in ranges]
        rdd: RDD[Any] = self.scope.context.parallelize(reads, len(reads)).mapPartitions(self._reads[stream])
        return rdd

    _running: Time | None = None

    def begin(self, batch: Batch) -> None:
        """Forget what an unfinished run observed, and go on after this batch's ranges next time."""
        if not self._ends and self._topics:
            # Another process planned it.
            self._prove({part.topic for part in batch.ranges.get(self.name, ())})
        self._running = batch.time
        self._is_fresh = False
        self._reports.value = {}

    def finish(self, batch: Batch) -> Observed:
        """Read what no output has read to its end, and collect the reports."""
        ranges = [part for part in batch.ranges.get(self.name, ()) if part.count()]
        for stream in reversed(self._reads):
            unread = [part for part in ranges if not self._was_read(part, stream)]
            if unread:
                self.range_rdd(batch, unread, stream).foreachPartition(_exhaust)
        known = self._reports.value
        of_parts = [
            [known[part, stream] for stream in self._reads if (part, stream) in known] for part in ranges
        ]
        # What the input itself saw is the same in each of a part's reports.
        reports: list[RangeReport] = [own[0] for own in of_parts]
        lost = []
        if not self.fails_on_loss:
            lost = passed_over(batch.ranges.get(self.name, ()), self._positions)
            lost += [part for report in reports for part in report.lost]
        return Observed(
            [letter for own in of_parts for letter in letters_of(own)] + list(map(lost_letter, lost)),
            {
                report.offsets.topicPartition(): report.largest
                for report in reports
                if report.largest is not None
            },
            {report.offsets.topicPartition(): report.created for report in reports if report.created},
            count_by_topic(lost),
        )

    def _was_read(self, part: OffsetRange, stream: str) -> bool:
        """Whether the stream's functions saw the range to its end in this run."""
        known = self._reports.value
        return any((part, other) in known for other, covered in self._covers.items() if stream in covered)

    def committed(self, batch: Batch) -> None:
        """Go on after the batch, and tell the source as a hint."""
        ranges = batch.ranges.get(self.name, ())
        self._positions.update({part.topicPartition(): part.untilOffset for part in ranges})
        self._source.commit(ranges)

    def close(self) -> None:
        """Let go of the driver's client."""
        self._source.close()


def create_direct_stream(
    ssc: StreamingContext,
    source: Source,
    *,
    name: str,
    decoder: Callable[[bytes], Any] | None = None,
    event_time: EventTime | None = None,
    starting_offsets: Mapping[TopicPartition, int] | None = None,
    reset: str = "latest",
    max_rate_per_partition: float | None = None,
) -> DStream[Any]:
    """The stream of a source's records, decoded; ConsumerRecords without a decoder.

    Args:
        ssc: the context.
        source: what to read.
        name: of the stream, in the checkpoint and in metrics.
        decoder: bytes -> value; a record on which it raises is a dead letter. An object with a method `function()`
            gives the callable in the executor.
        event_time: when records happened, and when they are late.
        starting_offsets: where a fresh application starts.
        reset: where it starts in the other partitions, "earliest" or "latest".
        max_rate_per_partition: records a second, None for no limit.

    Raises:
        ConfigurationError: reset or the rate is not valid.
    """
    if reset not in {"earliest", "latest"}:
        raise ConfigurationError(f"auto.offset.reset is {reset!r}; use earliest or latest")
    if max_rate_per_partition is not None and max_rate_per_partition <= 0:
        raise ConfigurationError(
            f"maxRatePerPartition is {max_rate_per_partition}; give a number above 0, or none"
        )
    node = DirectInputDStream(ssc.graph, source, name, (decoder, event_time))
    node.starting_offsets = dict(starting_offsets or {})
    node.starts_at_end = reset == "latest"
    node.max_rate_per_partition = max_rate_per_partition
    return DStream(node)

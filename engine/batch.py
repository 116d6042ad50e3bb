"""The values that travel between the parts of the engine.

Owns: Time, Duration, Interval, TopicPartition, OffsetRange, Batch, OutputOperation, OutputInfo, OutputOperationInfo, StreamInputInfo,
BatchInfo, UnfinishedBatchInfo, ReceiverInfo, job_and_rest.
Never: I/O, a clock, a thread.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar, NamedTuple

from engine.errors import ConfigurationError
from engine.reports import WriteReport
from engine.spelling import Spelled

_JOB = re.compile(r"([^.(\[]+)\.(.+)")


class Duration(int):
    """A length of time in milliseconds.

    Example:
        >>> Duration.seconds(1.5)
        Duration(1500)
        >>> Duration(3000).is_multiple_of(Duration(1000))
        True
    """

    __slots__ = ()

    @classmethod
    def seconds(cls, seconds: float, thing: str = "duration") -> "Duration":
        """The duration of that many seconds, rounded to whole milliseconds.

        Args:
            seconds: how many.
            thing: what it is of, for the message.

        Raises:
            ConfigurationError: it is no number, or no finite one.
        """
        try:
            return cls(round(seconds * 1_000))
        except (TypeError, ValueError, OverflowError):
            raise ConfigurationError(f"{thing} is {seconds!r:.60}; give a number of seconds") from None

    def is_multiple_of(self, unit: "Duration") -> bool:
        """Whether this duration is a whole multiple of the other."""
        return self % unit == 0

    def __repr__(self) -> str:
        return f"Duration({int(self)})"


class Time(int):
    """A batch time: the end of the batch's interval, in milliseconds since the epoch, UTC.

    Example:
        >>> Time(1_500).floor(Duration(1_000))
        Time(1000)
    """

    __slots__ = ()

    def floor(self, unit: Duration) -> "Time":
        """The newest multiple of the unit that is not after this time."""
        return Time(self - self % unit)

    def plus(self, duration: int) -> "Time":
        """This time moved on by a duration, in milliseconds (negative moves it back)."""
        return Time(self + duration)

    def milliseconds(self) -> int:
        """The number; Spark's spelling of a Time that a listener is told."""
        return int(self)

    def as_datetime(self) -> datetime:
        """The naive local datetime that PySpark hands to the functions of transform and foreachRDD."""
        return datetime.fromtimestamp(self / 1_000, tz=UTC).astimezone().replace(tzinfo=None)

    def __repr__(self) -> str:
        return f"Time({int(self)})"


@dataclass(frozen=True, slots=True)
class Interval:
    """The times in (begin, end]: a batch or window at `end` covers what came after `begin`.

    Example:
        >>> Time(2_000) in Interval(Time(1_000), Time(2_000))
        True
        >>> Time(1_000) in Interval(Time(1_000), Time(2_000))
        False
    """

    begin: Time
    """Exclusive."""
    end: Time
    """Inclusive."""

    def __contains__(self, time: object) -> bool:
        return isinstance(time, int) and self.begin < time <= self.end


class TopicPartition(NamedTuple):
    """One partition of one topic."""

    topic: str
    partition: int


@dataclass(frozen=True, slots=True, order=True)
class OffsetRange:
    """The records [fromOffset, untilOffset) of one partition; the field names are Spark's.

    1. fromOffset <= untilOffset. 2. Offsets may be sparse: count() is an upper bound of the records.

    Example:
        >>> OffsetRange("pages", 0, 10, 25).count()
        15
    """

    topic: str
    partition: int
    fromOffset: int
    """Inclusive."""
    untilOffset: int
    """Exclusive."""

    def __post_init__(self) -> None:
        if self.fromOffset > self.untilOffset:
            raise ConfigurationError(
                f"offset range of {self.topic}[{self.partition}] runs backwards, "
                f"from {self.fromOffset} until {self.untilOffset}; swap the two"
            )

    def count(self) -> int:
        """Number of offsets in the range, an upper bound of its records."""
        return self.untilOffset - self.fromOffset

    def topicPartition(self) -> TopicPartition:
        """The partition that the range lies in."""
        return TopicPartition(self.topic, self.partition)


@dataclass(frozen=True, slots=True)
class Batch:
    """What a batch is made of, the replay key: an equal Batch over an equal state version gives equal output."""

    time: Time
    """The end of the interval; no two batches of an app share it."""
    ranges: Mapping[str, tuple[OffsetRange, ...]]
    """For each input, by its name, the range of each of its partitions in partition order."""
    attempt: int = 0
    """0 for the first run, one more for each run after it; the newest attempt's writes win."""
    watermarks: Mapping[str, int] = field(default_factory=dict)
    """For each input with event time: the smallest of its partitions' largest event times as of the
    last commit, milliseconds since the epoch; an input is absent until each partition has had a record."""

    def count(self) -> int:
        """Number of offsets over all inputs, an upper bound of the records."""
        return sum(part.count() for parts in self.ranges.values() for part in parts)

    @property
    def write_timestamp(self) -> int:
        """The timestamp of every write of this run, in microseconds: a newer attempt wins over an older one.

        Not guaranteed: that it is below that of every later batch, from attempt 1,000 on; the scheduler refuses a run that would
        reach the next interval.
        """
        return self.time * 1_000 + self.attempt


def job_and_rest(name: str) -> tuple[str, str]:
    """The job that an operator belongs to and the rest of the operator's name; the job is empty when it has none.

    Example:
        >>> job_and_rest("page_totals.totals"), job_and_rest("foreachRDD(map(v1.pages))")
        (('page_totals', 'totals'), ('', 'foreachRDD(map(v1.pages))'))
    """
    match = _JOB.fullmatch(name)
    return (match[1], match[2]) if match else ("", name)


@dataclass(frozen=True, slots=True)
class OutputOperation:
    """An output of the graph."""

    name: str
    """Unique in the graph; begins with the job's name and a dot when it has a job."""
    inputs: tuple[str, ...] = ()
    """Names of the input streams that it is made of, in the order in which they were made."""
    slide: int = 0
    """How often it runs, milliseconds."""
    id: int = 0
    """Its number among the outputs, in the order in which they were made."""
    description: str = ""
    """How it came to be, from its inputs on."""

    @property
    def job(self) -> str:
        """The job's name, empty without one."""
        return job_and_rest(self.name)[0]

    @property
    def output(self) -> str:
        """The name without the job's."""
        return job_and_rest(self.name)[1]


@dataclass(frozen=True, slots=True)
class OutputInfo:
    """How one output operation of a batch went; times in milliseconds since the epoch."""

    operation: OutputOperation
    startTime: int
    endTime: int
    """When every row was acknowledged, or when the output failed."""
    failureReason: str | None = None
    """What ended it, in a sentence; None when every row was acknowledged."""
    writes: Mapping[str, WriteReport] = field(default_factory=dict)
    """By table what it wrote into the results store; empty for outputs of other kinds."""
    isRetried: bool = False
    """Whether it failed and runs again in place, by its policy."""

    @property
    def name(self) -> str:
        """The output's name, unique in the graph."""
        return self.operation.name

    @property
    def job(self) -> str:
        """The job's name, empty without one."""
        return self.operation.job

    @property
    def output(self) -> str:
        """The name without the job's."""
        return self.operation.output

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the input streams that it is made of."""
        return self.operation.inputs

    @property
    def slide(self) -> int:
        """How often it runs, milliseconds."""
        return self.operation.slide

    @property
    def duration(self) -> int:
        """Milliseconds from start to end; 0 when the clock was set back between them."""
        return max(0, self.endTime - self.startTime)


@dataclass(frozen=True, slots=True)
class OutputOperationInfo(Spelled):
    """An output operation of one batch, with Spark's names; times in milliseconds since the epoch."""

    numbers: ClassVar[frozenset[str]] = frozenset({"startTime", "endTime", "duration"})

    batchTime: Time
    id: int
    """Number of the output, in the order in which they were made."""
    name: str
    description: str
    """How it came to be, from its inputs on."""
    startTime: int | None = None
    endTime: int | None = None
    """None while it runs."""
    failureReason: str | None = None
    """What ended it, in a sentence; None when every row was acknowledged."""

    @property
    def duration(self) -> int | None:
        """Milliseconds from start to end; None while it runs."""
        return None if self.startTime is None or self.endTime is None else self.endTime - self.startTime


def operation_info(
    time: Time,
    operation: OutputOperation,
    start: int,
    end: int | None = None,
    failure: str | None = None,
) -> OutputOperationInfo:
    """An output of a batch as Spark tells it."""
    return OutputOperationInfo(
        time, operation.id, operation.name, operation.description or operation.name, start, end, failure
    )


@dataclass(frozen=True, slots=True)
class StreamInputInfo(Spelled):
    """What one input brought to a batch, with Spark's names."""

    inputStreamId: int
    """Number of the input stream, in the order in which they were made."""
    numRecords: int
    """Number of offsets in its ranges, an upper bound of its records."""
    name: str
    """Of the input stream."""
    ranges: tuple[OffsetRange, ...]

    @property
    def metadata(self) -> dict[str, Any]:
        """The ranges under "offsets", and what a person may read under "Description"."""
        return {"offsets": list(self.ranges), "Description": self.metadataDescription}

    @property
    def metadataDescription(self) -> str:
        """The ranges with records for a person to read, the largest first."""
        largest = sorted(self.ranges, key=OffsetRange.count, reverse=True)
        return "\n".join(
            f"topic: {part.topic}\tpartition: {part.partition}\t"
            f"offsets: {part.fromOffset} to {part.untilOffset}\tcount: {part.count()}"
            for part in largest
            if part.count()
        )


class _OfBatch(Spelled):
    """What is known of a batch before it ran."""

    __slots__ = ()
    numbers: ClassVar[frozenset[str]] = frozenset(
        {"processingStartTime", "processingEndTime", "schedulingDelay", "processingDelay", "totalDelay"}
    )

    batch: Batch
    streams: tuple[str, ...]

    @property
    def batchTime(self) -> Time:
        """The batch's time."""
        return self.batch.time

    @property
    def numRecords(self) -> int:
        """Number of offsets in the batch's ranges, an upper bound of its records."""
        return self.batch.count()

    @property
    def streamIdToInputInfo(self) -> dict[int, StreamInputInfo]:
        """What each input brought, by its number in the order in which they were made."""
        names = self.streams or tuple(self.batch.ranges)
        return {
            number: StreamInputInfo(number, sum(part.count() for part in ranges), name, ranges)
            for number, name in enumerate(names)
            if (ranges := self.batch.ranges.get(name)) is not None
        }


@dataclass(frozen=True, slots=True)
class UnfinishedBatchInfo(_OfBatch):
    """A batch that waits or runs; times in milliseconds since the epoch, None while they are not known."""

    batch: Batch
    submissionTime: int
    """When the batch was due."""
    processingStartTime: int | None = None
    streams: tuple[str, ...] = ()
    """Names of the input streams, in the order in which they were made."""

    @property
    def processingEndTime(self) -> int | None:
        """Not known yet."""
        return None

    @property
    def schedulingDelay(self) -> int | None:
        """Milliseconds from due to started; None before the start."""
        return None if self.processingStartTime is None else self.processingStartTime - self.submissionTime

    @property
    def processingDelay(self) -> int | None:
        """Not known yet."""
        return None

    @property
    def totalDelay(self) -> int | None:
        """Not known yet."""
        return None

    @property
    def outputOperationInfos(self) -> dict[int, OutputOperationInfo]:
        """None of the outputs is done."""
        return {}


@dataclass(frozen=True, slots=True)
class BatchInfo(_OfBatch):
    """How a completed batch went; times in milliseconds since the epoch, the names are Spark's."""

    batch: Batch
    submissionTime: int
    """When the batch was due."""
    processingStartTime: int
    processingEndTime: int
    outputs: tuple[OutputInfo, ...] = ()
    dead_letters: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """By topic and reason (the part before the first colon) how many records were put aside in this batch."""
    streams: tuple[str, ...] = ()
    """Names of the input streams, in the order in which they were made."""

    @property
    def outputOperationInfos(self) -> dict[int, OutputOperationInfo]:
        """Each output that ran, by its number in the order in which they were made."""
        return {
            done.operation.id: operation_info(
                self.batch.time, done.operation, done.startTime, done.endTime, done.failureReason
            )
            for done in self.outputs
        }

    @property
    def schedulingDelay(self) -> int:
        """Milliseconds from due to started; 0 for a batch whose time is ahead of the clock, which was set back."""
        return max(0, self.processingStartTime - self.submissionTime)

    @property
    def processingDelay(self) -> int:
        """Milliseconds from started to ended."""
        return max(0, self.processingEndTime - self.processingStartTime)

    @property
    def totalDelay(self) -> int:
        """Milliseconds from due to ended."""
        return self.schedulingDelay + self.processingDelay


@dataclass(frozen=True, slots=True)
class ReceiverInfo(Spelled):
    """A receiver as listeners are told of it; the names are Spark's."""

    numbers: ClassVar[frozenset[str]] = frozenset({"lastErrorTime"})

    streamId: int
    """Number of its input stream, in the order in which the inputs were made."""
    name: str
    """Of its input stream."""
    active: bool
    """Whether it receives."""
    location: str
    """Host on which it runs; empty while it does not."""
    executorId: str
    """Of the process in which it runs; empty while it does not."""
    lastErrorMessage: str = ""
    """What it said; empty without an error."""
    lastError: str = ""
    """The error with its traceback, as text."""
    lastErrorTime: int | None = None
    """Milliseconds since the epoch; None without an error."""

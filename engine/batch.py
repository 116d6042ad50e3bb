"""The values that travel between the parts of the engine.

Owns: Time, Duration, Interval, TopicPartition, OffsetRange, Batch, OutputOperation, OutputInfo, BatchInfo, job_and_rest.
Never: I/O, a clock, a thread.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from engine.errors import ConfigurationError
from engine.reports import WriteReport

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
    def seconds(cls, seconds: float) -> "Duration":
        """The duration of that many seconds, rounded to whole milliseconds."""
        return cls(round(seconds * 1_000))

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
        """The timestamp of every write of this run, in microseconds: a newer attempt wins over an older one."""
        return self.time * 1_000 + min(self.attempt, 999)


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
        """Milliseconds from start to end."""
        return self.endTime - self.startTime


@dataclass(frozen=True, slots=True)
class BatchInfo:
    """How a completed batch went; times in milliseconds since the epoch, the names are Spark's."""

    batch: Batch
    submissionTime: int
    """When the batch was due."""
    processingStartTime: int
    processingEndTime: int
    outputs: tuple[OutputInfo, ...] = ()
    dead_letters: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """By topic and reason (the part before the first colon) how many records were put aside in this batch."""

    @property
    def batchTime(self) -> Time:
        """The batch's time."""
        return self.batch.time

    @property
    def numRecords(self) -> int:
        """Number of offsets in the batch's ranges, an upper bound of its records."""
        return self.batch.count()

    @property
    def schedulingDelay(self) -> int:
        """Milliseconds from due to started."""
        return self.processingStartTime - self.submissionTime

    @property
    def processingDelay(self) -> int:
        """Milliseconds from started to ended."""
        return self.processingEndTime - self.processingStartTime

    @property
    def totalDelay(self) -> int:
        """Milliseconds from due to ended."""
        return self.processingEndTime - self.submissionTime

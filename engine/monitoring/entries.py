"""What is remembered of batches: values that are replaced and never changed.

    event                       what becomes of the batch's entry
    onBatchSubmitted            made: QUEUED, its inputs and ranges
    onBatchStarted              PROCESSING, the number of the run, no outputs yet
    onOutputOperationStarted    one more output, without an end
    onOutputOperationCompleted  its end, its rows or its error
    onBatchCompleted            COMPLETED, with delays, stages, tasks, state and lag
    onBatchFailed               FAILED, one more failure; another onBatchStarted may follow
    onVolumePurged              what came between this batch and the next is told among its stages

Times are milliseconds since the epoch, ends of intervals in the case of batch times; what lasts is in milliseconds when its name
ends in _ms and in seconds when it ends in _seconds. Ranges are half-open: [fromOffset, untilOffset).

Owns: BatchEntry, OutputEntry, Failure, Totals, Recovery, View.
Never: I/O, a clock, a thread.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from engine.batch import Batch, OffsetRange, TopicPartition
from engine.reports import Lag, StateReport, Volume
from engine.scheduler import events


@dataclass(frozen=True, slots=True)
class OutputEntry:
    """One output of a batch; times in milliseconds since the epoch."""

    name: str
    startTime: int
    endTime: int | None = None
    """None while it runs."""
    failureReason: str | None = None
    rows: Mapping[str, int] = field(default_factory=dict)
    """By table the rows that the store acknowledged."""


@dataclass(frozen=True, slots=True)
class Failure:
    """How one run of a batch ended that was not committed."""

    attempt: int
    time: int
    """Milliseconds since the epoch."""
    stage: str
    """In which stage; empty when state was restored for the run."""
    reason: str
    traceback: str


@dataclass(frozen=True, slots=True)
class BatchEntry:
    """What is known of one batch; times in milliseconds since the epoch.

    1. A batch has one entry, whatever the number of its runs; outputs are those of the newest run, failures those of all before.
    2. An entry is replaced by one with a higher revision, and never changed.
    """

    time: int
    revision: int
    """Of the history when the entry was made; a later change of the batch has a higher one."""
    status: str
    """QUEUED, PROCESSING, COMPLETED or FAILED; a failed batch may run again."""
    attempt: int
    covers_ms: int
    """Time since the batch before it: more than the interval when missed times were caught up."""
    inputs: Mapping[str, int]
    """Offsets in the ranges of each input."""
    ranges: Mapping[str, tuple[OffsetRange, ...]]
    """By input; empty when the batch is so old that only sums are kept."""
    submitted: int
    expected_outputs: int
    """Outputs that are due at this batch time."""
    started: int | None = None
    ended: int | None = None
    outputs: tuple[OutputEntry, ...] = ()
    failures: tuple[Failure, ...] = ()
    stage_seconds: Mapping[str, float] = field(default_factory=dict)
    tasks: Mapping[str, int] = field(default_factory=dict)
    """By outcome: completed, failed, lost."""
    state: Mapping[str, StateReport] = field(default_factory=dict)
    lags: Mapping[TopicPartition, Lag] = field(default_factory=dict)
    """After the batch; empty when only sums are kept."""
    lag_records: Mapping[str, int] = field(default_factory=dict)
    """By topic when the batch was planned, its own records among them; empty where no plan of this process tells."""
    lag_seconds: Mapping[str, float] = field(default_factory=dict)
    """By topic that of its most belated partition, when the batch was planned."""
    dead_letters: Mapping[str, int] = field(default_factory=dict)
    delta_bytes: int = 0

    @property
    def records(self) -> int:
        """Offsets over all inputs, an upper bound of the records."""
        return sum(self.inputs.values())

    @property
    def scheduling_ms(self) -> int | None:
        """From due to started."""
        return None if self.started is None else self.started - self.submitted

    @property
    def processing_ms(self) -> int | None:
        """From started to ended."""
        return None if self.started is None or self.ended is None else self.ended - self.started

    @property
    def total_ms(self) -> int | None:
        """From due to ended."""
        return None if self.ended is None else self.ended - self.submitted


@dataclass(slots=True)
class Totals:
    """Counts since the start."""

    completed: int = 0
    failed_runs: int = 0
    replayed: int = 0
    """Batches that were completed by a run after the first."""
    records: int = 0
    """Of completed batches."""
    outputs_failed: int = 0
    executors_replaced: int = 0
    snapshots: int = 0
    snapshot_bytes: int = 0
    delta_bytes: int = 0
    checkpoint_failures: int = 0
    tasks: dict[str, int] = field(default_factory=dict)
    dead_letters: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Recovery:
    """How a start went on from the last commit of an earlier process, until it had caught up."""

    committed_time: int
    """Batch time of that commit."""
    restored: events.StreamingListenerStateRestored | None = None
    """What was read of state before the first commit; None where nothing was."""
    batches: int = 0
    """Committed since, the one that caught up among them."""
    newest_time: int | None = None
    """Batch time of the last of them."""
    caught_up_at: int | None = None
    """When that one was committed, milliseconds since the epoch; None while the engine is behind."""


@dataclass(frozen=True, slots=True)
class View:
    """The history at one instant; nothing in it changes any more.

    It is made under the history's lock and read without it, so a reader may take its time.
    """

    revision: int
    """Of the newest entry."""
    entries: tuple[BatchEntry, ...]
    """Oldest first."""
    totals: Totals
    started: events.StreamingListenerStreamingStarted | None
    """None before the context has started."""
    committed: Batch | None
    """The newest committed batch, of an earlier process too."""
    committed_at: int | None
    """When this process committed it, milliseconds since the epoch."""
    commit_age: float | None
    """Seconds since then, whatever the wall clock did meanwhile."""
    executors: tuple[int, ...]
    """Process ids by number."""
    state: Mapping[str, StateReport]
    """By operator, after the newest batch that advanced it."""
    lags: Mapping[TopicPartition, Lag]
    """Records as of the newest plan, in which nothing of that batch is committed; since when, as of the newest commit."""
    volume: Volume | None
    restored: events.StreamingListenerStateRestored | None
    """The newest reading of state, after an executor's death too."""
    recovery: Recovery | None
    """None when no earlier process has committed a batch."""
    checkpoint_failure: str | None
    """The newest one, in a sentence."""

    @property
    def running(self) -> BatchEntry | None:
        """The batch that runs."""
        newest = self.entries[-1] if self.entries else None
        return newest if newest is not None and newest.status == "PROCESSING" else None

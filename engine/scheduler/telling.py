"""What listeners are told of a batch, put together beside the way of the batch.

Owns: Teller.
Never: an effect on the batch.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from engine.batch import Batch, BatchInfo, OutputInfo, OutputOperation, Time
from engine.checkpoint.checkpoint import Checkpoint, Delta, SnapshotTask
from engine.clock import Clock
from engine.dstream.graph import DStreamGraph
from engine.dstream.nodes import InputDStream, Observed
from engine.errors import ExecutorLostError
from engine.reports import StateReport, WriteReport, by_table
from engine.scheduler import events
from engine.scheduler.accounting import ExecutorWatch, Lags, Stages
from engine.scheduler.listener import StreamingListenerBus
from engine.spelling import Moment

log = logging.getLogger(__name__)

_OF_CHECKPOINT = frozenset({"begin", "commit", "restore"})


class Done(NamedTuple):
    """What a run of a batch came to, on its way to the listeners."""

    outputs: tuple[OutputInfo, ...]
    observed: Mapping[str, Observed]
    """By input."""
    ledger: Iterable[WriteReport]
    delta_bytes: int
    state: Mapping[str, StateReport]


class Teller:
    """Tells the listeners how batches go.

    Args:
        bus: of the listeners.
        clock: what time it is.
        graph: what a batch is made of.
        checkpoint: of the graph.
    """

    def __init__(
        self, bus: StreamingListenerBus, clock: Clock, graph: DStreamGraph, checkpoint: Checkpoint
    ) -> None:
        self._bus = bus
        self._clock = clock
        self._graph = graph
        self._checkpoint = checkpoint
        self._lags = Lags(graph.inputs, graph.zero_time)
        self._executors = ExecutorWatch(graph.context)
        self._inputs: list[InputDStream] = []
        self._submitted = self._started = 0
        self._started_at = 0.0
        """In monotonic seconds: how long a batch takes is no matter of what the wall clock does meanwhile."""
        self._streams: tuple[str, ...] = ()
        self.stages = Stages(clock)
        """Of the batch that runs."""

    # The context.

    def start(self) -> None:
        """The context has started, where the journal ends."""
        graph, commit = self._graph, self._checkpoint.last_commit
        self._inputs = graph.inputs
        self._streams = tuple(stream.name for stream in self._inputs)
        committed = commit.batch.batch() if commit else None
        self._lags = Lags(graph.inputs, committed.time if committed else graph.zero_time)
        started = events.StreamingListenerStreamingStarted(
            time=Moment(self._clock.wall_ms()),
            app=graph.context.appName,
            master=graph.context.master,
            batch_interval=int(graph.batch_duration),
            epoch=self._checkpoint.epoch,
            zero_time=graph.zero_time,
            executors=self._executors.pids,
            outputs=tuple(output.operation for output in graph.outputs),
            operators=tuple(node.name for node in graph.stateful),
            committed=committed,
            fallbacks=self._checkpoint.fallbacks,
        )
        if committed:
            log.info("epoch %d goes on after the batch of %s", started.epoch, committed.time.as_datetime())
        self._bus.post("onStreamingStarted", started)

    def executors(self) -> None:
        """An executor may have been replaced."""
        replaced = self._executors.replaced()
        if replaced:
            told = events.StreamingListenerExecutorsReplaced(self._executors.pids, replaced)
            self._bus.post("onExecutorsReplaced", told)

    # A batch.

    def submitted(self, batch: Batch, due_ms: int) -> None:
        """A batch is planned that was due then."""
        self._submitted = due_ms
        limits = {stream.name: limit for stream in self._inputs if (limit := stream.limit) is not None}
        lags = self._lags.before(batch)
        told = events.StreamingListenerBatchSubmitted(batch, lags, due_ms, self._streams, limits)
        self._bus.post("onBatchSubmitted", told)

    def attempt(self) -> None:
        """Tasks count for a new run from now on."""
        self._executors.begin()

    def started(self, batch: Batch) -> None:
        """A run of the batch begins."""
        self._started, self._started_at = self._clock.wall_ms(), self._clock.monotonic()
        told = events.StreamingListenerBatchStarted(batch, self._submitted, self._started, self._streams)
        self._bus.post("onBatchStarted", told)

    def output_started(self, time: Time, output: OutputOperation) -> int:
        """An output begins; returns when, milliseconds since the epoch."""
        started = self._clock.wall_ms()
        told = events.StreamingListenerOutputOperationStarted(time, output, started)
        self._bus.post("onOutputOperationStarted", told)
        return started

    def output_completed(self, time: Time, info: OutputInfo) -> None:
        """An output is acknowledged, or failed."""
        told = events.StreamingListenerOutputOperationCompleted(time, info)
        self._bus.post("onOutputOperationCompleted", told)

    def completed(self, batch: Batch, done: Done) -> None:
        """The batch is committed."""
        observed = done.observed.values()
        letters = Counter(
            (letter.topic, letter.reason.partition(":")[0])
            for seen in observed
            for letter in seen.dead_letters
        )
        for topic, count in sum((Counter(seen.lost) for seen in observed if seen.lost), Counter()).items():
            letters[topic, "lost"] = count  # one letter stands for a range of offsets
        spent = round((self._clock.monotonic() - self._started_at) * 1_000)
        times = self._submitted, self._started, self._started + spent
        told = events.StreamingListenerBatchCompleted(
            BatchInfo(batch, *times, done.outputs, letters, self._streams),
            done.delta_bytes,
            self.stages.of(*events.RUN_STAGES),
            done.state,
            self._lags.after(batch, observed),
            {name: _all_created(seen) for name, seen in done.observed.items()},
            self._executors.tasks(),
            by_table(done.ledger),
        )
        self._bus.post("onBatchCompleted", told)

    def failed(self, batch: Batch, error: BaseException) -> None:
        """A run of the batch ended with an error."""
        stage = self.stages.leave()
        told = events.StreamingListenerBatchFailed(batch, error, stage, self._executors.tasks())
        self._bus.post("onBatchFailed", told)
        if stage in _OF_CHECKPOINT and not isinstance(error, ExecutorLostError):
            self.checkpoint_failed(stage, error)
        self.executors()

    def state(self, versions: Mapping[str, int], deltas: Iterable[Delta]) -> dict[str, StateReport]:
        """Every stateful operator after the batch that changed it so."""
        updated = dict.fromkeys(versions, 0)
        for delta in deltas:
            updated[delta.operator] += delta.updated
        return {name: self._checkpoint.sizes.state(name, count) for name, count in updated.items()}

    # Between batches.

    def snapshot(self, task: SnapshotTask, keys: int, size_bytes: int, seconds: float) -> None:
        """A shard's snapshot is durable."""
        told = events.StreamingListenerSnapshotWritten(task.operator, task.shard, keys, size_bytes, seconds)
        self._bus.post("onSnapshotWritten", told)

    def purged(self, time: Time) -> None:
        """What comes after the batch is done."""
        self.stages.leave()
        spent, volume = self.stages.of(*events.PURGE_STAGES), self._checkpoint.volume()
        self._bus.post("onVolumePurged", events.StreamingListenerVolumePurged(time, spent, volume))

    def restored(self, shards: Mapping[tuple[str, int], tuple[int, bool, int]]) -> None:
        """By operator and shard: the keys that an executor holds, whether it read them, and how many snapshots it passed over."""
        for (operator, shard), (keys, _, _) in shards.items():
            self._checkpoint.sizes.count_keys(operator, shard, keys)
        self.stages.leave()
        read = [keys for keys, was_read, _ in shards.values() if was_read]
        if read:
            seconds = self.stages.seconds["restore"]
            fallbacks = sum(passed_over for _, _, passed_over in shards.values())
            log.info("%d keys of state were restored in %.2f s", sum(read), seconds)
            told = events.StreamingListenerStateRestored(seconds, sum(read), len(read), fallbacks)
            self._bus.post("onStateRestored", told)

    def checkpoint_failed(self, stage: str, error: BaseException) -> None:
        """The checkpoint could not do this."""
        self._bus.post("onCheckpointFailed", events.StreamingListenerCheckpointFailed(stage, error))


def _all_created(seen: Observed) -> list[int]:
    return [time for times in seen.created.values() for time in times]

"""What the scheduler notes of a batch beside running it: how long its stages take, how far behind it is, what executors did.

Owns: Stages, Lags, Behind, ExecutorWatch.
Never: an effect on the batch.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping

from engine.batch import Batch, OffsetRange, Time, TopicPartition
from engine.clock import Clock
from engine.dstream.graph import DStreamGraph
from engine.dstream.nodes import InputDStream, Observed
from engine.rdd.api import Context, Executors
from engine.reports import Lag

log = logging.getLogger(__name__)


class Stages:
    """How long each stage takes and which one it is in; a stage that is entered again counts anew.

    Example:
        >>> from engine.clock import ManualClock
        >>> clock = ManualClock()
        >>> stages = Stages(clock)
        >>> stages.enter("plan"); clock.advance(250); stages.enter("begin"); clock.advance(500)
        >>> stages.leave(), stages.seconds
        ('begin', {'plan': 0.25, 'begin': 0.5})
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._current = ""
        self._entered = 0.0
        self.seconds: dict[str, float] = {}
        """Of each stage that was left."""

    def enter(self, stage: str) -> None:
        """Leave the current stage for this one."""
        now = self._clock.monotonic()
        if self._current:
            self.seconds[self._current] = now - self._entered
        self._current, self._entered = stage, now

    def leave(self) -> str:
        """Be in no stage; returns the one that was left, empty without one."""
        left = self._current
        self.enter("")
        return left

    def of(self, *stages: str) -> dict[str, float]:
        """Seconds of these stages, as far as they were left."""
        return {stage: self.seconds[stage] for stage in stages if stage in self.seconds}


class Lags:
    """How far each partition is behind the end that the last plan saw.

    Args:
        inputs: of the graph.
        last: time of the last committed batch, or of the application's first start.
    """

    def __init__(self, inputs: Iterable[InputDStream], last: Time) -> None:
        self._inputs = list(inputs)
        self._last = int(last)
        self._since: dict[TopicPartition, int] = {}

    def before(self, batch: Batch) -> dict[TopicPartition, Lag]:
        """Of each partition before a batch was run; empty when this process did not plan it."""
        return {
            part.topicPartition(): self._lag(part, end - part.fromOffset) for part, end in self._ends(batch)
        }

    def after(self, batch: Batch, observed: Iterable[Observed]) -> dict[TopicPartition, Lag]:
        """Of each partition after a batch was committed in which this was observed."""
        for seen in observed:
            self._since.update({place: created[-1] for place, created in seen.created.items()})
        for part, end in self._ends(batch):
            if end == part.untilOffset:
                place = part.topicPartition()
                self._since[place] = max(self._since.get(place, 0), int(batch.time))
        return {
            part.topicPartition(): self._lag(part, end - part.untilOffset) for part, end in self._ends(batch)
        }

    def _ends(self, batch: Batch) -> Iterator[tuple[OffsetRange, int]]:
        for stream in self._inputs:
            ends = stream.ends
            for part in batch.ranges.get(stream.name, ()) if ends else ():
                end = ends.get(part.topicPartition())
                if end is not None:
                    yield part, end

    def _lag(self, part: OffsetRange, records: int) -> Lag:
        return Lag(records, self._since.get(part.topicPartition(), self._last))


class Behind:
    """Says in the log which windows end at times that a batch takes over; once for each output while the engine is behind.

    Args:
        graph: what a batch is made of.
    """

    def __init__(self, graph: DStreamGraph) -> None:
        self._graph = graph
        self._told: set[str] = set()
        """Outputs of which a line has said so."""

    def takes_over(self, last: Time, time: Time) -> None:
        """A batch of this time comes after the last one."""
        zero = self._graph.zero_time
        if time <= last.plus(self._graph.batch_duration) or last == zero:
            self._told.clear()
            return
        for output in self._graph.outputs:
            if output.slide == self._graph.batch_duration or output.name in self._told:
                continue
            passed = (time - 1 - zero) // output.slide - (last - zero) // output.slide
            if passed:
                self._told.add(output.name)
                log.warning(
                    "behind: the batch of %s takes over the times since %s; output %r has no window of %d of them; "
                    "with everyInterval=True each time has its own batch",
                    *(time.as_datetime(), last.as_datetime(), output.name, passed),
                )


class ExecutorWatch:
    """The executors and tasks of a context, when it tells of them.

    Args:
        context: what runs the jobs.
    """

    def __init__(self, context: Context) -> None:
        self._executors = context if isinstance(context, Executors) else None
        self.pids: tuple[int, ...] = self._look()
        """Process ids by the executors' numbers, as of the last look."""
        self._counted: dict[str, int] = {}

    def _look(self) -> tuple[int, ...]:
        return tuple(self._executors.executor_pids) if self._executors is not None else ()

    def replaced(self) -> tuple[int, ...]:
        """Numbers of the executors that are new since the last look."""
        before, self.pids = self.pids, self._look()
        return tuple(
            number for number, pair in enumerate(zip(before, self.pids, strict=True)) if pair[0] != pair[1]
        )

    def begin(self) -> None:
        """Count tasks from now on."""
        self._counted = self._outcomes()

    def tasks(self) -> Mapping[str, int]:
        """Tasks by outcome since `begin`."""
        return {outcome: count - self._counted.get(outcome, 0) for outcome, count in self._outcomes().items()}

    def _outcomes(self) -> dict[str, int]:
        return dict(self._executors.task_outcomes) if self._executors is not None else {}

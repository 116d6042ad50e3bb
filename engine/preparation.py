"""What is set on a context before it starts: its folder, what it remembers, who is told, where batches are written down.

Owns: Preparations, StreamingContextState, chosen_context, streaming_settings.
Never: a batch; a start reads what is set here.
"""

import enum
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from engine.batch import Duration, OffsetRange, Time
from engine.dstream.backfill import GivenBatches
from engine.dstream.graph import DStreamGraph
from engine.errors import ConfigurationError, LifecycleError
from engine.rdd.conf import settings_of
from engine.rdd.context import LocalContext
from engine.rdd.paths import mounted_path
from engine.scheduler.listener import StreamingListener, StreamingListenerBus
from engine.scheduler.rate import KEYS
from engine.scheduler.scheduler import Ledger
from engine.scheduler.turn import Turn

log = logging.getLogger(__name__)


class StreamingContextState(enum.Enum):
    """Where a context is in its life; the names are Spark's.

    Source: `org.apache.spark.streaming.StreamingContextState`.
    """

    INITIALIZED = "initialized"
    ACTIVE = "active"
    STOPPED = "stopped"


class Preparations:
    """The part of StreamingContext that is done before its start."""

    graph: DStreamGraph
    _bus: StreamingListenerBus
    _state: StreamingContextState

    def __init__(self) -> None:
        self._ledger: Ledger | None = None
        self._folder: Path | None = None
        self._takeover = False
        self._must_reach: Time | None = None
        self._turn = Turn()

    def hold(self, timeout: float) -> bool:
        """Let no batch begin until `goOn`, also before the start; what was committed is durable, so another process may take over.

        Args:
            timeout: how long to wait for the batch that runs, seconds.

        Returns:
            Whether no batch runs any more.

        Example:
            >>> from engine import LocalContext, StreamingContext
            >>> ssc = StreamingContext(LocalContext("local"), 1)
            >>> ssc.hold(1)
            True
            >>> ssc.goOn()
        """
        return self._turn.hold(timeout)

    def goOn(self) -> None:
        """Let batches begin again after `hold`; what became due meanwhile is one catch-up batch.

        Example:
            >>> from engine import LocalContext, StreamingContext
            >>> ssc = StreamingContext(LocalContext("local"), 1)
            >>> ssc.hold(1)
            True
            >>> ssc.goOn()
        """
        self._turn.go_on()

    def checkpoint(
        self, directory: str | Path, *, takeover: bool = False, mustReach: int | None = None
    ) -> None:
        """Keep journal and state in a folder of this directory, named after the application.

        Args:
            directory: a path of this machine, with or without file: before it, on a volume that outlives the process; network and
                desktop mounts may lie about fsync.
            takeover: take the folder from a process that still holds it; that process stops before its next task.
            mustReach: time (milliseconds) of the newest batch whose results are known to be written; a folder that does not know it is
                refused, as it would count records again, unless `backfill` gives the batches up to there.

        Raises:
            ConfigurationError: it is no path, or names another file system, such as hdfs:.
            LifecycleError: the context was started.

        Example:
            >>> import tempfile
            >>> from engine.testing import run_batches
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     run_batches(lambda s: s.context().checkpoint(folder) or s, [[1]])
            [[1]]

        Source: `pyspark.streaming.StreamingContext.checkpoint`. Difference: the directory is on a file system that is mounted here, where
            Spark takes any of Hadoop's.
        """
        self._refuse_after_start("the checkpoint directory", "checkpoint")
        self._folder = mounted_path(directory, "the checkpoint directory")
        self._takeover = takeover
        self._must_reach = None if mustReach is None else Time(mustReach)

    def renameState(self, formerName: str, name: str) -> None:
        """Let an operator go on with the state that older code kept under another name.

        State: renamed in the checkpoint at the start, before the first batch; the call may stay, and does nothing from then on.

        Args:
            formerName: of the operator in the checkpoint, with its job's before it, and a lineage where it had no name.
            name: of the operator in this code, likewise.

        Raises:
            LifecycleError: the context was started.

        Example:
            >>> from engine.testing import run_batches
            >>> def counted(stream):
            ...     stream.context().renameState("sums", "totals")
            ...     return stream.updateStateByKey(lambda new, old: sum(new) + (old or 0), name="totals")
            >>> run_batches(counted, [[("a", 1)]])
            [[('a', 1)]]
        """
        self._refuse_after_start("the names of state", "renameState")
        self.graph.changes.renamed[formerName] = name

    def dropState(self, name: str) -> None:
        """Give up the state of an operator that this code has no more.

        State: given up at the start, before the first batch. An operator of this name in later code begins with nothing.

        Args:
            name: of the operator in the checkpoint, with its job's before it.

        Raises:
            LifecycleError: the context was started.

        Example:
            >>> from engine.testing import run_batches
            >>> run_batches(lambda s: s.context().dropState("totals") or s, [[1]])
            [[1]]
        """
        self._refuse_after_start("what becomes of state", "dropState")
        self.graph.changes.dropped.add(name)

    def migrateState(self, name: str, migrations: Mapping[Any, Callable[[Any], Any]]) -> None:
        """Bring states that older code declared with other types to the type that this code declares.

        State: every state is read as what it was written as, and brought over while it is read. Shards are snapshotted anew, one for
            each executor and batch, and twice; `scripts/checkpoint show` says when nothing old is left and the call can go.

        Args:
            name: of the operator in this code, with its job's before it.
            migrations: by older state type, as it was declared, the function that makes one of today's of a state; None stands for
                states without a declared type. Of a window a state is one batch's part, {key: value}.
        Replay: a function runs again at every start until nothing old is left, and must give the same.

        Raises:
            LifecycleError: the context was started.

        Example:
            >>> from engine.testing import run_batches
            >>> def counted(stream):
            ...     stream.context().migrateState("totals", {int: str})
            ...     add = lambda new, old: str(sum(new) + int(old or 0))
            ...     return stream.updateStateByKey(add, name="totals", keyType=str, stateType=str)
            >>> run_batches(counted, [[("a", 1)]])
            [[('a', '1')]]
        """
        self._refuse_after_start("the types of state", "migrateState")
        self.graph.changes.migrations[name] = dict(migrations)

    def backfill(
        self, zeroTime: int, batches: Iterable[tuple[int, Mapping[str, Sequence[OffsetRange]]]]
    ) -> None:
        """Run these batches first, one after another, at their times and over their ranges: those of another application's ledger.

        Tables by batch time come out as that application's did; then batches go on as they are due.

        Time: milliseconds since the epoch.
        Replay: the journal knows how far it came; a start with the same batches goes on there.

        Args:
            zeroTime: of that application, which slides count from; it becomes this one's at its first start.
            batches: time and by input the ranges, of every batch since its first.

        Raises:
            ConfigurationError: a time comes twice, is not later than the zero time, or no batch time of this application.
            LifecycleError: the context was started.

        Example:
            >>> from engine.testing import run_batches
            >>> run_batches(lambda s: s.context().backfill(0, []) or s, [[1]])
            [[1]]
        """
        self._refuse_after_start("the batches of a backfill", "backfill")
        given = ((Time(time), ranges) for time, ranges in batches)
        self.graph.given = GivenBatches(Time(zeroTime), given, self.graph.batch_duration)

    def remember(self, duration: float) -> None:
        """Keep the ranges of batches for at least so many seconds, and the blocks and files' names that they stand for.

        Windows keep what they need by themselves; this is for whoever asks for more, such as `slice`. Nothing else has to be cleaned:
        Spark 1 had spark.cleaner.ttl, which dropped whatever was older than so many seconds, needed or not, and lost its meaning
        in Spark 2; here, as there since, data goes when nothing refers to it any more.

        Args:
            duration: seconds, above 0.

        Raises:
            ConfigurationError: the duration is not above 0.
            LifecycleError: the context was started.

        Example:
            >>> from engine.testing import run_batches
            >>> run_batches(lambda s: s.context().remember(60) or s, [[1]])
            [[1]]

        Source: `pyspark.streaming.StreamingContext.remember`.
        """
        self._refuse_after_start("the remember duration", "remember")
        given = Duration.seconds(duration, "remember")
        if given <= 0:
            raise ConfigurationError(f"remember is {duration} s; give a number above 0")
        self.graph.remember = given

    def _refuse_after_start(self, what: str, method: str) -> None:
        if self._state is not StreamingContextState.INITIALIZED:
            happened = "started" if self._state is StreamingContextState.ACTIVE else "stopped"
            raise LifecycleError(
                f"Cannot change {what} after the streaming context has {happened}; call {method}() before start(), on a new context"
            )

    def addStreamingListener(self, streamingListener: StreamingListener) -> None:
        """Tell this listener how batches go, also when it is added to a context that runs.

        Raises:
            ConfigurationError: it has no method of a listener.

        Example:
            >>> from engine import StreamingListener
            >>> from engine.testing import run_batches
            >>> class Counting(StreamingListener):
            ...     def onBatchCompleted(self, batchCompleted):
            ...         print(batchCompleted.batchInfo.numRecords)
            >>> run_batches(lambda s: s.context().addStreamingListener(Counting()) or s, [[1, 2]])
            2
            [[1, 2]]

        Source: `pyspark.streaming.StreamingContext.addStreamingListener`.
        """
        self._bus.add(streamingListener)

    def removeStreamingListener(self, streamingListener: StreamingListener) -> None:
        """Tell this listener no more; one that was never added is no error.

        Example:
            >>> from engine import StreamingListener
            >>> from engine.testing import run_batches
            >>> run_batches(lambda s: s.context().removeStreamingListener(StreamingListener()) or s, [[1]])
            [[1]]

        Source: `org.apache.spark.streaming.StreamingContext.removeStreamingListener`.
        """
        self._bus.remove(streamingListener)

    def recordBatches(self, ledger: Ledger) -> None:
        """Write complete batches and put-aside records to this ledger; verify proves the tables from it.

        Example:
            >>> from engine.testing import run_batches
            >>> class Times:
            ...     def put_aside(self, batch, letters):
            ...         pass
            ...     def record(self, batch, zero_time):
            ...         print(batch.time - zero_time)
            >>> run_batches(lambda s: s.context().recordBatches(Times()) or s, [[1], [2]])
            1000
            2000
            [[1], [2]]
        """
        self._ledger = ledger

    def job(self, name: str) -> AbstractContextManager[None]:
        """Names of operators made inside `with ssc.job(name):` begin with the job's.

        Example:
            >>> from engine.testing import run_batches
            >>> def doubled(stream):
            ...     with stream.context().job("twice"):
            ...         made = stream.map(lambda n: n * 2)
            ...     print(made.node.name)
            ...     return made
            >>> run_batches(doubled, [[1]])
            twice.map(queue)
            [[2]]
        """
        return self.graph.naming(name)


def streaming_settings(context: Any) -> dict[str, str]:
    """What the conf of a context says of streams, by key; nothing of one without a conf."""
    known = settings_of(context.getConf()) if hasattr(context, "getConf") else {}
    return {key: value for key, value in known.items() if key.startswith("spark.streaming.")}


def chosen_context(given: Any, master: str | None, name: str | None) -> Any:
    """The context that a user gave, or one of this master and name.

    Raises:
        ConfigurationError: it is none, or both were given.
    """
    if given is None:
        return LocalContext(master or "local[*]", name or "app")
    if not hasattr(given, "parallelize") or not hasattr(given, "defaultParallelism"):
        raise ConfigurationError(
            f"sparkContext is {given!r:.60}; give a LocalContext or a pyspark.SparkContext, or master= and appName="
        )
    if master is not None or name is not None:
        raise ConfigurationError(
            f"master={master!r} and appName={name!r} were given beside a sparkContext, which has its own; leave them out"
        )
    if isinstance(given, LocalContext):
        unread = sorted(streaming_settings(given).keys() - KEYS)
        if unread:
            log.warning(
                "%s of the conf: nothing reads it; docs/api.md names the argument in its place",
                ", ".join(unread),
            )
    return given

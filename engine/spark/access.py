"""Shards of state on Spark, which runs a task wherever a core is free: the shard comes to the task.

A Python worker keeps the shards that it has had. A task that advances a shard gets a plan, which is a list of places on the
shared volume: a shard that is behind takes the deltas that it lacks, one that the worker never had is rebuilt. A task that reads
a shard of the running batch gets the batch's delta beside the plan, as another worker may have computed it. So any task can
run anywhere, and twice: the second run drops what the first one left and computes the same from the same base.

What mapWithState gives is in no delta: the RDD that advances it is kept by Spark until the next batch, and computed again where
a part of it is lost. Tasks bring along what they may know of their batch, as that may happen in any later job.

Owns: MovingShards and the functions that it ships.
Never: a commit; deltas go to the driver, whose journal is the only truth.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

from engine.checkpoint.codec import StateCodec
from engine.checkpoint.files import checksum
from engine.checkpoint.shards import RestorePlan, Shard, Shards
from engine.dstream.access import Planned
from engine.dstream.mapstate import Beside, Mapped, MapState, ReadMapped
from engine.dstream.run import run_version, state_owner
from engine.dstream.state import Reduce, ShardResult, StateFunction, WriteSnapshot
from engine.errors import CheckpointError, CorruptLogError
from engine.rdd.api import RDD, Context
from engine.rdd.running import current_task, pinning
from engine.spark.exchange import Bundles, Chunk, Gather, GroupValues, Merge, Scatter

KEPT_RUNS = 16
"""A shard that comes back to a worker within so many runs finds itself there, and takes only the deltas that it lacks."""


class Placed(NamedTuple):
    """What a task needs to have a shard as of the last commit, or as the running batch left it."""

    shard: int
    plan: bytes
    """A RestorePlan: the metadata of a shard, small on its way and decoded by the one task that needs it."""
    delta: bytes = b""


class Visits:
    """Which shards this worker had in the runs that it saw last, so that those which went elsewhere do not fill its memory.

    Example:
        >>> visits = Visits()
        >>> [visits.note(run, ("op", 1 if run == 1 else 2)) for run in range(1, KEPT_RUNS + 3)][-1]
        [('op', 1)]
    """

    def __init__(self) -> None:
        self._last: dict[tuple[str, int], int] = {}
        """By operator and shard the number of the last run, counted here."""
        self._run = self._count = 0

    def note(self, run: int, place: tuple[str, int]) -> list[tuple[str, int]]:
        """Note that a run has come for a shard; the shards that no run has come for lately, once each."""
        stale: list[tuple[str, int]] = []
        if run != self._run:
            self._run, self._count = run, self._count + 1
            stale = [other for other, count in self._last.items() if count < self._count - KEPT_RUNS]
            for other in stale:
                del self._last[other]
        self._last[place] = self._count
        return stale


class ShardTask:
    """What is common to functions that Spark runs over shards: they bring the shard to the version that they need.

    Args:
        codec: of the operator.
        properties: what the functions inside may know of the batch.
    """

    def __init__(self, codec: StateCodec, properties: Mapping[str, str]) -> None:
        self._codec = codec
        self._properties = properties

    def _kept(self, index: int) -> Shard:
        """The shard as this worker has it; shards that went elsewhere are dropped."""
        shards = current_task().resource(Shards)
        for operator, stale in (
            current_task().resource(Visits).note(run_version(), (self._codec.operator, index))
        ):
            shards.drop(operator, stale)
        return shards.get(state_owner(), self._codec, index)

    def _brought(self, index: int, plan: RestorePlan) -> Shard:
        """The shard at the plan's version, from this worker's memory as far as that goes."""
        shard = self._kept(index)
        try:
            shard.restore(plan)
        except CorruptLogError as error:
            cause = error.__cause__
            if not isinstance(cause, FileNotFoundError):
                raise
            raise CheckpointError(
                f"{cause.filename} is not there for a worker of Spark; put the checkpoint folder on a volume that the driver "
                "and all workers share under one path"
            ) from cause
        return shard


class Exchange(NamedTuple):
    """How pairs come to the shards; it becomes an RDD with the function that advances them."""

    source: RDD[Any]
    scatter: Scatter
    end: Gather


class Advance(ShardTask):
    """Advances all shards of a task from their base, one after another, from the chunks that were sent to them."""

    def __init__(
        self,
        codec: StateCodec,
        properties: Mapping[str, str],
        function: StateFunction,
        plans: Sequence[bytes],
        parts: tuple[Bundles, Gather],
    ) -> None:
        super().__init__(codec, properties)
        self._function = function
        self._plans = plans
        self._bundles, self._end = parts

    def __call__(self, index: int, chunks: Iterator[tuple[int, Chunk]]) -> Iterator[Any]:
        """For each shard one ShardResult, what it changed, and behind that what mapWithState gave."""
        sent: dict[int, list[tuple[int, Chunk]]] = {}
        for shard, chunk in chunks:
            sent.setdefault(shard, []).append((shard, chunk))
        shards = self._bundles.shards_of(index)
        with pinning(self._properties):
            return chain.from_iterable(
                [self._advanced(shard, self._end(iter(sent.pop(shard, ())))) for shard in shards]
            )

    def _advanced(self, index: int, elements: Iterator[Any]) -> list[Any]:
        shard = self._brought(index, RestorePlan.unpacked(self._plans[index]))
        mapped: Iterable[Any] = ()
        if isinstance(self._function, MapState):
            result, mapped = self._function.result(index, elements)
            timers = shard.derived.timers
            shard.derived = Beside(timers, Mapped([]))  # they are Spark's to keep
        else:
            (result,) = self._function(index, elements)
        # Another attempt may win: the next batch builds on this overlay only if it is what the driver committed.
        shard.overlay_checksum = checksum(result.delta)
        return [result, *mapped]


class ReadBack(ShardTask):
    """A function that reads shards as the running batch left them."""

    def __init__(self, codec: StateCodec, properties: Mapping[str, str], function: StateFunction) -> None:
        super().__init__(codec, properties)
        self._function = function

    def __call__(self, placed: Iterator[Placed]) -> Iterator[Any]:
        """What the function gives of each shard."""
        # Every place is taken at once: Spark ends a worker, with its shards, of which a `take` left a part of its input.
        return chain.from_iterable(map(self._read, list(placed)))

    def _read(self, place: Placed) -> list[Any]:
        with pinning(self._properties):
            run, plan = run_version(), RestorePlan.unpacked(place.plan)
            shard = self._kept(place.shard)
            if not self._is_there(shard, plan, run, place.delta):
                shard = self._brought(place.shard, plan)
                shard.open(plan.version, run)
                shard.overlay_of(run, place.delta)
            return list(self._function(place.shard, iter(())))

    def _is_there(self, shard: Shard, plan: RestorePlan, run: int, delta: bytes) -> bool:
        """Whether this worker has what the driver has of this run."""
        return (shard.version, shard.overlay_version, shard.overlay_checksum) == (
            plan.version,
            run,
            checksum(delta),
        )


class Write(ShardTask):
    """Writes shards to a file."""

    def __init__(self, codec: StateCodec, properties: Mapping[str, str], write: WriteSnapshot) -> None:
        super().__init__(codec, properties)
        self._write = write

    def __call__(self, placed: Iterator[Placed]) -> Iterable[tuple[int, int]]:
        """Keys and bytes of each."""
        with pinning(self._properties):
            places = list(placed)
            for place in places:
                self._brought(place.shard, RestorePlan.unpacked(place.plan))
            return list(self._write(place.shard for place in places))


class MovingShards:
    """The access where any task may run anywhere.

    With fewer cores than shards a task takes several shards in a row, as starting a task costs more than most shards do.

    Args:
        context: makes RDDs.
        properties: what it has told tasks so far.
        shards: of each operator.
    """

    needs_folder = True

    def __init__(self, context: Context, properties: Mapping[str, str], shards: int) -> None:
        self._context = context
        self._properties = properties
        self._shards = shards
        self._planned: Planned = _no_plan
        self._placed: dict[str, list[Placed]] = {}
        """By operator each shard as the running batch left it."""
        self._advancing: dict[str, Any] = {}
        """By operator the RDD that advanced it, where it holds more than the deltas."""

    def plan_with(self, planned: Planned) -> None:
        """Tell where shards are rebuilt from."""
        self._planned = planned

    def listed(self, groups: RDD[Any]) -> RDD[Any]:
        """PySpark's groups as lists."""
        return groups.mapValues(list)

    def listed_sides(self, groups: RDD[Any]) -> RDD[Any]:
        """PySpark's groups, each side a list."""
        return groups.mapValues(_lists)

    def grouped(self, rdd: RDD[Any]) -> Any:
        """One pair a key with the list of its values."""
        return Exchange(rdd, Scatter(self._shards), GroupValues())

    def reduced(self, rdd: RDD[Any], function: Reduce) -> Any:
        """One pair a key with its reduced values."""
        return Exchange(rdd, Scatter(self._shards, function), Merge(function))

    def spread(self, rdd: RDD[Any]) -> Any:
        """The pairs by shard."""
        return Exchange(rdd, Scatter(self._shards), Gather())

    def _tasks(self) -> int:
        return min(self._shards, max(1, self._context.defaultParallelism))

    def advance(self, codec: StateCodec, rdd: Any, function: StateFunction) -> list[ShardResult]:
        """Run the function over each shard, wherever its task runs.

        Args:
            codec: of the operator.
            rdd: an Exchange.
            function: advances a shard.
        """
        operator = codec.operator
        plans = [self._plan(operator, shard) for shard in range(self._shards)]
        source, scatter, end = rdd
        bundles = Bundles(self._shards, self._tasks())
        chunks = source.mapPartitionsWithIndex(scatter).partitionBy(bundles.tasks, bundles.task_of)
        advance = Advance(codec, dict(self._properties), function, plans, (bundles, end))
        advancing = chunks.mapPartitionsWithIndex(advance)
        if operator in self._advancing:
            self._advancing.pop(operator).unpersist()
        if isinstance(function, MapState):
            self._advancing[operator] = advancing.cache()
        results: list[ShardResult] = advancing.filter(_is_result).collect()
        deltas = {result.shard: result.delta for result in results}
        self._placed[operator] = [Placed(shard, plans[shard], deltas[shard]) for shard in range(self._shards)]
        return results

    def read(self, codec: StateCodec, function: StateFunction) -> RDD[Any]:
        """What the function reads of each shard, wherever its task runs."""
        if isinstance(function, ReadMapped):
            mapped: RDD[Any] = self._advancing[codec.operator].filter(_is_mapped)
            return mapped
        places = self._context.parallelize(self._placed[codec.operator], self._tasks())
        return places.mapPartitions(ReadBack(codec, dict(self._properties), function))

    def snapshot(self, codec: StateCodec, shard: int, write: WriteSnapshot) -> list[tuple[int, int]]:
        """Have the shard written, wherever the task runs."""
        places = self._context.parallelize([Placed(shard, self._plan(codec.operator, shard))], 1)
        return places.mapPartitions(Write(codec, dict(self._properties), write)).collect()

    def _plan(self, operator: str, shard: int) -> bytes:
        return self._planned(operator, shard).packed()


def _lists(sides: tuple[Any, ...]) -> tuple[list[Any], ...]:
    return tuple(map(list, sides))


def _is_result(element: Any) -> bool:
    return type(element) is ShardResult


def _is_mapped(element: Any) -> bool:
    return type(element) is not ShardResult


def _no_plan(operator: str, shard: int) -> RestorePlan:
    raise RuntimeError(f"shard {shard} of {operator!r} is known only while a stream runs")

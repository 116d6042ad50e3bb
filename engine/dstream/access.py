"""How the jobs of a stateful operator come to its shards; each backend has a way of its own.

On our executors a shard stays where it is, so a task finds it in its process. A backend that moves tasks about brings the
shard to the task (`engine.spark.access`).

Owns: StateAccess, HasStateAccess, StickyShards, access_of.
Never: a shard.
"""

from collections.abc import Callable
from typing import Any, Protocol, cast, runtime_checkable

from engine.checkpoint.codec import StateCodec
from engine.checkpoint.shards import RestorePlan
from engine.dstream.state import Reduce, ShardResult, StateFunction, WriteSnapshot
from engine.rdd.api import RDD, Context

Planned = Callable[[str, int], RestorePlan]
"""(operator, shard) -> how the shard is rebuilt as of the last commit."""


class StateAccess(Protocol):
    """What a stateful operator asks of its backend; what `grouped`, `reduced` and `spread` give goes to `advance`, and nowhere else."""

    needs_folder: bool
    """Whether state cannot do without a checkpoint folder."""

    def plan_with(self, planned: Planned) -> None:
        """Tell where shards are rebuilt from."""

    def listed(self, groups: RDD[Any]) -> RDD[Any]:
        """What the backend's own groupByKey gave, each group as a list, or as what reads as one."""

    def listed_sides(self, groups: RDD[Any]) -> RDD[Any]:
        """What the backend's own cogroup gave, the values of each side as `listed` gives them."""

    def grouped(self, rdd: RDD[Any]) -> RDD[Any]:
        """One pair a key with its values, as `listed` gives them, partition i being shard i."""

    def reduced(self, rdd: RDD[Any], function: Reduce) -> RDD[Any]:
        """One pair a key with its reduced values, partition i being shard i."""

    def spread(self, rdd: RDD[Any]) -> RDD[Any]:
        """The pairs, those of one key in the partition that is its shard."""

    def advance(self, codec: StateCodec, rdd: RDD[Any], function: StateFunction) -> list[ShardResult]:
        """Run a function that advances shards over the RDD's partitions; what it changed, by shard."""

    def read(self, codec: StateCodec, function: StateFunction) -> RDD[Any]:
        """What a function reads of each shard as the running batch left it."""

    def snapshot(self, codec: StateCodec, shard: int, write: WriteSnapshot) -> list[tuple[int, int]]:
        """Have a shard written to a file as of the last commit; its keys and bytes."""


@runtime_checkable
class HasStateAccess(Protocol):
    """A backend that does not keep tasks with their shards."""

    def state_access(self, shards: int) -> StateAccess:
        """How its tasks come to them."""


class StickyContext(Context, Protocol):
    """A backend that computes partition i of every stage in the same process, as long as that lives."""

    def pinned(self, numPartitions: int) -> RDD[int]:
        """The number of each partition; what is made of it is computed where tasks of that number always are."""


class StickyShards:
    """The access where partition i of every stage is computed by the process that holds shard i."""

    needs_folder = False

    def __init__(self, context: StickyContext, shards: int) -> None:
        self._context = context
        self._shards = shards

    def plan_with(self, planned: Planned) -> None:
        """Nothing: the scheduler restores the shards, and there they stay."""

    def listed(self, groups: RDD[Any]) -> RDD[Any]:
        """The groups, which are lists; those that are more than memory holds read as one."""
        return groups

    def listed_sides(self, groups: RDD[Any]) -> RDD[Any]:
        """The groups as they are, likewise."""
        return groups

    def grouped(self, rdd: RDD[Any]) -> RDD[Any]:
        """One pair a key with its values, a list or what reads as one."""
        return rdd.groupByKey(self._shards)

    def reduced(self, rdd: RDD[Any], function: Reduce) -> RDD[Any]:
        """One pair a key with its reduced values."""
        return rdd.reduceByKey(function, self._shards)

    def spread(self, rdd: RDD[Any]) -> RDD[Any]:
        """The pairs by shard."""
        return rdd.partitionBy(self._shards)

    def advance(
        self,
        codec: StateCodec,  # noqa: ARG002  the function has it
        rdd: RDD[Any],
        function: StateFunction,
    ) -> list[ShardResult]:
        """Run the function where the shards are."""
        return rdd.mapPartitionsWithIndex(function, preservesPartitioning=True).collect()

    def read(self, codec: StateCodec, function: StateFunction) -> RDD[Any]:  # noqa: ARG002  as above
        """What the function reads where the shards are."""
        return self._context.pinned(self._shards).mapPartitionsWithIndex(function)

    def snapshot(
        self,
        codec: StateCodec,  # noqa: ARG002  as above
        shard: int,
        write: WriteSnapshot,
    ) -> list[tuple[int, int]]:
        """Have the shard written where it is."""
        return self._context.runJob(self._context.pinned(self._shards), write, [shard])


def access_of(context: Context, shards: int) -> StateAccess:
    """How jobs of this context come to so many shards of an operator."""
    if isinstance(context, HasStateAccess):
        return context.state_access(shards)
    return StickyShards(cast("StickyContext", context), shards)  # the one other kind there is

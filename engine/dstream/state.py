"""What executors do with a shard of keyed state: update it, read it, keep and reduce the parts of a window.

Each class here is a function that is shipped once; what changes from batch to batch it asks of `engine.dstream.run`.

Owns: StateFunction and its kinds but those of mapWithState, ShardResult, Seed, failed.
Never: the volume; a delta goes to the driver, which commits it.
"""

import gc
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Iterator
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

from engine.checkpoint.codec import StateCodec
from engine.checkpoint.shards import RestorePlan, Shard, Shards
from engine.dstream.run import base_version, batch_time, has_folder, run_version, state_owner
from engine.errors import UserFunctionError
from engine.rdd.running import current_task
from engine.rdd.task import SCALARS

Reduce = Callable[[Any, Any], Any]
_TIME = itemgetter(0)
_VALUE = itemgetter(1)


class ShardResult(NamedTuple):
    """What a batch changed in one shard, on its way to the driver."""

    shard: int
    delta: bytes
    """Empty where there is no folder for it."""
    keys: int
    updated: int
    """Keys that the batch put or removed."""


class ShardAccess:
    """What works on the shards of an operator, in the executor that holds them."""

    def __init__(self, codec: StateCodec) -> None:
        self._codec = codec

    def _shard(self, index: int) -> Shard:
        return current_task().resource(Shards).get(state_owner(), self._codec, index)


class StateFunction(ShardAccess, ABC):
    """A function of a partition that works on the shard of the same index."""

    @abstractmethod
    def __call__(self, index: int, elements: Iterator[Any]) -> Iterable[Any]:
        """The function of the partition."""

    def _opened(self, index: int) -> Shard:
        shard = self._shard(index)
        shard.open(base_version(), run_version())
        return shard

    def _seen(self, index: int) -> Shard:
        shard = self._shard(index)
        shard.refuse_other_run(run_version())
        return shard

    def _result(self, index: int, shard: Shard, keys: int) -> ShardResult:
        return ShardResult(index, shard.delta() if has_folder() else b"", keys, len(shard.overlay))


class Restore(StateFunction):
    """Brings shards to the version of the last commit, from the volume where memory does not have it."""

    def __call__(self, index: int, plans: Iterator[RestorePlan]) -> Iterable[tuple[int, bool, int]]:
        """The shard's keys after the restore, whether they were read from the volume, and how many snapshots were passed over."""
        shard = self._shard(index)
        was_read = [shard.restore(plan) for plan in plans]
        # The state stays: the garbage collector need not look at it again.
        gc.freeze()
        return [(len(shard.values), any(was_read), shard.fallbacks)]


class WriteSnapshot(ShardAccess):
    """Writes a shard as of a committed version to a file."""

    def __init__(self, codec: StateCodec, version: int, path: Path) -> None:
        super().__init__(codec)
        self._version = version
        self._path = path

    def __call__(self, shards: Iterator[int]) -> Iterable[tuple[int, int]]:
        """The snapshot's keys and bytes."""
        for index in shards:
            shard = self._shard(index)
            shard.settle(self._version)
            yield shard.snapshot(self._path)


class Seed(NamedTuple):
    """An initial state, on its way among the values of the first batch."""

    state: Any


def failed(cause: Exception) -> UserFunctionError:
    """What a function of the user raised as an error that can be nothing else: no end of a partition, no error of the engine's."""
    return UserFunctionError(f"{type(cause).__name__}: {cause}", traceback.format_exc())


class UpdateState(StateFunction):
    """updateStateByKey: calls the update for every key that has a state or new values."""

    def __init__(self, codec: StateCodec, update: Callable[..., Any], *, has_seeds: bool = False) -> None:
        super().__init__(codec)
        self._update = update
        """(time, key, new values, state or None) -> state, or None to drop the key."""
        self._has_seeds = has_seeds
        """Whether initial states come among the values."""

    def __call__(self, index: int, groups: Iterator[tuple[Hashable, list[Any]]]) -> Iterable[ShardResult]:
        """The shard's delta."""
        shard = self._opened(index)
        new = self._seeded(shard, groups) if self._has_seeds else dict(groups)
        try:
            self._advance(shard, new)
        except StopIteration as cause:
            raise failed(cause) from cause
        return [self._result(index, shard, shard.count())]

    def _seeded(
        self, shard: Shard, groups: Iterable[tuple[Hashable, list[Any]]]
    ) -> dict[Hashable, list[Any]]:
        """The new values; the initial states among them become the shard's, the first one of a key."""
        new: dict[Hashable, list[Any]] = {}
        for key, values in groups:
            seeds = [value.state for value in values if type(value) is Seed]
            new[key] = [value for value in values if type(value) is not Seed]
            if seeds and seeds[0] is not None:
                shard.put(key, seeds[0])
        return new

    def _advance(self, shard: Shard, new: dict[Hashable, list[Any]]) -> None:
        time, update = batch_time(), self._update
        # The states before this run; the overlay that the loop fills must not be seen by it.
        for key, old in shard.values.items():
            if key not in new:
                self._apply(shard, key, old, update(time, key, [], shard.get(key)))
        for key, values in new.items():
            # A group that is more than memory holds comes as a sequence on disk; the update is promised a list.
            listed = values if type(values) is list else list(values)
            self._apply(shard, key, shard.values.get(key), update(time, key, listed, shard.get(key)))

    def _apply(self, shard: Shard, key: Hashable, old: Any, state: Any) -> None:
        if state is None:
            shard.remove(key)
        elif old is None or self._codec.differs(old, state):
            shard.put(key, state)


class UpdatePartition(UpdateState):
    """updateStateByKey's iterator form: the update takes all keys of a shard at once, and gives those that stay."""

    def _advance(self, shard: Shard, new: dict[Hashable, list[Any]]) -> None:
        left = dict.fromkeys(key for key in shard.values if key not in new)
        left.update(dict.fromkeys(new))
        given = left.copy()
        for key, state in self._update((key, list(new.get(key, ())), shard.get(key)) for key in given):
            if key not in given:
                raise ValueError(
                    f"operator {self._codec.operator!r}: the iterator form gave key {key!r:.60}, which it was not given; "
                    "a key's state stays in its shard, so give (key, state) under the same key"
                )
            left.pop(key, None)
            self._apply(shard, key, shard.values.get(key), state)
        for key in left:
            shard.remove(key)


class ReadState(StateFunction):
    """Every key of a shard with its state as the running batch left it."""

    def __call__(self, index: int, _nothing: Iterator[Any]) -> Iterable[tuple[Any, Any]]:
        """The pairs."""
        return self._seen(index).items()


class PutPart(StateFunction):
    """Keeps what a batch adds to a window, and drops the parts that no later window can need.

    Elements: pairs, which are kept as such, or else only their values.
    """

    def __init__(self, codec: StateCodec, retention_ms: int, *, pairs: bool) -> None:
        super().__init__(codec)
        self._retention_ms = retention_ms
        self._collect: Callable[[Iterable[Any]], Any] = dict if pairs else _values

    def __call__(self, index: int, elements: Iterator[Any]) -> Iterable[ShardResult]:
        """The shard's delta."""
        shard, time = self._opened(index), batch_time()
        for part_time in shard.values:
            if isinstance(part_time, int) and part_time <= time - self._retention_ms:
                shard.remove(part_time)
        part = self._collect(elements)
        if part:
            shard.put(int(time), part)
        return [self._result(index, shard, shard.count())]


class ReadParts(StateFunction):
    """The elements of a window's parts, oldest part first."""

    def __init__(self, codec: StateCodec, length_ms: int) -> None:
        super().__init__(codec)
        self._length_ms = length_ms

    def __call__(self, index: int, _nothing: Iterator[Any]) -> Iterable[Any]:
        """The elements."""
        begin = batch_time() - self._length_ms
        parts = sorted((time, part) for time, part in self._seen(index).items() if time > begin)
        return (element for _, part in parts for element in part)


class Tagged:
    """Keys elements by the index of their partition, so that they can be spread over shards."""

    def __call__(self, index: int, elements: Iterator[Any]) -> Iterable[tuple[int, Any]]:
        """(index, element) for each element."""
        return ((index, element) for element in elements)


class Running(NamedTuple):
    """The value of a window as of the last evaluation, for the inverse form."""

    time: int
    totals: dict[Hashable, Any]
    parts: dict[Hashable, int]
    """By key, in how many of the window's parts it is: at 0 the key leaves."""


class ReduceWindow(StateFunction):
    """The reduced value of each key that is in a window, once a run.

        parts      |--1--|--2--|--3--|--4--|--5--|
        last time   (..... window ....]
        this time               (..... window ....]
        leave       1     2
        enter                         4     5

    With an inverse the parts that left are taken out and those that entered are put in, when the last evaluation is
    near enough that all of them are still kept; else the parts of the whole window are reduced. Both give the same: a
    key is there when a part of the window has it, and a filter may drop it.

    Args:
        codec: of the parts, each a dict.
        values: of a value in a part; it makes the copies.
        length_ms: of the window.
        slide_ms: of the window.
        functions: reduce, its inverse, and the filter.
    """

    def __init__(
        self,
        codec: StateCodec,
        values: StateCodec,
        length_ms: int,
        slide_ms: int,
        functions: tuple[Reduce, Reduce | None, Callable[[tuple[Any, Any]], bool] | None],
    ) -> None:
        super().__init__(codec)
        self._values = values
        self._length_ms = length_ms
        self._slide_ms = slide_ms
        self._functions = functions

    def __call__(self, index: int, _nothing: Iterator[Any]) -> Iterable[tuple[Any, Any]]:
        """The pairs."""
        shard, own, keep = self._seen(index), self._values.own, self._functions[2]
        for key, total in self._running(shard).totals.items():
            if keep is None or keep((key, own(total))):
                yield key, own(total)

    def _running(self, shard: Shard) -> Running:
        if shard.derived is None or shard.derived_version != run_version():
            time = batch_time()
            # A user's function may break off half way what changes in place: whoever comes next makes it anew.
            last: Running | None
            last, shard.derived = shard.derived, None
            if self._functions[1] is not None and last is not None and time - last.time <= self._slide_ms:
                shard.derived = self._moved(shard, last, time)
            else:
                shard.derived = self._reduced(shard, time)
            shard.derived_version = run_version()
        running: Running = shard.derived
        return running

    def _reduced(self, shard: Shard, time: int) -> Running:
        running = Running(time, {}, {})
        for part_time, part in sorted(shard.peek(), key=_TIME):
            if part_time > time - self._length_ms:
                self._enter(running, part)
        return running

    def _moved(self, shard: Shard, last: Running, time: int) -> Running:
        running = last._replace(time=time)
        for part_time, part in sorted(shard.peek(), key=_TIME):
            is_in, was_in = (
                part_time > time - self._length_ms,
                last.time - self._length_ms < part_time <= last.time,
            )
            if is_in and not was_in:
                self._enter(running, part)
            elif was_in and not is_in:
                self._leave(running, part)
        return running

    def _enter(self, running: Running, part: dict[Hashable, Any]) -> None:
        reduce, totals, own = self._functions[0], running.totals, self._values.own
        for key, value in part.items():
            # The part stays as it is, whatever the user's function does to its arguments.
            mine = value if type(value) in SCALARS else own(value)
            totals[key] = reduce(totals[key], mine) if key in totals else mine
            running.parts[key] = running.parts.get(key, 0) + 1

    def _leave(self, running: Running, part: dict[Hashable, Any]) -> None:
        invert = self._functions[1]
        if invert is None:
            raise TypeError("a window without an inverse is reduced as a whole")
        for key, value in part.items():
            running.parts[key] -= 1
            if running.parts[key] == 0:
                del running.parts[key], running.totals[key]
            else:
                running.totals[key] = invert(running.totals[key], self._values.own(value))


def _values(pairs: Iterable[tuple[Any, Any]]) -> list[Any]:
    return list(map(_VALUE, pairs))

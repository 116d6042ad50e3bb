"""What executors do with a shard of mapWithState: call the function for records and idle keys, keep what it gives.

A shard keeps for each key (time of the last batch that touched it, state).

Owns: MapState, Mapped, ReadMapped, ReadSnapshots, Seed.
Never: the volume; a delta goes to the driver, which commits it.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

from engine.batch import Time
from engine.checkpoint.codec import TimedCodec
from engine.checkpoint.shards import GONE, Shard
from engine.dstream.run import batch_time, run_version
from engine.dstream.state import Seed, ShardResult, StateFunction, failed
from engine.dstream.statespec import ABSENT, KEPT, REMOVED, UPDATED, State
from engine.dstream.timers import Timers
from engine.errors import LifecycleError, StateNotSetError
from engine.rdd.serializers import cannot_change, dump, load
from engine.rdd.task import SCALARS


class Mapped:
    """What the function gave in one run; every reader gets its own."""

    def __init__(self, elements: list[Any]) -> None:
        self._elements = elements
        self._pickled: bytes | None = None
        self._is_fixed = False

    def __iter__(self) -> Iterator[Any]:
        if not self._is_fixed:
            # At the first look, as often nobody looks.
            if not cannot_change(self._elements):
                self._pickled, self._elements = dump(self._elements), []
            self._is_fixed = True
        return iter(self._elements if self._pickled is None else load(self._pickled))


class Beside(NamedTuple):
    """What a shard keeps beside its states."""

    timers: Timers | None
    """None without a timeout."""
    mapped: Mapped


class Run(NamedTuple):
    """One shard in one batch."""

    shard: Shard
    time: Time
    timers: Timers | None
    state: State[Any]
    """What the function is handed: one object for all calls."""
    mapped: list[Any]


class MapState(StateFunction):
    """mapWithState: calls the function for every record, then for every key that was idle for too long."""

    def __init__(
        self,
        codec: TimedCodec,
        function: Callable[..., Any],
        *,
        takes_time: bool,
        timeout_ms: int | None,
        has_seeds: bool = False,
    ) -> None:
        super().__init__(codec)
        self._own = codec.own_state
        self._function = function
        self._takes_time = takes_time
        self._timeout_ms = timeout_ms
        self._has_seeds = has_seeds
        """Whether initial states come among the records."""

    def __call__(self, index: int, elements: Iterator[tuple[Hashable, Any]]) -> Iterable[ShardResult]:
        """The shard's delta; what the function gave is kept beside the shard for `ReadMapped`."""
        return [self.result(index, elements)[0]]

    def result(self, index: int, elements: Iterator[tuple[Hashable, Any]]) -> tuple[ShardResult, Mapped]:
        """The shard's delta, and what the function gave."""
        shard = self._opened(index)
        run = Run(shard, batch_time(), self._timers(shard), State(self._own), [])
        records = self._seeded(run, elements) if self._has_seeds else elements
        # Counted here and not over the overlay, each key of which would be looked up once more.
        keys = len(shard.values) + len(shard.overlay)
        try:
            keys += self._map_records(run, records) - self._map_idle(run)
            if run.timers is not None:
                run.timers.let_go(keys, partial(_touched, shard))
        except (StopIteration, StateNotSetError, LifecycleError) as cause:
            raise failed(cause) from cause
        beside = Beside(run.timers, Mapped(run.mapped))
        shard.derived, shard.derived_version = beside, run_version()
        return self._result(index, shard, keys), beside.mapped

    def _timers(self, shard: Shard) -> Timers | None:
        kept: Beside | None = shard.derived
        # This run changes them: a run that ends early must not leave them behind.
        shard.derived = None
        if self._timeout_ms is None:
            return None
        if kept is not None and kept.timers is not None and shard.derived_version == shard.version:
            return kept.timers
        return Timers((key, state[0]) for key, state in shard.values.items())

    def _seeded(self, run: Run, elements: Iterable[tuple[Hashable, Any]]) -> Iterable[tuple[Hashable, Any]]:
        """The records; the initial states among them become the shard's, as old as this batch."""
        records: list[tuple[Hashable, Any]] = []
        now, overlay = int(run.time), run.shard.overlay
        for key, value in elements:
            if type(value) is Seed:
                overlay[key] = (now, self._own(value.state))
            else:
                records.append((key, value))
        if run.timers is not None:
            for key in overlay:
                run.timers.add(key, now)
        return records

    def _map_records(self, run: Run, elements: Iterable[tuple[Hashable, Any]]) -> int:
        """By how many keys the shard grew."""
        function, takes_time, own = self._function, self._takes_time, self._own
        shard, time, timers, state, mapped = run
        values, overlay, now, append = shard.values, shard.overlay, int(time), mapped.append
        grown = 0
        for key, value in elements:
            kept = overlay[key] if key in overlay else values.get(key)
            if kept is None or kept is GONE:
                kept = None
                state.status = ABSENT
            else:
                state.value = kept[1]
                state.status = KEPT
            if not takes_time:
                append(function(key, value, state))
            elif (element := function(time, key, value, state)) is not None:
                append(element)
            status = state.status
            if status == UPDATED:
                new = state.value
                overlay[key] = (now, new if type(new) in SCALARS else own(new))
                if kept is None:
                    grown += 1
                    if timers is not None:
                        timers.add(key, now)
            elif status == REMOVED:
                grown -= kept is not None
                shard.remove(key)
            elif kept is not None and timers is not None:
                # A touch: the state as it was kept, whatever the function did to its copy.
                overlay[key] = (now, kept[1])
        return grown

    def _map_idle(self, run: Run) -> int:
        """How many keys timed out."""
        shard, time, timers, state, mapped = run
        if timers is None or self._timeout_ms is None:
            return 0
        function, takes_time = self._function, self._takes_time
        expired = timers.expired(time - self._timeout_ms, partial(_touched, shard))
        for key in expired:
            state.open_timing_out(_kept(shard, key)[1])
            element = function(time, key, None, state) if takes_time else function(key, None, state)
            if element is not None or not takes_time:
                mapped.append(element)
            shard.remove(key)
        return len(expired)


def _kept(shard: Shard, key: Hashable) -> Any:
    return shard.overlay[key] if key in shard.overlay else shard.values.get(key)


def _touched(shard: Shard, key: Hashable) -> int | None:
    kept = _kept(shard, key)
    return None if kept is None or kept is GONE else int(kept[0])


class ReadMapped(StateFunction):
    """What the function gave in the running batch."""

    def __call__(self, index: int, _nothing: Iterator[Any]) -> Iterable[Any]:
        """The elements, in the order in which they were made."""
        kept: Beside = self._seen(index).derived
        return kept.mapped


class ReadSnapshots(StateFunction):
    """Every key of a shard with its state as the running batch left it."""

    def __call__(self, index: int, _nothing: Iterator[Any]) -> Iterable[tuple[Any, Any]]:
        """The pairs."""
        return ((key, kept[1]) for key, kept in self._seen(index).items())

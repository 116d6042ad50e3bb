"""Timeouts of mapWithState: which keys go, when, and what is seen of it."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine import LocalContext, State, StateSpec, StreamingContext
from engine.batch import Duration
from engine.dstream.dstream import DStream
from engine.dstream.mapstate import ReadMapped
from engine.errors import UserFunctionError
from tests.engine.app import App
from tests.engine.dstream.mapped import job_of, running, shown


class Waiting(ReadMapped):
    """How many keys wait for their timeout in the shards."""

    def __call__(self, index: int, _nothing: Iterator[Any]) -> Iterable[Any]:
        """One number a shard."""
        return [len(self._seen(index).derived.timers)]


def test_keys_that_are_removed_do_not_wait_for_their_timeout(local_two: LocalContext, tmp_path: Path) -> None:
    """Keys that come and are removed long before the timeout take no more memory from batch to batch."""
    waiting: list[int] = []

    def session(_key: int, value: str, state: State[str]) -> None:
        if value == "end":
            state.remove()
        else:
            state.update(value)

    def job(_ssc: StreamingContext, stream: DStream[Any], _app: App) -> None:
        mapped = stream.mapWithState(StateSpec.function(session).timeout(3_600))
        node: Any = mapped.node
        mapped.foreachRDD(lambda _rdd: waiting.extend(node._read_with(Waiting(node.codec)).collect()))

    batches = [
        [(1_000 * batch + key, value) for key in range(700) for value in ("begin", "end")]
        for batch in range(2)
    ]
    with App(local_two, tmp_path, job, batches, shards=1) as app:
        app.run(2)

    assert waiting == [700, 0]


@pytest.mark.fault(45, "idle keys, by the injected clock")
def test_idle_keys_time_out(context: LocalContext, tmp_path: Path) -> None:
    """A key goes in the first batch that is later than its last record by more than the timeout, with an element of its own."""
    job = job_of(lambda: StateSpec.function(running).timeout(2))
    with App(context, tmp_path, job, [[("a", 1), ("b", 1)], [("b", 1)], [], [], []]) as app:
        app.run(5)

    assert app.out["mapped"] == shown(
        [("a", 1), ("b", 1)], [("b", 2)], [], [("a", "gone", 1)], [("b", "gone", 2)]
    )
    assert app.out["states"] == [
        [("a", 1), ("b", 1)],
        [("a", 1), ("b", 2)],
        [("a", 1), ("b", 2)],
        [("b", 2)],
        [],
    ]


def test_timeout_is_seconds_or_a_duration() -> None:
    """A number is seconds, a Duration is itself."""
    spec = StateSpec.function(running)

    assert spec.timeout(1.5).timeout_ms == spec.timeout(Duration(1_500)).timeout_ms == 1_500


def test_a_look_keeps_a_key(context: LocalContext, tmp_path: Path) -> None:
    """With a timeout a record refreshes its key, also when the function neither updates nor looks."""

    def once(_key: Any, value: int | None, state: State[int]) -> Any:
        if not state.exists():
            state.update(value or 0)
        return "gone" if state.isTimingOut() else None

    job = job_of(lambda: StateSpec.function(once).timeout(1))
    with App(context, tmp_path, job, [[("a", 1)], [("a", 2)], [("a", 3)], [], []]) as app:
        for _ in range(5):
            app.run().crash()

    assert app.out["mapped"] == shown([None], [None], [None], [], ["gone"])
    assert app.out["states"] == [[("a", 1)]] * 4 + [[]]


def test_data_comes_before_the_timeout(context: LocalContext, tmp_path: Path) -> None:
    """A key that would time out in a batch that has a record of it is touched first, and stays."""
    job = job_of(lambda: StateSpec.function(running).timeout(1))
    with App(context, tmp_path, job, [[("a", 1), ("b", 1)], [], [("a", 1)], []]) as app:
        app.run(4)

    assert app.out["mapped"] == shown([("a", 1), ("b", 1)], [], [("a", 2), ("b", "gone", 1)], [])


def test_a_removed_key_does_not_time_out(context: LocalContext, tmp_path: Path) -> None:
    """A key that the function removed is gone, and when it comes back its time counts from then."""

    def toggle(key: Any, value: int | None, state: State[int]) -> Any:
        if value == 0:
            state.remove()
            return None
        return running(key, value, state)

    job = job_of(lambda: StateSpec.function(toggle).timeout(2))
    with App(context, tmp_path, job, [[("a", 1)], [("a", 0), ("b", 0)], [("a", 5)], [], [], [], []]) as app:
        app.run(7)

    assert app.out["mapped"] == shown([("a", 1)], [None, None], [("a", 5)], [], [], [("a", "gone", 5)], [])


@pytest.mark.parametrize("every_interval", [True, False])
def test_a_catch_up_batch_times_out_what_was_idle(
    context: LocalContext, tmp_path: Path, every_interval: bool
) -> None:
    """After a long pause idle keys go, once each, whether one batch takes over the missed times or each has one."""
    job = job_of(lambda: StateSpec.function(running).timeout(5))
    with App(context, tmp_path, job, [[("a", 1)], [("b", 1)]], every_interval=every_interval) as app:
        app.run(2)
        app.ssc.stop(stopSparkContext=False)
        app.clock.advance(30_000)
        app.start()
        for _ in range(30 if every_interval else 1):
            app.ssc.runBatch()

    gone = [line for batch in app.out["mapped"][2:] for line in batch]
    assert sorted(gone) == shown([("a", "gone", 1), ("b", "gone", 1)])[0]
    assert app.out["states"][-1] == []


def test_keys_time_out_after_a_restart(context: LocalContext, tmp_path: Path) -> None:
    """A restart after every batch changes neither which keys time out nor when."""
    job = job_of(lambda: StateSpec.function(running).timeout(2))
    batches = [[(key, 1) for key in keys] for keys in ("abc", "b", "cd", "", "a", "", "", "", "")]
    with App(context, tmp_path / "crashed", job, batches) as crashed:
        for _ in batches:
            crashed.run().crash()
    with App(context, tmp_path / "whole", job, batches) as whole:
        whole.run(len(batches))

    assert crashed.out == whole.out
    assert crashed.out["states"][-1] == []


def test_a_retry_times_out_the_same_keys(context: LocalContext, tmp_path: Path) -> None:
    """A batch that runs again after a failed output gives the same elements and timeouts, in the same order."""
    seen: list[Any] = []

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        states = stream.mapWithState(StateSpec.function(running).timeout(1))
        states.foreachRDD(lambda rdd: seen.append(rdd.collect()))
        app.collect(states, "mapped")

    with App(context, tmp_path, job, [[(f"k{n}", 1) for n in range(20)], [("x", 1)], [("y", 1)]]) as app:
        app.run(2)
        app.crash_in = "mapped"
        with pytest.raises(UserFunctionError):
            app.run()
        app.crash()

    assert len(seen[2]) == 21
    assert seen[2] == seen[3]


def test_a_timeout_may_come_later(context: LocalContext, tmp_path: Path) -> None:
    """States that were kept without a timeout have their times when the job gets one."""
    specs = iter([StateSpec.function(running), StateSpec.function(running).timeout(2)])
    with App(
        context, tmp_path, job_of(lambda: next(specs), "totals"), [[("a", 1)], [("b", 1)], [], [], []]
    ) as app:
        app.run(2).crash().run(3)

    assert app.out["mapped"] == shown([("a", 1)], [("b", 1)], [], [("a", "gone", 1)], [("b", "gone", 1)])

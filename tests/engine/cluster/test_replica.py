"""What a replica makes of the units that it is given; their processes are stand-ins that speak as real ones do."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest

from engine.clock import SystemClock
from engine.cluster.child import State
from engine.cluster.membership import Alone
from engine.cluster.replica import HEAD_START_SECONDS, Orders, Replica
from engine.cluster.units import Unit

COMMAND = (sys.executable, str(Path(__file__).with_name("unit.py")))
SECONDS = 20.0

pytestmark = pytest.mark.slow


def units(*names: str) -> list[Unit]:
    """Units of these names."""
    return [Unit(number, name, name, "topic", (number,)) for number, name in enumerate(names)]


def run(names: tuple[str, ...], story: Callable[[Replica], Coroutine[None, None, None]]) -> Replica:
    """A replica of units with these names that has lived through a story, and was stopped."""

    async def live() -> Replica:
        replica = Replica(units(*names), COMMAND, SystemClock())
        await replica.start()
        try:
            async with asyncio.timeout(SECONDS):
                await story(replica)
        finally:
            await replica.stop()
        return replica

    return asyncio.run(live())


async def until(condition: Callable[[], object]) -> None:
    """Return when the condition holds."""
    while not condition():  # noqa: ASYNC110 - conditions on what was told and on what ended alike
        await asyncio.sleep(0.01)


def states(replica: Replica) -> dict[str, State | None]:
    """How each unit's process stands."""
    return {
        running.unit.name: running.child.state if running.child else None for running in replica.held.values()
    }


def test_unit_in_the_warm_process_has_a_head_start() -> None:
    """Others begin when it runs, or a moment later when it does not come to that."""

    async def story(replica: Replica) -> None:
        replica.hold({0, 1})
        await until(lambda: states(replica).get("other") is State.RUNNING)
        assert states(replica)["mute"] is State.STARTING
        assert replica.held[1].begun - replica.held[0].begun >= HEAD_START_SECONDS

    run(("mute", "other"), story)


def test_units_that_it_holds_run() -> None:
    """Each unit runs in a process of its own, and one that it no longer holds ends."""

    async def story(replica: Replica) -> None:
        replica.hold({0, 1})
        await until(lambda: states(replica) == {"a": State.RUNNING, "b": State.RUNNING})
        first, second = (running.child for running in replica.held.values())
        assert first is not None
        assert second is not None
        assert first.pid != second.pid
        replica.hold({1})
        await first.ended()
        assert first.code == 0
        assert states(replica) == {"b": State.RUNNING}
        assert replica.held[1].child is second

    run(("a", "b"), story)


def test_release_returns_when_every_unit_is_held() -> None:
    """After a release no unit has a batch, and the units that stay go on in the same processes."""

    async def story(replica: Replica) -> None:
        replica.hold({0, 1})
        await until(lambda: set(states(replica).values()) == {State.RUNNING})
        children = [running.child for running in replica.held.values()]
        await replica.release()
        assert set(states(replica).values()) == {State.HELD}
        replica.hold({0, 1})
        assert set(states(replica).values()) == {State.RUNNING}
        assert [running.child for running in replica.held.values()] == children

    run(("a", "b"), story)


def test_units_go_on_when_the_group_does_not_settle() -> None:
    """A unit that is held and hears nothing goes on by itself: the group may wait for a member that is dead."""

    async def story(replica: Replica) -> None:
        replica.hold({0})
        await until(lambda: states(replica) == {"a": State.RUNNING})
        await replica.release()
        await until(lambda: states(replica) == {"a": State.RUNNING})

    run(("a",), story)


def test_unit_that_dies_is_started_again() -> None:
    """A unit's process that was killed is followed by another."""

    async def story(replica: Replica) -> None:
        replica.hold({0})
        await until(lambda: states(replica) == {"a": State.RUNNING})
        child = replica.held[0].child
        assert child is not None
        os.kill(child.pid, signal.SIGKILL)
        await until(lambda: replica.held[0].child not in {child, None})
        await until(lambda: states(replica) == {"a": State.RUNNING})
        assert replica.held[0].restarts == 1
        assert child.code == -signal.SIGKILL

    run(("a",), story)


def test_unit_that_was_fenced_is_no_longer_claimed() -> None:
    """A unit that another process has taken over is told of as lost, and not started again at once."""

    async def story(replica: Replica) -> None:
        replica.hold({0})
        await until(replica.lost)
        assert replica.lost() == {0}
        assert replica.held[0].is_fenced
        assert replica.held[0].child is None
        replica.hold(frozenset())
        replica.hold({0})
        assert replica.lost() == frozenset()

    run(("dies-3",), story)


def test_paused_unit_begins_no_batch() -> None:
    """A unit that is paused is held in its process, also after its group has settled, and goes on when it no longer is."""

    async def story(replica: Replica) -> None:
        replica.hold({0, 1})
        await until(lambda: states(replica) == {"a": State.RUNNING, "b": State.RUNNING})
        child = replica.held[0].child
        replica.obey(Orders(paused=frozenset({"a"})))
        await until(lambda: states(replica) == {"a": State.HELD, "b": State.RUNNING})
        await replica.release()
        replica.hold({0, 1})
        assert states(replica) == {"a": State.HELD, "b": State.RUNNING}
        replica.obey(Orders())
        assert states(replica) == {"a": State.RUNNING, "b": State.RUNNING}
        assert replica.held[0].child is child

    run(("a", "b"), story)


def test_drained_unit_has_no_process() -> None:
    """A unit that is drained ends, and begins again when it no longer is."""

    async def story(replica: Replica) -> None:
        replica.hold({0})
        await until(lambda: states(replica) == {"a": State.RUNNING})
        replica.obey(Orders(drained=frozenset({"a"})))
        await until(lambda: states(replica) == {"a": None})
        replica.obey(Orders())
        await until(lambda: states(replica) == {"a": State.RUNNING})

    run(("a",), story)


def test_unit_of_other_executors_begins_anew() -> None:
    """A unit that is to have another number of executors ends, and one process at a time runs it."""

    async def story(replica: Replica) -> None:
        replica.hold({0})
        await until(lambda: states(replica) == {"a": State.RUNNING})
        first = replica.held[0].child
        assert first is not None
        replica.obey(Orders(executors={"a": 3}))
        await first.ended()
        await until(lambda: states(replica) == {"a": State.RUNNING})
        second = replica.held[0].child
        assert second is not None
        assert second.executors == 3

    run(("a",), story)


def test_units_end_with_their_replica() -> None:
    """A unit whose replica is gone, however that came, ends by itself."""

    async def story(replica: Replica) -> None:
        replica.hold({0})
        await until(lambda: states(replica) == {"a": State.RUNNING})
        child = replica.held[0].child
        assert child is not None
        child._tie.close()
        child._writer.transport.abort()
        await child.ended()
        assert child.code == 0

    run(("a",), story)


def test_process_that_shares_with_nobody_holds_every_unit() -> None:
    """Alone, a process holds all units from its start to its stop."""

    async def story(replica: Replica) -> None:
        membership = Alone([0, 1])
        await membership.start(replica)
        await until(lambda: set(states(replica).values()) == {State.RUNNING})
        assert set(replica.held) == {0, 1}
        await membership.stop()
        assert replica.held == {}

    run(("a", "b"), story)

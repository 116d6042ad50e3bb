"""Members of a real Kafka group: who holds what, in which order they are told, and how they are refused."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

import pytest

from engine.cluster import faust as module
from engine.cluster.faust import LEAVE_SECONDS, SESSION_SECONDS
from engine.errors import ConfigurationError, StreamingError
from services.settings import REPOSITORY
from tests.engine.cluster.members import World, are_shared, until
from tests.ports import free_ports
from tests.servers import KafkaServer

SECONDS = 60.0

servers = pytest.mark.servers
pytestmark = pytest.mark.slow

Make = Callable[[int], World]


@pytest.fixture
def make(kafka_server: KafkaServer, fresh_topic: Callable[[int], str], tmp_path: Path) -> Make:
    """A function that makes a group which shares so many units."""
    return lambda units: World(kafka_server.bootstrap, fresh_topic(units), fresh_topic(1), units, tmp_path)


def run(story: Coroutine[Any, Any, None]) -> None:
    """Live through a story, in bounded time."""

    async def live() -> None:
        async with asyncio.timeout(SECONDS):
            await story

    asyncio.run(live())


@servers
def test_two_members_share_the_units(make: Make) -> None:
    """Who is alone holds every unit, and half of them once another has joined; who leaves gives all to the other."""
    world = make(4)
    one, other = world.told("one"), world.told("other")

    async def story() -> None:
        first, second = world.member("one"), world.member("other")
        assert not first.is_member
        await first.start(one)
        assert one.units == frozenset(range(4))
        await second.start(other)
        await until(lambda: are_shared([one, other], 4) and first.is_member)
        assert len(one.units or ()) == len(other.units or ()) == 2
        assert second.is_member
        assert first.generation == second.generation > 0
        await first.stop()
        assert one.units == frozenset()
        assert not first.is_member
        await until(lambda: other.units == frozenset(range(4)))
        await second.stop()

    run(story())


@servers
def test_units_are_released_before_others_hold_them(make: Make) -> None:
    """The group waits until a member has released its units, when another joins as when it leaves itself."""
    world = make(2)
    slow, quick = world.told("slow", release_seconds=1.0), world.told("quick")

    async def story() -> None:
        first, second = world.member("slow"), world.member("quick")
        await first.start(slow)
        world.log.clear()
        await second.start(quick)
        await until(lambda: world.log.count(("slow", "holds")))
        assert world.log.index(("slow", "released")) < world.log.index(("quick", "holds"))
        world.log.clear()
        await first.stop()
        await until(lambda: quick.units == frozenset({0, 1}))
        assert world.log.index(("slow", "released")) < world.log.index(("quick", "holds"))
        await second.stop()

    run(story())


@servers
def test_third_member_moves_only_its_share(make: Make) -> None:
    """When a third joins two that hold three units each, each of them gives it one and keeps two of its own."""
    world = make(6)
    holders = [world.told(name) for name in ("a", "b", "c")]

    async def story() -> None:
        members = [world.member(holder.name) for holder in holders]
        for member, holder in zip(members[:2], holders[:2], strict=True):
            await member.start(holder)
        await until(lambda: are_shared(holders[:2], 6))
        before = [holder.units or frozenset() for holder in holders[:2]]
        await members[2].start(holders[2])
        await until(lambda: are_shared(holders, 6))
        assert [len(holder.units or ()) for holder in holders] == [2, 2, 2]
        for holder, had in zip(holders, before, strict=False):
            assert (holder.units or frozenset()) < had
        await asyncio.gather(*(member.stop() for member in members))

    run(story())


@servers
def test_restart_moves_no_unit_of_others(make: Make) -> None:
    """One of three leaves and comes back, and the others hold all the time what they held."""
    world = make(7)
    holders = [world.told(name) for name in ("a", "b", "c")]

    async def story() -> None:
        members = [world.member(holder.name) for holder in holders]
        for member, holder in zip(members, holders, strict=True):
            await member.start(holder)
        await until(lambda: are_shared(holders, 7))
        before = [holder.units or frozenset() for holder in holders]
        await members[1].stop()
        await until(lambda: are_shared([holders[0], holders[2]], 7))
        assert all(before[n] <= (holders[n].units or frozenset()) for n in (0, 2))
        members[1] = world.member("b")
        await members[1].start(holders[1])
        await until(lambda: are_shared(holders, 7))
        assert all(before[n] <= (holders[n].units or frozenset()) for n in (0, 2))
        assert len(holders[1].units or ()) >= 2
        assert (holders[1].units or frozenset()) <= before[1]
        await asyncio.gather(*(member.stop() for member in members))

    run(story())


@servers
def test_units_of_a_killed_member_are_taken_over(make: Make, figures: Callable[[str], None]) -> None:
    """A member that is killed loses its units to the others when its session is over."""
    world = make(4)
    told = world.told("survivor")

    async def story() -> None:
        survivor = world.member("survivor")
        await survivor.start(told)
        victim = await asyncio.create_subprocess_exec(
            *world.command("victim"), cwd=REPOSITORY, stdout=asyncio.subprocess.PIPE
        )
        try:
            assert victim.stdout is not None
            assert len((await victim.stdout.readline()).split()) == 3
            await until(lambda: len(told.units or ()) == 2)
        finally:
            victim.kill()
        began = time.monotonic()
        await victim.wait()
        await until(lambda: told.units == frozenset(range(4)))
        took = time.monotonic() - began
        figures(f"units of a killed member are held by another after {took:.1f} s")
        assert took < SESSION_SECONDS + 2.0
        await survivor.stop()

    run(story())


@servers
def test_release_that_hangs_keeps_nobody_waiting(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Units that are not released in time are no longer waited for: the group goes on."""
    monkeypatch.setattr(module, "RELEASE_SECONDS", 0.5)
    world = make(2)
    stuck, other = world.told("stuck", release_seconds=SECONDS), world.told("other")

    async def story() -> None:
        first, second = world.member("stuck"), world.member("other")
        await first.start(stuck)
        await second.start(other)
        await until(lambda: are_shared([stuck, other], 2))
        assert ("stuck", "released") not in world.log
        await asyncio.gather(first.stop(), second.stop())

    run(story())


@servers
def test_error_of_the_holder_is_not_swallowed(make: Make) -> None:
    """A holder that fails ends the membership, which says with what."""
    world = make(1)

    def fail(units: AbstractSet[int]) -> None:
        if units:
            raise StreamingError("no room for a unit")

    async def story() -> None:
        member = world.member("failing")
        with pytest.raises(StreamingError, match="no room for a unit"):
            await member.start(world.told("failing", on_hold=fail))

    run(story())


@servers
def test_command_is_handled_once(make: Make) -> None:
    """Of two members one handles a command, whoever sent it, and what is no command is left out."""
    world = make(2)
    handled: list[dict[str, Any]] = []

    async def story() -> None:
        members = [world.member(name, on_command=handled.append) for name in ("one", "other")]
        for member in members:
            await member.start(world.told("either"))
        await members[0].send_command({"pause": ["totals-0"]})
        await members[1].send_command({"resume": ["totals-0"]})
        await until(lambda: len(handled) == 2)
        for member in members:
            await member.stop()

    run(story())
    assert handled == [{"pause": ["totals-0"]}, {"resume": ["totals-0"]}]


@servers
def test_command_that_fails_does_not_stop_the_next(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """An error in a command's handler is told in the log, and the commands after it are handled."""
    world = make(1)
    handled: list[str] = []

    def handle(command: dict[str, Any]) -> None:
        handled.append(command["name"])
        if command["name"] == "bad":
            raise StreamingError("no such unit")

    async def story() -> None:
        member = world.member("a", on_command=handle)
        await member.start(world.told("a"))
        await member.send_command({"name": "bad"})
        await until(lambda: handled)
        await member.send_command({"name": "good"})
        await until(lambda: "good" in handled)
        assert member.failure is None
        await member.stop()

    run(story())
    assert "no such unit" in caplog.text


# Faust's thread for its producer ends with an error when it is not left to stop by itself.
@servers
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_units_stay_while_the_broker_is_away(
    make: Make, kafka_server: KafkaServer, figures: Callable[[str], None]
) -> None:
    """A member keeps its units when the broker is gone, and can leave without it in bounded time."""
    world = make(2)
    told = world.told("a")

    async def story() -> None:
        member = world.member("a")
        await member.start(told)
        await asyncio.to_thread(kafka_server.kill)
        assert told.units == frozenset({0, 1})
        assert member.is_member
        began = time.monotonic()
        await member.stop()
        took = time.monotonic() - began
        figures(f"a member leaves without its broker in {took:.1f} s")
        assert took < LEAVE_SECONDS + 2.0
        assert ("a", "released") in world.log

    run(story())


@servers
def test_other_number_of_partitions_is_refused(make: Make) -> None:
    """A topic of units that has not one partition for each is refused in one sentence, and so is one that is missing."""
    world = make(3)

    async def story() -> None:
        with pytest.raises(ConfigurationError, match=r"has 3 partitions and needs 4; .*services\.topics"):
            await world.member("a", units=4).start(world.told("a"))
        with pytest.raises(ConfigurationError, match=r"'nowhere' .*has 0 partitions and needs 1"):
            await world.member("a", control_topic="nowhere").start(world.told("a"))

    run(story())
    assert world.log == []


def test_broker_that_is_away_is_named(tmp_path: Path) -> None:
    """Without a broker a member ends at its start, with one sentence that names the address."""
    world = World(f"127.0.0.1:{free_ports(1)[0]}", "units", "control", 1, tmp_path)

    with pytest.raises(StreamingError, match=rf"no answer from Kafka at {world.bootstrap} .*KAFKA_BOOTSTRAP"):
        run(world.member("a").start(world.told("a")))


def test_command_needs_a_member(tmp_path: Path) -> None:
    """A command cannot be sent by a process that has not joined."""
    world = World("127.0.0.1:1", "units", "control", 1, tmp_path)

    with pytest.raises(StreamingError, match=r"call start\(\) first"):
        run(world.member("a").send_command({}))

"""Members of a group on a real Kafka, in this process and in others, which tell what they are told.

`python -m tests.engine.cluster.members NAME BOOTSTRAP GROUP TOPIC UNITS CONTROL FOLDER` is one in a process of its own; each sharing is a line.
"""

import asyncio
import sys
import uuid
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.cluster.faust import FaustMembership


@dataclass
class Told:
    """A holder that writes down what it is told."""

    name: str
    log: list[tuple[str, str]]
    """Of all members, in order: who, and what."""
    release_seconds: float = 0.0
    units: frozenset[int] | None = None
    """What it holds; None before the first sharing."""
    on_hold: Callable[[AbstractSet[int]], None] = field(default=lambda _: None)

    async def release(self) -> None:
        """Take the time that it takes."""
        self.log.append((self.name, "releases"))
        await asyncio.sleep(self.release_seconds)
        self.log.append((self.name, "released"))

    def hold(self, units: AbstractSet[int]) -> None:
        """Have these."""
        self.on_hold(units)
        self.units = frozenset(units)
        self.log.append((self.name, "holds"))

    def lost(self) -> AbstractSet[int]:
        """Nothing."""
        return frozenset()


@dataclass
class World:
    """A group with topics of its own."""

    bootstrap: str
    topic: str
    control: str
    units: int
    folder: Path
    group: str = field(default_factory=lambda: f"group-{uuid.uuid4().hex[:12]}")
    log: list[tuple[str, str]] = field(default_factory=list)

    def member(self, name: str, **changed: Any) -> FaustMembership:
        """One that has not joined yet."""
        arguments: dict[str, Any] = {
            "bootstrap": self.bootstrap,
            "group": self.group,
            "topic": self.topic,
            "units": self.units,
            "control_topic": self.control,
            "folder": self.folder / name,
            "name": name,
        }
        return FaustMembership(**{**arguments, **changed})

    def told(self, name: str, **arguments: Any) -> Told:
        """A holder for it."""
        return Told(name, self.log, **arguments)

    def command(self, name: str) -> list[str]:
        """Of a process that is a member."""
        words = (name, self.bootstrap, self.group, self.topic, self.units, self.control, self.folder)
        return [sys.executable, "-m", "tests.engine.cluster.members", *map(str, words)]


async def until(condition: Callable[[], object]) -> None:
    """Return when the condition holds."""
    while not condition():  # noqa: ASYNC110 - conditions of others, who set no event
        await asyncio.sleep(0.01)


def are_shared(holders: list[Told], units: int) -> bool:
    """Whether each unit has one holder."""
    return sorted(unit for holder in holders for unit in holder.units or ()) == list(range(units))


async def _live(words: list[str]) -> None:
    name, bootstrap, group, topic, units, control, folder = words
    world = World(bootstrap, topic, control, int(units), Path(folder), group)
    told = world.told(name, on_hold=lambda held: print("holds", *sorted(held), flush=True))  # noqa: T201 - what the test reads
    await world.member(name).start(told)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_live(sys.argv[1:]))

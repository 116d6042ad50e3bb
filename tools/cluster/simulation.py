"""Many members of a group in one process: the assignor of real replicas, with a count of what each change moves.

Owns: Change, Group, changes, bare_app.
Never: a broker, a network; what those add to the time.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from engine.cluster.faust import Sticky

_TOPIC = "engine-units"


@dataclass(frozen=True, slots=True)
class Change:
    """What a new sharing of the units came to."""

    name: str
    members: int
    seconds: float
    """That the member which shares out took."""
    moved: int
    """Units that had a holder and have another now."""
    needed: int
    """How many of them had to move for every unit to have a holder, and no member two more than another."""
    fewest: int
    most: int
    """Units of a member."""
    largest_claim: int
    """Bytes that a member tells the group, at most."""


class Group:
    """The members and who holds what.

    Args:
        units: how many there are.
    """

    def __init__(self, units: int) -> None:
        self._units = units
        self._generation = 0
        self._members: dict[str, Sticky] = {}
        self.holders: dict[int, str] = {}
        """By unit who holds it."""

    def join(self, names: Iterable[str]) -> None:
        """These come, with nothing."""
        for name in names:
            self._members[name] = Sticky(bare_app(name))

    def leave(self, names: Iterable[str]) -> None:
        """These go."""
        for name in names:
            del self._members[name]

    def share(self, change: str) -> Change:
        """Share out anew; what a rebalance does.

        Args:
            change: what led to it.
        """
        claims = {name: member.metadata([_TOPIC]) for name, member in self._members.items()}
        cluster: Any = SimpleNamespace(partitions_for_topic=lambda _: set(range(self._units)))
        leader = next(iter(self._members.values()))
        began = time.perf_counter()
        shares = leader.assign(cluster, claims)
        seconds = time.perf_counter() - began
        self._generation += 1
        for name, member in self._members.items():
            member.on_assignment(shares[name])
            member.app.consumer_generation_id = self._generation
        held = {
            name: [unit for _, units in share.assignment for unit in units] for name, share in shares.items()
        }
        before, self.holders = self.holders, {unit: name for name, units in held.items() for unit in units}
        counts = [len(units) for units in held.values()]
        return Change(
            change,
            len(held),
            seconds,
            sum(before.get(unit, name) != name for unit, name in self.holders.items()),
            self._needed(before),
            min(counts),
            max(counts),
            max(len(each.user_data) for each in claims.values()),
        )

    def _needed(self, before: dict[int, str]) -> int:
        """The moves without which there is no even sharing: all but what each may keep."""
        kept = sorted(
            (sum(holder == name for holder in before.values()) for name in self._members), reverse=True
        )
        floor, more = divmod(self._units, len(kept))
        return len(before) - sum(min(count, floor + (place < more)) for place, count in enumerate(kept))


def changes(replicas: int, units: int) -> Iterator[Change]:
    """The first sharing, and then one change after the other.

    Args:
        replicas: how many there are at first.
        units: how many they share.

    Example:
        >>> [(change.name, change.moved, change.needed) for change in changes(3, 7)][:3]
        [('first sharing', 0, 0), ('one leaves', 2, 2), ('it returns', 2, 2)]
    """
    group = Group(units)
    names = [f"engine-{number:04}" for number in range(1, replicas + 1)]
    tenth = names[-max(replicas // 10, 1) :]
    group.join(names)
    yield group.share("first sharing")
    group.leave(names[1:2])
    yield group.share("one leaves")
    group.join(names[1:2])
    yield group.share("it returns")
    group.join(["engine-new"])
    yield group.share("one more joins")
    group.leave(tenth)
    yield group.share("a tenth leaves")
    group.join(tenth)
    yield group.share("it returns")
    yield group.share("nothing changes")


def bare_app(name: str) -> Any:
    """As much of a Faust app as its assignor asks for."""
    sensors = SimpleNamespace(
        on_assignment_start=lambda _: None,
        on_assignment_completed=lambda *_: None,
        on_assignment_error=lambda *_: None,
    )
    return SimpleNamespace(
        tables=SimpleNamespace(changelog_topics=frozenset(), data={}),
        tracer=None,
        sensors=sensors,
        conf=SimpleNamespace(canonical_url=f"http://{name}:6066"),
        consumer_generation_id=0,
    )

"""One takeover after the other: wait until the group is at rest, signal an owner, wait for another's result, start it again.

Owns: Takeover, measure, settle, SIGNALS, PARTITIONS.
Never: a contender of its own.
"""

import random
import signal
import time
from typing import NamedTuple

from engine.errors import StreamingError
from tools.bench.takeover.contender import Contender
from tools.stack.control import looks

SIGNALS = (signal.SIGKILL, signal.SIGTERM)
PARTITIONS = 6
"""Of the topic; two or three members own the same number each."""
_REST_SECONDS = 5.0
"""The owners are the same for so long before a signal."""
_SPREAD_SECONDS = 1.0
"""A signal comes up to so much later, by chance: a heartbeat is due each second, and none may be met at the same place every time."""
_SETTLE_SECONDS = 120.0
_TAKEOVER_SECONDS = 90.0
_LOOK_SECONDS = 0.02


class Takeover(NamedTuple):
    """One signal to one contender."""

    contender: str
    number: signal.Signals
    seconds: float
    """From the signal to the first result of a moved partition from another process."""
    moved: int
    """Number of partitions that the process owned."""


def settle(contender: Contender, name: str, members: int) -> dict[int, int]:
    """Wait until every member owns partitions, and the same ones for a while.

    Returns:
        The owner of each partition.

    Raises:
        StreamingError: the group does not come to rest.
    """
    owners: dict[int, int | None] = {}
    since = time.monotonic()
    for _ in looks(_SETTLE_SECONDS, _LOOK_SECONDS):
        newest = {partition: contender.owner_of(partition) for partition in range(PARTITIONS)}
        if newest != owners:
            owners, since = newest, time.monotonic()
        at_work = {partition: owner for partition, owner in owners.items() if owner is not None}
        is_shared = len(at_work) == PARTITIONS and set(at_work.values()) == set(range(members))
        if is_shared and time.monotonic() - since >= _REST_SECONDS:
            return at_work
    raise StreamingError(
        f"{name}: {members} members did not share {PARTITIONS} partitions at rest within {_SETTLE_SECONDS:g} s; "
        f"owners at last: {owners}"
    )


def measure(
    contender: Contender, name: str, members: int, number: signal.Signals, chance: random.Random
) -> Takeover:
    """Signal the owner of a partition that chance picks; its member runs again when this returns.

    Raises:
        StreamingError: the group does not come to rest, or nobody takes over.
    """
    settle(contender, name, members)
    time.sleep(chance.uniform(0.0, _SPREAD_SECONDS))
    owners = {partition: contender.owner_of(partition) for partition in range(PARTITIONS)}
    victim = owners[chance.randrange(PARTITIONS)]
    if victim is None:
        raise StreamingError(f"{name}: a partition lost its owner before any signal; owners: {owners}")
    moved = [partition for partition, owner in owners.items() if owner == victim]
    sent = contender.kill(victim, number)
    for _ in looks(_TAKEOVER_SECONDS, _LOOK_SECONDS):
        result = contender.first_result(moved, sent, victim)
        if result is not None:
            contender.restart(victim)
            return Takeover(name, number, result.time - sent, len(moved))
    raise StreamingError(
        f"{name}: no other process had a result of partitions {moved} within {_TAKEOVER_SECONDS:g} s of {number.name}"
    )

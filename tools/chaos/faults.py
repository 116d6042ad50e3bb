"""The table of faults.

Owns: Fault, FAULTS, faults_of.
Never: how a fault is made; hits.py, lives.py and spoilt.py do that.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from tools.chaos.hits import (
    Cut,
    FillCheckpoint,
    KillEngine,
    KillProducer,
    Make,
    PauseEngine,
    PauseServer,
    RestartServer,
    Slow,
)
from tools.chaos.lives import KillRecovery, KillWorker, TerminateEngine, Zombie
from tools.chaos.replicas import (
    CutReplica,
    KillReplica,
    KillReplicas,
    KillUnit,
    PauseReplica,
    RollingUpgrade,
    TerminateReplica,
)
from tools.chaos.spoilt import LoseSnapshot, PauseProducer, Poison, TearJournal

_ALL = ("embedded", "processes", "compose")
_SERVERS = ("processes", "compose")
_PLAIN = ("embedded", "processes")
_ONE, _MANY, _ANY = "one", "many", "any"


@dataclass(frozen=True, slots=True)
class Fault:
    """One row."""

    name: str
    victim: str
    """The process or container that it hits."""
    make: Make
    does: str
    """What happens, in a few words."""
    seen: str
    """What must be seen, or the drill has failed."""
    stacks: tuple[str, ...] = _SERVERS
    """Where it can be done: values of STACK."""
    engines: str = _ONE
    """Whether it can be done to one engine with all jobs, to replicas (many), or to both (any)."""

    def is_for(self, stack: str, engines: int) -> bool:
        """Whether a stack with so many engines can have it."""
        return stack in self.stacks and self.engines in {_ANY, _ONE if engines == 1 else _MANY}


_GOES_ON = "no commit meanwhile; the same server goes on"

FAULTS: Mapping[str, Fault] = MappingProxyType(
    {
        fault.name: fault
        for fault in (
            Fault(
                "engine-kill",
                "engine",
                KillEngine,
                "SIGKILL while a batch is in flight",
                "death by SIGKILL, restart by the stack, a new pid and a new epoch",
                _ALL,
            ),
            Fault(
                "engine-pause",
                "engine",
                PauseEngine,
                "held for 10 s",
                "no commit meanwhile; then one batch takes over all missed times",
                _ALL,
            ),
            Fault(
                "engine-term",
                "engine",
                TerminateEngine,
                "SIGTERM, then started again",
                "exit code 0; on plain processes no batch half done; a new pid and a new epoch",
                _ALL,
            ),
            Fault(
                "engine-recovery",
                "engine",
                KillRecovery,
                "SIGKILL, again while it recovers",
                "two deaths, the second one before the first new commit; a new epoch for each life",
                _PLAIN,
            ),
            Fault(
                "engine-zombie",
                "engine",
                Zombie,
                "held; a second takes over; woken",
                "the second commits; the first says that it was fenced and ends with 2; then the stack's own goes on",
                _PLAIN,
            ),
            Fault(
                "worker-kill",
                "engine",
                KillWorker,
                "SIGKILL to one of its workers",
                "another worker in its place, new commits; the same engine goes on",
                _ALL,
            ),
            Fault(
                "journal-torn",
                "engine",
                TearJournal,
                "half a frame appended, then SIGKILL",
                "the tear stays; the new epoch follows the torn segment",
                _PLAIN,
            ),
            Fault(
                "snapshot-lost",
                "engine",
                LoseSnapshot,
                "a snapshot removed, then SIGKILL",
                "the engine says which file it misses, and goes on in a new epoch",
                _PLAIN,
            ),
            Fault(
                "poison",
                "engine",
                Poison,
                "undecodable records everywhere",
                "each of them is a dead letter and nothing else is; the same engine goes on",
                _ALL,
                _ANY,
            ),
            Fault(
                "producer-pause",
                "producer",
                PauseProducer,
                "held for 10 s, then a burst",
                "the log stands still; then all that was due comes at once and is committed",
                _ALL,
                _ANY,
            ),
            Fault(
                "producer-kill",
                "producer",
                KillProducer,
                "SIGKILL",
                "death by SIGKILL, restart by the stack, new records of the new pid",
                _ALL,
                _ANY,
            ),
            Fault(
                "kafka-restart",
                "kafka",
                RestartServer,
                "SIGKILL, started again after 10 s",
                "no answer and no commit meanwhile; a new pid",
                engines=_ANY,
            ),
            Fault(
                "cassandra-restart",
                "cassandra",
                RestartServer,
                "SIGKILL, started again after 10 s",
                "no answer and no commit meanwhile; a new pid",
                engines=_ANY,
            ),
            Fault("kafka-pause", "kafka", PauseServer, "held for 10 s", _GOES_ON, engines=_ANY),
            Fault("cassandra-pause", "cassandra", PauseServer, "held for 10 s", _GOES_ON, engines=_ANY),
            Fault("kafka-cut", "kafka", Cut, "no way to it for 10 s", _GOES_ON),
            Fault("cassandra-cut", "cassandra", Cut, "no way to it for 10 s", _GOES_ON),
            Fault("kafka-slow", "kafka", Slow, "answers take 1 s longer", "commits come slower, but come"),
            Fault(
                "cassandra-slow",
                "cassandra",
                Slow,
                "answers take 1 s longer",
                "commits come slower, but come",
            ),
            Fault(
                "checkpoint-full",
                "engine",
                FillCheckpoint,
                "no room on its volume for 10 s",
                "no commit meanwhile; the engine says why and ends with 1; with room it goes on, in a new epoch",
                ("compose",),
            ),
            Fault(
                "replica-kill",
                "replica",
                KillReplica,
                "SIGKILL to a replica",
                "death by SIGKILL; its units run again in new processes, those of the others go on in theirs",
                _SERVERS,
                _MANY,
            ),
            Fault(
                "replicas-kill",
                "replica",
                KillReplicas,
                "SIGKILL to two at once",
                "two deaths by SIGKILL; their units run again in new processes",
                _SERVERS,
                _MANY,
            ),
            Fault(
                "replica-term",
                "replica",
                TerminateReplica,
                "SIGTERM, later started again",
                "exit code 0; its units run elsewhere before it is started again, and no other unit moves",
                _SERVERS,
                _MANY,
            ),
            Fault(
                "replica-pause",
                "replica",
                PauseReplica,
                "held in a batch for 60 s, woken",
                "its units run elsewhere; woken, the batch's write is fenced: a unit says so and ends with 3",
                _SERVERS,
                _MANY,
            ),
            Fault(
                "replica-cut",
                "replica",
                CutReplica,
                "no way to Kafka for 15 s",
                "its units run elsewhere; joined again it is a member, and the same process",
                _SERVERS,
                _MANY,
            ),
            Fault(
                "unit-kill",
                "replica",
                KillUnit,
                "SIGKILL to a unit's process",
                "its replica starts it again; no other unit's process is touched",
                _SERVERS,
                _MANY,
            ),
            Fault(
                "rolling-upgrade",
                "replica",
                RollingUpgrade,
                "SIGTERM and start, each in turn",
                "exit code 0 each time; its units run elsewhere before it is started again",
                _SERVERS,
                _MANY,
            ),
        )
    }
)
"""By name."""


def faults_of(stack: str, engines: int = 1) -> list[str]:
    """The faults that a kind of stack can have, with so many engines.

    Example:
        >>> faults_of("embedded")
        ['engine-kill', 'engine-pause', 'engine-term', 'engine-recovery', 'engine-zombie', 'worker-kill', 'journal-torn', 'snapshot-lost', 'poison', 'producer-pause', 'producer-kill']
    """
    return [fault.name for fault in FAULTS.values() if fault.is_for(stack, engines)]

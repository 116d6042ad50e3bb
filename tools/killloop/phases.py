"""The phases of a batch as the fail points of the engine mark them.

A process is in the phase of the fail point that it reached last; `FAIL_POINT_TRACE` tells which that was, also after its death.

Owns: PHASES, LATE, EARLY, Aim, phase_of, Trace.
Never: a kill.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

PHASES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "start": ("", "new_segment", "recover", "restore", "in_restore"),
        "plan": ("plan",),
        "begin": ("before_begin", "after_begin"),
        "journal": ("in_append",),
        "state": ("before_state", "after_state"),
        "run": ("run",),
        "answer": ("reply",),
        "sink": ("before_sink", "in_sink", "after_sink"),
        "before commit": ("before_ledger", "after_ledger", "before_commit"),
        "after commit": ("after_commit", "before_hint", "after_hint"),
        "snapshot": ("before_snapshot", "in_snapshot", "before_rename", "after_rename", "after_snapshot"),
        "purge": ("purge", "in_purge", "after_purge"),
        "block": ("before_block", "after_block"),
    }
)
"""By phase its fail points, in the order of a life; a process that has not reached any point is in its start."""

LATE = tuple(phase for phase in PHASES if phase not in {"start", "block"})
"""The phases of a batch and between two: a loop aims at each of them. No job of the pipeline has a receiver, and so blocks."""
EARLY = ("start", "plan", "begin", "journal", "state", "run", "answer", "sink", "before commit")
"""Those that come before the first commit of a life: a loop aims its echoes at these."""

_POINTS = {point: phase for phase, points in PHASES.items() for point in points}
_NAME_BYTES = 32


class Aim(NamedTuple):
    """Where the next kill is to hit."""

    point: str
    """A fail point, widened by a delay; "" for wherever the process is."""
    delay: float
    """Seconds that the point lasts longer."""
    after: float
    """Seconds between the point (or, without one, the first new commit) and the kill."""
    is_whole_tree: bool
    """Whether the executors die in the same moment, as when a machine ends all processes of a group."""

    @property
    def environment(self) -> dict[str, str]:
        """What makes the engine wait at the point."""
        return {"FAIL_POINT": f"{self.point}=delay:{self.delay:g}"} if self.point else {}


def phase_of(point: str) -> str:
    """The phase that begins with a fail point.

    Example:
        >>> phase_of("after_sink"), phase_of("")
        ('sink', 'start')
    """
    return _POINTS[point]


class Trace:
    """The file in which a process and its executors write the name of each point that they reach.

    Args:
        path: of the file; emptied.
    """

    def __init__(self, path: Path) -> None:
        path.write_bytes(b"")
        self._file = os.open(path, os.O_RDONLY)

    def point(self) -> str:
        """The last point reached; "" before the first."""
        return os.pread(self._file, _NAME_BYTES, 0).decode().strip()

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)

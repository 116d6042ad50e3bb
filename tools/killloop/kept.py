"""What kill loops have done, kept so that a long one can be made in pieces: a file for each stack and seed, a line for each piece.

A piece is a loop on a new stack of its own, drained and verified at its end; one that ended before its proof has a line that says
why, one that was interrupted has none. Only pieces of the same engine count: a line has the word for its code and settings. A line
is one write of O_APPEND and ends with a newline.

Owns: Piece, Kept.
Never: a kill.
"""

import json
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from tools.killloop.loop import Tally


@dataclass(slots=True)
class Piece:
    """What one loop has done, or several together."""

    kills: Counter[str] = field(default_factory=Counter)
    """By phase."""
    echoes: Counter[str] = field(default_factory=Counter)
    """Kills between a restart and its first commit, by phase."""
    interrupted: int = 0
    """Kills that left a batch begun and not committed."""
    trees: int = 0
    """Kills that hit the executors in the same moment."""
    restarts: list[float] = field(default_factory=list)
    """Seconds from each restart to its first new commit."""
    least_backlog: int = 1 << 62
    """Fewest records that a topic had ahead at any kill."""
    batches: int = 0
    records: int = 0
    mismatches: int = 0
    """Rows that were missing, over or wrong."""
    seconds: float = 0.0
    line: str = ""
    """What verify said last."""
    is_exact: bool = True

    @property
    def total(self) -> int:
        """Number of kills, echoes left out."""
        return self.kills.total()

    @classmethod
    def of(cls, tally: Tally, seconds: float = 0.0) -> "Piece":
        """What a loop has done.

        Args:
            tally: of the loop, verified.
            seconds: that it took.
        """
        verdict = tally.verdict
        ledger = verdict.ledger if verdict else None
        return cls(
            kills=tally.kills,
            echoes=tally.echoes,
            interrupted=tally.interrupted,
            trees=tally.trees,
            restarts=tally.recovered[1:],
            least_backlog=tally.least_backlog,
            batches=ledger.batches if ledger else 0,
            records=ledger.records if ledger else 0,
            mismatches=verdict.missing + verdict.over + verdict.wrong if verdict else 0,
            seconds=seconds,
            line=(verdict.reason or verdict.line) if verdict else "",
            is_exact=verdict is not None and verdict.code == 0,
        )

    @classmethod
    def together(cls, pieces: Iterable["Piece"]) -> "Piece":
        """The sums of several; what verify said is the last one's, or the first one's that is not exact.

        Example:
            >>> Piece.together([Piece(Counter(run=2), mismatches=0), Piece(Counter(run=1, sink=4))]).total
            7
        """
        whole = cls()
        for piece in pieces:
            whole.kills += piece.kills
            whole.echoes += piece.echoes
            whole.restarts += piece.restarts
            whole.least_backlog = min(whole.least_backlog, piece.least_backlog)
            whole.line = piece.line if whole.is_exact else whole.line
            whole.is_exact = whole.is_exact and piece.is_exact
            for name in ("interrupted", "trees", "batches", "records", "mismatches", "seconds"):
                setattr(whole, name, getattr(whole, name) + getattr(piece, name))
        return whole

    @classmethod
    def parsed(cls, line: dict[str, Any]) -> "Piece":
        """What a line says."""
        line = {name: value for name, value in line.items() if name != "code"}
        return cls(**{**line, "kills": Counter(line["kills"]), "echoes": Counter(line["echoes"])})


class Kept:
    """The pieces of one stack and seed.

    Args:
        folder: of all such files; made when the first piece is kept.
        stack: embedded or processes.
        seed: of the loop.
        code: of the engine and the settings of its batches; lines of another do not count.
    """

    def __init__(self, folder: Path, stack: str, seed: int, code: str) -> None:
        self._code = code
        self.path = folder / f"{stack}-{seed}.jsonl"

    def pieces(self) -> list[Piece]:
        """Those that were kept, oldest first."""
        if not self.path.exists():
            return []
        lines = self.path.read_text(encoding="utf-8").split("\n")[:-1]
        found = [json.loads(line) for line in lines]
        return [Piece.parsed(line) for line in found if line.get("code") == self._code]

    def add(self, piece: Piece) -> None:
        """Keep one more."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            line = {"code": self._code, **{part.name: getattr(piece, part.name) for part in fields(piece)}}
            os.write(descriptor, f"{json.dumps(line)}\n".encode())
        finally:
            os.close(descriptor)

    def forget(self) -> None:
        """Begin anew."""
        self.path.unlink(missing_ok=True)

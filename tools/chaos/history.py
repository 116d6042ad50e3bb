"""What is kept of drills: DATA_DIR/drills/running.json while one runs, one line in history.jsonl for each that ended.

    running.json    {"fault", "seed", "run", "started"}
    history.jsonl   {"fault", "seed", "run", "started", "ended", "detect", "restart", "restored", "first_batch", "caught_up", "verdict",
                     "stack", "hold", "code", "series", "doubts", "remarks", "line", "details"}

Times are seconds since the epoch, durations seconds, null for what did not happen; the verdict is exact, inexact, unknown (verify could not tell),
no-effect or failed (the run ended before its proof). A line is one write
of O_APPEND and ends with a newline; running.json is put in place in one step. The verifier's metrics are made of both, so nothing is ever removed:
whoever begins anew begins another series, numbered from 0; the drills of a soak are series -1.

Owns: History, Past, Key, PHASES, past_of, newest_series.
Never: a line for a drill that was interrupted.
"""

import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.chaos.scene import Outcome
from tools.stack.folder import write_json

PHASES = ("detect", "restart", "restored", "first_batch", "caught_up")
"""In the order in which they end; names of Outcome's fields."""
OF_A_SOAK = -1
"""The series of drills that no table accumulates."""


@dataclass(frozen=True, slots=True)
class Key:
    """Which drills are of one kind, so that their figures may stand in one table."""

    stack: str
    fault: str
    seed: int
    hold: float
    """Seconds that the fault lasts, where somebody else than the stack has to heal it."""
    series: int = 0
    code: str = ""
    """Of the engine and the settings of its batches: `tools.stack.revision`."""

    def fits(self, line: Mapping[str, Any]) -> bool:
        """Whether a line of the history is of this kind, whatever its series."""
        found = (line.get("stack"), line["fault"], line["seed"], line.get("hold"), line.get("code"))
        return found == (self.stack, self.fault, self.seed, self.hold, self.code)


@dataclass(frozen=True, slots=True)
class Past:
    """One drill that has ended, as the history has it."""

    run: int
    phases: Mapping[str, float | None]
    verdict: str
    """exact, inexact, unknown, no-effect or failed."""
    doubts: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    line: str = ""
    """What verify said last."""
    details: tuple[str, ...] = ()
    """What verify said of rows that are not exact."""

    @classmethod
    def of(cls, outcome: Outcome) -> "Past":
        """What is kept of a run."""
        verdict = outcome.verdict
        line = details = None
        if verdict:
            line = f"verify could not tell: {verdict.reason}" if verdict.reason else verdict.line
            details = tuple(verdict.lines()) if verdict.code else ()
        return cls(
            outcome.run,
            {phase: getattr(outcome, phase) for phase in PHASES},
            outcome.word,
            tuple(outcome.doubts),
            (*outcome.remarks, *([outcome.failure] if outcome.failure else ())),
            line or "",
            details or (),
        )

    @classmethod
    def parsed(cls, line: Mapping[str, Any]) -> "Past":
        """What a line of the history says."""
        return cls(
            line["run"],
            {phase: line.get(phase) for phase in PHASES},
            line["verdict"],
            tuple(line["doubts"]),
            tuple(line["remarks"]),
            line["line"],
            tuple(line["details"]),
        )


class History:
    """The drills of one stack.

    Args:
        data_dir: of the stack.
        key: of the drill.
    """

    def __init__(self, data_dir: Path, key: Key) -> None:
        self._folder = data_dir / "drills"
        self._running = self._folder / "running.json"
        self._key = key
        self._started = 0.0

    def begin(self, run: int) -> None:
        """A run begins."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._started = time.time()
        facts = {"fault": self._key.fault, "seed": self._key.seed, "run": run, "started": self._started}
        write_json(self._running, facts)

    def end(self, outcome: Outcome) -> None:
        """A run has ended by itself."""
        past, key = Past.of(outcome), self._key
        line = {
            "fault": key.fault,
            "seed": key.seed,
            "run": outcome.run,
            "started": self._started,
            "ended": time.time(),
            **past.phases,
            "verdict": past.verdict,
            "stack": key.stack,
            "hold": key.hold,
            "code": key.code,
            "series": key.series,
            "doubts": past.doubts,
            "remarks": past.remarks,
            "line": past.line,
            "details": past.details,
        }
        descriptor = os.open(self._folder / "history.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, f"{json.dumps(line)}\n".encode())
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """No run is going on, however the last one ended."""
        self._running.unlink(missing_ok=True)


def newest_series(data_dir: Path, key: Key) -> int:
    """The series that runs of this kind go on in; 0 when there was none."""
    return max((line["series"] for line in _lines(data_dir, key)), default=0)


def past_of(data_dir: Path, key: Key) -> list[Past]:
    """The runs of a series, oldest first."""
    return [Past.parsed(line) for line in _lines(data_dir, key) if line["series"] == key.series]


def _lines(data_dir: Path, key: Key) -> Iterator[dict[str, Any]]:
    """The lines of this kind, those of soaks left out; a line that is torn is stepped over."""
    path = data_dir / "drills" / "history.jsonl"
    for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        if key.fits(line) and line["series"] != OF_A_SOAK:
            yield line

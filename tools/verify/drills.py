"""What the chaos tool says of its drills, read from the files that it writes.

    DATA_DIR/drills/running.json    while a drill runs: {"fault", "seed", "run", "started"}
    DATA_DIR/drills/history.jsonl   a line for each drill that is over: {"fault", "seed", "run", "started", "ended",
                                    "detect", "restart", "restored", "first_batch", "caught_up", "verdict"} and more

Times are seconds since the epoch; detect to caught_up are durations in seconds, null for what did not happen. A line that cannot be
read, be it torn or foreign, is stepped over and told in the log once. A drill that is over does not run, whatever
running.json says: a tool that was killed may have left it behind.

Owns: Drill, Drills, DrillFiles, PHASES, VERDICTS.
Never: a write.
"""

import json
import logging
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PHASES = ("detect", "restart", "restored", "first_batch", "caught_up")
"""The durations of a drill, in the order in which they end."""
VERDICTS = ("exact", "inexact", "unknown", "no-effect", "failed")
"""How a drill may end."""

MOST_FAULTS = 100
"""So many different faults are taken at most, as each becomes series."""
_MOST_SAID = 1_000
_FAULT = re.compile(r"[a-z0-9][a-z0-9_-]{0,49}")

_log = logging.getLogger("verifier")


@dataclass(frozen=True, slots=True)
class Drill:
    """One drill; the last three fields are those of one that is over."""

    fault: str
    started: float
    """Seconds since the epoch; with the fault it tells a drill from others."""
    ended: float | None = None
    """Seconds since the epoch."""
    phases: Mapping[str, float] | None = None
    """Seconds, of the phases that were reached."""
    verdict: str = ""


@dataclass(frozen=True, slots=True)
class Drills:
    """Every drill that is known."""

    over: tuple[Drill, ...] = ()
    """Those that are over, the oldest first."""
    running: Drill | None = None

    @property
    def faults(self) -> list[str]:
        """Every fault that a drill is known of."""
        return sorted({drill.fault for drill in self._all()})

    def started(self) -> dict[str, Drill]:
        """By fault the drill that began last."""
        return {drill.fault: drill for drill in self._all()}

    def ended(self) -> dict[str, Drill]:
        """By fault the drill that ended last."""
        return {drill.fault: drill for drill in self.over}

    def _all(self) -> tuple[Drill, ...]:
        return (*self.over, self.running) if self.running else self.over


class DrillFiles:
    """The files of one folder, which need not be there.

    State: what was already told in the log.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._said: set[tuple[str, bytes]] = set()

    def read(self) -> Drills:
        """The drills as of now."""
        over = tuple(self._over())
        running = None
        for text in self._lines("running.json", whole=True):
            running = self._drill("running.json", text, is_over=False)
        if running and any(
            (running.fault, running.started) == (drill.fault, drill.started) for drill in over
        ):
            running = None
        return Drills(over, running)

    def _over(self) -> Iterator[Drill]:
        faults: set[str] = set()
        for text in self._lines("history.jsonl"):
            drill = self._drill("history.jsonl", text, is_over=True)
            if drill is None:
                continue
            if len(faults | {drill.fault}) > MOST_FAULTS:
                self._say("history.jsonl", text, f"it has more than {MOST_FAULTS} different faults")
                continue
            faults.add(drill.fault)
            yield drill

    def _lines(self, name: str, *, whole: bool = False) -> list[bytes]:
        """The lines of a file, or the whole of it as one; none when it is not there."""
        try:
            text = (self._folder / name).read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            self._say(name, b"", str(error))
            return []
        return [text] if whole else [line for line in text.split(b"\n") if line.strip()]

    def _drill(self, name: str, text: bytes, *, is_over: bool) -> Drill | None:
        try:
            return _parsed(json.loads(text), is_over=is_over)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            self._say(name, text, str(error) if type(error) is ValueError else "it is torn or foreign")
            return None

    def _say(self, name: str, text: bytes, trouble: str) -> None:
        """Tell once why a line is stepped over."""
        if (name, text) in self._said or len(self._said) >= _MOST_SAID:
            return
        self._said.add((name, text))
        _log.warning(
            "%s: stepped over %r: %s", self._folder / name, text[:80].decode("utf-8", "replace"), trouble
        )


def _parsed(found: Any, *, is_over: bool) -> Drill:
    """The drill that a line tells; ValueError, KeyError or TypeError when it tells none."""
    if not _FAULT.fullmatch(found["fault"]):
        raise ValueError(f"there is no fault {found['fault']!r}")
    if not is_over:
        return Drill(found["fault"], _seconds(found["started"]))
    if found["verdict"] not in VERDICTS:
        raise ValueError(f"there is no verdict {found['verdict']!r}")
    phases = {phase: _seconds(found[phase]) for phase in PHASES if found.get(phase) is not None}
    return Drill(
        found["fault"],
        _seconds(found["started"]),
        _seconds(found["ended"]),
        phases,
        found["verdict"],
    )


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise ValueError(f"{value!r} is no number of seconds")
    return float(value)

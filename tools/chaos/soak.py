"""A soak: the stack at its load for a long time, with faults picked at random, a proof after each, and an eye on the engine's memory.

Its last 2/5 have only faults that leave the engine and its workers alone: a leak shows in one long life, never over lives of a
minute.

Owns: Soak, Soaked, Sample, memory_of.
Never: a fault of its own; they are those of the table.
"""

import random
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, NamedTuple

import psutil

from engine.errors import StreamingError
from tools.chaos.drill import Drill, least_hold
from tools.chaos.faults import FAULTS, faults_of
from tools.chaos.history import OF_A_SOAK, Past
from tools.chaos.report import as_json, summary
from tools.chaos.scene import Outcome
from tools.progress import Progress
from tools.stack.verbs import Verbs

HOLDS = (5.0, 10.0)
"""Seconds that a fault lasts which the stack does not heal; one of these, picked at random."""
CALM = ("engine-pause", "poison", "producer-pause", "producer-kill")
"""Faults after which engine and workers are the same processes as before."""
CALM_SHARE, LIFE_SHARE = 0.4, 1 / 3
"""Of the minutes: so much has calm faults only, and so long the life must be in which the memory is judged."""
REST_SECONDS = 5.0
"""Between two faults the engine is left alone for so long, and its memory is measured."""
GROWTH, SPARE_BYTES = 1.05, 8 << 20
"""The memory is flat when the last third has no more than so much of the first, and so much beside.

In half an hour at the default rate that finds a leak of 100 bytes an event in an engine of up to 1.2 GB.
"""

_SAMPLE_SECONDS = 1.0


class Sample(NamedTuple):
    """One look at the memory."""

    seconds: float
    """Since the begin."""
    pid: int
    """Of the engine."""
    size_bytes: int
    """Resident, of the engine with its workers."""
    records: int
    """Committed by then, since the first start."""


@dataclass(slots=True)
class Soaked:
    """What a soak has seen."""

    stack: str
    seed: int
    seconds: float = 0.0
    runs: list[tuple[str, Past]] = field(default_factory=list)
    """Fault and what came of it, in order."""
    least_life: float = 0.0
    """Seconds; a shorter life of the engine says nothing of its memory."""
    memory: list[Sample] = field(default_factory=list)
    records: int = 0
    """Committed since the begin."""
    mismatches: int = 0
    """Rows that were missing, over or wrong, over all verdicts."""

    def add(self, fault: str, outcome: Outcome) -> None:
        """Take in a drill."""
        self.runs.append((fault, Past.of(outcome)))
        if verdict := outcome.verdict:
            self.mismatches += verdict.missing + verdict.over + verdict.wrong

    @property
    def life(self) -> list[Sample]:
        """The samples of the engine's longest life."""
        lives = [list(samples) for _, samples in groupby(self.memory, key=lambda sample: sample.pid)]
        return max(lives, key=_length, default=[])

    @property
    def thirds(self) -> tuple[float, float]:
        """Median bytes of the first and of the last third of the longest life."""
        sizes = [sample.size_bytes for sample in self.life]
        length = max(1, len(sizes) // 3)
        return (
            (statistics.median(sizes[:length]), statistics.median(sizes[-length:])) if sizes else (0.0, 0.0)
        )

    @property
    def slope(self) -> float:
        """Bytes a minute, by least squares over the longest life."""
        return 60 * _slope([(sample.seconds, sample.size_bytes) for sample in self.life])

    @property
    def event_slope(self) -> float:
        """Bytes a million committed events, likewise."""
        return 1e6 * _slope([(sample.records, sample.size_bytes) for sample in self.life])

    @property
    def is_flat(self) -> bool:
        """Whether the engine does not need more and more memory, seen in a life that was long enough."""
        first, last = self.thirds
        return self.is_life_long_enough and last <= GROWTH * first + SPARE_BYTES

    @property
    def is_life_long_enough(self) -> bool:
        """Whether there is a life in which a leak would show."""
        return len(self.life) > 2 and _length(self.life) >= self.least_life

    @property
    def is_good(self) -> bool:
        """Whether every fault had its effect, every proof was exact, and the memory is flat."""
        return bool(self.runs) and self.is_flat and all(run.verdict == "exact" for _, run in self.runs)

    def by_fault(self) -> dict[str, list[Past]]:
        """The runs of each fault, in the order of the table."""
        names = [name for name in FAULTS if any(fault == name for fault, _ in self.runs)]
        return {name: [run for fault, run in self.runs if fault == name] for name in names}

    def lines(self) -> Iterator[str]:
        """The report, in at most 80 columns but for the names of what went wrong."""
        kinds = Counter(fault for fault, _ in self.runs)
        first, last = (size / (1 << 20) for size in self.thirds)
        word = "flat" if self.is_flat else "NOT FLAT" if self.is_life_long_enough else "NO LIFE LONG ENOUGH"
        *rows, closing = summary(self.by_fault()) if self.runs else ("no fault was made",)
        yield f"soak, seed {self.seed}, STACK={self.stack}; seconds since the fault"
        yield from rows
        yield f"minutes       {self.seconds / 60:.1f}"
        yield f"events        {self.records} committed"
        yield f"faults        {kinds.total()} of {len(kinds)} kinds"
        yield f"mismatches    {self.mismatches}"
        yield f"memory        {word}: first third {first:.0f} MiB, last third {last:.0f} MiB"
        yield (
            f"              in a life of {_length(self.life) / 60:.1f} min, {self.slope / (1 << 20):+.2f} MiB/min, "
            f"{self.event_slope / (1 << 20):+.1f} MiB/M events"
        )
        yield closing

    def as_json(self) -> dict[str, Any]:
        """The same as values that json can write, with every sample."""
        first, last = self.thirds
        return as_json(
            self.by_fault(),
            stack=self.stack,
            seed=self.seed,
            seconds=self.seconds,
            events=self.records,
            mismatches=self.mismatches,
            memory={
                "is_flat": self.is_flat,
                "first_third": first,
                "last_third": last,
                "bytes_per_minute": self.slope,
                "bytes_per_million_events": self.event_slope,
                "life_seconds": _length(self.life),
                "samples": self.memory,
            },
        )


def _length(samples: Sequence[Sample]) -> float:
    """Seconds from the first to the last."""
    return samples[-1].seconds - samples[0].seconds if samples else 0.0


def _slope(points: Sequence[tuple[float, float]]) -> float:
    """By least squares; 0 where nothing moves along."""
    along, sizes = zip(*points, strict=True) if points else ((), ())
    return statistics.linear_regression(along, sizes).slope if len(set(along)) > 1 else 0.0


class Soak:
    """One soak of a stack that is up.

    Args:
        stack: whose processes are hit.
        seed: picks faults, how long they last, and moments.
        say: is told in a few words what goes on.
        rest_seconds: between two faults.
    """

    def __init__(
        self, stack: Verbs, seed: int, say: Callable[[str], None], rest_seconds: float = REST_SECONDS
    ) -> None:
        self._stack = stack
        self._seed = seed
        self._say = say
        self._rest_seconds = rest_seconds
        self._pick = random.Random(seed)
        self._progress = Progress(stack.settings)
        self._began = 0.0
        self.soaked = Soaked(stack.settings.stack, seed)
        """What was seen so far, also when the soak is cut off."""

    def run(self, minutes: float) -> Soaked:
        """Faults one after the other; the one that goes on when the time is over is the last.

        Raises:
            StreamingError: the stack did not come back.
        """
        soaked, seconds = self.soaked, minutes * 60
        soaked.least_life = seconds * LIFE_SHARE
        self._began, taken = time.monotonic(), _taken(self._progress)
        try:
            self._rest()
            self._faults(
                self._began + (1 - CALM_SHARE) * seconds,
                faults_of(self._stack.settings.stack, self._stack.settings.engines),
            )
            # From here on, however long the last fault before it took.
            self._faults(max(self._began + seconds, time.monotonic() + CALM_SHARE * seconds), CALM)
        finally:
            soaked.records = _taken(self._progress) - taken
            self._progress.close()
            soaked.seconds = time.monotonic() - self._began
        return soaked

    def _faults(self, until: float, faults: Sequence[str]) -> None:
        """Some of these faults, until so late."""
        least = least_hold(self._stack.settings.batch_seconds)
        while time.monotonic() < until:
            fault, hold = self._pick.choice(faults), max(self._pick.choice(HOLDS), least)
            number = len(self.soaked.runs) + 1
            drill = Drill(self._stack, fault, self._seed, self._saying(fault), hold, series=OF_A_SOAK)
            try:
                self.soaked.add(fault, drill.run(number))
            except StreamingError as error:
                self.soaked.add(fault, Outcome(number, failure=str(error)))
                raise
            finally:
                drill.close()
            self._rest()

    def _saying(self, fault: str) -> Callable[[str], None]:
        return lambda text: self._say(f"{fault}: {text}")

    def _rest(self) -> None:
        """Let the engine work, and measure its memory."""
        until = time.monotonic() + self._rest_seconds
        while time.monotonic() < until:
            pid, size = memory_of(self._stack)
            if size:
                seconds = time.monotonic() - self._began
                self.soaked.memory.append(Sample(seconds, pid, size, _taken(self._progress)))
            time.sleep(min(_SAMPLE_SECONDS, self._rest_seconds))


def _taken(progress: Progress) -> int:
    """Records that are in committed batches."""
    return sum(progress.newest().ends.values())


def memory_of(stack: Verbs) -> tuple[int, int]:
    """The engine's pid, and the resident bytes of it and all that it has started; 0 when it does not run."""
    pid = {standing.name: standing.pid for standing in stack.status()}["engine"] or 0
    try:
        engine = psutil.Process(pid) if pid else None
        family = [engine, *engine.children(recursive=True)] if engine else []
        return pid, sum(process.memory_info().rss for process in family)
    except psutil.NoSuchProcess:
        return pid, 0

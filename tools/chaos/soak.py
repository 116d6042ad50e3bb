"""A soak: the stack at its load for a long time, with faults picked at random, a proof after each, and an eye on the engine's memory.

Owns: Soak, Soaked, resident_bytes.
Never: a fault of its own; they are those of the table.
"""

import random
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import psutil

from tools.chaos.drill import Drill
from tools.chaos.faults import FAULTS, faults_of
from tools.chaos.history import OF_A_SOAK, Past
from tools.chaos.report import as_json, summary
from tools.chaos.scene import Outcome
from tools.stack.verbs import Verbs

HOLDS = (2.0, 5.0, 10.0)
"""Seconds that a fault lasts which the stack does not heal; one of these, picked at random."""
REST_SECONDS = 5.0
"""Between two faults the engine is left alone for so long, and its memory is measured."""
GROWTH, SPARE_BYTES = 1.2, 32 << 20
"""The memory is flat when the last third has no more than so much of the first, and so much beside."""

_SAMPLE_SECONDS = 1.0


@dataclass(slots=True)
class Soaked:
    """What a soak has seen."""

    stack: str
    seed: int
    seconds: float = 0.0
    runs: list[tuple[str, Past]] = field(default_factory=list)
    """Fault and what came of it, in order."""
    memory: list[tuple[float, int]] = field(default_factory=list)
    """Seconds since the begin, and resident bytes of the engine with its workers."""
    records: int = 0
    """In the committed batches, as the newest verdict counts them."""
    mismatches: int = 0
    """Rows that were missing, over or wrong, over all verdicts."""

    def add(self, fault: str, outcome: Outcome) -> None:
        """Take in a drill."""
        self.runs.append((fault, Past.of(outcome)))
        if verdict := outcome.verdict:
            self.mismatches += verdict.missing + verdict.over + verdict.wrong
            if verdict.ledger:
                self.records = verdict.ledger.records

    @property
    def thirds(self) -> tuple[float, float]:
        """Median bytes of the first and of the last third of the samples."""
        sizes = [size for _, size in self.memory]
        length = max(1, len(sizes) // 3)
        return (
            (statistics.median(sizes[:length]), statistics.median(sizes[-length:])) if sizes else (0.0, 0.0)
        )

    @property
    def slope(self) -> float:
        """Bytes a minute, by least squares over all samples."""
        if len(self.memory) < 2:
            return 0.0
        times, sizes = zip(*self.memory, strict=True)
        return statistics.linear_regression(times, sizes).slope * 60

    @property
    def is_flat(self) -> bool:
        """Whether the engine does not need more and more memory."""
        first, last = self.thirds
        return last <= GROWTH * first + SPARE_BYTES

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
        word = "flat" if self.is_flat else "NOT FLAT"
        *rows, closing = summary(self.by_fault()) if self.runs else ("no fault was made",)
        yield f"soak, seed {self.seed}, STACK={self.stack}; seconds since the fault"
        yield from rows
        yield f"minutes       {self.seconds / 60:.1f}"
        yield f"events        {self.records} committed"
        yield f"faults        {kinds.total()} of {len(kinds)} kinds"
        yield f"mismatches    {self.mismatches}"
        yield (
            f"memory        {word}: first third {first:.0f} MiB, last third {last:.0f} MiB, "
            f"{self.slope / (1 << 20):+.2f} MiB/min"
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
                "samples": self.memory,
            },
        )


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

    def run(self, minutes: float) -> Soaked:
        """Faults one after the other; the one that goes on when the time is over is the last.

        Raises:
            StreamingError: the stack did not come back.
        """
        pick = random.Random(self._seed)
        faults = faults_of(self._stack.settings.stack)
        soaked, began = Soaked(self._stack.settings.stack, self._seed), time.monotonic()
        self._rest(soaked, began)
        while time.monotonic() - began < minutes * 60:
            fault, hold, number = pick.choice(faults), pick.choice(HOLDS), len(soaked.runs) + 1
            drill = Drill(
                self._stack,
                fault,
                self._seed,
                self._saying(fault),
                hold,
                series=OF_A_SOAK,
            )
            try:
                soaked.add(fault, drill.run(number))
            finally:
                drill.close()
            self._rest(soaked, began)
        soaked.seconds = time.monotonic() - began
        return soaked

    def _saying(self, fault: str) -> Callable[[str], None]:
        return lambda text: self._say(f"{fault}: {text}")

    def _rest(self, soaked: Soaked, began: float) -> None:
        """Let the engine work, and measure its memory."""
        until = time.monotonic() + self._rest_seconds
        while time.monotonic() < until:
            size = resident_bytes(self._stack)
            if size:
                soaked.memory.append((time.monotonic() - began, size))
            time.sleep(min(_SAMPLE_SECONDS, self._rest_seconds))


def resident_bytes(stack: Verbs) -> int:
    """Resident memory of the engine and all that it has started; 0 when it does not run."""
    pid = {standing.name: standing.pid for standing in stack.status()}["engine"]
    try:
        engine = psutil.Process(pid) if pid else None
        family = [engine, *engine.children(recursive=True)] if engine else []
        return sum(process.memory_info().rss for process in family)
    except psutil.NoSuchProcess:
        return 0

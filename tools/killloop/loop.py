"""The loop: start, wait for a new commit, kill in a chosen phase, and again; then drain and verify.

Owns: Plan, Tally, KillLoop, LOOP_SETTINGS.
Never: an idle engine; the log always has records ahead of it.
"""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from engine.errors import StreamingError
from services.settings import Settings
from tools.killloop.backlog import Backlog
from tools.killloop.phases import EARLY, LATE, PHASES, Aim, phase_of
from tools.killloop.victim import ENGINE, Victim, await_drained
from tools.progress import Progress
from tools.verify import Verdict, verify

COMMIT_SECONDS = 60.0
"""How long a start may take to its first new commit."""
AIM_SECONDS = 10.0
"""How long to wait for the chosen point; after this the kill hits wherever the engine is."""
SNAPSHOT_SECONDS = 60.0
"""How long for one of a snapshot, which is due once in up to 64 batches."""
DRAIN_SECONDS = 180.0

LOOP_SETTINGS: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "embedded": {"batch_seconds": 0.05, "max_rate_per_partition": 600},
        "processes": {"batch_seconds": 0.1, "max_rate_per_partition": 600},
    }
)
"""By stack: small batches, so that a life has many, and few records in each, so that the log is never emptied."""

_MASTERS = ("local", "local[2]")
_DRAIN_RATE = 1_000_000
_FILL_SECONDS = 1.0
"""The log is filled again so often while a point is waited for."""
_DELAY_SECONDS = 0.03
_WHOLE_TREES = 0.3
_ANY_MOMENT = 0.15
"""Shares of the kills, of 1."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a loop is to do."""

    kills: int
    seed: int = 1
    echoes: int = 0
    """How many of the restarts are killed once more before their first commit; not among the kills."""
    batches_ahead: int = 60
    """The log always holds at least so many batches ahead."""
    command: tuple[str, ...] = ENGINE
    masters: Sequence[str] = _MASTERS
    """Each life runs with one of these."""


@dataclass(slots=True)
class Tally:
    """What a loop has done."""

    kills: Counter[str] = field(default_factory=Counter)
    """By phase."""
    echoes: Counter[str] = field(default_factory=Counter)
    """Kills between a restart and its first commit, by phase."""
    interrupted: int = 0
    """Kills that left a batch begun and not committed."""
    trees: int = 0
    """Kills that hit the executors in the same moment."""
    recovered: list[float] = field(default_factory=list)
    """Seconds from each restart to its first new commit."""
    least_backlog: int = 1 << 62
    """Fewest records that a topic had ahead at any kill."""
    verdict: Verdict | None = None

    @property
    def total(self) -> int:
        """Number of kills, echoes left out."""
        return self.kills.total()


class KillLoop:
    """One run of the loop on one stack.

    Args:
        settings: of the stack, whose topics and schema exist and whose engine does not run.
        plan: what to do.
        folder: for the engine's log and trace.
    """

    def __init__(self, settings: Settings, plan: Plan, folder: Path) -> None:
        self.tally = Tally()
        self._settings = settings
        self._plan = plan
        self._folder = folder
        self._random = random.Random(plan.seed)
        self._progress = Progress(settings)
        self._backlog = Backlog(settings, self._progress)
        most = max(1, int(settings.max_rate_per_partition * settings.batch_seconds))
        self._ahead = plan.batches_ahead * most * max(settings.ad_partitions, settings.page_partitions)

    def run(self, report: Callable[[Tally], None] = lambda _: None) -> Tally:
        """Kill as planned, drain, verify.

        Raises:
            StreamingError: a restart did not commit a new batch, or the engine ended by itself.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            while self.tally.total < self._plan.kills:
                self._live_and_die()
                report(self.tally)
            self._drain()
        finally:
            self._backlog.close()
            self._progress.close()
        self.tally.verdict = verify(self._settings)
        return self.tally

    def _live_and_die(self) -> None:
        """One life: it must commit a new batch before it may die, in the phase that was chosen."""
        self._backlog.fill(self._ahead)
        if self.tally.total == self._plan.kills // 2:
            self._backlog.spoil()
        if self._echo_is_due():
            self._die_early()
        before, aim = self._progress.newest().time, self._aim()
        with self._start(aim) as victim:
            self.tally.recovered.append(victim.await_commit(self._progress, before, COMMIT_SECONDS))
            self._await_point(victim, aim)
            time.sleep(aim.after)
            self.tally.kills[phase_of(victim.kill(is_whole_tree=aim.is_whole_tree))] += 1
        self.tally.trees += aim.is_whole_tree
        self._look_at_the_body()

    def _die_early(self) -> None:
        """One life that ends while it still makes good for the one before it, most times before it has committed anything."""
        aim = self._aim_at(EARLY, self.tally.echoes, is_whole_tree=False)
        with self._start(aim) as victim:
            if aim.point:
                victim.await_point(aim.point, AIM_SECONDS)
            else:
                time.sleep(self._random.uniform(0.1, 0.8) * self.tally.recovered[-1])
            time.sleep(aim.after)
            self.tally.echoes[phase_of(victim.kill(is_whole_tree=False))] += 1

    def _echo_is_due(self) -> bool:
        return self.tally.echoes.total() * self._plan.kills < self._plan.echoes * self.tally.total

    def _aim(self) -> Aim:
        """One of the points of the phases that were hit least; now and then any moment at all."""
        pick = self._random
        is_whole_tree = pick.random() < _WHOLE_TREES
        if pick.random() < _ANY_MOMENT:
            return Aim("", 0, pick.uniform(0, 4 * self._settings.batch_seconds), is_whole_tree)
        return self._aim_at(LATE, self.tally.kills, is_whole_tree=is_whole_tree)

    def _aim_at(self, phases: Sequence[str], hits: Counter[str], *, is_whole_tree: bool) -> Aim:
        """One of the points of those phases that were hit least."""
        pick, fewest = self._random, min(hits[phase] for phase in phases)
        phase = pick.choice([phase for phase in phases if hits[phase] == fewest])
        after = pick.uniform(0, _DELAY_SECONDS / 2)
        return Aim(pick.choice(PHASES[phase]), _DELAY_SECONDS, after, is_whole_tree)

    def _await_point(self, victim: Victim, aim: Aim) -> None:
        """Wait until the victim is where the kill is to hit, with records ahead of it all the time."""
        if not aim.point:
            return
        seconds = SNAPSHOT_SECONDS if aim.point in PHASES["snapshot"] else AIM_SECONDS
        until = time.monotonic() + seconds
        while not victim.await_point(aim.point, _FILL_SECONDS) and time.monotonic() < until:
            self._backlog.fill(self._ahead)

    @contextmanager
    def _start(self, aim: Aim, **settings: Any) -> Iterator[Victim]:
        """A victim, whose executors are gone too when this ends."""
        master = self._random.choice(self._plan.masters)
        own = self._settings.model_copy(update={"master": master, **settings})
        victim = Victim(own, self._folder, aim.environment, self._plan.command)
        try:
            yield victim
            victim.await_orphans()
        finally:
            victim.abandon()

    def _look_at_the_body(self) -> None:
        """Prove that the engine had work before it when it died."""
        newest, ahead = self._progress.newest(), self._backlog.least()
        self.tally.interrupted += newest.in_flight
        self.tally.least_backlog = min(self.tally.least_backlog, ahead)
        if not ahead:
            raise StreamingError(
                "the engine had caught up when it was killed, which proves nothing; raise batches_ahead"
            )

    def _drain(self) -> None:
        """Let a last life commit everything that is in the log, and end it in peace."""
        before = self._progress.newest().time
        with self._start(Aim("", 0, 0, is_whole_tree=False), max_rate_per_partition=_DRAIN_RATE) as victim:
            self.tally.recovered.append(victim.await_commit(self._progress, before, COMMIT_SECONDS))
            await_drained(victim, self._progress, DRAIN_SECONDS)
            if code := victim.stop():
                raise StreamingError(f"the engine ended with exit code {code} on SIGTERM; see {self._folder}")

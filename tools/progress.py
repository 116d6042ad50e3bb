"""How far the engine has come and what still lies ahead of it, seen from outside: its journal or its API, the log, its metrics.

Owns: Committed, Commits, JournalProgress, ApiProgress, UnitsProgress, commits_of_unit, Progress, Metrics.
Never: a question to the engine that it must answer in time; a dead one is watched as well as a live one.
"""

import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from prometheus_client.parser import text_string_to_metric_families

from engine.checkpoint.journal import read_segment, segment_names
from engine.checkpoint.records import BatchRecord, Begin, Commit, Open, Record, decode
from engine.cluster.units import Unit
from engine.errors import StreamingError
from services.pipeline.units import units_of_jobs
from services.settings import Settings
from services.topics import topics
from tools.stack.control import looks
from tools.stack.engines import engines_of, page_port
from tools.verify.embedded_log import EmbeddedLog
from tools.verify.kafka_log import KafkaLog
from tools.verify.verdict import CannotTellError

LOOK_SECONDS = 0.005
_METRICS_SECONDS = 2.0
_API_SECONDS = 1.0
_API_PAUSE_SECONDS = 0.05
"""The engine is not asked more often than so: a question costs it some of the time that is being measured."""

Place = tuple[str, int]
"""Topic and partition."""


@dataclass(frozen=True, slots=True)
class Committed:
    """The newest batch that the journal says is complete."""

    time: int
    """Batch time, milliseconds since the epoch; 0 before the first."""
    attempt: int = 0
    ends: Mapping[Place, int] = field(default_factory=dict)
    """By partition the offset after the last record that was taken."""
    in_flight: bool = False
    """Whether a later batch was begun."""


NOTHING = Committed(0)


class Commits(Protocol):
    """Where the commits of one application can be seen."""

    def newest(self) -> Committed:
        """The newest commit that is known."""
        ...

    def epoch(self) -> int:
        """How often the application was started; 0 before the first start."""
        ...

    def close(self) -> None:
        """Let go of whatever is open; the next question opens it again."""
        ...


class JournalProgress:
    """Reads the journal itself, so it knows of a commit also when the engine is dead.

    Args:
        journal: the folder of segments.
    """

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._seen: tuple[str, int] = ("", 0)
        self._newest = NOTHING

    def newest(self) -> Committed:
        """The newest commit; reads a file only when one has grown."""
        try:
            names = [name.file for name in segment_names(self._journal)]
            seen = (names[-1], (self._journal / names[-1]).stat().st_size) if names else ("", 0)
            if seen != self._seen:
                self._newest = _newest_commit(self._journal, names)
                self._seen = seen
        except FileNotFoundError:
            pass  # no journal yet, or a segment was purged between two looks: the next look tells
        return self._newest

    def epoch(self) -> int:
        """The epoch of the newest segment: one more at every start of the engine; 0 before the first."""
        try:
            names = segment_names(self._journal)
        except FileNotFoundError:
            return 0
        return names[-1].epoch if names else 0

    def close(self) -> None:
        """Nothing is kept open."""


class ApiProgress:
    """Asks the engine over HTTP, where its checkpoint folder is out of reach; a dead or held one leaves what was known last.

    1. A commit that was seen once is never taken back: an engine that has just started may not tell of it yet.

    Args:
        ports: of the pages that may answer, on the loopback address; of replicas the one answers that runs the unit.
        path: of what the page tells.
        pause_seconds: at most one question in so long; between two the last answer holds.
    """

    def __init__(
        self,
        ports: Sequence[int],
        path: str = "/api/v1/progress",
        pause_seconds: float = _API_PAUSE_SECONDS,
    ) -> None:
        self._ports = list(ports)
        self._path = path
        self._pause_seconds = pause_seconds
        self._due = 0.0
        self._connection: http.client.HTTPConnection | None = None
        self._newest = NOTHING
        self._epoch = 0

    def newest(self) -> Committed:
        """The newest commit that the engine has told of."""
        self._look()
        return self._newest

    def epoch(self) -> int:
        """The newest epoch that the engine has told of; 0 before the first answer."""
        self._look()
        return self._epoch

    def close(self) -> None:
        """Close the connection; the next question opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _look(self) -> None:
        if time.monotonic() < self._due:
            return
        try:
            if self._connection is None:
                self._connection = http.client.HTTPConnection(
                    "127.0.0.1", self._ports[0], timeout=_API_SECONDS
                )
            self._connection.request("GET", self._path)
            answer = self._connection.getresponse()
            body = answer.read()
            known = self._newest.time
            if answer.status == http.HTTPStatus.OK:
                self._learn(json.loads(body))
            # One that was cut off goes on telling what it knew.
            if self._newest.time == known and len(self._ports) > 1:
                self._turn()
        except (OSError, http.client.HTTPException, json.JSONDecodeError):
            self._turn()  # dead, held, or about to start: what was known stays
        self._due = time.monotonic() + self._pause_seconds

    def _turn(self) -> None:
        """Ask another one the next time."""
        self.close()
        self._ports.append(self._ports.pop(0))

    def _learn(self, told: Mapping[str, Any]) -> None:
        self._epoch = max(self._epoch, int(told["epoch"]))
        committed, running = told["committed"], told["running"]
        newest = self._newest
        if committed and committed["time"] >= newest.time:
            ends = {
                (topic, int(partition)): int(until)
                for topic, partitions in committed["ends"].items()
                for partition, until in partitions.items()
            }
            newest = Committed(int(committed["time"]), int(committed["attempt"]), ends)
        in_flight = running is not None and int(running["time"]) > newest.time
        self._newest = Committed(newest.time, newest.attempt, newest.ends, in_flight)


class UnitsProgress:
    """The units of replicas, taken together: as far as the one that is furthest behind.

    Args:
        units: by name where its commits can be seen.
    """

    def __init__(self, units: Mapping[str, Commits]) -> None:
        self.units = units

    def newest(self) -> Committed:
        """The oldest of the units' newest commits, with what all readers of a partition have taken of it."""
        all_newest = [unit.newest() for unit in self.units.values()]
        ends: dict[Place, int] = {}
        for newest in all_newest:
            for place, end in newest.ends.items():
                ends[place] = min(end, ends.get(place, end))
        return Committed(
            min(newest.time for newest in all_newest),
            ends=ends,
            in_flight=any(newest.in_flight for newest in all_newest),
        )

    def epoch(self) -> int:
        """The sum of the units' epochs: one more at every start of a unit."""
        return sum(unit.epoch() for unit in self.units.values())

    def close(self) -> None:
        """Let go of all of them."""
        for unit in self.units.values():
            unit.close()


class Progress:
    """Looks at the commits and the log of one stack.

    Args:
        settings: of the stack.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._commits = commits_of(settings)
        self._log: EmbeddedLog | KafkaLog | None = None

    def newest(self) -> Committed:
        """The newest commit."""
        return self._commits.newest()

    def epoch(self) -> int:
        """One more at every start of the engine; 0 before the first."""
        return self._commits.epoch()

    def ends(self) -> dict[Place, int]:
        """By partition the end of the log as a reader sees it.

        Raises:
            StreamingError: the log cannot be read now.
        """
        names = [topic.name for topic in topics(self._settings)]
        try:
            if self._log is None:
                self._log = self._open_log()
            return {place: end for place, (_, end) in self._log.bounds(names).items()}
        except CannotTellError as error:
            self.close()  # a client that lost its server is not asked again
            raise StreamingError(f"the log cannot be read: {error}") from error

    def backlog(self) -> dict[str, int]:
        """By topic the records that no committed batch has taken."""
        taken, behind = self.newest().ends, dict.fromkeys((topic.name for topic in topics(self._settings)), 0)
        for (topic, partition), end in self.ends().items():
            behind[topic] += end - taken.get((topic, partition), 0)
        return behind

    def await_newer(
        self, time_ms: int, seconds: float, is_hopeless: Callable[[], str] = lambda: ""
    ) -> Committed:
        """The first commit seen of a batch later than this.

        Args:
            time_ms: batch time, milliseconds since the epoch.
            seconds: how long to wait.
            is_hopeless: why waiting makes no sense any more, "" while it does.

        Raises:
            StreamingError: there was none in time, or there will be none.
        """
        for _ in looks(seconds, LOOK_SECONDS):
            newest = self.newest()
            if newest.time > time_ms:
                return newest
            if reason := is_hopeless():
                raise StreamingError(reason)
        raise StreamingError(f"no batch after {time_ms} was committed within {seconds:g} s")

    def close(self) -> None:
        """Let go of the log and the engine; the next question opens them again."""
        self._commits.close()
        if self._log is not None:
            self._log.close()
            self._log = None

    def _open_log(self) -> EmbeddedLog | KafkaLog:
        if self._settings.stack == "embedded":
            return EmbeddedLog(self._settings.log_dir)
        return KafkaLog(self._settings.kafka_bootstrap)


def commits_of(settings: Settings) -> Commits:
    """The journal where it can be read; in containers it is a volume of another user, so the engine is asked."""
    if settings.engines > 1:
        return UnitsProgress({unit.name: commits_of_unit(settings, unit) for unit in units_of_jobs(settings)})
    if settings.stack == "compose":
        return ApiProgress([settings.metrics_port])
    return JournalProgress(settings.checkpoint_dir / settings.app / "journal")


def commits_of_unit(settings: Settings, unit: Unit) -> Commits:
    """The same of a unit of replicas."""
    if settings.stack == "compose":
        ports = [page_port(settings, name) for name in engines_of(settings)]
        return ApiProgress(ports, f"/units/{unit.name}/api/v1/progress")
    return JournalProgress(settings.checkpoint_dir / unit.app(settings.app) / "journal")


class Metrics:
    """The samples of one look at an engine's Prometheus endpoint."""

    def __init__(self, text: str) -> None:
        self.samples: dict[str, list[tuple[Mapping[str, str], float]]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                self.samples.setdefault(sample.name, []).append((sample.labels, sample.value))

    @classmethod
    def read(cls, port: int) -> "Metrics | None":
        """The samples of now; None when nobody answers."""
        try:
            address = f"http://127.0.0.1:{port}/metrics"
            with urllib.request.urlopen(address, timeout=_METRICS_SECONDS) as answer:
                return cls(answer.read().decode())
        except (OSError, urllib.error.URLError, http.client.HTTPException):
            return None

    def total(self, name: str, **labels: str) -> float:
        """The sum of the samples with these labels; 0 without any."""
        found = self.samples.get(name, ())
        return sum(value for own, value in found if labels.items() <= own.items())


def _newest_commit(folder: Path, names: list[str]) -> Committed:
    """The newest commit in the newest segment that has a first frame; a segment that was just begun has none."""
    for name in reversed(names):
        frames = read_segment(folder / name)
        if frames:
            return _replay(decode(frame.head, name) for frame in frames)
    return NOTHING


def _replay(records: Iterable[Record]) -> Committed:
    newest: BatchRecord | None = None
    begun: BatchRecord | None = None
    for record in records:
        match record:
            case Open():
                newest = record.catalog.commit.batch if record.catalog.commit else None
                begun = record.catalog.begun
            case Begin():
                begun = record.batch
            case Commit():
                newest = record.batch
    newest_ms = newest.time if newest else 0
    parts = [part for ranges in newest.ranges.values() for part in ranges] if newest else []
    return Committed(
        newest_ms,
        newest.attempt if newest else 0,
        {(topic, number): until for topic, number, _, until in parts},
        in_flight=begun is not None and begun.time > newest_ms,
    )

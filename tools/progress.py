"""How far the engine has come and what still lies ahead of it, seen from outside: its journal, the log, its metrics.

Owns: Committed, Progress, Metrics.
Never: a question to the engine that it must answer in time; a dead one is watched as well as a live one.
"""

import http.client
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from engine.checkpoint.journal import read_segment, segment_names
from engine.checkpoint.records import BatchRecord, Begin, Commit, Open, Record, decode
from engine.errors import StreamingError
from services.settings import Settings
from services.topics import topics
from tools.stack.control import looks
from tools.verify.embedded_log import EmbeddedLog
from tools.verify.kafka_log import KafkaLog
from tools.verify.verdict import CannotTellError

LOOK_SECONDS = 0.005
_METRICS_SECONDS = 2.0

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


class Progress:
    """Looks at the journal and the log of one stack.

    Args:
        settings: of the stack.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._journal = settings.checkpoint_dir / settings.app / "journal"
        self._seen: tuple[str, int] = ("", 0)
        self._newest = NOTHING
        self._log: EmbeddedLog | KafkaLog | None = None

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
        """Let go of the log; the next question opens it again."""
        if self._log is not None:
            self._log.close()
            self._log = None

    def _open_log(self) -> EmbeddedLog | KafkaLog:
        if self._settings.stack == "embedded":
            return EmbeddedLog(self._settings.log_dir)
        return KafkaLog(self._settings.kafka_bootstrap)


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

"""Dead letters on their way back to their topics: each is sent once, whatever cuts a replay off.

    1. the mark that it is to be sent, with the end of its partition    durable BEFORE
    2. the record, under a key that names the letter                    durable BEFORE
    3. the mark of where it lies

A letter with the first mark alone is in doubt: the next replay looks for its key from that end on, and sends it only when it is not
there. One replay runs at a time.

A letter that is itself a letter sent again, and came late again, is left when the same bytes would be sent: they would be late for
ever, each time as another letter.

Owns: Letter, Mark, Topics, Replayer, Outcome.
Never: a client of a server; a letter's bytes changed but by the command that was asked for.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from engine.sinks.api import ResultStore, Table
from services.producer.schedule import REPLAYED

REPLAYS = Table(
    "replays",
    columns=("topic", "partition", "record_offset", "sent_from", "sent_at"),
    key=("topic", "partition", "record_offset"),
    partition_key=("topic", "partition"),
)

LATE = "late"
"""Begins the reason of a letter that came too late for its window."""

Key = tuple[str, int, int]
"""Topic, partition, offset."""


class Letter(NamedTuple):
    """A record that was put aside."""

    topic: str
    partition: int
    offset: int
    reason: str
    value: bytes | None

    @property
    def key(self) -> Key:
        """What names it."""
        return self.topic, self.partition, self.offset

    @property
    def sent_as(self) -> bytes:
        """The key of the record that is sent for it."""
        return REPLAYED + f"{self.topic}/{self.partition}/{self.offset}".encode()

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}] offset {self.offset}"


class Mark(NamedTuple):
    """How far a letter's way back has come."""

    sent_from: int
    """End of the partition before it was sent."""
    sent_at: int | None
    """Offset of its record; None while that is in doubt."""


class Topics(Protocol):
    """The topics that letters go back to."""

    def end(self, topic: str, partition: int) -> int:
        """The offset behind the last record of a partition."""

    def find(self, topic: str, partition: int, start: int, key: bytes) -> int | None:
        """The offset of the record with this key at or behind an offset; None without one."""

    def append(self, topic: str, partition: int, record: tuple[int, bytes, bytes]) -> int:
        """Append timestamp in milliseconds, key and value; returns the offset, durable."""

    def close(self) -> None:
        """Let go of the clients."""


Mend = Callable[[Letter], bytes | None]
"""Gives the value that is sent for a letter; None leaves it where it is."""


_TOLD = {"sent": "sent", "found": "an earlier replay had sent it", "left": "left", "meant": "would be sent"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one letter."""

    letter: Letter
    became: str
    """sent, found (an earlier replay had sent it), known (marked), left (nothing to send, or late again) or meant (a dry run)."""
    sent_at: int | None = None

    def __str__(self) -> str:
        where = "" if self.sent_at is None else f" at offset {self.sent_at}"
        return f"{self.letter}: {_TOLD[self.became]}{where}; put aside as {self.letter.reason:.60}"


class Replayer:
    """Sends letters again.

    Args:
        topics: where to.
        store: holds the marks.
        marks: those that are there.
        now_ms: what time it is.
    """

    def __init__(
        self, topics: Topics, store: ResultStore, marks: Mapping[Key, Mark], now_ms: Callable[[], int]
    ) -> None:
        self._topics = topics
        self._store = store
        self._marks = marks
        self._again = {(*key[:2], mark.sent_at) for key, mark in marks.items()}
        """Where letters lie that were sent again."""
        self._now_ms = now_ms

    def replay(
        self, letters: Iterable[Letter], mend: Mend, tell: Callable[[Outcome], object], *, dry: bool = False
    ) -> Counter[str]:
        """Send what was not sent yet; returns how many letters became what.

        Args:
            letters: the ones that were chosen.
            mend: makes the value.
            tell: is told of each letter but those that are marked.
            dry: send and mark nothing.
        """
        became: Counter[str] = Counter()
        for letter in letters:
            outcome = self._one(letter, mend, dry=dry)
            became[outcome.became] += 1
            if outcome.became != "known":
                tell(outcome)
        return became

    def _one(self, letter: Letter, mend: Mend, *, dry: bool) -> Outcome:
        mark = self._marks.get(letter.key)
        if mark is not None and mark.sent_at is not None:
            return Outcome(letter, "known", mark.sent_at)
        place = letter.topic, letter.partition
        if mark is not None:
            found = self._topics.find(*place, mark.sent_from, letter.sent_as)
            if found is not None:
                if not dry:
                    self._mark(letter, Mark(mark.sent_from, found))
                return Outcome(letter, "found", found)
        value = mend(letter)
        if not value or (value == letter.value and self._is_late_again(letter)):
            return Outcome(letter, "left")
        if dry:
            return Outcome(letter, "meant")
        if mark is None:
            mark = Mark(self._topics.end(*place), None)
            self._mark(letter, mark)
        sent_at = self._topics.append(*place, (self._now_ms(), letter.sent_as, value))
        self._mark(letter, Mark(mark.sent_from, sent_at))
        return Outcome(letter, "sent", sent_at)

    def _is_late_again(self, letter: Letter) -> bool:
        return letter.key in self._again and letter.reason.startswith(LATE)

    def _mark(self, letter: Letter, mark: Mark) -> None:
        now = self._now_ms()
        self._again.add((*letter.key[:2], mark.sent_at))
        # The mark of where a record lies stands over the one before it, also within one millisecond.
        self._store.write(
            REPLAYS,
            [(*letter.key, *mark)],
            batch_ms=now,
            write_timestamp=now * 1_000 + (mark.sent_at is not None),
        )

"""Who takes part in the bench of takeovers, and what counts as a takeover: the same for every contender.

A contender is a group of processes that share the partitions of one topic, and each tells the results that it comes to. A takeover
lasts from the signal to the process that owns a partition, to the first result of a record of a partition that it owned, from
another process. That result may be of a record that was processed before: it counts when it is out, not when it is new.

A line of a member's standard output is a result: `PARTITION OFFSET TIME`, TIME in milliseconds since the epoch.

Owns: Place, Result, Contender, Processes, first_result, owner_among.
Never: what a member does inside.
"""

import signal
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple, Protocol

from engine.errors import StreamingError
from services.settings import REPOSITORY, base_environment

_FRESH_SECONDS = 3.0
"""A partition with no result for so long has no owner; batches of a second have three results in that."""
_END_SECONDS = 30.0
"""How long a member may take to end after a signal."""
_LAST_WORDS = 1_500


class Place(NamedTuple):
    """Where a contender works."""

    bootstrap: str
    """ "HOST:PORT" of the broker."""
    topic: str
    """It is new, and no other contender reads it; its name is the group's too."""
    folder: Path
    """For logs and state; it is there."""
    jars_dir: Path


class Result(NamedTuple):
    """What one member told of one record."""

    member: int
    partition: int
    offset: int
    time: float
    """When it was out, seconds since the epoch."""


class Contender(Protocol):
    """A group whose takeovers are measured; members are numbered from 0."""

    def start(self, members: int) -> None:
        """Start so many members; they need not be at work when it returns."""
        ...

    def owner_of(self, partition: int) -> int | None:
        """The member whose result of the partition is the newest; None when there was none of late."""
        ...

    def kill(self, member: int, number: signal.Signals) -> float:
        """Signal the process that owns the member's partitions; the time just before, seconds since the epoch."""
        ...

    def first_result(self, partitions: Collection[int], after: float, without: int) -> Result | None:
        """The first result of one of the partitions, at or after a time, of another member; None while there is none."""
        ...

    def restart(self, member: int) -> None:
        """Start a member again that was signalled, when its process is gone."""
        ...

    def stop(self) -> None:
        """End every process; also after a start that failed."""
        ...


def owner_among(newest: Mapping[int, Result], partition: int, now: float) -> int | None:
    """Who owns a partition by the newest result of each.

    Example:
        >>> owner_among({0: Result(1, 0, 17, 100.0)}, 0, now=100.5)
        1
        >>> owner_among({0: Result(1, 0, 17, 100.0)}, 0, now=104.0) is None
        True
    """
    result = newest.get(partition)
    return None if result is None or result.time < now - _FRESH_SECONDS else result.member


def first_result(
    results: Iterable[Result], partitions: Collection[int], after: float, without: int
) -> Result | None:
    """The first result of a moved partition by another process.

    Args:
        results: in any order.
        partitions: that the process owned.
        after: the time of the signal.
        without: the member that was signalled; what it still tells does not count.
    """
    found = (
        result
        for result in results
        if result.partition in partitions and result.member != without and result.time >= after
    )
    return min(found, key=lambda result: result.time, default=None)


class Processes:
    """A contender whose members are processes that print their results.

    Args:
        name: in messages.
        command: of a member, by its number.
        folder: where each member's standard error goes.
    """

    def __init__(self, name: str, command: Callable[[int], Sequence[str]], folder: Path) -> None:
        self._name = name
        self._command = command
        self._folder = folder
        self._members: dict[int, subprocess.Popen[str]] = {}
        self._readers: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._newest: dict[int, Result] = {}
        self._results: list[Result] = []
        """Since the last signal."""

    def start(self, members: int) -> None:
        """Start so many members."""
        for member in range(members):
            self._start(member)

    def owner_of(self, partition: int) -> int | None:
        """By the newest result of late.

        Raises:
            StreamingError: a member has ended unasked; the message has its last words.
        """
        for member, process in self._members.items():
            if process.poll() is not None:
                log = self._log(member)
                raise StreamingError(
                    f"{self._name}: member {member} ended with {process.returncode}; {log} ends:\n"
                    f"{log.read_text(errors='replace')[-_LAST_WORDS:]}"
                )
        with self._lock:
            return owner_among(self._newest, partition, time.time())

    def kill(self, member: int, number: signal.Signals) -> float:
        """Forget the results so far, then signal."""
        with self._lock:
            self._results.clear()
        sent = time.time()
        self._members[member].send_signal(number)
        return sent

    def first_result(self, partitions: Collection[int], after: float, without: int) -> Result | None:
        """Among the results since the last signal."""
        with self._lock:
            return first_result(self._results, partitions, after, without)

    def results(self) -> list[Result]:
        """All since the last signal, in the order in which they were read."""
        with self._lock:
            return list(self._results)

    def restart(self, member: int) -> None:
        """Start a member again when its process is gone.

        Raises:
            StreamingError: it does not end.
        """
        try:
            self._members[member].wait(_END_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise StreamingError(
                f"{self._name}: member {member} runs {_END_SECONDS:g} s after its signal; see {self._log(member)}"
            ) from error
        self._start(member)

    def stop(self) -> None:
        """SIGKILL for each; all are gone when it returns."""
        for process in self._members.values():
            process.kill()
        for process in self._members.values():
            process.wait()
        for reader in self._readers:
            reader.join()

    def _log(self, member: int) -> Path:
        return self._folder / f"{self._name}-{member}.log"

    def _start(self, member: int) -> None:
        with self._log(member).open("ab") as log:
            process = subprocess.Popen(
                self._command(member),
                cwd=REPOSITORY,
                env={**base_environment(), "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert process.stdout is not None
        self._members[member] = process
        reader = threading.Thread(target=self._read, args=(member, process.stdout), name=f"reader-{member}")
        self._readers.append(reader)
        reader.start()

    def _read(self, member: int, lines: IO[str]) -> None:
        """Take a member's results until its end; of a line that its kill cut off there is no end, and it is left out."""
        with lines:
            for line in lines:
                if line.endswith("\n"):
                    partition, offset, milliseconds = map(int, line.split())
                    self._take(Result(member, partition, offset, milliseconds / 1_000))

    def _take(self, result: Result) -> None:
        with self._lock:
            self._results.append(result)
            known = self._newest.get(result.partition)
            if known is None or known.time <= result.time:
                self._newest[result.partition] = result

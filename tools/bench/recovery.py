"""From kill -9 to the first new commit, with state of many keys: the engine beside PySpark's DStreams, in turn.

Both run the job of `restarts`. When the state has every key and was kept on the volume, a file of updates comes, and the batch that
takes it hangs in its output, all rows seen; then the whole process tree is killed and started again at once. What ends the clock is,
here, the commit of that batch and, on PySpark's side, its output alone, which comes earlier. That batch, its run after the kill and
those behind it must have every key and the sum of all that was dropped.

Owns: Recovery, measure, is_exact.
Never: a verdict.
"""

import importlib.util
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from engine.errors import ConfigurationError
from services.settings import REPOSITORY
from tools.bench.restarts import HANG, HEAP, Told

HAS_SPARK = importlib.util.find_spec("pyspark") is not None
_APART = 100
"""Of so many keys one is in each file of updates."""
_BATCHES = 2
"""With updates, before the one that hangs."""
_SPARK_ARGUMENTS = "--driver-memory 2g pyspark-shell"
"""In the environment: a memory among the settings would come when the JVM runs."""
_MOST_SECONDS = 900.0
_LOOK_SECONDS = 0.005


class Recovery(NamedTuple):
    """One kill of one side."""

    side: str
    keys: int
    seconds: float
    """From the kill to the first new commit."""
    is_exact: bool
    """Whether all that was dropped counts once, in the batch that was killed and in those behind it."""
    heap_bytes: int
    """The smallest that a JVM of it had; 0 without one."""


class _Victim:
    """A process that runs the job."""

    def __init__(self, side: str, folder: Path, interval: int) -> None:
        program = f"from tools.bench.restart_{side} import main; main({str(folder)!r}, {interval})"
        with (folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", program],
                cwd=REPOSITORY,
                # Without the first one PySpark refuses to hash a key.
                env={**os.environ, "PYTHONHASHSEED": "0", "PYSPARK_SUBMIT_ARGS": _SPARK_ARGUMENTS},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._log = folder / "log"

    def wait_for(self, is_so: Callable[[], Any], what: str) -> None:
        """Wait until something is so.

        Raises:
            ConfigurationError: the process has ended, or it takes too long.
        """
        deadline = time.monotonic() + _MOST_SECONDS
        while not is_so():
            if self._process.poll() is not None or time.monotonic() > deadline:
                tail = self._log.read_text(errors="replace")[-2_000:]
                raise ConfigurationError(
                    f"the process of the bench did not come to {what}; its log ends:\n{tail}"
                )
            threading.Event().wait(_LOOK_SECONDS)

    def kill(self) -> None:
        """SIGKILL for the whole tree; it is gone when this returns."""
        main = psutil.Process(self._process.pid)
        tree = [*main.children(recursive=True), main]
        for process in tree:
            process.kill()
        psutil.wait_procs(tree, timeout=30)
        self._process.wait()


def measure(side: str, keys: int, interval: int, folder: Path) -> Recovery:
    """Fill, let a batch with records hang, kill, start again.

    Args:
        side: engine or spark.
        keys: in the state.
        interval: of batches, seconds; PySpark keeps state on the volume every ten seconds, so in batches of ten each one's.
        folder: where to work.
    """
    with tempfile.TemporaryDirectory(dir=folder) as made:
        own = Path(made)
        (own / "in").mkdir()
        seen, done = Told(own / "seen"), Told(own / ("done" if side == "engine" else "seen"))
        victim = _Victim(side, own, interval)
        try:
            dropped = _fill(victim, own, seen, keys)
            dropped += len(_updates(keys))
            # BEFORE the file: whichever batch takes it hangs.
            _put(own / HANG, str(dropped))
            _drop(own, "last", _updates(keys))
            victim.wait_for(lambda: seen.lines()[-1][2] == dropped, "the batch that hangs")
            before, told = seen.lines(), len(done.lines())
            begin = time.perf_counter()
            victim.kill()
            (own / HANG).unlink()
            victim = _Victim(side, own, interval)
            victim.wait_for(lambda: len(done.lines()) > told, "its first commit after the kill")
            seconds = time.perf_counter() - begin
            # What was taken twice may count in the batch behind it.
            victim.wait_for(
                lambda: seen.lines()[-1][0] > before[-1][0], "a batch after the one that was killed"
            )
            after = seen.lines()[len(before) :]
        finally:
            victim.kill()
        heap = min((line[0] for line in Told(own / HEAP).lines()), default=0)
    return Recovery(side, keys, seconds, is_exact(before[-1], after, keys, dropped), heap)


def is_exact(killed: list[Any], after: list[list[Any]], keys: int, dropped: int) -> bool:
    """Whether a batch that was killed, its next run and every batch behind it saw all that was dropped, each line once.

    Args:
        killed: what it saw: (batch time, keys, sum).
        after: what was seen after the kill.
        keys: that were dropped.
        dropped: how many lines.

    Example:
        >>> is_exact(["09:10", 3, 7], [["09:10", 3, 7], ["09:20", 3, 8]], 3, 7)
        False
    """
    lines = [killed, *(line for line in after if line[0] >= killed[0])]
    return len(lines) > 1 and lines[1][0] == killed[0] and all(line[1:] == [keys, dropped] for line in lines)


def _fill(victim: _Victim, folder: Path, seen: Told, keys: int) -> int:
    """Put every key into the state, then update some of them for a few batches; returns how many lines were dropped."""
    victim.wait_for(seen.lines, "its first batch")
    files = [range(keys), *[_updates(keys)] * _BATCHES]
    dropped = 0
    for number, lines in enumerate(files):
        dropped += len(lines)
        _drop(folder, f"file-{number}", lines)
        victim.wait_for(lambda dropped=dropped: seen.lines()[-1][2] == dropped, "a batch with its file")  # type: ignore[misc]  # mypy takes no default of a lambda
    return dropped


def _updates(keys: int) -> range:
    return range(0, keys, _APART)


def _drop(folder: Path, name: str, numbers: range) -> None:
    """A file comes into the folder of the input."""
    made = folder / name
    _put(made, "".join(f"user-{number:08d}\n" for number in numbers))
    made.rename(folder / "in" / name)


def _put(path: Path, text: str) -> None:
    """A file is there whole or not at all."""
    made = path.with_suffix(".made")
    made.write_text(text)
    made.rename(path)

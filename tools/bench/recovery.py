"""From kill -9 to the first new commit, with state of many keys: the engine beside PySpark's DStreams, in turn.

Both run the job of `restarts`. When the state has every key and was kept on the volume, a batch hangs in its output, all rows seen;
then the whole process tree is killed and started again at once. What ends the clock is, here, the commit of that batch and, on
PySpark's side, its output alone, which comes earlier. The batch must see the same keys and the same sum as before the kill.

Owns: Recovery, measure.
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
from tools.bench.restarts import HANG, Told

HAS_SPARK = importlib.util.find_spec("pyspark") is not None
_UPDATES = 0.01
"""Of the keys, in each batch after the first ones."""
_BATCHES = 2
"""With updates, before the one that hangs."""
_MOST_SECONDS = 900.0
_LOOK_SECONDS = 0.005


class Recovery(NamedTuple):
    """One kill of one side."""

    side: str
    keys: int
    seconds: float
    """From the kill to the first new commit."""
    is_exact: bool
    """Whether the batch that ran again saw what it had seen before the kill."""


class _Victim:
    """A process that runs the job."""

    def __init__(self, side: str, folder: Path, interval: int) -> None:
        program = f"from tools.bench.restart_{side} import main; main({str(folder)!r}, {interval})"
        with (folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", program],
                cwd=REPOSITORY,
                # Without it PySpark refuses to hash a key.
                env={**os.environ, "PYTHONHASHSEED": "0"},
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
    """Fill, let a batch hang, kill, start again.

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
            _fill(victim, own, seen, keys)
            (own / HANG).touch()
            batches = len(seen.lines())
            victim.wait_for(lambda: len(seen.lines()) > batches, "the batch that hangs")
            before, told = seen.lines()[-1], len(done.lines())
            begin = time.perf_counter()
            victim.kill()
            (own / HANG).unlink()
            victim = _Victim(side, own, interval)
            victim.wait_for(lambda: len(done.lines()) > told, "its first commit after the kill")
            seconds = time.perf_counter() - begin
            again = next(line for line in seen.lines()[batches + 1 :] if line[0] == before[0])
        finally:
            victim.kill()
    return Recovery(side, keys, seconds, again == before)


def _fill(victim: _Victim, folder: Path, seen: Told, keys: int) -> None:
    """Put every key into the state, then update some of them for a few batches."""
    victim.wait_for(seen.lines, "its first batch")
    _drop(folder, "all", range(keys))
    victim.wait_for(lambda: seen.lines()[-1][1] == keys, "a batch with all keys")
    for number in range(_BATCHES):
        _drop(folder, f"some-{number}", range(0, keys, int(1 / _UPDATES)))
        batches = len(seen.lines())
        victim.wait_for(lambda batches=batches: len(seen.lines()) > batches, "a batch of updates")  # type: ignore[misc]  # mypy takes no default of a lambda


def _drop(folder: Path, name: str, numbers: range) -> None:
    """A file comes into the folder whole."""
    path = folder / name
    path.write_text("".join(f"user-{number:08d}\n" for number in numbers))
    path.rename(folder / "in" / name)

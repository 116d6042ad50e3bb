"""Starts of the application, each a process of its own that can be killed."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.engine.children import python

_PARENT = "from tests.engine import forks; from tests.recovery import app; forks.serve(app.run)"


class Victims:
    """Starts the application by forks of one process, one at a time."""

    def __init__(self, parent: Any) -> None:
        self._parent = parent

    def run(self, folder: Path, **settings: Any) -> int:
        """One start to its end; returns its exit code, negative for the signal that killed it."""
        self.begin(folder, **settings)
        return self.end()

    def begin(self, folder: Path, **settings: Any) -> None:
        """One start, whose end `end` waits for; the settings are those of `app.Start`."""
        (folder / "reached").unlink(missing_ok=True)
        (folder / "pid").unlink(missing_ok=True)
        self._parent.stdin.write(json.dumps([str(folder), settings]) + "\n")
        self._parent.stdin.flush()

    def end(self) -> int:
        """Wait for the end of what was begun; returns its exit code."""
        answer = self._parent.stdout.readline()
        assert answer, "the parent of the victims is gone; see its stderr"
        return int(answer)


@contextmanager
def serving() -> Iterator[Victims]:
    """A parent of victims, which ends with the block."""
    with python(_PARENT, stdin=True) as parent:
        yield Victims(parent)
        assert parent.stdin is not None
        parent.stdin.close()


def reached(folder: Path) -> list[str]:
    """The armed point, once for each time that the last start got there."""
    path = folder / "reached"
    return path.read_text().split() if path.exists() else []


def error(folder: Path) -> str:
    """What ended the last start; "" when nothing did, or a signal."""
    path = folder / "error"
    return path.read_text() if path.exists() else ""

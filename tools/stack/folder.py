"""Where a stack keeps what: the layout of DATA_DIR.

    stack.json            says that the folder is a stack's, {"format": 1}
    events.jsonl          the history (events.py)
    run/NAME.json         what the supervisor knows of a process (programs.Record); run/supervisor.json its own
    run/requests/NAME     a program that the supervisor is asked to start
    run/settings.json     the settings that the running stack was started with
    conf/  logs/          the servers' configuration as it was filled in, and every log
    kafka/  cassandra/    the servers' data
    prometheus/           the measurements
    log/  results.sqlite3 the embedded stack's data
    checkpoints/          the engine's

Owns: Folder.
Never: a folder that is not a stack's; it is neither filled nor emptied.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from engine.errors import ConfigurationError

_OWN = {
    "stack.json",
    "jars",
    "log",
    "checkpoints",
    "results.sqlite3",
    "results.sqlite3-wal",
    "results.sqlite3-shm",
    "compose",
    "compose.ended",
    "drills",
    "secrets",
    "build.log",
    "events.jsonl",
}
"""What may lie in a folder before the first `up`: jars, what a service leaves that was run alone, and what a stack in
containers left there."""


class Folder:
    """The folder of one stack.

    Args:
        root: DATA_DIR.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.marker = root / "stack.json"
        self.events = root / "events.jsonl"
        self.run = root / "run"
        self.requests = self.run / "requests"
        self.ping = self.requests / ".ping"
        self.supervisor = self.run / "supervisor.json"
        self.settings = self.run / "settings.json"
        self.conf = root / "conf"
        self.logs = root / "logs"

    def make(self) -> None:
        """Make the folders that are missing.

        Raises:
            ConfigurationError: the folder holds something that is not a stack's.
        """
        foreign = (
            sorted({path.name for path in self.root.glob("*")} - _OWN) if not self.marker.exists() else []
        )
        if foreign:
            raise ConfigurationError(
                f"DATA_DIR={str(self.root)!r} is not a stack's folder, it holds {foreign[0]!r}; name an empty or a new one"
            )
        for folder in (self.requests, self.conf, self.logs):
            folder.mkdir(parents=True, exist_ok=True)
        if not self.marker.exists():
            write_json(self.marker, {"format": 1})

    def wipe(self, keep: Path) -> None:
        """Remove everything in the folder but the jars.

        Args:
            keep: the jars' folder, kept when it lies in this one.

        Raises:
            ConfigurationError: the folder is not a stack's.
        """
        if not self.root.exists():
            return
        found = [path for path in self.root.iterdir() if not keep.is_relative_to(path)]
        if found and not self.marker.exists():
            raise ConfigurationError(
                f"DATA_DIR={str(self.root)!r} has no stack.json and does not look like a stack's folder; nothing was removed"
            )
        # The marker goes last: a wipe that was cut short can be repeated.
        for path in sorted(found, key=lambda path: path == self.marker):
            _remove(path)

    def record(self, name: str) -> Path:
        """The file of what is known of a process."""
        return self.run / f"{name}.json"

    def names(self) -> list[str]:
        """The processes that anything is known of."""
        others = {self.supervisor, self.settings}
        return [path.stem for path in sorted(self.run.glob("*.json")) if path not in others]


def write_json(path: Path, value: Any) -> None:
    """Put a value in place of a file in one step: a reader finds the old one or the new one."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(value, indent=1), encoding="utf-8")
    draft.replace(path)


def read_json(path: Path) -> Any:
    """The value in a file, or None when there is no such file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()

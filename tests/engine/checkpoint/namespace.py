"""What a checkpoint does on a volume of its own that is short of room, or turns read-only: real mounts, in a mount namespace.

`unshare --user --map-root-user --mount python -m tests.engine.checkpoint.namespace FOLDER` prints a line of JSON for each scene.
"""

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.errors import StreamingError
from tests.engine.checkpoint.full import fill, mount
from tests.engine.checkpoint.volume import BIG, Volume

BIGGER = BIG * 8


class Said(logging.Handler):
    """The messages of the log."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one."""
        self.lines.append(record.getMessage())


def error_of(call: Callable[[], object]) -> list[str]:
    """Type and text of the error of a call; empty when it has none."""
    try:
        call()
    except StreamingError as error:
        return [type(error).__name__, str(error)]
    return []


def short_of_room(folder: Path, said: Said) -> dict[str, Any]:
    """A snapshot is due and would not fit, twice; then there is room."""
    volume = Volume(folder).open()
    volume.run({0: "small", 1: "small"})
    fill(folder / "ballast", 20)
    seen = []
    for number in range(2):
        volume.run({0: BIGGER, 2: number} if number == 0 else {2: number})
        seen.append(len(volume.snapshots()))
    waited = [line for line in said.lines if "wait until there is room" in line]
    (folder / "ballast").unlink()
    volume.run({4: "more"})
    seen.append(len(volume.snapshots()))
    state = volume.reopen().state()
    volume.close()
    return {"snapshots": seen, "waited": waited, "exact": state == {0: BIGGER, 1: "small", 2: 1, 4: "more"}}


def read_only_start(folder: Path) -> dict[str, Any]:
    """The volume is read-only at a start, and then no longer."""
    volume = Volume(folder).open()
    volume.run({0: "a"})
    volume.close()
    remount(folder, "ro")
    refused = error_of(volume.open)
    remount(folder, "rw")
    return {"refused": refused, "exact": volume.open().state() == {0: "a"}, "closed": error_of(volume.close)}


def read_only_files(folder: Path) -> dict[str, Any]:
    """While batches run, no new file can be made: neither a snapshot nor, after that, a segment."""
    volume = Volume(folder).open()
    volume.run({0: BIG, 1: BIG})
    state = volume.snapshots()[0].parents[2]
    volume.commit(volume.begin(), {0: BIG, 2: BIG})
    with_read_only = []
    for place, call in ((state, volume.snapshot_all), (volume.journal, volume.rotate)):
        subprocess.run(["mount", "--bind", str(place), str(place)], check=True)
        remount(place, "ro", "bind")
        with_read_only.append(error_of(call))
        subprocess.run(["umount", str(place)], check=True)
    volume.run({3: "after"})
    left = [path.name for path in folder.rglob("*.tmp-*")]
    exact = volume.reopen().state() == {0: BIG, 1: BIG, 2: BIG, 3: "after"}
    volume.close()
    return {"refused": with_read_only, "left": left, "exact": exact}


def remount(place: Path, *options: str) -> None:
    """Change how a volume is mounted."""
    subprocess.run(["mount", "-o", ",".join(("remount", *options)), str(place)], check=True)


def main(folder: Path) -> None:
    """Each scene on a volume of its own."""
    said = Said()
    logging.getLogger("engine").addHandler(said)
    scenes: dict[str, Callable[[Path], dict[str, Any]]] = {
        "short of room": lambda place: short_of_room(place, said),
        "read-only start": read_only_start,
        "read-only files": read_only_files,
    }
    for name, scene in scenes.items():
        place = folder / name.replace(" ", "-")
        mount(place)
        print(json.dumps({"scene": name, **scene(place)}), flush=True)  # noqa: T201 - read by the test
        subprocess.run(["umount", str(place)], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

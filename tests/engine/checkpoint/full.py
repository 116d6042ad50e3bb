"""A volume of its own for the checkpoint, small enough to be filled: a tmpfs in a mount namespace that only this process has.

`unshare --user --map-root-user --mount python -m tests.engine.checkpoint.full FOLDER` runs an application on it, for each of
ROOMS: with so little room until the volume is full, once more while it still is, and then with all the room to the end.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from engine.errors import StreamingError
from tests.recovery.app import prepare, run
from tests.recovery.truth import differences

SIZE_KIB = 1_024
PAGE_KIB = 4
ROOMS = (0, 1, 2, 3, 5, 8, 11, 16, 20, 27)
"""Pages that the application finds free."""

UNSHARE = ("unshare", "--user", "--map-root-user", "--mount")


def mount(folder: Path, size_kib: int = SIZE_KIB) -> None:
    """Put a volume of this size on a folder, for this process and its children."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_kib}k", "small", str(folder)], check=True)


def fill(ballast: Path, pages: int = 0) -> None:
    """Take all the room on a volume but so many pages."""
    block = b"\0" * (PAGE_KIB << 10)
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(block)
        except OSError:
            file.truncate(max(0, file.tell() - pages * len(block)))


def attempt(folder: Path) -> dict[str, Any]:
    """Run the application in a process of its own; what its error was, None for none."""
    told = folder / "told.json"
    child = os.fork()
    if child == 0:
        error: Exception | None = None
        try:
            run(str(folder), {"master": "local[1]"})
        except StreamingError as raised:
            error = raised
        told.write_text(
            json.dumps(
                error and {"type": type(error).__name__, "text": str(error), "cause": repr(error.__cause__)}
            )
        )
        os._exit(0)
    os.waitpid(child, 0)
    answer: dict[str, Any] = json.loads(told.read_text())
    told.unlink()
    return answer


def main(folder: Path) -> None:
    """Print a line for each room: the errors of the three runs, the files that are left, and whether the tables are exact."""
    # Logs and tables are in memory as well: what they wait for on a disk is not the matter here.
    mount(folder, 64 * SIZE_KIB)
    for pages in ROOMS:
        place = folder / str(pages)
        volume = place / "checkpoints"
        mount(volume)
        prepare(place)
        fill(volume / "ballast", pages)
        errors = [attempt(place), attempt(place)]
        left = [path.name for path in volume.rglob("*.tmp-*")]
        (volume / "ballast").unlink()
        errors.append(attempt(place))
        line = {"pages": pages, "errors": errors, "left": left, "exact": differences(place) == []}
        print(json.dumps(line), flush=True)  # noqa: T201 - read by the test
        subprocess.run(["umount", str(volume)], check=True)
        shutil.rmtree(place)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

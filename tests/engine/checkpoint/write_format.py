"""Writes the folder by which later versions prove that they read the format of this one: `python -m tests.engine.checkpoint.write_format`.

It is run once for each format and its result committed; one that is there is never written again.
"""

from pathlib import Path

from engine.checkpoint.records import FORMAT_VERSION
from tests.engine.checkpoint.volume import Volume

FORMATS = Path(__file__).with_name("formats")
"""By number a checkpoint directory with the application `app`."""

STATE = {0: "zero", 1: ("one", 1.5), 3: [b"three", None, True], 4: "later"}
"""What each of them holds after its last commit."""


def write(folder: Path) -> None:
    """Every record and file there is: two generations of snapshots, deltas before and after them, two epochs, a batch that was begun."""
    volume = Volume(folder).open()
    volume.run({0: "first", 1: ("one", 1.5), 2: "gone"})
    volume.snapshot_all()
    volume.run({2: None, 3: [b"three", None, True]})
    volume.snapshot_all()
    volume.rotate()
    volume.reopen()
    volume.run({0: "zero", 4: "later"})
    volume.begin()
    volume.close()
    (folder / "app" / "lock").unlink()


if __name__ == "__main__":
    write(FORMATS / str(FORMAT_VERSION))

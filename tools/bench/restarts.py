"""The job whose recovery is measured, and what its process tells; the engine's process and PySpark's run the same.

Lines are keys, counted by updateStateByKey over files that come into a folder. In each batch an output reads the whole state.

Owns: build, Told.
Never: an import of the engine or of PySpark.
"""

import json
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

HANG = "hang"
"""A file of this name holds a sum: the output of a batch that sees it tells so and does not return, it waits for its kill."""
HEAP = "heap"
"""Where each life on PySpark tells the most bytes that its JVM takes for objects."""


class Told:
    """Lines that a process appends to a file for whoever watches it, such as (batch time, keys, sum)."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def tell(self, *values: Any) -> None:
        """Append a line."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")

    def lines(self) -> list[list[Any]]:
        """Every whole line."""
        text = self._path.read_text(encoding="utf-8") if self._path.exists() else ""
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def _with_one(line: str) -> tuple[str, int]:
    return line, 1


def _add(values: list[int], state: int | None) -> int:
    return sum(values) + (state or 0)


def _sums(pairs: Iterable[tuple[str, int]]) -> list[tuple[int, int]]:
    keys = total = 0
    for _, count in pairs:
        keys += 1
        total += count
    return [(keys, total)]


def _see(folder: str, time: Any, rdd: Any) -> None:
    parts = rdd.mapPartitions(_sums).collect()
    keys, total = (sum(column) for column in zip(*parts, strict=True)) if parts else (0, 0)
    Told(Path(folder) / "seen").tell(str(time), keys, total)
    hang = Path(folder) / HANG
    if hang.exists() and total == int(hang.read_text()):
        threading.Event().wait()


def build(ssc: Any, folder: str, **types: Any) -> None:
    """Add the job to a context of either side.

    Args:
        ssc: the context.
        folder: has the folder of the input, `in`.
        types: how the engine is told of the state's types.
    """
    counts = ssc.textFileStream(f"{folder}/in").map(_with_one).updateStateByKey(_add, **types)
    # Two plain arguments: PySpark counts those of the code object, and takes no partial.
    counts.foreachRDD(lambda time, rdd: _see(folder, time, rdd))

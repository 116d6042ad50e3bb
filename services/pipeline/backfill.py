"""The batches of a backfill, from the file that `scripts/checkpoint ledger` wrote.

Each line is one batch: {"time", "zero", "ranges"}; times in milliseconds since the epoch, ranges as in the ledger.

Owns: read_backfill.
Never: a store; another application's ledger may be in a place that this one does not know.
"""

from collections.abc import Collection
from pathlib import Path

import msgspec

from engine.batch import OffsetRange
from engine.errors import ConfigurationError


class _Line(msgspec.Struct):
    time: int
    zero: int
    ranges: list[tuple[str, int, int, int]]
    """(topic, partition, from, until)."""


Given = tuple[int, dict[str, list[OffsetRange]]]
"""Time of a batch, and by topic, whose name is that of its input, the ranges."""


def read_backfill(path: Path, without: Collection[str] = ()) -> tuple[int, list[Given]]:
    """The zero time, and every batch, without the ranges of these topics.

    Raises:
        ConfigurationError: the file cannot be read, is empty, or is of several applications.
    """
    try:
        lines = [msgspec.json.decode(line, type=_Line) for line in path.read_bytes().splitlines()]
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigurationError(
            f"the backfill {path} cannot be read ({error}); write it with scripts/checkpoint ledger"
        ) from error
    zeros = {line.zero for line in lines}
    if len(zeros) != 1:
        raise ConfigurationError(
            f"the backfill {path} has {len(lines)} batches with {len(zeros)} zero times; give all of one application's ledger"
        )
    batches: list[Given] = []
    for line in lines:
        ranges: dict[str, list[OffsetRange]] = {}
        for topic, partition, begin, until in line.ranges:
            if topic not in without:
                ranges.setdefault(topic, []).append(OffsetRange(topic, partition, begin, until))
        batches.append((line.time, ranges))
    return zeros.pop(), batches

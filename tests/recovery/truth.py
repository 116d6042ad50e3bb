"""What the tables of the application must hold, by hand from the log, and what they hold.

Every table is compared value by value, and the ledger's ranges must tile the log: each record in one batch, none in two.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from tests.engine.app import START_MS
from tests.recovery.app import (
    BATCHES,
    INITIAL,
    PARTITIONS,
    RATE,
    TOPIC,
    key_of,
    rows,
    session_of,
    value_of,
)


def numbers_of(batch: int) -> list[int]:
    """The numbers of a batch, from 1."""
    offsets = range((batch - 1) * RATE, batch * RATE) if batch > 0 else range(0)
    values = [value_of(partition, n) for partition in range(PARTITIONS) for n in offsets]
    return [int(value) for value in values if value != b"poison"]


def sums(batches: range) -> Counter[str]:
    """The sum of each key over some batches."""
    found: Counter[str] = Counter()
    for batch in batches:
        for key, number in map(key_of, numbers_of(batch)):
            found[key] += number
    return found


def time_of(batch: int) -> int:
    """The time of a batch."""
    return START_MS + batch * 1_000


def sessions() -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    """The rows of ended and of open sessions."""
    states = {key: (1, n) for key, (n, _) in INITIAL.items()}
    ended: list[tuple[Any, ...]] = []
    still_open: list[tuple[Any, ...]] = []
    for batch in range(1, BATCHES + 1):
        at = time_of(batch)
        for number in numbers_of(batch):
            key = session_of(number)
            states[key] = batch, number + (states[key][1] if key in states else 0)
        idle = [key for key, (touched, _) in states.items() if touched < batch - 1]
        ended += [(at, key, states.pop(key)[1], at) for key in idle]
        still_open += [(at, key, n, at) for key, (_, n) in states.items()]
    return sorted(ended), sorted(still_open)


def expected() -> dict[str, list[tuple[Any, ...]]]:
    """Every table but the ledger's attempts, by hand."""
    slides = range(2, BATCHES + 1, 2)
    totals = {batch: sums(range(1, batch + 1)) for batch in range(1, BATCHES + 1)}
    ended, still_open = sessions()
    return {
        "sessions": ended,
        "open_sessions": still_open,
        "totals": sorted((key, n, time_of(BATCHES)) for key, n in totals[BATCHES].items()),
        "windows": sorted(
            (time_of(end), key, n, time_of(end))
            for end in slides
            for key, n in sums(range(end - 2, end + 1)).items()
        ),
        "history": sorted(
            (
                time_of(end),
                key,
                str([totals[at][key] for at in (end - 1, end) if key in totals[at]]),
                time_of(end),
            )
            for end in slides
            for key in totals[end]
        ),
        "counts": [
            (time_of(end), sum(len(numbers_of(n)) for n in range(end - 2, end + 1)), time_of(end))
            for end in slides
        ],
        "dead_letters": sorted(
            (TOPIC, partition, n, time_of(n // RATE + 1))
            for partition in range(PARTITIONS)
            for n in range(RATE * BATCHES)
            if value_of(partition, n) == b"poison"
        ),
        "ledger": [
            (time_of(n), [[TOPIC, partition, (n - 1) * RATE, n * RATE] for partition in range(PARTITIONS)])
            for n in range(1, BATCHES + 1)
        ],
    }


def found(folder: Path) -> dict[str, list[tuple[Any, ...]]]:
    """The same of the tables."""
    letters = [
        (topic, partition, n, batch) for topic, partition, n, _, _, batch in rows(folder, "dead_letters")
    ]
    ledger = [(batch, json.loads(ranges)) for _, _, _, _, ranges, batch in rows(folder, "ledger")]
    tables = ("totals", "windows", "history", "counts", "sessions", "open_sessions")
    return {
        **{table: rows(folder, table) for table in tables},
        "dead_letters": letters,
        "ledger": sorted(ledger),
    }


def differences(folder: Path) -> list[str]:
    """How the tables differ from what must be there, a line for each; none of a run that was exactly once."""
    there, must = found(folder), expected()
    lines: list[str] = []
    for table, wanted in must.items():
        over, missing = (
            [row for row in there[table] if row not in wanted],
            [row for row in wanted if row not in there[table]],
        )
        lines += [f"{table}: {row} is not there" for row in missing]
        lines += [f"{table}: {row} should not be there" for row in over]
    return lines


def attempts(folder: Path) -> list[int]:
    """By batch, from the first, which run of it wrote its ledger row."""
    return [attempt for _, _, attempt, _, _, _ in sorted(rows(folder, "ledger"), key=lambda row: row[-1])]


def committed(folder: Path) -> int:
    """How many batches the ledger has; one that was not committed may be the last of them."""
    return len(rows(folder, "ledger"))

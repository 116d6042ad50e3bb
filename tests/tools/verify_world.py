"""A small world to verify: an embedded log, a ledger and result tables, each made by hand.

The rows come from a model that counts by brute force over a list of all events and shares nothing with verify.

Owns: World, the fixture `world`, ad, page, model_rows.
Never: an import of the jobs, or of verify's truth.
"""

import contextlib
import json
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from engine.sources.log import LogWriter, create_topic
from services.settings import Settings
from services.sqlite.migrate import migrate
from tools.verify import TableVerdict, Verdict, verify

ADS, PAGES = "ad-events", "page-views"

COLUMNS = {
    "campaign_windows": ("campaign_id", "window_start", "views", "seq_sum", "batch"),
    "trending_pages": ("window_end", "rank", "page", "views", "batch"),
    "page_totals": ("page", "views", "seq_sum", "batch"),
    "dead_letters": ("topic", "partition", "record_offset", "reason", "value", "batch"),
}
KEY_WIDTH = {"campaign_windows": 2, "trending_pages": 2, "page_totals": 1, "dead_letters": 3}

Row = tuple[Any, ...]
FAR = 200_000
"""An event time, ms: once each partition has had it, events of the first seconds are late. The batches of the exact world come after it."""

Log = Mapping[tuple[str, int], Sequence[bytes | None]]


def ad(event_time: int, number: int = 0, kind: str = "view", seq: int | None = None) -> bytes:
    """The value of an ad event with just the fields that count; without a seq unless one is given."""
    fields = {"event_type": kind, "ad_id": f"ad-{number:04d}", "event_time": event_time}
    return json.dumps(fields if seq is None else {"seq": seq, **fields}).encode()


def page(name: str, event_time: int = 0, seq: int | None = None) -> bytes:
    """The value of a page view with just the fields that count; without a seq unless one is given."""
    fields = {"page": name, "event_time": event_time}
    return json.dumps(fields if seq is None else {"seq": seq, **fields}).encode()


@dataclass(frozen=True)
class LedgerRow:
    """One row of the ledger."""

    batch: int
    ranges: tuple[tuple[str, int, int, int], ...]
    """Topic, partition, from, until."""
    zero_time: int = 0


class _Event(NamedTuple):
    batch: int
    topic: str
    partition: int
    offset: int
    value: bytes | None
    fields: Any
    """None when it does not decode."""


def model_rows(log: Log, ledger: Sequence[LedgerRow]) -> dict[str, list[Row]]:
    """What the tables hold after the batches of the ledger, by brute force."""
    events = [
        _Event(row.batch, topic, partition, offset, value, _fields(topic, value))
        for row in ledger
        for topic, partition, start, until in row.ranges
        for offset, value in enumerate(log[topic, partition][start:until], start)
    ]
    ads = [event for event in events if event.topic == ADS and event.fields]
    pages = [(event.fields["page"], event) for event in events if event.topic == PAGES and event.fields]
    late = [event for event in ads if _is_late(event, ads, [key[1] for key in log if key[0] == ADS])]
    views = [(_window(event), event) for event in ads if event not in late and _window(event)]
    dead = [(event, "undecodable: x") for event in events if not event.fields] + [
        (event, "late") for event in late
    ]
    return {
        "campaign_windows": [(*key, *_total(views, key)) for key in {key for key, _ in views}],
        "page_totals": [(name, *_total(pages, name)) for name in {name for name, _ in pages}],
        "trending_pages": [row for entry in ledger for row in _trending(entry, pages)],
        "dead_letters": [(*event[1:4], reason, event.value, event.batch) for event, reason in dead],
    }


def _fields(topic: str, value: bytes | None) -> Any:
    wanted = (
        {"event_type": str, "ad_id": str, "event_time": int, "seq": int}
        if topic == ADS
        else {"page": str, "event_time": int, "seq": int}
    )
    with contextlib.suppress(ValueError, AttributeError, TypeError, KeyError):
        event = {"seq": 0, **json.loads(str(value, "utf-8"))}
        if all(type(event[name]) is kind for name, kind in wanted.items()):
            return event
    return None


def _is_late(event: _Event, ads: Sequence[_Event], partitions: Sequence[int]) -> bool:
    before = [
        [min(a.fields["event_time"], a.batch) for a in ads if a.partition == p and a.batch < event.batch]
        for p in partitions
    ]
    if not all(before):
        return False
    return event.fields["event_time"] // 10_000 * 10_000 + 10_000 + 60_000 <= min(map(max, before))


def _window(event: _Event) -> tuple[str, int] | None:
    if event.fields["event_type"] != "view" or not re.fullmatch(r"ad-0\d{3}", event.fields["ad_id"]):
        return None
    return f"campaign-{event.fields['ad_id'][4:6]}", event.fields["event_time"] // 10_000 * 10_000


def _total(touches: Sequence[tuple[Any, _Event]], key: Any) -> tuple[int, int, int]:
    mine = [event for touched, event in touches if touched == key]
    sum_of_numbers = sum(event.fields["seq"] for event in mine) % 2**63
    return len(mine), sum_of_numbers, max(event.batch for event in mine)


def _trending(entry: LedgerRow, pages: Sequence[tuple[str, _Event]]) -> list[Row]:
    if (entry.batch - entry.zero_time) % 2_000:
        return []
    found = Counter(name for name, event in pages if entry.batch - 3_000 < event.batch <= entry.batch)
    ranked = sorted(found, key=lambda name: (-found[name], name))[:10]
    return [(entry.batch, rank, name, found[name], entry.batch) for rank, name in enumerate(ranked, 1)]


class World:
    """A stack's data folder: a log of two ad partitions and one of page views, a ledger, tables."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.settings = Settings(stack="embedded", data_dir=folder, **settings)
        self.log: dict[tuple[str, int], list[bytes | None]] = {(ADS, 0): [], (ADS, 1): [], (PAGES, 0): []}
        self.ledger: list[LedgerRow] = []
        self._reached = dict.fromkeys(self.log, 0)
        create_topic(self.settings.log_dir, ADS, 2)
        create_topic(self.settings.log_dir, PAGES, 1)
        migrate(self.settings.results_path)
        self._store = sqlite3.connect(
            self.settings.results_path, isolation_level=None, check_same_thread=False
        )
        self._store.execute("PRAGMA synchronous=OFF")

    def send(self, topic: str, partition: int, *values: bytes | None) -> None:
        """Append records to the log, as one frame."""
        with LogWriter(self.settings.log_dir, topic, partition) as writer:
            writer.append([(0, b"key", value) for value in values])
        self.log[topic, partition].extend(values)

    def plan(self, time: int) -> LedgerRow:
        """A batch of everything that is in the log and in no batch yet."""
        ranges = tuple((*key, self._reached[key], len(values)) for key, values in self.log.items())
        self._reached = {key: len(values) for key, values in self.log.items()}
        return LedgerRow(time, ranges)

    def commit(self, row: LedgerRow) -> None:
        """Add a batch to the ledger."""
        self.ledger.append(row)
        self.put("ledger", ("pipeline", "1970-01-01", row.batch, 0, row.zero_time, json.dumps(row.ranges)))

    def batch(self, time: int) -> LedgerRow:
        """Plan a batch and commit it."""
        row = self.plan(time)
        self.commit(row)
        return row

    def fill(self, ledger: Sequence[LedgerRow] = ()) -> None:
        """Put the rows of the model, for the ledger as it is or for another one, in place of all rows."""
        self._store.execute("BEGIN")
        for table, rows in model_rows(self.log, ledger or self.ledger).items():
            self.sql(f"DELETE FROM {table}")  # noqa: S608 - names of tables are this module's own, here and below
            for row in rows:
                self.put(table, row)
        self._store.execute("COMMIT")

    def put(self, table: str, row: Row) -> None:
        """Add a row to a table, or write over it."""
        columns = COLUMNS.get(table, ("app", "day", "batch", "attempt", "zero_time", "ranges"))
        places = ", ".join("?" * len(row))
        self.sql(f"INSERT OR REPLACE INTO {table} ({', '.join(columns)}) VALUES ({places})", *row)  # noqa: S608

    def sql(self, statement: str, *values: object) -> None:
        """Run a statement in the results store; it must change something, unless it empties a table."""
        changed = self._store.execute(statement, values).rowcount
        assert changed or re.fullmatch(r"DELETE FROM \w+", statement)

    def close(self) -> None:
        """Close the store."""
        self._store.close()

    def verify(self, wait_seconds: float = 0, **settings: Any) -> Verdict:
        """The verdict."""
        return verify(self.settings.model_copy(update=settings), wait_seconds=wait_seconds)


@pytest.fixture(name="world")
def exact_world(tmp_path: Path) -> Iterator[World]:
    """Five batches of both topics with views, clicks, ties, a late record and some that do not decode; all exact."""
    world = World(tmp_path)
    for second in range(1, 6):
        time = second * 1_000
        world.send(
            ADS,
            0,
            ad(time, 1, seq=10 * second),
            ad(time + 4_000, 15, seq=10 * second + 1),
            ad(time, 7, "click"),
            ad(time, 5_000),
        )
        world.send(ADS, 1, ad(time + 1, 2), b"not json" if second == 2 else ad(time, 999, seq=second))
        world.send(
            PAGES,
            0,
            *(page(f"/page/{n:03d}", seq=10 * second + n) for n in range(second + 7)),
            page("/page/002"),
            page("/page/001"),
        )
        if second == 3:
            world.send(ADS, 0, ad(FAR))
            world.send(ADS, 1, ad(FAR), None)
            world.send(PAGES, 0, b'{"page":7,"event_time":1}')
        world.batch(FAR + time)
    world.fill()
    yield world
    world.close()


def table(verdict: Verdict, name: str) -> TableVerdict:
    """The verdict over one table."""
    return next(table for table in verdict.tables if table.name == name)


def counts(verdict: Verdict) -> tuple[int, int, int]:
    """Missing, over and wrong."""
    return verdict.missing, verdict.over, verdict.wrong

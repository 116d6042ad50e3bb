"""The truth: what every table must hold, recomputed from the log and the ledger with plain json and dicts.

The rules are the contract's and are written down here a second time on purpose; nothing is shared with
the engine or the jobs.

    window of an ad event   [event_time // 10 s * 10 s, + 10 s)
    watermark of a batch    min over ALL partitions of the largest event time in the batches before it; it never falls, and an
                            event time that is later than its batch counts as the batch's
    late                    window end + 60 s <= watermark
    seq_sum                 the sum of `seq` of the counted events, modulo 2^63; an event without one adds 0. It shows one event lost and
                            another one counted twice, unless both have the same number, in two partitions
    window of trending      the batches with a time in (t - 3 s, t], at every t on the grid of 2 s

Owns: Truth, Changes, decode.
Never: I/O, a clock, a comparison.
"""

import json
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Iterable
from typing import Any, TypeGuard

from tools.verify.ledger import LedgerBatch, Range
from tools.verify.schema import TABLES, Values

AD_EVENTS = "ad-events"
PAGE_VIEWS = "page-views"

WINDOW_MS = 10_000
LATENESS_MS = 60_000
SLIDE_MS = 2_000
LENGTH_MS = 3_000
TOP = 10
LONGEST_PAGE = 1_000
LAST_TIME_MS = 253_402_300_799_999
SEQ_SUMS = 2**63

CAMPAIGNS = {f"ad-{index:04d}": f"campaign-{index // 10:02d}" for index in range(1_000)}
"""The campaign of each ad."""

Event = dict[str, Any]

Record = tuple[int, bytes | None, Event | None]
"""Offset, value, and what `decode` made of the value."""

Read = Callable[[Range], Iterable[Record]]
"""Gives the records of a range, in offset order."""

Changes = dict[str, dict[Values, Values]]
"""For each table the keys that a batch touched, with their values as of that batch."""


def _refuse(constant: str) -> None:
    raise ValueError(constant)


_AD_FIELDS = ("event_type", "ad_id", "event_time")
_NO_AD = (None, None, None)
_JSON = json.JSONDecoder(parse_constant=_refuse)


def decode(value: bytes | None) -> Event | None:
    """The JSON object in a record's value, or None when it holds none.

    Example:
        >>> decode(b'{"page":"/page/001"}')
        {'page': '/page/001'}
        >>> decode(b"NaN") is None
        True
    """
    if value is None:
        return None
    try:
        # Bytes that are no UTF-8 become surrogates: they spoil the fields that they stand in, and no others.
        event = _parse(value.decode("utf-8", "surrogateescape"))
        if b"\\u" in value:  # an escape may spell half of a surrogate pair, which no JSON text may hold
            whole = _JSON.decode(value.decode("utf-8", "replace"))
            json.dumps(whole, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) else None


def _parse(text: str) -> Any:
    """What json makes of a text; an object without blanks around it takes half the time."""
    if text.startswith("{"):
        parsed, end = _JSON.raw_decode(text)
        if end == len(text):
            return parsed
    return _JSON.decode(text)


def _is_text(value: Any) -> TypeGuard[str]:
    """Whether a field holds text that can be stored; a surrogate, escaped or not, is none."""
    if not isinstance(value, str):
        return False
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_page(value: Any) -> TypeGuard[str]:
    """Whether a field can be a page: text of 1 to 1,000 characters."""
    return _is_text(value) and 1 <= len(value) <= LONGEST_PAGE


def _is_time(value: Any) -> TypeGuard[int]:
    """Whether a field can be an event time: milliseconds from the epoch to the end of the year 9999."""
    return type(value) is int and 0 <= value <= LAST_TIME_MS


def _is_seq(value: Any) -> TypeGuard[int]:
    """Whether a field can be an event's number in its partition."""
    return type(value) is int and 0 <= value < SEQ_SUMS


class Counts:
    """The views of each key, and the sum of their events' numbers.

    Example:
        >>> counts = Counts()
        >>> counts.add("/page/001", 7)
        >>> counts.add("/page/001", 2**63 - 1)
        >>> counts.row("/page/001")
        (2, 6)
    """

    def __init__(self) -> None:
        self.views: Counter[str] = Counter()
        self.seqs: Counter[str] = Counter()

    def add(self, key: str, seq: int) -> None:
        """Count an event."""
        self.views[key] += 1
        self.seqs[key] += seq

    def update(self, others: "Counts") -> None:
        """Count the events of others too."""
        self.views.update(others.views)
        self.seqs.update(others.seqs)

    def row(self, key: str) -> Values:
        """The columns of a key."""
        return self.views[key], self.seqs[key] % SEQ_SUMS


class Truth:
    """The tables' contents, moved on one committed batch at a time.

    1. Batches are applied in batch order, each once.

    Args:
        tables: those that the application writes.

    State: counts of each page, of each campaign and window that may still change, and of the last three seconds of batches.
    """

    def __init__(self, tables: Collection[str] = TABLES) -> None:
        self._tables = tables
        self._newest_ad_ms: dict[int, int | None] = {}
        """For each partition of ad-events the largest event time of the batches before; None before its first."""
        self._mark: int | None = None
        """The watermark of the newest batch, which never falls."""
        self._windows: defaultdict[int, Counts] = defaultdict(Counts)
        """Those of each campaign, by the start of the window; without windows for which every event is late."""
        self._pages = Counts()
        self._parts: deque[tuple[int, Counter[str]]] = deque()
        """Batch time and page counts of the batches that a window may still need."""

    def apply(self, batch: LedgerBatch, read: Read) -> Changes:
        """Take in the records of a batch; what it changed."""
        changes: Changes = {name: {} for name in TABLES}
        late = self._newest_late(batch)
        windows: defaultdict[int, Counts] = defaultdict(Counts)
        pages = Counts()
        for item in batch.ranges:
            if item.topic == AD_EVENTS:
                self._read_ads(item, read(item), late, windows, changes["dead_letters"])
                high = self._newest_ad_ms[item.partition]
                if high is not None:
                    self._newest_ad_ms[item.partition] = min(high, batch.time)
            elif item.topic == PAGE_VIEWS:
                _read_pages(item, read(item), pages, changes["dead_letters"])
        for start, counts in windows.items():
            self._windows[start].update(counts)
        changes["campaign_windows"] = {
            (campaign, start): self._windows[start].row(campaign)
            for start, counts in windows.items()
            for campaign in counts.views
        }
        if "page_totals" in self._tables:
            self._pages.update(pages)
            changes["page_totals"] = {(page,): self._pages.row(page) for page in pages.views}
        if "trending_pages" in self._tables:
            changes["trending_pages"] = self._trending(batch, pages.views)
        return changes

    def _watermark(self, batch: LedgerBatch) -> int | None:
        """Of the batch: over the partitions that it has a range of, and never less than that of the batch before."""
        newest = [self._newest_ad_ms.get(item.partition) for item in batch.ranges if item.topic == AD_EVENTS]
        known = [time for time in newest if time is not None]
        if known and len(known) == len(newest):
            self._mark = max(min(known), min(known) if self._mark is None else self._mark)
        return self._mark

    def _newest_late(self, batch: LedgerBatch) -> int:
        """Where the newest window begins that is late for the batch, -1 while none is; what can no longer change is dropped."""
        watermark = self._watermark(batch)
        if watermark is None:
            return -1
        late = watermark - WINDOW_MS - LATENESS_MS
        for start in [start for start in self._windows if start <= late]:
            del self._windows[start]
        return late

    def _read_ads(
        self,
        item: Range,
        records: Iterable[Record],
        late: int,
        windows: defaultdict[int, Counts],
        dead: dict[Values, Values],
    ) -> None:
        high = self._newest_ad_ms.get(item.partition)
        for offset, value, event in records:
            kind, ad, time = map(event.get, _AD_FIELDS) if event else _NO_AD
            seq = event.get("seq", 0) if event else None
            if not (_is_text(kind) and _is_text(ad) and _is_time(time) and _is_seq(seq)):
                dead[AD_EVENTS, item.partition, offset] = ("undecodable", value)
                continue
            if high is None or time > high:
                high = time
            start = time - time % WINDOW_MS
            if start <= late:
                dead[AD_EVENTS, item.partition, offset] = ("late", value)
            elif kind == "view" and ad in CAMPAIGNS:
                windows[start].add(CAMPAIGNS[ad], seq)
        self._newest_ad_ms[item.partition] = high

    def _trending(self, batch: LedgerBatch, pages: Counter[str]) -> dict[Values, Values]:
        self._parts.append((batch.time, pages))
        while self._parts[0][0] <= batch.time - LENGTH_MS:
            self._parts.popleft()
        if (batch.time - batch.zero_time) % SLIDE_MS:
            return {}
        window: Counter[str] = Counter()
        for _, part in self._parts:
            window.update(part)
        ranked = sorted(window.items(), key=lambda page: (-page[1], page[0]))[:TOP]
        return {(batch.time, rank): page for rank, page in enumerate(ranked, start=1)}


def _read_pages(item: Range, records: Iterable[Record], pages: Counts, dead: dict[Values, Values]) -> None:
    for offset, value, event in records:
        page, seq = (event.get("page"), event.get("seq", 0)) if event else (None, None)
        if event and _is_page(page) and _is_time(event.get("event_time")) and _is_seq(seq):
            pages.add(page, seq)
        else:
            dead[PAGE_VIEWS, item.partition, offset] = ("undecodable", value)

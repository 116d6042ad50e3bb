"""Follows the producers' own sequences through the log, and compares totals with their closed form.

Each event carries the sequence number that its producer gave it, from 0 and without a gap in each partition, and its
content is a function of seed, topic, partition and number. So the log itself can be checked, without any table:
numbers that are absent or come twice are a producer's fault and told apart (a dead letter that was sent again is none); where they are whole, the views of every page and
campaign must be those of the closed form, late events included.

Owns: Producers.
Never: I/O.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable

from services.producer.events import ad_event, campaign_views, page_event, page_views
from tools.verify.ledger import Partition
from tools.verify.truth import AD_EVENTS, CAMPAIGNS, PAGE_VIEWS, Event, Record
from tools.verify.verdict import Offender, ProducersVerdict

FIELDS = {
    AD_EVENTS: {"seq", "event_time", "user_id", "page_id", "ad_id", "ad_type", "event_type", "ip_address"},
    PAGE_VIEWS: {"seq", "event_time", "user", "page"},
}
"""A record is a producer's event when it has exactly these fields; others are stepped over."""
CONTENT = {AD_EVENTS: ad_event, PAGE_VIEWS: page_event}
CLOSED_FORM = {AD_EVENTS: campaign_views, PAGE_VIEWS: page_views}


class Producers:
    """What the producers sent, as far as the ledger goes.

    1. Records of a partition are observed in offset order, each once.

    State: for each partition the next number, for each partition and page or campaign its views.
    """

    def __init__(self, seed: int, again: Collection[tuple[object, ...]] = ()) -> None:
        self._seed = seed
        self._again = frozenset(again)
        """Topic, partition and offset of records that were sent again, with sequence numbers of long ago."""
        self._next: dict[Partition, int] = defaultdict(int)
        self._views: dict[Partition, Counter[str]] = defaultdict(Counter)
        self._shown_by: dict[Partition, object] = {}
        self._uneven: set[Partition] = set()
        """Partitions with a gap or a duplicate: they have no closed form."""
        self._foreign = False
        """Whether a first event is another than the seed says."""
        self._events = self._others = self._gaps = self._duplicates = 0

    def observe(self, where: Partition, records: Iterable[Record], reader: object = None) -> None:
        """Take in the next records of a partition.

        Args:
            where: the partition.
            records: in offset order.
            reader: who goes through them; where several do, the first one counts.
        """
        if self._shown_by.setdefault(where, reader) is not reader:
            return
        fields, views = FIELDS.get(where[0], set()), self._views[where]
        upcoming = self._next[where]
        again = self._again
        for offset, value, event in records:
            seq = event["seq"] if event and event.keys() == fields else None
            if again and (*where, offset) in again:
                seq = None
            if event is None or type(seq) is not int:
                self._others += 1
                continue
            if seq != upcoming:
                self._note_break(where, upcoming, seq)
            if seq == 0:
                self._check_first(where, event, value)
            upcoming = max(upcoming, seq + 1)
            self._events += 1
            if "page" in event:
                views[event["page"]] += 1
            elif event["event_type"] == "view":
                views[CAMPAIGNS.get(event["ad_id"], "")] += 1
        self._next[where] = upcoming

    def _note_break(self, where: Partition, upcoming: int, seq: int) -> None:
        self._uneven.add(where)
        self._gaps += max(0, seq - upcoming)
        self._duplicates += seq < upcoming

    def _check_first(self, where: Partition, event: Event, value: bytes | None) -> None:
        time = event["event_time"]
        meant = CONTENT[where[0]](self._seed, where[1], 0, time) if type(time) is int else None
        self._foreign |= meant is None or meant[1] != value

    def verdict(self) -> ProducersVerdict:
        """What was found, AFTER the last record."""
        meant: Counter[str] = Counter()
        found: Counter[str] = Counter()
        for where, views in self._views.items():
            if where not in self._uneven and self._next[where] and not self._foreign:
                meant.update(CLOSED_FORM[where[0]](self._seed, where[1], self._next[where]))
                found.update(views)
        names = sorted(meant.keys() | found.keys())
        wrong = tuple(
            Offender("wrong", name, f"views={meant[name]}", f"views={found[name]}")
            for name in names
            if meant[name] != found[name]
        )
        return ProducersVerdict(
            self._events, self._others, self._gaps, self._duplicates, len(names), wrong, foreign=self._foreign
        )

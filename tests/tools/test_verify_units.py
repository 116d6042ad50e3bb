"""verify over the units that replicas share: each has a ledger and batches of its own, and all write the same tables."""

from collections.abc import Iterator, Mapping, Sequence

import pytest

from services.settings import Settings
from tools.verify.judge import Judge
from tools.verify.ledger import LedgerBatch, Partition, Range, Stored
from tools.verify.producers import Producers
from tools.verify.readers import Reader, readers_of
from tools.verify.replay import Replay, ledger_verdict
from tools.verify.schema import TABLES, Fact, Values
from tools.verify.truth import Changes
from tools.verify.verdict import CannotTellError, TableVerdict

SETTINGS = Settings(engines=3)
UNITS = readers_of(SETTINGS, ["pipeline-page_totals-0"])
TRENDING, FIRST, SECOND = (
    next(place for place, unit in enumerate(UNITS) if unit.unit == name)
    for name in ("trending_pages", "page_totals-0", "page_totals-1")
)
PAGES, LETTERS = TABLES["page_totals"], TABLES["dead_letters"]
LETTER: Values = ("page-views", 1, 7)


class Views:
    """A log of page views: partition k holds the views of page k, one at each offset."""

    def __init__(self, *ends: int) -> None:
        self._ends = ends

    def bounds(self, topics: Sequence[str]) -> dict[Partition, tuple[int, int]]:
        """First offsets and ends."""
        return {(topic, number): (0, end) for topic in topics for number, end in enumerate(self._ends)}

    def read(self, item: Range) -> Iterator[Stored]:
        """The records of a range."""
        for offset in range(item.start, item.until):
            yield offset, b'{"seq":%d,"event_time":1,"user":"u","page":"/page/%d"}' % (offset, item.partition)

    def keys(self, where: Partition, offsets: Sequence[int]) -> dict[int, bytes | None]:
        """No record has a key."""
        return dict.fromkeys(offsets)

    def close(self) -> None:
        """Nothing is open."""


def changes(table: str, rows: Mapping[Values, Values]) -> Changes:
    """What a batch changes in one table."""
    return {name: dict(rows) if name == table else {} for name in TABLES}


def judged(judge: Judge, table: str, row: tuple[Values, Fact] | None, cut: int) -> TableVerdict:
    """The verdict over a table of at most one row, with this cut of every unit and no batch after it."""
    cuts = [cut] * len(UNITS)
    judge.read(TABLES[table], [row] if row else [], cuts)
    return next(judge.verdicts(cuts))


def replays(*ledgers: tuple[int, list[Range]]) -> list[Replay]:
    """Units that have committed one batch for each range."""
    producers, log = Producers(1), Views(100, 100)
    made = []
    for place, items in ledgers:
        replay = Replay(log, UNITS[place], lambda _done, _total: None, producers)
        batches = [LedgerBatch(1_000 * (number + 1), 0, (item,)) for number, item in enumerate(items)]
        replay.take([batches], lambda _time, _changes: None)
        made.append(replay)
    return made


def views(partition: int, start: int, until: int) -> Range:
    """A range of page-views."""
    return Range("page-views", partition, start, until)


def test_ledger_says_who_wrote_the_tables() -> None:
    """The batches of the ledger say whether one engine wrote the tables or units did, whatever ENGINES is now."""
    one = Settings()
    assert [reader.app for reader in readers_of(one, {"pipeline"})] == ["pipeline"]
    assert [reader.app for reader in readers_of(SETTINGS, {"pipeline"})] == ["pipeline"]
    for settings in (one, SETTINGS):
        assert [reader.unit for reader in readers_of(settings, {"pipeline-trending_pages"})] == [
            "campaign_windows",
            "trending_pages",
            "page_totals-0",
            "page_totals-1",
        ]


def test_tables_of_one_engine_and_of_units_cannot_be_told_apart() -> None:
    """A ledger of both is refused by name."""
    with pytest.raises(CannotTellError, match="pipeline and of pipeline-page_totals-1"):
        readers_of(SETTINGS, {"pipeline", "pipeline-page_totals-1"})


def test_each_record_counts_once() -> None:
    """A record that two units read is one record of the log, and what one of them has not taken is behind."""
    both = replays(
        (TRENDING, [views(0, 0, 60), views(1, 0, 100)]),
        (FIRST, [views(0, 0, 40), views(0, 40, 100)]),
        (SECOND, [views(1, 0, 100)]),
    )
    verdict = ledger_verdict(both, 1_000)
    assert (verdict.records, verdict.behind, verdict.batches, verdict.units) == (200, 40, 5, 3)
    assert verdict.faults == ()


def test_gap_is_that_of_its_unit() -> None:
    """A unit whose ranges leave a gap is named, and the others are without fault."""
    verdict = ledger_verdict(
        replays((FIRST, [views(0, 0, 40), views(0, 41, 100)]), (SECOND, [views(1, 0, 100)])), 1_000
    )
    (fault,) = verdict.faults
    assert fault.key.endswith("of page_totals-0")
    assert fault.found == "a gap of 1: [41, 100)"


def test_unit_keeps_to_its_partitions() -> None:
    """A range of a partition that is another unit's is a fault."""
    (fault,) = ledger_verdict(replays((FIRST, [views(1, 0, 100)])), 1_000).faults
    assert fault.found.startswith("a range beyond the log")


@pytest.mark.parametrize("row", [None, ((("/page/1",)), Fact((5, 0), 1_000))])
def test_page_in_two_units_is_a_fault(row: tuple[Values, Fact] | None) -> None:
    """A page whose views lie in two units is wrong, whatever its row says."""
    judge = Judge(UNITS)
    judge.learn(FIRST, 1_000, changes("page_totals", {("/page/1",): (5, 0)}))
    judge.learn(SECOND, 1_000, changes("page_totals", {("/page/1",): (3, 0)}))
    verdict = judged(judge, "page_totals", row, 1_000)
    assert verdict.shared == 1
    assert verdict.offenders[0].found == "events in page_totals-0 and page_totals-1"


@pytest.mark.parametrize(("batch", "exact"), [(1_000, 1), (2_000, 1), (3_000, 0)])
def test_dead_letter_of_either_reader_is_exact(batch: int, exact: int) -> None:
    """Two units read the record and write the same row, each with its own batch: the row of one of them is exact."""
    judge = Judge(UNITS)
    judge.learn(TRENDING, 1_000, changes("dead_letters", {LETTER: ("late", b"x")}))
    judge.learn(SECOND, 2_000, changes("dead_letters", {LETTER: ("late", b"x")}))
    verdict = judged(judge, "dead_letters", (LETTER, Fact(("late", b"x"), batch)), 5_000)
    assert (verdict.exact, verdict.wrong) == (exact, 1 - exact)


def test_dead_letter_that_nobody_wrote_is_found() -> None:
    """A dead letter with other columns is wrong, one of a record that was counted is over, and one that is gone is missing once."""
    found = Fact(("late", b"y"), 1_000)
    for learned, row, expected in (
        (True, (LETTER, found), (0, 0, 1)),
        (False, (LETTER, found), (0, 1, 0)),
        (True, None, (1, 0, 0)),
    ):
        judge = Judge(UNITS)
        for place in (TRENDING, SECOND) if learned else ():
            judge.learn(place, 1_000, changes("dead_letters", {LETTER: ("late", b"x")}))
        verdict = judged(judge, "dead_letters", row, 5_000)
        assert (verdict.missing, verdict.over, verdict.wrong) == expected


def test_row_waits_for_the_unit_that_wrote_it() -> None:
    """A row later than its own unit's cut is judged when that unit's batch is there, and undecided until then; others say nothing."""
    row = (("/page/1",), Fact((5, 0), 3_000))
    for observed, expected in ((True, (1, 0)), (False, (0, 1))):
        judge, newest = Judge(UNITS), [9_000] * len(UNITS)
        judge.learn(SECOND, 1_000, changes("page_totals", {("/page/1",): (3, 0)}))
        cuts = [9_000 if place != SECOND else 1_000 for place in range(len(UNITS))]
        judge.read(PAGES, [row], cuts)
        assert judge.newest[SECOND] == 3_000
        newest[SECOND] = 1_000
        if observed:
            judge.observe(SECOND, 3_000, changes("page_totals", {("/page/1",): (5, 0)}))
            newest[SECOND] = 3_000
        verdict = next(judge.verdicts(newest))
        assert (verdict.exact, verdict.undecided) == expected


def test_one_engine_reads_and_writes_everything() -> None:
    """A single application has every table and every partition."""
    reader = Reader("pipeline")
    assert reader.tables == set(TABLES)
    assert reader.reads(("page-views", 99))

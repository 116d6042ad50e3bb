"""verify and the ledger: its ranges tile the log, and tell which rows can be judged while the engine runs."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from engine.sources.log import LogWriter
from tests.tools.verify_world import (
    ADS,
    FAR,
    PAGES,
    LedgerRow,
    World,
    ad,
    counts,
    exact_world,  # noqa: F401 - a fixture
    model_rows,
    page,
)
from tools.verify import Verdict
from tools.verify.ledger import LedgerBatch
from tools.verify.stores import SqliteStore


@pytest.mark.parametrize(
    ("batch", "change", "found"),
    [
        (203_000, (0, 1, 0), ["a gap of 1"]),
        (203_000, (0, -1, 0), ["an overlap of 1"]),
        (203_000, (0, -14, -14), ["an overlap of 14", "a gap of 13"]),
        (201_000, (0, 2, 0), ["a gap of 2"]),
        (205_000, (0, 0, 7), ["a range beyond the log"]),
        (205_000, (9, 0, 0), ["a gap of 47", "a range beyond the log"]),
        (205_000, (0, 0, -40), ["a range that runs backwards"]),
    ],
)
def test_ledger_that_does_not_tile_the_log_is_wrong(
    world: World, batch: int, change: tuple[int, int, int], found: list[str]
) -> None:
    """A gap, an overlap and a range beyond the log each count as wrong, and sequences are not told then."""
    row = next(row for row in world.ledger if row.batch == batch)
    ranges = [list(item) for item in row.ranges]
    ranges[-1][1:] = [value + delta for value, delta in zip(ranges[-1][1:], change, strict=True)]
    world.sql("UPDATE ledger SET ranges = ? WHERE batch = ?", json.dumps(ranges), batch)
    verdict = world.verify()
    assert [fault.found.partition(":")[0] for fault in verdict.ledger.faults] == found
    assert verdict.wrong >= len(found)
    assert (verdict.code, verdict.producers) == (1, None)


def test_range_beyond_the_log_harms_no_row(world: World) -> None:
    """What a range claims beyond the end of the log is no record: the rows stay exact and the ledger is wrong."""
    ranges = [[*item[:3], item[3] + 5] for item in world.ledger[-1].ranges]
    world.sql("UPDATE ledger SET ranges = ? WHERE batch = 205000", json.dumps(ranges))
    verdict = world.verify()
    assert (verdict.exact, counts(verdict)) == (verdict.windows, (0, 0, 3))


def test_ledger_row_that_is_gone_is_a_gap_in_each_partition(world: World) -> None:
    """Without one row of the ledger each partition has a gap, and the rows of that batch are wrong."""
    world.sql("DELETE FROM ledger WHERE batch = 203000")
    verdict = world.verify()
    assert [fault.found.split(":")[0] for fault in verdict.ledger.faults] == [
        "a gap of 5",
        "a gap of 4",
        "a gap of 13",
    ]
    assert verdict.wrong > 3


def test_unreadable_ledger_row_cannot_tell(world: World) -> None:
    """Ranges that are no JSON list of ranges stop the proof, with the batch named."""
    world.sql("UPDATE ledger SET ranges = '[[1,2]]' WHERE batch = 203000")
    verdict = world.verify()
    assert verdict.code == 2
    assert "batch 1970-01-01T00:03:23.000Z" in verdict.reason


def test_trimmed_log_cannot_tell(world: World) -> None:
    """A log that no longer begins at 0 gives code 2: what was in it cannot be recomputed."""
    with LogWriter(world.settings.log_dir, PAGES, 0, segment_bytes=1, retention_bytes=1) as writer:
        for _ in range(3):
            writer.append([(0, None, page("/page/000"))])
    verdict = world.verify()
    assert (verdict.code, verdict.windows) == (2, 0)
    assert "page-views[0] begins at offset" in verdict.reason


def test_nothing_committed_cannot_tell(tmp_path: Path) -> None:
    """Neither an empty ledger, nor one of another application, nor a missing store is a proof."""
    world = World(tmp_path)
    assert "nothing is committed yet" in world.verify().reason
    world.batch(201_000)
    assert "'other'" in world.verify(app="other").reason
    world.close()
    world.settings.results_path.unlink()
    assert "does not exist" in world.verify().reason


def test_missing_topic_cannot_tell(world: World) -> None:
    """A ledger that names a topic without a log gives code 2 with the file that is missing."""
    world.commit(LedgerRow(206_000, (("other", 0, 0, 3),)))
    verdict = world.verify()
    assert verdict.code == 2
    assert "other/topic.json" in verdict.reason


def test_rows_of_a_batch_that_never_commits_cannot_tell(world: World) -> None:
    """Rows of a batch without its ledger row are undecided: legal when the engine died in mid-batch."""
    world.send(PAGES, 0, page("/page/000"), page("/page/new"))
    world.fill([*world.ledger, world.plan(206_000)])
    verdict = world.verify()
    assert (verdict.code, verdict.undecided, counts(verdict)) == (2, 12, (0, 0, 0))
    assert "1970-01-01T00:03:26.000Z" in verdict.reason
    assert "legal" in verdict.reason


def test_proven_fault_outweighs_a_doubt(world: World) -> None:
    """A wrong row beside rows of a batch without its ledger row gives code 1."""
    world.send(PAGES, 0, page("/page/000"))
    world.fill([*world.ledger, world.plan(206_000)])
    world.sql("UPDATE page_totals SET views = 99 WHERE page = '/page/001'")
    assert (world.verify().code, counts(world.verify())) == (1, (0, 0, 1))


@pytest.fixture
def in_between(world: World, monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], None]]:
    """Runs what the test appends to the list just before the ledger is read for the second time."""
    steps, calls = [], []

    class Interleaved(SqliteStore):
        def ledger(self, app: str, after: int) -> Iterator[list[LedgerBatch]]:
            calls.append(app)
            if len(calls) == 2:
                for step in steps:
                    step()
            return super().ledger(app, after)

    monkeypatch.setattr("tools.verify.proof.SqliteStore", Interleaved)
    return steps


def test_batch_that_commits_meanwhile_is_judged(world: World, in_between: list[Callable[[], None]]) -> None:
    """Rows of a batch that was half written when they were read are judged once the ledger has it; its other rows are not missed."""
    world.send(PAGES, 0, page("/page/000"), page("/page/new"))
    world.send(ADS, 0, ad(FAR, 500))
    row = world.plan(206_000)
    rows = model_rows(world.log, [*world.ledger, row])
    for changed in set(rows["page_totals"]) - set(model_rows(world.log, world.ledger)["page_totals"]):
        world.put("page_totals", changed)
    in_between.append(lambda: world.commit(row))
    verdict = world.verify(wait_seconds=20)
    assert (verdict.code, verdict.exact, verdict.ledger.batches) == (0, verdict.windows, 6)
    assert verdict.ledger.cut == 205_000


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("UPDATE page_totals SET views = 99, batch = 206000 WHERE page = '/page/000'", (0, 0, 1)),
        ("UPDATE page_totals SET batch = 206000 WHERE page = '/page/001'", (0, 0, 1)),
        ("UPDATE page_totals SET batch = 5500 WHERE page = '/page/000'", (0, 0, 1)),
        (
            "INSERT INTO page_totals (page, views, seq_sum, batch) VALUES ('/page/new', 2, 0, 206000)",
            (0, 0, 1),
        ),
        ("INSERT INTO page_totals (page, views, batch) VALUES ('/page/999', 1, 6000)", (0, 1, 0)),
        ("INSERT INTO page_totals (page, views, seq_sum, batch) VALUES ('/page/new', 1, 0, 4000)", (0, 1, 0)),
    ],
)
def test_wrong_row_of_a_batch_that_commits_meanwhile_is_found(
    world: World, in_between: list[Callable[[], None]], statement: str, expected: tuple[int, int, int]
) -> None:
    """A row newer than the cut must be what its own batch made of its key, and its batch must have touched it."""
    world.send(PAGES, 0, page("/page/000"), page("/page/new"))
    world.put("trending_pages", (206_000, 99, "x", 1, 206_000))
    row = world.plan(206_000)
    in_between.append(lambda: world.commit(row))
    world.sql(statement)
    missing, over, wrong = expected
    assert counts(world.verify(wait_seconds=20)) == (missing, over + 1, wrong)


@pytest.mark.slow
def test_running_engine_gives_no_false_alarm(tmp_path: Path) -> None:
    """While batches are written, rows first and the ledger's row last, every verdict is exact."""
    world = World(tmp_path)
    world.batch(1_000)

    seen = threading.Event()

    def run() -> None:
        for second in range(2, 5_000):
            if seen.is_set():
                return
            world.send(PAGES, 0, *(page(f"/page/{n:03d}", second) for n in range(second % 12)))
            world.send(ADS, second % 2, ad(1_000 * second, second), b"" if second % 5 else None)
            row = world.plan(1_000 * second)
            old, new = (model_rows(world.log, ledger) for ledger in (world.ledger, [*world.ledger, row]))
            for name, rows in new.items():
                for changed in set(rows) - set(old[name]):
                    world.put(name, changed)
            world.commit(row)

    engine = threading.Thread(target=run)
    engine.start()
    verdicts: list[Verdict] = []
    while len({verdict.ledger.cut for verdict in verdicts}) < 4 and engine.is_alive():
        verdicts.append(world.verify(wait_seconds=20))
    seen.set()
    engine.join()
    verdicts.append(world.verify())
    world.close()
    assert [verdict.line for verdict in verdicts if verdict.code] == []
    assert len(world.ledger) == verdicts[-1].ledger.batches
    assert len({verdict.ledger.cut for verdict in verdicts}) >= 4


def test_ledger_of_many_pieces_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger that is read in pieces, over midnight and from the cut on, is taken batch by batch and none twice."""
    monkeypatch.setattr("tools.verify.stores.LEDGER_PIECE", 2)
    world = World(tmp_path)
    for hour in range(1, 8):
        world.send(PAGES, 0, page("/page/000"))
        row = world.plan(hour * 14_400_000)
        world.ledger.append(row)
        day = f"1970-01-{1 + row.batch // 86_400_000:02d}"
        world.put("ledger", ("pipeline", day, row.batch, 0, 0, json.dumps(row.ranges)))
    world.fill()
    verdict = world.verify()
    assert (verdict.code, verdict.ledger.batches, verdict.ledger.records) == (0, 7, 7)
    world.close()


def test_ledger_is_not_run_after(world: World) -> None:
    """A piece of the ledger that is not full is its last, so an engine that writes on keeps no reader for ever."""
    with closing(SqliteStore(world.settings.results_path)) as store:
        pieces = store.ledger("pipeline", 0)
        assert next(pieces)
        world.put("ledger", ("pipeline", "1970-01-02", 90_000_000, 0, 0, "[]"))
        assert list(pieces) == []
        assert [row.time for piece in store.ledger("pipeline", 80_000_000) for row in piece] == [90_000_000]


def test_ledger_row_under_a_wrong_day_cannot_tell(world: World) -> None:
    """A batch that stands among those of a later day would be taken out of turn: it is named, and nothing is claimed."""
    world.sql("UPDATE ledger SET day = '1970-01-02' WHERE batch = 203000")
    verdict = world.verify()
    assert verdict.code == 2
    assert "batch 1970-01-01T00:03:23.000Z stands under the wrong day" in verdict.reason

"""verify reads the embedded log by itself, and checks the log against what the producers meant to send."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.sources.log import LogWriter
from engine.sources.log_format import encode_frame, read_topic
from services.producer.events import ad_event, page_event
from tests.tools.verify_world import ADS, PAGES, LedgerRow, World, exact_world, page  # noqa: F401 - a fixture
from tools.verify.schema import Fact, ResultTable, Values
from tools.verify.stores import SqliteStore


def send_events(world: World, seqs: range, seed: int = 1) -> None:
    """Append what the producers send to each partition."""
    for partition in (0, 1):
        world.send(ADS, partition, *(ad_event(seed, partition, seq, 1_000 + seq)[1] for seq in seqs))
    world.send(PAGES, 0, *(page_event(seed, 0, seq, 1_000 + seq)[1] for seq in seqs))


def test_totals_are_compared_with_the_closed_form(tmp_path: Path) -> None:
    """The views of each page and campaign are those that the producers' closed form gives, other records aside."""
    world = World(tmp_path)
    send_events(world, range(150))
    world.send(PAGES, 0, b"poison")
    world.batch(1_000)
    send_events(world, range(150, 400))
    world.batch(2_000)
    world.fill()
    verdict = world.verify()
    assert (verdict.code, verdict.producers.events, verdict.producers.others) == (0, 1_200, 1)
    assert (verdict.producers.gaps, verdict.producers.duplicates, verdict.producers.wrong_totals) == (
        0,
        0,
        (),
    )
    assert verdict.producers.totals > 150
    world.close()


def test_event_with_other_content_differs_from_the_closed_form(tmp_path: Path) -> None:
    """An event that names another page than the seed says makes two totals wrong, though the tables follow the log."""
    world = World(tmp_path)
    send_events(world, range(100))
    world.send(PAGES, 0, page_event(1, 0, 101, 0)[1].replace(b'"seq":101', b'"seq":100'))
    world.batch(1_000)
    world.fill()
    verdict = world.verify()
    assert len(verdict.producers.wrong_totals) == verdict.wrong == 2
    assert (verdict.code, verdict.exact) == (1, verdict.windows)
    world.close()


def test_gaps_and_duplicates_of_producers_are_told_apart(tmp_path: Path) -> None:
    """Sequences with a gap or a duplicate are counted and no fault of the tables; they have no closed form."""
    world = World(tmp_path)
    send_events(world, range(10))
    send_events(world, range(8, 12))
    send_events(world, range(15, 20))
    world.batch(1_000)
    world.fill()
    verdict = world.verify()
    assert (verdict.producers.gaps, verdict.producers.duplicates, verdict.producers.totals) == (9, 6, 0)
    assert verdict.code == 0
    world.close()


def test_events_of_another_seed_cannot_tell(tmp_path: Path) -> None:
    """A log that was made with another seed than the setting's gives code 2, not hundreds of wrong totals."""
    world = World(tmp_path)
    send_events(world, range(10), seed=5)
    world.batch(1_000)
    world.fill()
    assert "SEED=1" in world.verify().reason
    assert (world.verify().code, world.verify(seed=5).code) == (2, 0)
    world.close()


def test_log_of_many_segments_is_read(tmp_path: Path) -> None:
    """Ranges are read over the borders of frames and segments, and a torn append is behind the end of the log."""
    world = World(tmp_path)
    with LogWriter(world.settings.log_dir, PAGES, 0, segment_bytes=200) as writer:
        for start in range(0, 40, 4):
            values = [page(f"/page/{n % 7:03d}" * (n % 5 * 25 + 1)) for n in range(start, start + 4)]
            writer.append([(0, None, value) for value in values])
            world.log[PAGES, 0].extend(values)
    folder = world.settings.log_dir / PAGES / "0"
    last = max(folder.glob("*.log"))
    last.write_bytes(last.read_bytes() + last.read_bytes()[:50])
    for batch, (start, until) in enumerate([(0, 1), (1, 1), (1, 7), (7, 8), (8, 30), (30, 40)], start=1):
        world.commit(LedgerRow(1_000 * batch, ((PAGES, 0, start, until),)))
    world.fill()
    verdict = world.verify()
    assert (verdict.code, verdict.ledger.records, verdict.ledger.behind) == (0, 40, 0)
    assert len(list(folder.glob("*.log"))) > 3
    world.close()


def test_log_that_grows_while_it_is_verified_is_read_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches that commit while the tables are read lie in frames and segments that were not there before."""
    world = World(tmp_path)

    def grow(records: int) -> None:
        with LogWriter(world.settings.log_dir, PAGES, 0, segment_bytes=200) as writer:
            for _ in range(records):
                writer.append([(0, None, page("/page/000"))])
        world.log[PAGES, 0].extend([page("/page/000")] * records)
        world.batch(1_000 * (len(world.ledger) + 1))
        world.fill()

    class Growing(SqliteStore):
        def rows(self, table: ResultTable) -> Iterator[tuple[Values, Fact]]:
            if len(world.ledger) == 1 and table.name != "replays":
                grow(20)
                grow(1)
            return super().rows(table)

    grow(10)
    monkeypatch.setattr("tools.verify.proof.SqliteStore", Growing)
    verdict = world.verify(wait_seconds=20)
    assert (verdict.code, verdict.exact, verdict.reason) == (0, verdict.windows, "")
    assert (verdict.ledger.cut, verdict.ledger.batches, verdict.ledger.records) == (1_000, 3, 31)
    assert verdict.ledger.behind == 0
    world.close()


def test_given_up_segment_counts_up_to_the_next_base(tmp_path: Path) -> None:
    """What a writer left behind in a segment that it gave up is void, also when the next one has the same base."""
    world = World(tmp_path)
    salt = read_topic(world.settings.log_dir, PAGES).salt
    world.log[PAGES, 0] = [page("/page/000"), page("/page/001")]
    first, second = (encode_frame(n, [(0, None, value)], salt) for n, value in enumerate(world.log[PAGES, 0]))
    void = [encode_frame(n, [(0, None, page("/page/void"))], salt) for n in (0, 1)]
    folder = world.settings.log_dir / PAGES / "0"
    for name, data in ((f"{0:020d}.0", void[0]), (f"{0:020d}.1", first + void[1]), (f"{1:020d}.0", second)):
        (folder / f"{name}.log").write_bytes(data)
    world.batch(1_000)
    world.fill()
    verdict = world.verify()
    assert (verdict.code, verdict.exact, verdict.ledger.records) == (0, 2, 2)
    world.close()


def test_damaged_log_cannot_tell(world: World) -> None:
    """A flipped byte in the middle of the log is named with its folder or file, and nothing is claimed about rows."""
    path = next((world.settings.log_dir / PAGES / "0").glob("*.log"))
    data = bytearray(path.read_bytes())
    with LogWriter(world.settings.log_dir, PAGES, 0, segment_bytes=1) as writer:
        writer.append([(0, None, page("/page/000"))])
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    verdict = world.verify()
    assert verdict.code == 2
    assert "damaged behind offset" in verdict.reason

"""verify finds every row that is not exact, and nothing else."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.tools.verify_world import (
    ADS,
    COLUMNS,
    FAR,
    KEY_WIDTH,
    PAGES,
    LedgerRow,
    World,
    ad,
    counts,
    exact_world,  # noqa: F401 - a fixture
    model_rows,
    page,
    table,
)


def test_exact_tables_give_code_zero(world: World) -> None:
    """A world in which every row is as it must be has the code 0, and the closing line counts its rows."""
    verdict = world.verify()
    rows = model_rows(world.log, world.ledger)
    assert {table.name: table.exact for table in verdict.tables} == {
        name: len(rows[name]) for name in COLUMNS
    }
    assert min(len(rows[name]) for name in COLUMNS) >= 4
    total = sum(map(len, rows.values()))
    dead = len(rows["dead_letters"])
    assert (
        verdict.line == f"verify: windows={total} exact={total} missing=0 over=0 wrong=0 dead_letters={dead}"
    )
    assert (verdict.code, verdict.reason) == (0, "")


@pytest.mark.parametrize(
    ("statement", "name", "expected"),
    [
        (
            "UPDATE campaign_windows SET views = views + 1 WHERE campaign_id = 'campaign-01'",
            "campaign_windows",
            (0, 0, 1),
        ),
        (
            "UPDATE campaign_windows SET campaign_id = 'campaign-77' WHERE campaign_id = 'campaign-01'",
            "campaign_windows",
            (1, 1, 0),
        ),
        ("UPDATE page_totals SET views = NULL WHERE page = '/page/003'", "page_totals", (0, 0, 1)),
        ("UPDATE page_totals SET batch = NULL WHERE page = '/page/003'", "page_totals", (0, 0, 1)),
        ("UPDATE page_totals SET batch = 4500 WHERE page = '/page/003'", "page_totals", (0, 0, 1)),
        (
            "UPDATE trending_pages SET views = views - 1 WHERE window_end = 204000 AND rank = 3",
            "trending_pages",
            (0, 0, 1),
        ),
        (
            "UPDATE dead_letters SET reason = 'late' WHERE reason LIKE 'undecodable%'",
            "dead_letters",
            (0, 0, 3),
        ),
        (
            "UPDATE dead_letters SET value = x'00' WHERE reason = 'late' AND batch = 204000",
            "dead_letters",
            (0, 0, 6),
        ),
        ("DELETE FROM page_totals WHERE page = '/page/003'", "page_totals", (1, 0, 0)),
        ("DELETE FROM trending_pages WHERE window_end = 202000", "trending_pages", (9, 0, 0)),
        ("DELETE FROM dead_letters WHERE reason LIKE 'undecodable%'", "dead_letters", (3, 0, 0)),
        (
            "UPDATE campaign_windows SET _deleted = 1 WHERE campaign_id = 'campaign-99'",
            "campaign_windows",
            (1, 0, 0),
        ),
        (
            "INSERT INTO page_totals (page, views, batch) VALUES ('/page/999', 1, 1000)",
            "page_totals",
            (0, 1, 0),
        ),
        (
            "INSERT INTO page_totals (page, views, batch) VALUES ('/page/999', 1, 1001)",
            "page_totals",
            (0, 1, 0),
        ),
        (
            "INSERT INTO trending_pages (window_end, rank, page, views, batch) VALUES (3000, 1, 'x', 1, 3000)",
            "trending_pages",
            (0, 1, 0),
        ),
        (
            "INSERT INTO dead_letters VALUES ('ad-events', 0, 0, 'late', x'', 1000, 0, 0)",
            "dead_letters",
            (0, 1, 0),
        ),
        (
            "INSERT INTO dead_letters VALUES ('other', 0, 0, 'late', x'', 1000, 0, 0)",
            "dead_letters",
            (0, 1, 0),
        ),
    ],
)
def test_changed_row_is_found_and_counted(
    world: World, statement: str, name: str, expected: tuple[int, int, int]
) -> None:
    """A row that was changed, dropped or added by hand is counted in the column of what was done to it."""
    world.sql(statement)
    verdict = world.verify()
    assert counts(table(verdict, name)) == counts(verdict) == expected
    assert verdict.code == 1


def test_stale_row_is_wrong(world: World) -> None:
    """A row as of an older batch than the newest that touched its key is wrong, though it was exact once."""
    before = {row[0]: row for row in model_rows(world.log, world.ledger[:4])["page_totals"]}["/page/001"]
    world.sql(
        "UPDATE page_totals SET views = ?, seq_sum = ?, batch = ? WHERE page = ?", *before[1:], before[0]
    )
    verdict = world.verify()
    assert counts(verdict) == (0, 0, 1)
    assert table(verdict, "page_totals").offenders[0].found.endswith("batch=1970-01-01T00:03:24.000Z")


def test_batch_counted_twice_is_wrong_in_every_row_it_touched(world: World) -> None:
    """When the state took in the page views of one batch twice, each row that has them is wrong."""
    first, second, *rest = world.ledger
    doubled = LedgerRow(second.batch, (*second.ranges, second.ranges[-1]))
    true, false = (model_rows(world.log, ledger) for ledger in (world.ledger, [first, doubled, *rest]))
    differing = sum(len(set(false[name]) - set(true[name])) for name in COLUMNS)
    world.fill([first, doubled, *rest])
    assert differing > 9
    assert counts(world.verify()) == (0, 0, differing)


@pytest.mark.parametrize(
    ("where", "lost", "twice", "name"),
    [((ADS, 0), 5, 1, "campaign_windows"), ((PAGES, 0), 10, 0, "page_totals")],
)
def test_lost_event_beside_one_that_counts_twice_is_found(
    world: World, where: tuple[str, int], lost: int, twice: int, name: str
) -> None:
    """When a row counts one of its events twice in the place of another one, its views are right, and its seq_sum shows it."""
    log = {**world.log, where: list(world.log[where])}
    log[where][lost] = log[where][twice]
    true, false = (set(model_rows(each, world.ledger)[name]) for each in (world.log, log))
    (right,), (wrong,) = true - false, false - true
    assert (right[:-2], right[-1]) == (wrong[:-2], wrong[-1])
    world.put(name, wrong)
    found = world.verify()
    assert counts(table(found, name)) == counts(found) == (0, 0, 1)
    (offender,) = table(found, name).offenders
    assert list(offender.lines())[-1] == "      differs  seq_sum"


def test_late_record_that_was_counted_is_found(world: World) -> None:
    """A late record in a window and not among the dead letters is one wrong row and one missing."""
    world.sql(
        "UPDATE campaign_windows SET views = views + 1, batch = 204000 WHERE campaign_id = 'campaign-00' AND window_start = 0"
    )
    world.sql(
        "DELETE FROM dead_letters WHERE batch = 204000 AND reason = 'late' AND partition = 0 AND record_offset = 13"
    )
    assert counts(world.verify()) == (1, 0, 1)


def test_ties_out_of_order_are_wrong(world: World) -> None:
    """Two pages with equally many views that stand in the wrong order are two wrong rows."""
    world.sql(
        "UPDATE trending_pages SET page = '/page/005' WHERE window_end = 204000 AND rank = 5 AND page = '/page/004'"
    )
    world.sql(
        "UPDATE trending_pages SET page = '/page/004' WHERE window_end = 204000 AND rank = 6 AND page = '/page/005'"
    )
    assert counts(table(world.verify(), "trending_pages")) == (0, 0, 2)


def test_reason_is_compared_up_to_the_colon(world: World) -> None:
    """The text after the colon of a dead letter's reason is for people, and may be any."""
    world.sql("UPDATE dead_letters SET reason = 'undecodable' WHERE reason LIKE 'undecodable%'")
    assert world.verify().code == 0


def test_tables_of_other_jobs_are_told_when_they_have_rows(world: World) -> None:
    """The table of a job that does not run is left out when it is empty, and proven when it has rows."""
    world.sql("DELETE FROM trending_pages")
    names = [table.name for table in world.verify(jobs=("page_totals",)).tables]
    assert names == ["campaign_windows", "page_totals", "dead_letters"]
    assert counts(world.verify()) == (len(model_rows(world.log, world.ledger)["trending_pages"]), 0, 0)


def test_first_offenders_of_a_table_are_shown(world: World) -> None:
    """Of many rows that are not exact the first five are shown, each with key, expected and found values, and what differs."""
    world.sql("UPDATE page_totals SET views = views + 10")
    world.sql("UPDATE dead_letters SET reason = 'other'")
    verdict = world.verify()
    lines = list(table(verdict, "page_totals").lines())
    assert max(map(len, verdict.lines())) <= 80
    assert lines[0] == "page_totals       rows 12  exact 0  missing 0  over 0  wrong 12"
    assert len(lines) == 21
    assert lines[1:5] == [
        "    wrong    /page/000",
        "      expected views=5 seq_sum=150 batch=1970-01-01T00:03:25.000Z",
        "      found    views=15 seq_sum=150 batch=1970-01-01T00:03:25.000Z",
        "      differs  views",
    ]


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"[]",
        b"null",
        b"\xff",
        b'{"page":"x"}',
        b'{"page":"x","event_time":1.0}',
        b'{"page":"x","event_time":true}',
        b'{"page":"x","event_time":"1"}',
        b'{"page":null,"event_time":1}',
        b'{"page":"x","event_time":1} {}',
        b'{"page":"x","event_time":1,"more":NaN}',
        b'{"page":"\\ud800","event_time":1}',
        b'{"page":"x\xff","event_time":1}',
        b'{"page":"x","event_time":1,"more":"\\ud800"}',
        b'{"page":"","event_time":1}',
        b'{"page":"' + 1_001 * b"x" + b'","event_time":1}',
        b'{"page":"x","event_time":-1}',
        b'{"page":"x","event_time":9223372036854775808}',
        b'\xef\xbb\xbf{"page":"x","event_time":1}',
        b'{"page":"x","event_time":1,"seq":null}',
        b'{"page":"x","event_time":1,"seq":"1"}',
        b'{"page":"x","event_time":1,"seq":-1}',
        b'{"page":"x","event_time":1,"seq":9223372036854775808}',
        b"[" * 100_000,
    ],
)
def test_value_that_does_not_decode_is_a_dead_letter(tmp_path: Path, value: bytes | None) -> None:
    """A value that is no JSON object in UTF-8 with the fields in their types must be among the dead letters, bytes and all."""
    world = World(tmp_path)
    world.send(PAGES, 0, page("/page/000"), value)
    world.batch(1_000)
    world.put("page_totals", ("/page/000", 1, 0, 1_000))
    assert counts(world.verify()) == (1, 0, 0)
    world.put("dead_letters", (PAGES, 0, 1, "undecodable: why", value, 1_000))
    assert (world.verify().exact, world.verify().code) == (2, 0)
    world.close()


def test_lateness_waits_for_every_partition(tmp_path: Path) -> None:
    """Nothing is late until each partition has had a record, and then the slowest partition decides."""
    world = World(tmp_path)
    world.send(ADS, 0, ad(FAR))
    world.batch(201_000)
    world.send(ADS, 0, ad(0))
    world.batch(202_000)
    world.send(ADS, 1, ad(69_999))
    world.batch(203_000)
    world.send(ADS, 0, ad(9_999))
    world.send(ADS, 1, ad(70_000))
    world.batch(204_000)
    world.send(ADS, 0, ad(9_999), ad(10_000))
    world.batch(205_000)
    world.fill()
    verdict = world.verify()
    assert (verdict.code, verdict.dead_letters) == (0, 1)
    world.sql("UPDATE dead_letters SET record_offset = record_offset - 1")
    assert counts(world.verify()) == (1, 1, 0)
    world.close()


@pytest.mark.fault(37, "events years ahead of their batches, in the log that verify reads")
def test_future_events_close_no_window(tmp_path: Path) -> None:
    """An event that is ahead of its batch counts as the batch's time for the watermark, and what comes in time is not late."""
    world = World(tmp_path)
    world.send(ADS, 0, ad(10**12))
    world.send(ADS, 1, ad(10**12))
    world.batch(100_000)
    world.send(ADS, 0, ad(40_000), ad(39_999))
    world.batch(101_000)
    world.fill()
    verdict = world.verify()
    assert (verdict.code, verdict.dead_letters) == (0, 1)
    world.close()


times = st.integers(0, 150_000)
numbers = st.one_of(st.none(), st.integers(0, 9), st.integers(2**62, 2**63 - 1))
ad_values = st.one_of(
    st.builds(ad, times, st.integers(0, 12), st.sampled_from(["view", "click"]), numbers),
    st.sampled_from([b"{", None, ad(0, 4_000)]),
)
page_values = st.one_of(
    st.builds(page, st.sampled_from("abcdefghijklm"), times, numbers), st.just(b'{"page":1}')
)
slices = st.tuples(
    st.sampled_from([1_000, 2_000, 7_000]),
    st.lists(ad_values, max_size=5),
    st.lists(ad_values, max_size=5),
    st.lists(page_values, max_size=8),
)


@pytest.mark.slow
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(batches=st.lists(slices, min_size=1, max_size=8), zero=st.sampled_from([0, 1_000]), data=st.data())
def test_random_worlds_are_exact_until_one_row_changes(
    tmp_path_factory: pytest.TempPathFactory, batches: list[Any], zero: int, data: st.DataObject
) -> None:
    """For any log and any cut into batches verify agrees with a count by brute force, and finds any one row that is changed."""
    world = World(tmp_path_factory.mktemp("world"))
    time = 100_000
    for step, first, second, pages in batches:
        time += step
        for topic, partition, values in ((ADS, 0, first), (ADS, 1, second), (PAGES, 0, pages)):
            world.send(topic, partition, *values)
        world.commit(LedgerRow(time, world.plan(time).ranges, zero))
    world.fill()
    verdict = world.verify()
    assert (verdict.code, counts(verdict)) == (0, (0, 0, 0))
    content = [
        (name, row)
        for name, rows in sorted(model_rows(world.log, world.ledger).items())
        for row in sorted(rows, key=repr)
    ]
    if content:
        expected = change(world, *data.draw(st.sampled_from(content)), data)
        assert counts(world.verify()) == expected
    world.close()


def change(world: World, name: str, row: tuple, data: st.DataObject) -> tuple[int, int, int]:
    """Change one row in a way that hypothesis chooses; how many are missing, over and wrong then."""
    width = KEY_WIDTH[name]
    keys = " AND ".join(f"{column} = ?" for column in COLUMNS[name][:width])
    column = data.draw(st.integers(-1, len(row) - 1))
    if column == -1:
        world.sql(f"DELETE FROM {name} WHERE {keys}", *row[:width])  # noqa: S608 - our own names
        return 1, 0, 0
    if column < width:
        added = row[column] + 10**9 if isinstance(row[column], int) else f"x{row[column]}"
        world.put(name, (*row[:column], added, *row[column + 1 :]))
        return 0, 1, 0
    value = different(
        row[column], data, world.ledger[-1].batch if COLUMNS[name][column] == "batch" else 10**9
    )
    world.sql(f"UPDATE {name} SET {COLUMNS[name][column]} = ? WHERE {keys}", value, *row[:width])  # noqa: S608
    return 0, 0, 1


def different(value: object, data: st.DataObject, most: int) -> object:
    """Another value of the same kind, if it is a number from 0 to most."""
    if isinstance(value, int):
        return data.draw(st.integers(0, most).filter(lambda other: other != value))
    if isinstance(value, str):
        return f"x{value}"
    return b"other" if value is None else data.draw(st.sampled_from([None, value + b"x", value[1:]]))

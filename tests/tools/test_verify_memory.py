"""What verify keeps in memory: little for each row of a log that goes on for days, and exactly what a dict would keep."""

import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.sources.log import LogWriter
from services.settings import REPOSITORY
from tests.tools.verify_world import ADS, COLUMNS, PAGES, Row, World, ad, page
from tools.verify.facts import PackedFacts, PlainFacts
from tools.verify.ledger import LedgerBatch, Range
from tools.verify.schema import TABLES
from tools.verify.truth import Truth, decode

MIB_AN_HOUR = 5
"""With 54,000 rows and 3,600 batches, the default rates; it was 38 when verify held all rows."""

_VERIFIED = """
from services.settings import load_settings
from tools.verify import verify
line = verify(load_settings()).line
status = open("/proc/self/status").read()
print(status.split("VmHWM:")[1].split()[0])
print(line)
"""
# VmHWM and not ru_maxrss, in which the process that started this one counts too.


def fill_hours(world: World, seconds: int) -> None:
    """A batch a second with the rows of the default rates: 100 campaigns a window, 10 ranks every two seconds.

    In a second ten campaigns and five pages have one view each, the next ones in turn.
    """
    ads = [ad(1_000 * second, 10 * (10 * (second % 10) + n)) for second in range(seconds) for n in range(10)]
    names = [f"/page/{5 * (second % 4) + n:03d}" for second in range(seconds) for n in range(5)]
    for topic, partition, values in ((ADS, 0, ads), (PAGES, 0, [page(name) for name in names])):
        with LogWriter(world.settings.log_dir, topic, partition) as writer:
            for start in range(0, len(values), 1_000):
                writer.append([(0, b"key", value) for value in values[start : start + 1_000]])
    times = [1_000 * (second + 1) for second in range(seconds)]
    ranges = [[[ADS, 0, 10 * n, 10 * n + 10], [PAGES, 0, 5 * n, 5 * n + 5]] for n in range(seconds)]
    rows: dict[str, list[Row]] = {
        "ledger": [
            ("pipeline", f"1970-01-{1 + time // 86_400_000:02d}", time, 0, 0, json.dumps(item))
            for time, item in zip(times, ranges, strict=True)
        ],
        "campaign_windows": [
            (f"campaign-{10 * (second % 10) + n:02d}", 10_000 * (second // 10), 1, 0, times[second])
            for second in range(seconds)
            for n in range(10)
        ],
        "trending_pages": [
            (times[second], rank, name, 1, times[second])
            for second in range(1, seconds, 2)
            for rank, name in enumerate(sorted(names[max(0, 5 * second - 10) : 5 * second + 5])[:10], start=1)
        ],
    }
    last = {name: times[place // 5] for place, name in enumerate(names)}
    rows["page_totals"] = [(name, names.count(name), 0, time) for name, time in last.items()]
    with sqlite3.connect(world.settings.results_path) as store:
        for table, content in rows.items():
            columns = COLUMNS.get(table, ("app", "day", "batch", "attempt", "zero_time", "ranges"))
            places = ", ".join("?" * len(columns))
            store.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})", content)  # noqa: S608
    store.close()


def peak_mib(world: World) -> tuple[float, str]:
    """The most memory that a process had which verified, and its closing line."""
    run = subprocess.run(
        [sys.executable, "-c", _VERIFIED],
        cwd=REPOSITORY,
        env={"STACK": "embedded", "DATA_DIR": str(world.settings.data_dir)},
        capture_output=True,
        text=True,
        check=True,
    )
    peak, line = run.stdout.splitlines()
    return int(peak) / 1024, line


@pytest.mark.slow
def test_memory_grows_by_little_with_the_hours(tmp_path: Path) -> None:
    """An hour of the default rates takes little more than a minute of them."""
    found = []
    for seconds in (60, 3_600):
        world = World(tmp_path / str(seconds))
        fill_hours(world, seconds)
        found.append(peak_mib(world))
        world.close()
    (few, _), (many, line) = found
    assert line.startswith("verify: windows=54020 exact=54020 missing=0")
    assert many - few < MIB_AN_HOUR


campaigns, starts = st.sampled_from(["a", "b", "c", 7]), st.integers(0, 4)
numbers = st.sampled_from([0, 1, 2, 2**63 - 1])
steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), starts, campaigns, st.sampled_from(["/x", "/y"]), *2 * [numbers]),
        st.tuples(st.just("take"), starts, campaigns),
        st.tuples(st.just("take"), st.sampled_from([9, None, "a", b"a"]), campaigns),
    )
)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["campaign_windows", "trending_pages"])
@given(steps=steps)
def test_packed_facts_are_those_of_a_dict(name: str, steps: list[tuple]) -> None:
    """Whatever is put and taken, also under keys of other types, the packed facts are those that a dict gives."""
    packed, plain = PackedFacts(TABLES[name]), PlainFacts()
    for step, start, campaign, *values in steps:
        key = (start, campaign) if name == "trending_pages" else (campaign, start)
        if step == "put":
            put = tuple(values[:2] if name == "trending_pages" else values[1:])
            packed.put(key, put, 1_000 * start)
            plain.put(key, put, 1_000 * start)
        else:
            assert packed.take(key) == plain.take(key)
    assert dict(packed.items()) == dict(plain.items())


def test_windows_that_nothing_can_change_are_let_go() -> None:
    """The truth keeps the counts of windows that are not late yet, however many there were."""
    truth = Truth()
    for number in range(1_000):
        batch = LedgerBatch(10_000 * (number + 1), 0, (Range(ADS, 0, number, number + 1),))
        truth.apply(batch, lambda item: [(item.start, b"", decode(ad(10_000 * item.start)))])
    assert sorted(truth._windows) == [10_000 * number for number in range(992, 1_000)]

"""Shuffles larger than memory: what goes to disk, what comes back, and what is left of it."""

import signal
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator
from operator import add
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import LocalContext, StreamingContext
from engine.dstream.dstream import DStream
from engine.errors import ConfigurationError, UserFunctionError
from engine.rdd.grouping import KINDS, LongGroup, grouped
from engine.rdd.scratch import Disk, Scratch
from engine.rdd.serializers import dump, dump_block, load, load_blocks
from engine.rdd.shuffle import Chunks, blocks_of, elements_of, merged
from engine.storage import StorageLevel
from tests.engine.app import App

RECORDS = 150_000


@pytest.fixture(scope="module", params=["local", "local[2]"])
def small(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalContext]:
    """Each backend with a megabyte for an operation."""
    folder = str(tmp_path_factory.mktemp("scratch"))
    with LocalContext(request.param, "test", memory=1, temporaryFolder=folder) as made:
        yield made


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    """Memory for next to nothing."""
    return Disk(str(tmp_path), 0)


def spilled(context: LocalContext, before: int) -> bool:
    """Whether tasks laid something aside since then."""
    return context.spilled_bytes > before


def files(context: LocalContext) -> list[str]:
    """Files of shuffles that are there now."""
    return [path.name for path in Path(context._scratch.path).glob("shuffle-*")]


def pairs_of(context: LocalContext, keys: int, records: int = RECORDS) -> Any:
    """Pairs (n modulo keys, n), which no driver held."""
    return (
        context.parallelize(range(8), 4)
        .flatMap(lambda part: range(part, records, 8))
        .map(lambda n: (n % keys, n))
    )


def expected_groups(keys: int, records: int = RECORDS) -> dict[int, list[int]]:
    """The numbers of each key, in order."""
    return {key: list(range(key, records, keys)) for key in range(keys)}


# Small and large buckets.


def test_small_buckets_need_no_file(context: LocalContext) -> None:
    """A small shuffle travels through the driver and writes nothing."""
    before, there = context.shuffle_file_bytes, files(context)

    assert len(context.parallelize(range(1_000), 2).map(lambda n: (n, n)).reduceByKey(add).collect()) == 1_000
    assert context.shuffle_file_bytes == before
    assert files(context) == there


@pytest.mark.slow
def test_large_buckets_go_through_files(context: LocalContext) -> None:
    """A map task with more than the driver should carry writes one file, which goes with its RDD."""
    before = context.shuffle_file_bytes
    rdd = pairs_of(context, RECORDS).partitionBy(3)

    assert sorted(rdd.collect()) == [(n, n) for n in range(RECORDS)]
    assert context.shuffle_file_bytes > before
    assert len(files(context)) == 4
    assert rdd.count() == RECORDS
    del rdd
    assert files(context) == []


@pytest.mark.slow
def test_failed_map_stage_leaves_no_file(context: LocalContext) -> None:
    """Files of a map stage of which one task failed are removed."""

    def fails(index: int, part: Iterator[Any]) -> Iterator[Any]:
        if index == 3:
            raise ValueError("the fourth fails")
        return part

    rdd = pairs_of(context, RECORDS, 400_000).mapPartitionsWithIndex(fails).partitionBy(2)
    with pytest.raises(UserFunctionError, match="the fourth fails"):
        rdd.count()

    assert files(context) == []


def test_stopped_context_leaves_no_folder(tmp_path: Path) -> None:
    """The folder of a context is there until it stops."""
    with LocalContext("local", temporaryFolder=str(tmp_path)) as context:
        assert len(list(tmp_path.rglob("lock"))) == 1
        assert context._scratch.path.startswith(str(tmp_path))

    assert list(tmp_path.rglob("lock")) == []


def test_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    """A temporary folder that cannot be made is refused before any work."""
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="cannot be written"):
        LocalContext("local", temporaryFolder=str(tmp_path / "file"))
    with pytest.raises(ConfigurationError, match="memory is 0 MB; give a number of at least 1"):
        LocalContext("local", memory=0)


DRIVER = """
    import sys
    from engine import LocalContext

    with LocalContext("local[1]", temporaryFolder=sys.argv[1]) as context:
        rdd = context.parallelize([0], 1).flatMap(lambda _: range(200_000)).map(lambda n: (n, n)).partitionBy(2)
        rdd.count()
        print("ready", flush=True)
        sys.stdin.read()
"""


@pytest.mark.slow
def test_next_context_sweeps_what_a_killed_driver_left(tmp_path: Path) -> None:
    """What a killed driver left in the folder is removed by the next context there, and what a living one has is not."""
    program = [sys.executable, "-c", textwrap.dedent(DRIVER), str(tmp_path)]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as driver:
        assert driver.stdout is not None
        assert driver.stdout.readline() == b"ready\n"
        LocalContext("local", temporaryFolder=str(tmp_path)).stop()
        assert len(list(tmp_path.rglob("shuffle-*"))) == 1
        driver.send_signal(signal.SIGKILL)

    assert len(list(tmp_path.rglob("shuffle-*"))) == 1
    LocalContext("local", temporaryFolder=str(tmp_path)).stop()
    assert list(tmp_path.rglob("shuffle-*")) == []


# Beyond memory.


@pytest.mark.slow
def test_combiners_beyond_memory_spill(small: LocalContext) -> None:
    """A reduce by more keys than memory holds gives each key once."""
    before = small.spilled_bytes
    reduced = pairs_of(small, RECORDS // 2).reduceByKey(add, 2)

    assert sorted(reduced.collect()) == [(key, 2 * key + RECORDS // 2) for key in range(RECORDS // 2)]
    assert spilled(small, before)
    assert sorted(reduced.mapValues(lambda _: 1).reduceByKey(add, 2).values().distinct().collect()) == [1]


@pytest.mark.slow
@pytest.mark.parametrize("keys", [3, 5_000])
def test_groups_beyond_memory_spill(small: LocalContext, keys: int) -> None:
    """Groups are complete and in order, be they many or too long for memory."""
    before = small.spilled_bytes
    ordered = pairs_of(small, keys).groupByKey(2)
    found = dict(ordered.mapValues(sorted).collect())

    assert found == expected_groups(keys)
    assert spilled(small, before)
    assert dict(ordered.mapValues(len).collect()) == {key: len(group) for key, group in found.items()}


@pytest.mark.slow
def test_joins_beyond_memory_spill(small: LocalContext) -> None:
    """A join of more than memory holds gives each pair of values once, with the keys that one side lacks."""
    before = small.spilled_bytes
    left = pairs_of(small, RECORDS)
    right = left.map(lambda pair: (pair[0] + 1_000, -pair[1]))

    assert left.join(right, 2).count() == RECORDS - 1_000
    assert left.fullOuterJoin(right, 2).filter(lambda pair: None in pair[1]).count() == 2_000
    assert left.subtractByKey(right, 2).count() == 1_000
    assert spilled(small, before)


@pytest.mark.slow
def test_cartesian_beyond_memory_spills(small: LocalContext) -> None:
    """The side of a cartesian that is read again and again may be longer than memory."""
    before = small.spilled_bytes
    product = small.parallelize("ab", 1).cartesian(pairs_of(small, RECORDS).coalesce(1))

    assert product.map(lambda pair: (pair[0], pair[1][1])).reduceByKey(add, 1).collectAsMap() == {
        "a": sum(range(RECORDS)),
        "b": sum(range(RECORDS)),
    }
    assert spilled(small, before)


@pytest.mark.slow
def test_levels_without_memory_keep_partitions_on_disk(small: LocalContext) -> None:
    """A level with disk alone keeps partitions in a file, and every reader gets elements of its own."""
    computed = small.accumulator(0)

    def noted(n: int) -> list[int]:
        computed.add(1)
        return [n]

    before = small.spilled_bytes
    kept = small.parallelize([1, 2, 3], 2).map(noted).persist(StorageLevel.DISK_ONLY)

    assert kept.map(lambda part: part.append(0) or part).collect() == [[1, 0], [2, 0], [3, 0]]
    assert kept.collect() == [[1], [2], [3]]
    assert computed.value == 3
    assert spilled(small, before)


# The pieces, with no memory at all.

columns = st.lists(st.tuples(st.integers(0, 6) | st.sampled_from(["a", None, 1.0, True]), st.integers()))


@given(st.lists(columns, max_size=4))
def test_blocks_come_back(parts: list[list[tuple[Any, int]]]) -> None:
    """Blocks are read as they were written, whatever the types of their columns."""
    for part in parts:
        keys, values = [key for key, _ in part], [[value] for _, value in part]
        assert list(load_blocks(dump_block(keys, values) + dump_block(None, keys))) == [
            (keys, values),
            (None, keys),
        ]
        same = next(load_blocks(dump_block(keys, keys)))
        assert same == (keys, keys)
        assert same[0] is same[1] or not keys
        assert [list(map(type, column or [])) for column in same] == [list(map(type, keys))] * 2


@given(st.lists(st.dictionaries(st.integers(0, 300), st.integers()), max_size=8))
def test_merge_is_a_sum_by_key(tmp_path_factory: pytest.TempPathFactory, parts: list[dict[int, int]]) -> None:
    """Merged blocks hold the sum of each key, with memory for nothing."""
    disk = Disk(str(tmp_path_factory.getbasetemp()), 0)
    blocks = [(list(part), list(part.values())) for part in parts]
    expected: Counter[int] = Counter()
    for part in parts:
        for key, value in part.items():
            expected[key] += value

    assert dict(merged(blocks, add, disk)) == dict(expected)


@given(st.sampled_from(sorted(set(KINDS) - {"group"})), st.data())
def test_groups_are_the_same_on_disk(
    tmp_path_factory: pytest.TempPathFactory, kind: str, data: st.DataObject
) -> None:
    """Every operation by key gives the same with memory for nothing as with memory for all."""
    folder = str(tmp_path_factory.getbasetemp())
    pairs = st.lists(st.tuples(st.integers(0, 200), st.integers()), min_size=0, max_size=400)
    sides = [list(Chunks().of(data.draw(pairs))) for _ in range(2)]

    def given_by(limit: int) -> list[Any]:
        blocks = [
            [([key for key, _ in part], [value for _, value in part]) for part in side] for side in sides
        ]
        return sorted(grouped(blocks, kind, Disk(folder, limit)), key=repr)

    assert load(dump(given_by(0))) == given_by(1 << 40)


def test_long_group_is_a_sequence(disk: Disk) -> None:
    """A group on disk has a length, can be read twice and indexed, and travels as a list."""
    group = LongGroup(disk)
    group.tail += [1, 2]
    group.write()
    group.tail += [3]

    assert (len(group), list(group), list(group), group[1]) == (3, [1, 2, 3], [1, 2, 3], 2)
    assert load(dump(group)) == [1, 2, 3]
    assert LongGroup(disk).settled() == []


@pytest.fixture
def long_group(disk: Disk) -> LongGroup:
    """The numbers 0 to 49_999: most on disk in several blocks, the last ones in memory."""
    group = LongGroup(disk)
    for part in (range(20_000), range(20_000, 49_990)):
        group.tail += part
        group.write()
    group.tail += range(49_990, 50_000)
    return group


def test_long_group_reads_as_a_list(long_group: LongGroup) -> None:
    """A group on disk gives for an index, a slice, + and == what a list gives."""
    listed = list(range(50_000))
    edges = (None, 1, 16_384, 20_000, 49_990, -11, -50_001)

    for index in (0, 16_383, 16_384, 19_999, 20_000, 49_990, -1, -10, -11, -50_000):
        assert long_group[index] == listed[index]
    for begin in edges:
        for end in edges:
            for step in (7_001, -9_001):
                assert long_group[begin:end:step] == listed[begin:end:step]
    assert (long_group[20_000:20_002], long_group[::-1]) == ([20_000, 20_001], listed[::-1])
    assert long_group == listed
    assert listed == long_group
    assert long_group != [*listed[:-1], 0]
    assert (long_group + [1], [1] + long_group) == ([*listed, 1], [1, *listed])  # noqa: RUF005 - + is what is tried
    assert (long_group.index(49_995), long_group.count(3), list(reversed(long_group))) == (
        49_995,
        1,
        listed[::-1],
    )
    with pytest.raises(IndexError):
        long_group[50_000]
    with pytest.raises(ValueError, match="is not in list"):
        long_group.index(7, 8)


def test_long_group_reads_what_it_gives(long_group: LongGroup, monkeypatch: pytest.MonkeyPatch) -> None:
    """An index reads the block that has it, a slice those from its begin to its end."""
    read: list[Any] = []
    block = LongGroup._block

    def noted(group: LongGroup, stretch: tuple[int, int]) -> list[Any]:
        read.append(stretch)
        return block(group, stretch)

    monkeypatch.setattr(LongGroup, "_block", noted)

    assert (long_group[49_999], len(read)) == (49_999, 0)
    assert (long_group[30_000], len(read)) == (30_000, 1)
    assert (long_group[16_383:16_385], len(read)) == ([16_383, 16_384], 3)


@pytest.mark.parametrize(
    "change",
    [
        lambda group: group.sort(key=abs),
        lambda group: group.append(1),
        lambda group: group.pop(),
        lambda group: group.__setitem__(0, 1),
        lambda group: group.__delitem__(0),
    ],
)
def test_long_group_says_why_it_cannot_be_changed(long_group: LongGroup, change: Any) -> None:
    """A change in place of a group on disk is refused with the remedy."""
    with pytest.raises(ConfigurationError, match=r"change list\(values\), or give LocalContext more memory"):
        change(long_group)


@pytest.mark.slow
def test_state_updates_get_lists(tmp_path: Path) -> None:
    """An update of state gets a list of new values, in both forms, also when they were more than memory holds."""

    def job(_: StreamingContext, stream: DStream[Any], app: App) -> None:
        def update(values: list[Any], state: Any) -> Any:
            values.sort()
            return (type(values).__name__, len(values) + (state or (0, 0))[1])

        def update_all(entries: Any) -> Any:
            return [(key, update(values, state)) for key, values, state in entries]

        app.collect(stream.updateStateByKey(update), "each")
        app.collect(stream.updateStateByKey(update_all, name="all"), "all")

    batches = [[("k", str(n)) for n in range(100_000)]]
    with LocalContext("local", "test", memory=1) as own, App(own, tmp_path, job, batches, shards=1) as app:
        out = app.run(1).out
        assert own.spilled_bytes > 0

    assert out["each"] == out["all"]
    assert out["each"][0] == [("k", ("list", 100_000))]


def test_spill_without_a_folder_is_refused() -> None:
    """Where there is no folder of temporary files a spill says what to give."""
    with pytest.raises(ConfigurationError, match="give LocalContext a temporaryFolder"):
        Disk("", 0).temporary()


def test_scratch_removes_the_files_of_one_shuffle(tmp_path: Path) -> None:
    """Removing one shuffle's files leaves those of a shuffle whose number begins alike."""
    scratch = Scratch(str(tmp_path))
    for name in ("shuffle-1-0", "shuffle-1-1", "shuffle-11-0"):
        (Path(scratch.path) / name).touch()
    scratch.remove("shuffle-1")

    assert sorted(path.name for path in Path(scratch.path).iterdir()) == ["lock", "shuffle-11-0"]
    scratch.close()
    scratch.close()
    assert not Path(scratch.path).exists()


def test_elements_of_blocks() -> None:
    """Buckets give pairs, or elements where there are no keys."""
    buckets: list[Any] = [dump_block(["a"], [1]), b"", dump_block(None, [2])]

    assert list(elements_of(blocks_of(buckets))) == [("a", 1), 2]

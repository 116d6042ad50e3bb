"""Power cuts at every operation on the volume, with every order that it may leave: what was acknowledged is there, and never a mixture."""

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from engine.batch import Batch, OffsetRange, TopicPartition
from engine.checkpoint.journal import read_segment
from engine.errors import StreamingError
from engine.sources.log import LogSource, LogWriter, create_topic
from tests.engine.checkpoint.volume import BIG, Volume, room_in_memory, without_waiting
from tests.recovery.power import Op, Recorder, lay_out, left, pending, replay, without

pytestmark = pytest.mark.slow

SEED = 6
TOPIC, PLACE = "events", TopicPartition("events", 0)
SEGMENT_BYTES, RETENTION_BYTES = 300, 500


class Told(NamedTuple):
    """What a process had told others, of the checkpoint or of the log."""

    begun: int = 0
    """Time of the last batch with an intent, and of the last one with a commit; milliseconds."""
    committed: int = 0
    is_topic: bool = False
    appending: int = 0
    """End offset of the last append that was called, and of the last one that returned."""
    appended: int = 0
    deleted: int = 0
    """What lies before it was let go of."""


class Checkpoints(Volume):
    """A checkpoint folder that tells what is acknowledged, and knows what its state must be after each batch."""

    def __init__(self, folder: Path, recorder: Recorder | None = None, told: Told | None = None) -> None:
        super().__init__(folder)
        self._recorder = recorder
        self.told = told or Told()
        self.states: dict[int, dict[int, Any]] = {0: {}}

    def _tell(self, told: Told) -> None:
        self.told = told
        if self._recorder:
            self._recorder.tell(told)

    def begin(self, attempt: int = 0) -> Batch:
        """Begin the next batch."""
        batch = super().begin(attempt)
        self._tell(self.told._replace(begun=int(batch.time)))
        return batch

    def commit(self, batch: Batch, changes: Mapping[int, Any]) -> None:
        """Commit it."""
        after = {**self.state(), **changes}
        self.states[int(batch.time)] = {key: value for key, value in after.items() if value is not None}
        super().commit(batch, changes)
        self._tell(self.told._replace(committed=int(batch.time)))


def live(volume: Checkpoints) -> None:
    """What a checkpoint folder goes through: batches, snapshots of three generations, segments that end and are removed, restarts."""
    volume.open()
    volume.run({0: "a", 1: "b"})
    volume.run({1: None, 2: BIG, 3: BIG})
    volume.rotate()
    volume.reopen()
    for number in range(3):
        volume.run({0: number, 5: "new"})
        volume.snapshot_all()
        volume.rotate()
    volume.begin()
    volume.reopen()
    volume.run({7: "last"}, attempt=1)
    volume.close()


def recover_folder(folder: Path, told: Told, states: Mapping[int, Mapping[int, Any]]) -> None:
    """The recovery of a checkpoint folder: the last acknowledged commit or the one in flight, and the batch that was begun."""
    volume = Volume(folder).open()
    at = int(volume.time)
    assert at in {told.committed, told.begun}, f"committed {told.committed}, begun {told.begun}, found {at}"
    assert volume.state() == states[at], f"another state than that of {at}"
    waiting = volume.checkpoint.pending()
    assert at == told.begun or (waiting is not None and waiting.time == told.begun), "the begun batch is lost"
    volume.run({9: "after"}, attempt=2)
    assert volume.reopen().state() == {**states[at], 9: "after"}
    volume.close()


# The embedded log.


def records(begin: int, until: int) -> list[tuple[int, None, bytes]]:
    """The records of some offsets."""
    return [(offset, None, b"value %d " % offset * 3) for offset in range(begin, until)]


class Appends:
    """A topic with one partition that tells what is acknowledged."""

    def __init__(self, log_dir: Path, recorder: Recorder, told: Told | None = None) -> None:
        self._log_dir = log_dir
        self._recorder = recorder
        self._told = told or Told()
        self._writer: LogWriter | None = None

    def _tell(self, **told: Any) -> None:
        self._told = self._told._replace(**told)
        self._recorder.tell(self._told)

    def open(self, retention_bytes: int | None = None) -> LogWriter:
        """Make the topic, and write it."""
        create_topic(self._log_dir, TOPIC, 1)
        self._tell(is_topic=True)
        self.close()
        self._writer = LogWriter(
            self._log_dir, TOPIC, 0, segment_bytes=SEGMENT_BYTES, retention_bytes=retention_bytes
        )
        return self._writer

    def append(self, count: int) -> None:
        """Append so many records at once."""
        assert self._writer is not None
        begin = self._writer.next_offset
        # From here on retention may let go of anything but the last segments.
        self._tell(
            appending=begin + count, deleted=begin if self._writer._retention_bytes else self._told.deleted
        )
        self._tell(appended=self._writer.append(records(begin, begin + count)))

    def delete_before(self, offset: int) -> None:
        """Let go of what lies before."""
        assert self._writer is not None
        self._tell(deleted=offset)
        self._writer.delete_before(offset)

    def close(self) -> None:
        """Let go of the partition."""
        if self._writer is not None:
            self._writer.close()


def write_log(log: Appends) -> None:
    """What a log goes through: appends over segments that end, restarts, segments that are deleted, one by one and many at once."""
    log.open()
    for count in (1, 3, 2, 5, 1):
        log.append(count)
    log.open()
    for count in (4, 4, 1, 5, 5):
        log.append(count)
    log.delete_before(6)
    log.delete_before(18)
    for count in (2, 5, 5, 5, 3):
        log.append(count)
    log.open(RETENTION_BYTES)
    for count in (6, 6, 1):
        log.append(count)
    log.close()


def recover_log(log_dir: Path, told: Told, _states: object) -> None:
    """The recovery of a log: for a reader and for the next writer every acknowledged append is there, and the one in flight whole or not."""
    if told.is_topic:
        assert_readable(log_dir, told)
    create_topic(log_dir, TOPIC, 1)
    with LogWriter(log_dir, TOPIC, 0) as writer:
        end = writer.next_offset
        assert end in {told.appended, told.appending}, (
            f"appended {told.appended}, {told.appending} in flight, found {end}"
        )
        writer.append(records(end, end + 2))
    assert_readable(log_dir, told._replace(appended=end + 2, appending=end + 2))


def assert_readable(log_dir: Path, told: Told) -> None:
    """Every record from the first offset to the end can be read, and is the one that was appended there."""
    source = LogSource(log_dir, [TOPIC])
    begin, end = source.bounds()[PLACE]
    assert begin <= told.deleted or begin == 0, (
        f"begins at {begin}, let go of were those before {told.deleted}"
    )
    assert end in {told.appended, told.appending}, (
        f"appended {told.appended}, {told.appending} in flight, found {end}"
    )
    found = [value for part in source.read(OffsetRange(TOPIC, 0, begin, end)) for value in part.values]
    assert found == [value for _, _, value in records(begin, end)]


# Cuts.


class Checked(NamedTuple):
    """What came of the cuts."""

    orders: int
    wrong: list[str]


Recover = Callable[[Path, Told, Any], None]


def told_by(ops: Sequence[Op]) -> Told:
    """What the process had told last."""
    return next((op.told for op in reversed(ops) if op.kind == "told"), Told())


def cut_everywhere(
    ops: Sequence[Op], cuts: Iterable[int], recover: Recover, states: Any, room: Path, at_most: int
) -> Checked:
    """Cut after so many operations each, and recover from every different folder that this may leave."""
    seen, wrong = set(), []
    for cut in cuts:
        told = told_by(ops[:cut])
        for tree in left(ops[:cut], SEED * 1_000 + cut, at_most):
            key = hash((tuple(tree.items()), told))
            if key in seen:
                continue
            seen.add(key)
            folder = lay_out(tree, room / "volume")
            try:
                with without_waiting():
                    recover(folder, told, states)
            except (AssertionError, StreamingError, OSError) as error:
                wrong.append(f"cut after {cut} of {len(ops)} operations ({ops[cut - 1].kind}): {error}")
            shutil.rmtree(folder)
    return Checked(len(seen), wrong)


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Path]:
    """Where folders are laid out, thousands of them."""
    with room_in_memory(tmp_path) as folder:
        yield folder


@pytest.fixture
def checkpoints(room: Path) -> tuple[list[Op], dict[int, dict[int, Any]]]:
    """The operations of a life of a checkpoint folder, and the state after each batch."""
    folder = room / "recorded"
    folder.mkdir()
    recorder = Recorder(folder)
    volume = Checkpoints(folder, recorder)
    with recorder.recording():
        live(volume)
    return recorder.ops, volume.states


@pytest.fixture
def log(room: Path) -> list[Op]:
    """The operations of a life of a log."""
    folder = room / "recorded-log"
    folder.mkdir()
    recorder = Recorder(folder)
    with recorder.recording():
        write_log(Appends(folder, recorder))
    return recorder.ops


def assert_all_recovered(what: str, checked: Checked, least: int, figures: Callable[[str], None]) -> None:
    """So many orders at least were tried, and each was recovered from."""
    figures(f"power cuts: {what}: {checked.orders} orders tried, {len(checked.wrong)} wrong (seed {SEED})")
    assert checked.wrong == []
    assert checked.orders >= least


@pytest.mark.fault(49, "each recorded write dropped, torn, zeroed and disordered, after every operation")
@pytest.mark.fault(7, "renames and new names without an fsync of their folder dropped, each for itself")
@pytest.mark.timeout(300)
def test_checkpoint_survives_a_power_cut_anywhere(
    checkpoints: tuple[list[Op], Any], room: Path, figures: Callable[[str], None]
) -> None:
    """After a cut anywhere, in any order that the volume may leave, the state is that of the last commit or of the one in flight."""
    ops, states = checkpoints
    removed = {op.path.rpartition(".")[2] for op in ops if op.kind == "unlink"}
    assert removed == {"log", "snap"}
    assert any(len(pending(ops[:cut])) > 1 for cut in range(len(ops)))
    checked = cut_everywhere(ops, range(len(ops) + 1), recover_folder, states, room, 60)
    assert_all_recovered("checkpoint folder", checked, 1_200, figures)


@pytest.mark.fault(49, "as for the checkpoint: every write of the embedded log")
@pytest.mark.timeout(300)
def test_log_survives_a_power_cut_anywhere(log: list[Op], room: Path, figures: Callable[[str], None]) -> None:
    """After a cut anywhere every acknowledged append is read, by a reader and by the next writer, and the one in flight whole or not."""
    assert sum(op.kind == "unlink" for op in log) > 4
    checked = cut_everywhere(log, range(len(log) + 1), recover_log, None, room, 40)
    assert_all_recovered("embedded log", checked, 600, figures)


@pytest.mark.fault(
    49, "SIGKILL, a new start, then the cut: what the killed process did not make durable is still in memory"
)
@pytest.mark.timeout(300)
def test_power_cut_after_a_kill_and_a_new_start_loses_nothing(
    checkpoints: tuple[list[Op], Any], room: Path, figures: Callable[[str], None]
) -> None:
    """A start after a kill makes durable what it builds on: a cut after its first batch leaves that batch."""
    ops, states = checkpoints
    orders, wrong, widest = 0, list[str](), 0
    for killed in range(1, len(ops) + 1, 3):
        widest = max(widest, len(pending(ops[:killed])))
        folder = lay_out(replay(ops[:killed]), room / "started")
        recorder = Recorder(folder, ops[:killed])
        volume = Checkpoints(folder, recorder, told_by(ops[:killed]))
        with recorder.recording():
            volume.open()
            volume.run({8: "started"}, attempt=3)
            volume.close()
        shutil.rmtree(folder)
        after = {**states, **volume.states}
        cuts = (len(recorder.ops), (killed + len(recorder.ops)) // 2)
        checked = cut_everywhere(recorder.ops, cuts, recover_folder, after, room, 8)
        orders, wrong = orders + checked.orders, wrong + checked.wrong
    assert widest > 1
    assert_all_recovered("after a kill and a start", Checked(orders, wrong), 250, figures)


@pytest.mark.timeout(300)
def test_power_cut_after_a_writer_was_killed_loses_nothing(
    log: list[Op], room: Path, figures: Callable[[str], None]
) -> None:
    """A writer that comes after a killed one makes durable what it appends behind: a cut after its append leaves that append."""
    orders, wrong = 0, list[str]()
    for killed in range(1, len(log) + 1, 2):
        folder = lay_out(replay(log[:killed]), room / "started")
        recorder = Recorder(folder, log[:killed])
        with recorder.recording():
            writer = Appends(folder, recorder, told_by(log[:killed]))
            writer.open()
            writer.append(2)
            writer.close()
        shutil.rmtree(folder)
        checked = cut_everywhere(recorder.ops, [len(recorder.ops)], recover_log, None, room, 8)
        orders, wrong = orders + checked.orders, wrong + checked.wrong
    assert_all_recovered("log after a kill and a new writer", Checked(orders, wrong), 60, figures)


@pytest.mark.parametrize("left_out", ["sync_folder", "fsync", "fdatasync"])
@pytest.mark.timeout(300)
def test_checkpoint_without_an_fsync_is_found(
    checkpoints: tuple[list[Op], Any], room: Path, left_out: str
) -> None:
    """The same cuts of a writer that leaves out one kind of fsync lose a commit: the simulation can fail."""
    ops, states = checkpoints
    mutant = without(ops, left_out)
    assert len(mutant) < len(ops)
    checked = cut_everywhere(mutant, range(0, len(mutant) + 1, 5), recover_folder, states, room, 6)
    assert checked.wrong != []


@pytest.mark.parametrize("left_out", ["sync_folder", "fdatasync"])
@pytest.mark.timeout(300)
def test_log_without_an_fsync_is_found(log: list[Op], room: Path, left_out: str) -> None:
    """The same cuts of a log that leaves out one kind of fsync lose an append."""
    mutant = without(log, left_out)
    checked = cut_everywhere(mutant, range(0, len(mutant) + 1, 3), recover_log, None, room, 6)
    assert checked.wrong != []


def test_recorder_tells_what_is_not_durable(tmp_path: Path) -> None:
    """A write is pending until its file is synced, and a name until its folder is; a torn and a zeroed write are what they say."""
    ops = [
        Op("create", "a", 1),
        Op("write", node=1, data=b"x" * 1_024),
        Op("fsync", node=1),
        Op("sync_folder", ""),
    ]
    assert [pending(ops[:cut]) for cut in range(5)] == [[], [0], [0, 1], [0], []]
    trees = list(left(ops[:2], SEED, 100))
    assert all(tree in trees for tree in ({}, {"a": b""}, {"a": b"x" * 1_024}))
    assert any(0 < len(tree.get("a") or b"") < 1_024 for tree in trees)
    assert any(b"\0" in (tree.get("a") or b"") for tree in trees)
    assert read_segment(lay_out({"a": b"torn"}, tmp_path / "v") / "a") == []

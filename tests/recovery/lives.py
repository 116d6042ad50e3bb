"""What goes through power cuts: a checkpoint folder, an embedded log, and a checkpoint folder with received blocks.

Each has a life, a start after its process was killed, and what a recovery from any folder that a cut leaves must find.

Owns: Told, Life, LIVES, Scene, lived, started_again, Checked, cut_everywhere.
"""

import contextlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Self

import pytest

from engine import ManualClock
from engine.batch import Batch, OffsetRange, TopicPartition
from engine.errors import ConcurrentRunError, StreamingError
from engine.sources import blocks
from engine.sources.blocks import BlockLog
from engine.sources.log import LogSource, LogWriter, create_topic
from tests.engine.checkpoint.volume import BIG, INTERVAL, SHARDS, Volume, without_waiting
from tests.recovery.power import BYTES, NAMES, Op, Recorder, lay_out, left, replay

SEED = 6
TOPIC, PLACE = "events", TopicPartition("events", 0)
STREAM = "clicks"
SEGMENT_BYTES, RETENTION_BYTES = 300, 500

States = Mapping[int, Mapping[int, Any]]
"""By time of a batch what the state must be after it."""


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

    def open(self, **how: Any) -> Self:
        """Open the folder; what it finds committed is built on from then on."""
        super().open(**how)
        self._tell(self.told._replace(committed=int(self.time)))
        return self

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


def live(recorder: Recorder) -> States:
    """What a checkpoint folder goes through: batches, snapshots of three generations, segments that end and are removed, restarts."""
    volume = Checkpoints(Path(recorder.folder), recorder).open()
    volume.run({0: "a", 1: "b"})
    volume.commit(volume.begin(), {1: None, 2: BIG, 3: BIG})
    first, second = volume.checkpoint.snapshots_due(SHARDS)
    second.path.parent.mkdir(parents=True)  # by an executor that dies here; another one takes its shard
    volume.snapshot(second)
    volume.snapshot(first)
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
    return volume.states


def start(recorder: Recorder, told: Told) -> States:
    """The start after the process was killed: a batch, and snapshots."""
    volume = Checkpoints(Path(recorder.folder), recorder, told).open()
    volume.run({8: "started"}, attempt=3)
    volume.snapshot_all()
    volume.close()
    return volume.states


def recover(folder: Path, told: Told, states: States) -> None:
    """The recovery of a checkpoint folder: the last acknowledged commit or the one in flight, and the batch that was begun."""
    volume = Volume(folder).open()
    at = assert_at(volume, told, states)
    volume.run({9: "after"}, attempt=2)
    assert volume.reopen().state() == {**states[at], 9: "after"}
    volume.close()


def assert_at(volume: Volume, told: Told, states: States) -> int:
    """The folder is at the last acknowledged commit or at the one in flight, from files that are all whole; returns its time."""
    at = int(volume.time)
    assert at in {told.committed, told.begun}, f"committed {told.committed}, begun {told.begun}, found {at}"
    assert volume.state() == states[at], f"another state than that of {at}"
    assert not any(shard.fallbacks for shard in volume.shards), (
        "a snapshot that the journal names is not whole"
    )
    waiting = volume.checkpoint.pending()
    assert at == told.begun or (waiting is not None and waiting.time == told.begun), "the begun batch is lost"
    return at


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
        self._tell(appending=self._writer.next_offset, appended=self._writer.next_offset)
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


def write_log(recorder: Recorder) -> States:
    """What a log goes through: appends over segments that end, restarts, segments that are deleted, one by one and many at once."""
    log = Appends(Path(recorder.folder), recorder)
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
    return {}


def write_on(recorder: Recorder, told: Told) -> States:
    """The writer that comes after a killed one: an append."""
    log = Appends(Path(recorder.folder), recorder, told)
    log.open()
    log.append(2)
    log.close()
    return {}


def recover_log(log_dir: Path, told: Told, _states: States) -> None:
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


# Received blocks.


class Receiving(Checkpoints):
    """A checkpoint folder whose batches name ranges of a block log beside its journal; a window looks back to one batch."""

    log: BlockLog

    def open_log(self) -> None:
        """Open the block log, AFTER the folder: what it holds may be named by a batch from now on."""
        self.log = BlockLog(
            self.folder / "app" / "blocks", STREAM, ManualClock(), self.checkpoint.open_journal()
        )
        self._tell(self.told._replace(appending=self.log.end, appended=self.log.end))

    def take(self, count: int) -> None:
        """Receive a block of so many records."""
        self._tell(self.told._replace(appending=self.log.end + count))
        self._tell(self.told._replace(appended=self.log.append(values(self.log.end, self.log.end + count))))

    def begin(self, attempt: int = 0) -> Batch:
        """Begin the batch that waits, or one of what was received since the last."""
        waiting, last = self.checkpoint.pending(), self.checkpoint.last_commit
        ranges = waiting.ranges if waiting else {}
        if waiting is None:
            position = last.batch.batch().ranges[STREAM][0].untilOffset if last else 0
            ranges = {STREAM: (OffsetRange(self.log.topic, 0, position, self.log.end),)}
        batch = Batch(self.time.plus(INTERVAL), ranges, attempt)
        self.checkpoint.begin(batch)
        self._tell(self.told._replace(begun=int(batch.time)))
        return batch

    def commit(self, batch: Batch, changes: Mapping[int, Any]) -> None:
        """Commit it, and let go of what lies before it."""
        super().commit(batch, changes)
        self.log.release(batch.ranges[STREAM][0].fromOffset)

    def assert_readable(self) -> None:
        """Every block that the last batch, or the one that waits, names is there, and all are what was received, from the first on."""
        waiting, last = self.checkpoint.pending(), self.checkpoint.last_commit
        for batch in filter(None, (waiting, last.batch.batch() if last else None)):
            (named,) = batch.ranges[STREAM]
            assert self.log.begin <= named.fromOffset <= named.untilOffset <= self.log.end, f"{named} is gone"
        there = self.log.begin, self.log.end
        assert list(self.log.read(*there)) == values(*there), f"other blocks than those of {there}"

    def close(self) -> None:
        """Let go of the log and of the folder."""
        if hasattr(self, "log"):
            self.log.close()
        super().close()


def values(begin: int, until: int) -> list[bytes | None]:
    """What is received as the records of some offsets."""
    return [b"click %d " % offset * 3 for offset in range(begin, until)]


def receive(recorder: Recorder) -> States:
    """What a block log and its journal go through: blocks over segments that end and go, and two that take over from one that is alive."""
    folder, states = Path(recorder.folder), dict[int, Mapping[int, Any]]()
    told, before = Told(), list[Receiving]()
    for epoch in (1, 2, 3):
        volume = Receiving(folder, recorder, told)
        volume.open(takeover=epoch > 1)
        if epoch == 3:
            # It comes to the log before that is read: refused, and yet there.
            volume._tell(told._replace(appending=told.appended + 2))
            refused(before[-1], values(told.appended, told.appended + 2))
        volume.open_log()
        if epoch == 2:
            # It comes to the log after that was read: refused, and read by nobody.
            refused(before[-1], [b"late"] * 9)
        for count in (1, 2, 4):
            volume.take(count)
            volume.take(1)
            volume.run({epoch: count, 5: "new"}, attempt=epoch - 1)
        volume.rotate()
        volume.take(3)
        volume.begin()
        volume.take(1)
        told, before = volume.told, [*before, volume]
        states.update(volume.states)
    for volume in before:
        volume.close()
    return states


def refused(fenced: Receiving, block: Sequence[bytes | None]) -> None:
    """A process appends a block that another one has taken over from."""
    with pytest.raises(ConcurrentRunError):
        fenced.log.append(block)


def receive_on(recorder: Recorder, told: Told) -> States:
    """The start after the process was killed: a block and a batch."""
    volume = Receiving(Path(recorder.folder), recorder, told)
    volume.open().open_log()
    volume.take(2)
    volume.run({8: "started"}, attempt=3)
    volume.close()
    return volume.states


def recover_received(folder: Path, told: Told, states: States) -> None:
    """The recovery of both: every block that was called durable is there, every block that a batch names is read, and the next too."""
    volume = Receiving(folder).open()
    at = assert_at(volume, told, states)
    volume.open_log()
    end = volume.log.end
    assert end in {told.appended, told.appending}, (
        f"appended {told.appended}, {told.appending} in flight, found {end}"
    )
    volume.assert_readable()
    volume.take(2)
    volume.run({9: "after"}, attempt=4)
    volume.close()
    assert volume.open().state() == {**states[at], 9: "after"}
    volume.open_log()
    volume.assert_readable()
    volume.close()


# Cuts.


class Life(NamedTuple):
    """Something that goes through power cuts."""

    live: Callable[[Recorder], States]
    start: Callable[[Recorder, Told], States]
    """After its process was killed."""
    recover: Callable[[Path, Told, States], None]


LIVES: Mapping[str, Life] = MappingProxyType(
    {
        "checkpoint folder": Life(live, start, recover),
        "embedded log": Life(write_log, write_on, recover_log),
        "received blocks": Life(receive, receive_on, recover_received),
    }
)


class Scene(NamedTuple):
    """What processes did, one after another, and where to cut."""

    ops: list[Op]
    states: States
    cuts: Iterable[int]


def lived(life: Life, room: Path) -> Scene:
    """A whole life, to be cut after every operation."""
    folder = room / "recorded"
    folder.mkdir()
    recorder = Recorder(folder)
    with small_segments(), recorder.recording():
        states = life.live(recorder)
    shutil.rmtree(folder)
    return Scene(recorder.ops, states, range(len(recorder.ops) + 1))


def started_again(life: Life, whole: Scene, room: Path) -> Iterator[Scene]:
    """The life up to a kill behind each name and each write, and a start after it: to be cut wherever it has told of something, and at its end."""
    for killed, op in enumerate(whole.ops, 1):
        if op.kind in NAMES | BYTES:
            folder = lay_out(replay(whole.ops[:killed]), room / "started")
            recorder = Recorder(folder, whole.ops[:killed])
            with small_segments(), recorder.recording():
                states = life.start(recorder, told_by(whole.ops[:killed]))
            shutil.rmtree(folder)
            ops, end = recorder.ops, len(recorder.ops)
            told = [cut for cut in range(killed + 1, end) if ops[cut - 1].kind == "told"]
            yield Scene(ops, {**whole.states, **states}, [*told, end])


@contextlib.contextmanager
def small_segments() -> Iterator[None]:
    """Segments of the block log end after a few blocks."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(blocks, "SEGMENT_BYTES", SEGMENT_BYTES)
        yield


class Checked(NamedTuple):
    """What came of the cuts."""

    orders: int
    wrong: list[str]


def told_by(ops: Sequence[Op]) -> Told:
    """What the process had told last."""
    return next((op.told for op in reversed(ops) if op.kind == "told"), Told())


def cut_everywhere(life: Life, scene: Scene, room: Path, at_most: int) -> Iterator[Checked]:
    """Cut at each place, and recover from every different folder that this may leave; gives what came of each cut."""
    seen = set()
    ops = scene.ops
    for cut in scene.cuts:
        told, orders, wrong = told_by(ops[:cut]), 0, list[str]()
        for tree in left(ops[:cut], SEED * 1_000 + cut, at_most):
            key = hash((tuple(tree.items()), told))
            if key in seen:
                continue
            seen.add(key)
            orders += 1
            folder = lay_out(tree, room / "volume")
            try:
                with small_segments(), without_waiting():
                    life.recover(folder, told, scene.states)
            except (AssertionError, StreamingError, OSError) as error:
                wrong.append(f"cut after {cut} of {len(ops)} operations ({ops[cut - 1].kind}): {error}")
            shutil.rmtree(folder)
        yield Checked(orders, wrong)

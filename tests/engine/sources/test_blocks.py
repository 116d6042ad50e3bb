"""The received-block log, and elements as bytes."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine import ManualClock
from engine.checkpoint.journal import Journal
from engine.errors import CheckpointWriteError, ConcurrentRunError, ConfigurationError, OffsetOutOfRangeError
from engine.sources import blocks
from engine.sources.blocks import BlockLog, Blocks, topic_of
from engine.sources.elements import decode_element, encode_element


@pytest.fixture
def log(tmp_path: Path) -> Iterator[BlockLog]:
    """The log of a stream."""
    made = Blocks(tmp_path, ManualClock(1_000)).log("clicks")
    yield made
    made.close()


def test_blocks_are_read_by_offsets(log: BlockLog) -> None:
    """Records of several blocks are read by a range of offsets, and the key of the last one is known."""
    assert log.append([b"a", b"b"]) == 2
    assert log.append([b"c"], b"key") == 3

    assert list(log.read(1, 3)) == [b"b", b"c"]
    assert (log.begin, log.end, log.last_key(), log.keys()) == (0, 3, b"key", [b"key"])


def test_log_of_an_application_lies_in_its_checkpoint_folder(log: BlockLog, tmp_path: Path) -> None:
    """The log is the folder blocks/<stream> of the application, and one process writes it."""
    assert (tmp_path / "blocks" / "clicks" / "topic.json").exists()
    with pytest.raises(ConcurrentRunError, match="is being written by another process"):
        BlockLog(tmp_path / "blocks", "clicks", ManualClock())


def test_log_without_a_checkpoint_folder_goes_with_the_context() -> None:
    """Without a checkpoint folder the log is in a temporary folder, which is removed at the end."""
    made = Blocks(None, ManualClock())
    log = made.log("clicks")
    log.append([b"a"])
    folder = log._folder
    assert folder.exists()
    log.close()
    made.close()

    assert not made.is_durable
    assert not folder.exists()


def test_old_segments_are_released(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments wholly before an offset are deleted, the last one never, and offsets go on."""
    monkeypatch.setattr(blocks, "SEGMENT_BYTES", 100)
    log = BlockLog(tmp_path, "clicks", ManualClock())
    for number in range(10):
        log.append([b"%d" % number * 40])
    log.release(5)
    assert log.begin == 5
    assert list(log.read(5, 6)) == [b"5" * 40]
    with pytest.raises(OffsetOutOfRangeError, match="retention has deleted"):
        list(log.read(4, 6))
    log.release(100)
    log.close()
    again = BlockLog(tmp_path, "clicks", ManualClock())

    assert (again.begin, again.end) == (9, 10)
    again.close()


def test_names_of_streams_give_folders_of_their_own() -> None:
    """A stream's name that no folder can have gets one that no other stream's has."""
    assert topic_of("job.clicks") == "job.clicks"
    assert len({topic_of(name) for name in ("a/b", "a:b", "a b", "a_b", "x" * 500, "x" * 501)}) == 6
    assert len(topic_of("x" * 500)) <= 200


def test_full_volume_is_told_as_such(log: BlockLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """A block that the volume does not take is an error that a new start gets over."""

    def refuse(_records: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(log._writer, "append", refuse)
    with pytest.raises(CheckpointWriteError, match="the checkpoint's volume is full"):
        log.append([b"a"])


@pytest.mark.parametrize(
    "element",
    [
        None,
        True,
        0,
        -(1 << 63),
        1 << 200,
        1.5,
        "text \u00e9",
        b"\x00\xff",
        (),
        ("a", 1),
        [1, [2, (3,)]],
        {("a", 1): {None: [1]}},
        {1, "a"},
        frozenset({(1, 2)}),
        math.inf,
    ],
)
def test_elements_come_back_as_what_they_were(element: Any) -> None:
    """An element of the known types comes back equal and of the same type."""
    again = decode_element(encode_element(element))

    assert again == element
    assert type(again) is type(element)


def test_sets_have_the_same_bytes_in_any_order() -> None:
    """Equal sets give equal bytes, whatever the order in which they were filled."""
    assert encode_element({"a", "b", "c"}) == encode_element({"c", "b", "a"})


@pytest.mark.parametrize("element", [object(), 1j, [object()], "\ud800"])
def test_unknown_elements_are_refused(element: Any) -> None:
    """An element that has no bytes is refused with its value and the types that do."""
    with pytest.raises(
        ConfigurationError, match=r"cannot be written to the block log.*store None, bool, int, float"
    ):
        encode_element(element)


def test_takeover_fences_the_writer_before_it(tmp_path: Path) -> None:
    """What the first process was told is durable stays, what it appends after the takeover is refused and read by nobody."""
    clock, folder = ManualClock(), tmp_path / "blocks"
    first = Journal(tmp_path, 1)
    first.begin_segment()
    old = BlockLog(folder, "clicks", clock, first)
    old.append([b"a", b"b"])
    second = Journal(tmp_path, 2)
    second.begin_segment()
    # It comes to the log after the takeover began, and before the new process has read the log: refused, and yet read.
    with pytest.raises(ConcurrentRunError, match="epoch 2 has taken over"):
        old.append([b"c"])
    new = BlockLog(folder, "clicks", clock, second)
    for _ in range(2):
        with pytest.raises(ConcurrentRunError, match="epoch 2 has taken over"):
            old.append([b"late"])
    new.append([b"d", b"e"])

    assert (new.begin, new.end, list(new.read(0, 5))) == (0, 5, [b"a", b"b", b"c", b"d", b"e"])
    old.close()
    new.close()


def test_append_under_way_at_a_takeover_is_read_by_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frame, or a segment, that the first process writes after the new one has read the log does not count."""
    monkeypatch.setattr(blocks, "SEGMENT_BYTES", 100)
    clock, folder = ManualClock(), tmp_path / "blocks"
    journals = [Journal(tmp_path, epoch) for epoch in (1, 2, 3)]
    journals[0].begin_segment()
    logs = [BlockLog(folder, "clicks", clock, journals[0])]
    for values in ([b"a"], [b"b"]):
        logs[-1].append(values)
    for journal in journals[1:]:
        journal.begin_segment()
        logs.append(BlockLog(folder, "clicks", clock, journal))
        for old, size in zip(logs[:-1], (10, 200), strict=False):
            with pytest.raises(ConcurrentRunError):
                old.append([b"x" * size])
        logs[-1].append([b"%d" % journal.epoch])

    assert list(logs[-1].read(0, logs[-1].end)) == [b"a", b"b", b"2", b"3"]
    for log in logs:
        log.close()


def test_last_record_is_never_released(tmp_path: Path) -> None:
    """A later start that has stored nothing yet keeps the last block of the one before, and so its key."""
    for epoch in (1, 2):
        journal = Journal(tmp_path, epoch)
        journal.begin_segment()
        log = BlockLog(tmp_path / "blocks", "clicks", ManualClock(), journal)
        if epoch == 1:
            log.append([b"a"], b"key")
        log.release(log.end)

        assert (log.last_key(), log.would_release(log.end)) == (b"key", False)
        log.close()

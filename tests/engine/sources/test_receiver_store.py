"""What receivers store: forms of records, blocks and their bounds, metadata, and a volume that is full."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import LocalContext
from engine.errors import CheckpointWriteError, ConfigurationError
from engine.sources import portions, supervisor
from engine.sources.blocks import BlockLog
from tests.engine.app import START_MS
from tests.engine.children import wait_until
from tests.engine.sources.receiving import Receiving, Told, appends


def test_every_form_of_store_keeps_the_order(context: LocalContext) -> None:
    """Single records, lists, iterators and bytes are in the batch in the order in which they were stored."""
    receiver = Told()
    with Receiving(context, receiver) as receiving:
        receiver.store("a")
        receiver.store(("b", 1))
        receiver.store([{"c": 2}, [3]])
        receiver.store(iter(range(3)))
        receiver.store(bytearray(b"\x00"))
        receiver.store(None)
        receiving.run().run()

    assert receiving.seen == [["a", ("b", 1), {"c": 2}, [3], 0, 1, 2, b"\x00", None], []]


def test_records_are_counted_and_spread(context: LocalContext) -> None:
    """A batch of many records is cut into partitions, keeps their order, and tells their number."""
    receiver = Told()
    counts: list[int] = []
    with Receiving(context, receiver) as receiving:
        receiving.heard.onBatchCompleted = lambda told: counts.append(told.batchInfo.numRecords)  # type: ignore[method-assign]
        receiver.store(list(range(9_999)))
        receiving.run()
        (stream,) = receiving.ssc.graph.inputs
        batch = receiving.ssc.graph.batch(START_MS + 1_000)  # type: ignore[arg-type]
        assert stream.range_rdd(batch, batch.ranges[stream.name]).getNumPartitions() == 4

    assert receiving.seen == [list(range(9_999))]
    assert counts == [9_999]


def test_a_stored_record_does_not_change_with_the_receivers(context: LocalContext) -> None:
    """What a receiver changes after the store is not seen."""
    receiver = Told()
    with Receiving(context, receiver) as receiving:
        row = ["a"]
        receiver.store((row, 1))
        row.append("b")
        receiving.run()

    assert receiving.seen == [[(["a"], 1)]]


def test_a_list_is_durable_when_store_returns(context: LocalContext, tmp_path: Path) -> None:
    """A list that was stored is in a later start's first batch, though no batch had begun; its metadata is known there."""
    receiver = Told()
    with Receiving(context, receiver, tmp_path) as receiving:
        receiver.store([1, 2], metadata={"position": 7})
    assert receiving.seen == []
    again = Told()
    with Receiving(context, again, tmp_path) as later:
        assert again.lastMetadata == {"position": 7}
        later.run().run()

    assert later.seen == [[1, 2], []]


def test_single_records_become_a_block_each_interval(context: LocalContext) -> None:
    """Single records are in the log after the block interval, without a batch."""
    receiver = Told()
    with Receiving(context, receiver, blockInterval=0.2) as receiving:
        (stream,) = receiving.ssc.graph.inputs
        receiver.store(1)
        receiver.store(2)
        assert not stream.has_backlog

        def is_written() -> bool:
            receiving.clock.advance(200)
            return stream.has_backlog

        wait_until(is_written, "a block")
        assert stream.log.end == 2  # type: ignore[attr-defined]


@pytest.mark.parametrize(("most", "limit"), [(10, None), (10, 500.0), (500, 10.0), (None, 10.0)])
def test_rate_bounds_what_is_stored(context: LocalContext, most: float | None, limit: float | None) -> None:
    """With a rate, its own or backpressure's, whoever stores waits until the clock allows the next record."""
    receiver = Told()

    def feed() -> None:
        for number in range(15):
            receiver.store(number)
        receiver.store(list(range(15, 25)))
        receiver.store(25)

    with Receiving(context, receiver, receiverMaxRate=most) as receiving:
        if limit is not None:
            receiving.ssc.graph.inputs[0].limit_to(limit)
        assert receiving.ssc.graph.inputs[0].limit == 10
        thread = threading.Thread(target=feed)
        thread.start()

        def is_done() -> bool:
            receiving.clock.advance(20)
            return not thread.is_alive()

        wait_until(is_done, "the last record")
        assert receiving.clock.wall_ms() - START_MS >= 2_499
        receiving.run()

    assert receiving.seen == [list(range(26))]


def test_full_volume_keeps_single_records(context: LocalContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list that the volume refuses is refused to the receiver, and single records wait for the next try."""
    receiver = Told()
    with Receiving(context, receiver) as receiving:
        receiver.store("waits")
        (stream,) = receiving.ssc.graph.inputs
        writer = stream.log._writer  # type: ignore[attr-defined]

        def refuse(_records: object) -> int:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(writer, "append", refuse)
            with pytest.raises(CheckpointWriteError, match="volume is full"):
                receiver.store(["refused"])
        receiver.store(["taken"])
        receiving.run()

    assert receiving.seen == [["waits", "taken"]]


def test_full_volume_does_not_hold_up_the_stop(
    context: LocalContext, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A stop whose last block the volume refuses ends all the same, and the log tells how many records are lost."""
    receiver = Told()
    with Receiving(context, receiver) as receiving:
        receiver.store("lost")

        def refuse(_records: object) -> int:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(receiving.ssc.graph.inputs[0].log._writer, "append", refuse)  # type: ignore[attr-defined]

    assert "1 single records are lost" in caplog.text


def test_unknown_records_are_refused_to_the_receiver(context: LocalContext) -> None:
    """A record that the log cannot hold is refused by the store itself."""
    receiver = Told()
    with Receiving(context, receiver), pytest.raises(ConfigurationError, match="of type object"):
        receiver.store(object())


def test_blocks_are_bounded_by_bytes(context: LocalContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large records, single ones and those of an iterator, are several blocks, each of bounded size, and keep their order."""
    monkeypatch.setattr(supervisor, "BLOCK_BYTES", 1_000)
    monkeypatch.setattr(portions, "BLOCK_BYTES", 1_000)
    sizes = appends(monkeypatch)
    texts = [f"{number}" * 400 for number in range(7)]
    receiver = Told()
    with Receiving(context, receiver) as receiving:
        for text in texts:
            receiver.store(text)
        receiver.store(iter(texts))
        receiver.store("x" * 5_000)
        receiver.store("last")
        receiving.run()

    assert receiving.seen == [[*texts, *texts, "x" * 5_000, "last"]]
    assert sizes == [2, 2, 2, 1, 2, 2, 2, 1, 1, 1]


def test_large_list_is_several_blocks(context: LocalContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list that no append takes whole is several, and its metadata are known when the last one is there, not before."""
    monkeypatch.setattr(portions, "LIST_BYTES", 1_000)
    receiver = Told()
    with Receiving(context, receiver) as receiving:
        receiver.store([1], metadata="before")
        with monkeypatch.context() as patch:
            sizes = appends(patch, refuse_from=2)
            with pytest.raises(CheckpointWriteError, match="full"):
                receiver.store(["a" * 400] * 4, metadata="all")
            assert receiver.lastMetadata == "before"
        receiver.store(["b" * 400] * 3, metadata="all")
        assert receiver.lastMetadata == "all"
        receiving.run()

    assert sizes == [2, 2]
    assert receiving.seen == [[1, *["a" * 400] * 2, *["b" * 400] * 3]]


def test_metadata_of_an_iterator_come_with_its_last_portion(
    context: LocalContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An iterator that fails half way leaves the metadata of what was there whole before it."""
    monkeypatch.setattr(portions, "CHUNK_RECORDS", 2)

    def fails() -> Iterator[int]:
        yield from range(7)
        raise ValueError("connection lost")

    receiver = Told()
    with Receiving(context, receiver) as receiving:
        receiver.store([1], metadata="before")
        with pytest.raises(ValueError, match="connection lost"):
            receiver.store(fails(), metadata="all")
        assert receiver.lastMetadata == "before"
        receiver.store(iter(range(5)), metadata="all")
        assert receiver.lastMetadata == "all"
        receiving.run()

    assert receiving.seen == [[1, *range(4), *range(5)]]


def test_record_that_is_too_large_is_refused_to_the_receiver(
    context: LocalContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record or metadata that no append has room for are refused by the store itself, and the stream goes on."""
    for name in ("MAX_RECORD_BYTES", "MAX_METADATA_BYTES", "BLOCK_BYTES"):
        monkeypatch.setattr(portions, name, 1_000)
    monkeypatch.setattr(supervisor, "BLOCK_BYTES", 1_000)
    receiver = Told()
    with Receiving(context, receiver) as receiving:
        for store in (["x" * 2_000], iter(["x" * 2_000]), "x" * 2_000, b"x" * 2_000):
            with pytest.raises(ConfigurationError, match=r"a record has 200\d bytes, .* at most 1000"):
                receiver.store(store)
        with pytest.raises(ConfigurationError, match=r"metadata of a block has 200\d bytes"):
            receiver.store("small", metadata="x" * 2_000)
        receiver.store("small")
        receiving.run()

    assert receiving.seen == [["small"]]


@pytest.mark.slow
def test_largest_records_fit_into_an_append(context: LocalContext) -> None:
    """A record of the largest size with metadata of the largest is stored, alone and in a list that is more than an append takes."""
    receiver = Told()
    largest = b"x" * (portions.MAX_RECORD_BYTES - 5)
    metadata = "m" * (portions.MAX_METADATA_BYTES - 5)
    with Receiving(context, receiver) as receiving:
        receiver.store(largest, metadata)
        receiver.store([largest, *[b"y" * 100] * 200_000], metadata)
        (stream,) = receiving.ssc.graph.inputs
        assert stream.log.end == 200_002  # type: ignore[attr-defined]
        assert receiver.lastMetadata == metadata


def test_thread_of_blocks_outlives_an_error(context: LocalContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that nobody thought of while a block is made is told, and later blocks are made all the same."""
    receiver = Told()
    with Receiving(context, receiver, blockInterval=0.2) as receiving:
        (stream,) = receiving.ssc.graph.inputs

        def time_passes() -> None:
            receiving.clock.advance(200)

        with monkeypatch.context() as patch:
            patch.setattr(BlockLog, "append", lambda *_: 1 // 0)
            receiver.store("waits")
            wait_until(lambda: time_passes() or "error" in receiving.heard.kinds, "the error")
        wait_until(lambda: time_passes() or stream.has_backlog, "a block")
        receiving.run()

    assert receiving.seen == [["waits"]]
    assert "ZeroDivisionError" in receiving.heard.events[1][1].lastError

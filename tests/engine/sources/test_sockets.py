"""Streams from sockets, over real connections on loopback."""

import io
import json
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any, Self

import pytest

from engine import LocalContext, ManualClock, StreamingContext, StreamingListener
from engine.dstream.dstream import DStream
from engine.errors import ConfigurationError, SourceError
from engine.sources import sockets
from engine.sources.blocks import BlockLog
from engine.sources.sockets import raw_frames, text_lines
from tests.engine.app import START_MS
from tests.engine.children import wait_until
from tests.engine.sources.receiving import folder_for_blocks


class Peer:
    """A server on loopback that takes one connection at a time."""

    def __init__(self, port: int = 0) -> None:
        self._listener = socket.create_server(("127.0.0.1", port))
        self._listener.settimeout(10)
        self.port = self._listener.getsockname()[1]
        self._connection: socket.socket | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.hang_up()
        self._listener.close()

    def take(self) -> Self:
        """Wait for the next connection."""
        self._connection, _ = self._listener.accept()
        return self

    def send(self, data: bytes) -> Self:
        """Send bytes."""
        assert self._connection is not None
        self._connection.sendall(data)
        return self

    def hang_up(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


@pytest.fixture
def peer() -> Iterator[Peer]:
    """A server."""
    with Peer() as made:
        yield made


class Listening:
    """A context with one socket stream."""

    def __init__(self, context: LocalContext, make: Callable[[StreamingContext], DStream[Any]]) -> None:
        self.clock = ManualClock(START_MS)
        self.ssc = StreamingContext(context, 1.0, clock=self.clock)
        folder = folder_for_blocks(context)
        if folder is not None:
            self.ssc.checkpoint(folder)
        self.seen: list[Any] = []
        self.errors: list[str] = []
        self.starts: list[int] = []
        errors, starts = self.errors, self.starts

        class Errors(StreamingListener):
            def onReceiverStarted(self, receiverStarted: Any) -> None:
                starts.append(receiverStarted.receiverInfo.streamId)

            def onReceiverError(self, receiverError: Any) -> None:
                errors.append(receiverError.receiverInfo.lastErrorMessage)

        self.ssc.addStreamingListener(Errors())
        make(self.ssc).foreachRDD(lambda rdd: self.seen.extend(rdd.collect()))

    def __enter__(self) -> Self:
        self.ssc.start(thread=False)
        return self

    def __exit__(self, *_: object) -> None:
        self.ssc.stop(stopSparkContext=False)

    def restarted(self) -> None:
        """Let the time pass until the receiver has started once more."""
        count = len(self.starts)

        def is_started() -> bool:
            self.clock.advance(100)
            return len(self.starts) > count

        wait_until(is_started, "the restart")

    def until(self, count: int) -> list[Any]:
        """Run batches until so many elements were seen."""

        def is_there() -> bool:
            self.clock.advance(1_000)
            self.ssc.runBatch()
            return len(self.seen) >= count

        wait_until(is_there, f"{count} elements")
        return self.seen


def test_lines_of_text_come_in_order(context: LocalContext, peer: Peer) -> None:
    """Lines of UTF-8 end with LF or CR LF, whatever the packets they come in; what is no UTF-8 is replaced."""
    with Listening(context, lambda ssc: ssc.socketTextStream("127.0.0.1", peer.port)) as listening:
        peer.take().send(b"one\r\ntw").send("o caf\u00e9\n".encode()).send(b"\n\xff\nlast")
        assert listening.until(4) == ["one", "two caf\u00e9", "", "\ufffd"]
        peer.hang_up()

        assert listening.until(5)[4:] == ["last"]


def test_a_connection_that_ends_is_made_again(context: LocalContext, peer: Peer) -> None:
    """The stream connects again two seconds after the server hung up, and listeners are told."""
    with Listening(context, lambda ssc: ssc.socketTextStream("127.0.0.1", peer.port)) as listening:
        peer.take().send(b"first\n").hang_up()
        wait_until(lambda: len(listening.errors) == 1, "the error")
        listening.restarted()
        peer.take().send(b"second\n")
        assert listening.until(2) == ["first", "second"]

    assert listening.errors == ["Restarting receiver with delay 2000 ms: Socket data stream had no more data"]


def test_a_server_that_comes_late_is_found(context: LocalContext, peer: Peer) -> None:
    """A server that does not answer is tried again every two seconds, for ever."""
    port = peer.port
    peer.__exit__()
    with Listening(context, lambda ssc: ssc.socketTextStream("127.0.0.1", port)) as listening:
        for tries in (1, 2, 3):
            wait_until(lambda tries=tries: len(listening.errors) == tries, "an error")
            listening.restarted()
        wait_until(lambda: len(listening.errors) == 4, "an error")
        refused = set(listening.errors)
        with Peer(port) as late:
            listening.restarted()
            late.take().send(b"at last\n")

            assert listening.until(1) == ["at last"]

    assert refused == {f"Restarting receiver with delay 2000 ms: Error connecting to 127.0.0.1:{port}"}


def test_converter_makes_the_elements(context: LocalContext, peer: Peer) -> None:
    """A converter gets the bytes as a file and yields elements of any type, lists and bytes among them."""

    def rows(stream: Any) -> Iterator[Any]:
        for line in stream:
            yield json.loads(line)
            yield line

    with Listening(context, lambda ssc: ssc.socketStream("127.0.0.1", peer.port, rows)) as listening:
        peer.take().send(b'[1,2]\n{"a":1}\n')

        assert listening.until(4) == [[1, 2], b"[1,2]\n", {"a": 1}, b'{"a":1}\n']


def test_converter_that_fails_starts_again(context: LocalContext, peer: Peer) -> None:
    """An error in the converter is told and the connection is made again."""

    def numbers(stream: Any) -> Iterator[int]:
        yield from map(int, stream)

    with Listening(context, lambda ssc: ssc.socketStream("127.0.0.1", peer.port, numbers)) as listening:
        peer.take().send(b"1\nx\n")
        wait_until(lambda: len(listening.errors) == 1, "the error")
        listening.restarted()
        peer.hang_up()
        peer.take().send(b"2\n")
        assert listening.until(2) == [1, 2]

    assert listening.errors == ["Restarting receiver with delay 2000 ms: Error receiving data"]


def test_raw_frames_are_elements(context: LocalContext, peer: Peer) -> None:
    """Each frame of a raw socket is one element of bytes, also an empty one."""
    with Listening(context, lambda ssc: ssc.rawSocketStream("127.0.0.1", peer.port)) as listening:
        frames = [b"abc", b"", bytes(range(256)) * 100]
        peer.take().send(b"".join(struct.pack(">i", len(frame)) + frame for frame in frames))

        assert listening.until(3) == frames


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (struct.pack(">i", 11) + b"x" * 11, "a frame of the socket has 11 bytes; send 0 to 10 bytes"),
        (struct.pack(">i", -1), "a frame of the socket has -1 bytes"),
        (struct.pack(">i", 4) + b"abc", "ended after 3 of 4 bytes"),
        (struct.pack(">i", 4), "ended after 0 of 4 bytes"),
        (b"\x00\x00", "ended after 2 of 4 bytes"),
    ],
)
def test_bad_frames_are_refused(data: bytes, words: str) -> None:
    """A frame that is too long, negative or cut off is refused with its size."""
    with pytest.raises(SourceError, match=words):
        list(raw_frames(io.BytesIO(data), most=10))


def test_endless_lines_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line longer than the bound is refused, one of its length is not."""
    monkeypatch.setattr(sockets, "MAX_LINE_BYTES", 8)
    assert list(text_lines(io.BytesIO(b"12345678\r\n12345678\n12345678"))) == ["12345678"] * 3
    with pytest.raises(SourceError, match="longer than 8 bytes"):
        list(text_lines(io.BytesIO(b"123456789\n")))


def test_impossible_addresses_are_refused(context: LocalContext) -> None:
    """A port or frame size that cannot be is refused with its value."""
    ssc = StreamingContext(context, 1.0)
    with pytest.raises(ConfigurationError, match="port is 70000; give a number from 1 to 65535"):
        ssc.socketTextStream("127.0.0.1", 70_000)
    with pytest.raises(ConfigurationError, match="maxBlockSizeBytes is 0"):
        ssc.rawSocketStream("127.0.0.1", 9_999, maxBlockSizeBytes=0)


@pytest.mark.slow
def test_sockets_work_with_state_and_a_running_clock(
    context: LocalContext, peer: Peer, tmp_path: Any
) -> None:
    """Word counts of a socket in a running context, with state and a checkpoint folder, end exact after a graceful stop."""
    totals: dict[str, int] = {}
    ssc = StreamingContext(context, 0.1, shards=2)
    ssc.checkpoint(tmp_path)
    words = ssc.socketTextStream("127.0.0.1", peer.port).flatMap(str.split)
    counts = words.map(lambda word: (word, 1)).updateStateByKey(lambda new, old: sum(new) + (old or 0))
    counts.foreachRDD(lambda rdd: totals.update(rdd.collect()))
    ssc.start()
    peer.take()
    for _ in range(50):
        peer.send(b"to be or not to be\n")
    wait_until(lambda: totals.get("or") == 50, "all lines")
    peer.send(b"question\n")
    (stream,) = ssc.graph.inputs
    wait_until(lambda: stream.log.end == 51, "the last line")  # type: ignore[attr-defined]
    ssc.stop(stopSparkContext=False, stopGraceFully=True)

    assert totals == {"to": 100, "be": 100, "or": 50, "not": 50, "question": 1}


def test_frames_share_their_blocks(
    context: LocalContext, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small frames are gathered: they cost an append a block, and not one each."""
    append: Any = BlockLog.append
    sizes: list[int] = []

    def counted(log: BlockLog, values: list[bytes], key: bytes | None = None) -> int:
        sizes.append(len(values))
        return int(append(log, values, key))

    monkeypatch.setattr(BlockLog, "append", counted)
    with Listening(context, lambda ssc: ssc.rawSocketStream("127.0.0.1", peer.port)) as listening:
        peer.take().send(b"".join(struct.pack(">i", 1) + b"%d" % (n % 10) for n in range(500)))

        assert listening.until(500) == [b"%d" % (n % 10) for n in range(500)]
    assert len(sizes) < 100

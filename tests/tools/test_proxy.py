"""The proxy between the engine and a server: late, narrow or silent on order, and never a byte lost or out of order."""

import asyncio
import struct
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.settings import REPOSITORY
from tests.tools.stack_world import listening
from tools.stack.proxy import Frames, Proxy, Swap, address

_ORDERS = "say delay SECONDS, rate BYTES, reset SHARE, resets NUMBER, cut or join"
Through = Callable[[Proxy, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def through(use: Through, *, is_kafka: bool = False, answer: Callable[[bytes], bytes] = bytes.upper) -> None:
    """Use a connection through a proxy to a server that answers what it reads."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(answer(data))
            await writer.drain()
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        proxy = Proxy(("127.0.0.1", 0), server.sockets[0].getsockname()[:2], is_kafka)
        reader, writer = await asyncio.open_connection(*await proxy.start())
        await use(proxy, reader, writer)
        writer.close()
        await proxy.stop()
        server.close()
        await server.wait_closed()

    asyncio.run(run())


@given(
    st.lists(st.binary(min_size=1, max_size=3_000), min_size=1, max_size=20), st.sampled_from([0.0, 0.002])
)
def test_bytes_arrive_whole_and_in_order(pieces: list[bytes], delay: float) -> None:
    """Whatever is sent in whatever pieces, with or without a delay and a cut in between, comes back whole and in order."""

    async def use(proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        proxy.delay = delay
        for number, piece in enumerate(pieces):
            if number == len(pieces) // 2:
                proxy.cut()
            writer.write(piece)
            await writer.drain()
        proxy.join()
        writer.write_eof()
        assert await reader.read() == b"".join(pieces).upper()

    through(use)


def test_delay_holds_in_each_direction() -> None:
    """With a delay of half a second questions are answered after a second, and three in a row do not add up to three."""

    async def use(proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"a")
        assert await reader.readexactly(1) == b"A"
        proxy.delay = 0.5
        began = time.monotonic()
        for piece in (b"b", b"c", b"d"):
            writer.write(piece)
        assert await reader.readexactly(3) == b"BCD"
        assert 1.0 <= time.monotonic() - began < 3.0

    through(use)


@pytest.mark.slow
def test_rate_bounds_the_bytes_per_second() -> None:
    """At 200,000 bytes a second 100,000 bytes take at least a third of a second there, and as many back."""

    async def use(proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        proxy.rate = 200_000
        began = time.monotonic()
        writer.write(b"x" * 100_000)
        assert await reader.readexactly(100_000) == b"X" * 100_000
        assert time.monotonic() - began > 0.3

    through(use)


@pytest.mark.slow
def test_cut_holds_bytes_and_connections_until_the_join() -> None:
    """While it is cut nothing passes, on an open connection or on a new one, and afterwards all of it does."""

    async def use(proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"a")
        assert await reader.readexactly(1) == b"A"
        assert proxy.obey("cut") == "ok"
        assert proxy._server is not None
        late_reader, late_writer = await asyncio.open_connection(*proxy._server.sockets[0].getsockname()[:2])
        writer.write(b"b")
        late_writer.write(b"c")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.2)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(late_reader.read(1), 0.1)
        assert proxy.obey("join") == "ok"
        assert (await reader.readexactly(1), await late_reader.readexactly(1)) == (b"B", b"C")
        late_writer.close()

    through(use)


def test_reset_breaks_connections_until_it_is_taken_back() -> None:
    """With a share of 1 the next read breaks its connection and is lost, and with 0 a new connection carries all."""

    async def use(proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"a")
        assert await reader.readexactly(1) == b"A"
        assert proxy.obey("reset 1") == "ok"
        writer.write(b"b")
        assert await reader.read() == b""
        assert (proxy.obey("resets 1"), proxy.resets) == ("ok", 1)
        assert proxy.obey("reset 0") == "ok"
        assert proxy._server is not None
        late_reader, late_writer = await asyncio.open_connection(*proxy._server.sockets[0].getsockname()[:2])
        late_writer.write(b"c")
        assert await late_reader.readexactly(1) == b"C"
        late_writer.close()

    through(use)


def test_end_of_a_side_is_passed_on() -> None:
    """A server that closes is seen to close, after its last byte."""

    async def use(_proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"last")
        writer.write_eof()
        assert await reader.read() == b"LAST"

    through(use)


def test_address_of_kafka_is_swapped_in_whole_frames_only() -> None:
    """The broker's own address becomes the proxy's wherever a frame tells it, however the bytes are cut up."""
    swap = Swap(("kafka", 9092), ("proxy", 41))
    told, instead = b"kafka" + struct.pack(">i", 9092), b"proxy" + struct.pack(">i", 41)
    bodies = [b"\0\1" + told + b"rack" + told, b"", b"kafka alone stays", b"x" * 100]
    stream = b"".join(struct.pack(">i", len(body)) + body for body in bodies)
    wanted = b"".join(struct.pack(">i", len(body)) + body.replace(told, instead) for body in bodies)
    for size in (1, 3, 7, 1_000):
        frames = Frames(swap)
        pieces = [frames.feed(stream[at : at + size]) for at in range(0, len(stream), size)]
        assert b"".join(pieces) == wanted


def test_swap_keeps_the_length() -> None:
    """Two names of different length cannot be swapped, since an answer tells the length of what it holds."""
    with pytest.raises(ValueError, match="'kafka' and 'a-proxy' differ in length"):
        Swap(("kafka", 9092), ("a-proxy", 9092))


@pytest.mark.parametrize(
    ("order", "answer"),
    [
        ("delay 0.5", "ok"),
        ("rate 1000", "ok"),
        ("reset 0.1", "ok"),
        ("reset 2", f"'reset 2' is not an order; {_ORDERS}"),
        ("resets 1", "0 connections were broken"),
        ("delay soon", "'soon' is not a number"),
        ("delay -1", f"'delay -1' is not an order; {_ORDERS}"),
        ("stop", f"'stop' is not an order; {_ORDERS}"),
    ],
)
def test_orders_are_answered(order: str, answer: str) -> None:
    """An order is carried out, or refused in one sentence."""
    assert Proxy(("127.0.0.1", 0), ("127.0.0.1", 1)).obey(f"{order}\n") == answer


@contextmanager
def command(arguments: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """The file as a command of its own, as a container runs it."""
    line = [sys.executable, str(REPOSITORY / "tools" / "stack" / "proxy.py"), *arguments]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as popen:
        try:
            yield popen
        finally:
            popen.kill()


@pytest.mark.slow
def test_command_says_where_it_listens_and_ends_with_its_input() -> None:
    """The proxy stands alone as one file, answers each order with a line, and ends when nobody orders any more."""
    with listening() as port, command(["127.0.0.1:0", f"127.0.0.1:{port}"]) as popen:
        assert popen.stdin is not None
        assert popen.stdout is not None
        word, _, where = popen.stdout.readline().strip().partition(" ")
        assert (word, address(where)[0]) == ("listening", "127.0.0.1")
        popen.stdin.write("cut\n")
        popen.stdin.flush()
        assert popen.stdout.readline() == "ok\n"
        popen.stdin.close()
        assert popen.wait(10) == 0

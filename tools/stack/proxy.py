"""A TCP proxy that is slow, narrow, silent or lossy on order; `python proxy.py LISTEN_HOST:PORT TARGET_HOST:PORT [--kafka]`.

It says `listening HOST:PORT` and then takes orders on standard input, one a line, each answered by `ok` or a sentence:

    delay SECONDS   every byte that comes from now on arrives so much later, in each direction
    rate BYTES      at most so many bytes a second, in each direction of each connection; 0 for no limit
    reset SHARE     each read from either side breaks its connection with this probability, both ways; 0 for never
    resets NUMBER   `ok` when at least so many connections were broken so, else a sentence with how many
    cut             no byte passes and no connection is made; those that are open stay so
    join            what was held passes again

It ends when standard input does. Bytes are neither reordered nor changed, and lost only with their connection, by `reset`. The one
exception is --kafka: a broker
tells its clients where to find it, and behind a proxy that has to be the proxy. In the broker's answers, which are framed by
their length, the target's address is replaced by the proxy's, whose name must have the same length.

The file stands alone, on the standard library, because it also runs inside a container.

Owns: Proxy, Frames, Swap.
Never: an end of a connection that neither side has ended, unless `reset` says so.
"""

import argparse
import asyncio
import contextlib
import random
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

_CHUNK_BYTES = 65_536
_HELD_CHUNKS = 256
"""So many reads are on their way in one direction; the sender waits beyond that."""
_LENGTH = struct.Struct(">i")
_ORDERS = "delay SECONDS, rate BYTES, reset SHARE, resets NUMBER, cut or join"

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Swap:
    """An address in the answers of Kafka, and what stands in its place.

    1. Both names have the same length, so that no length in an answer changes.
    """

    told: Address
    instead: Address

    def __post_init__(self) -> None:
        """Hold the invariant."""
        if len(self.told[0].encode()) != len(self.instead[0].encode()):
            raise ValueError(
                f"{self.told[0]!r} and {self.instead[0]!r} differ in length; name an alias as long"
            )

    def apply(self, frame: bytes) -> bytes:
        """A frame with the other address; name and port stand beside each other in every version of the protocol."""
        return frame.replace(_as_told(self.told), _as_told(self.instead))


class Frames:
    """Cuts a stream of bytes into Kafka's frames, four bytes of length and so many bytes, and swaps an address in each.

    Args:
        swap: what is replaced.
    """

    def __init__(self, swap: Swap) -> None:
        self._swap = swap
        self._held = bytearray()

    def feed(self, data: bytes) -> bytes:
        """The frames that have become whole, with the address swapped."""
        self._held += data
        whole: list[bytes] = []
        while len(self._held) >= _LENGTH.size:
            end = _LENGTH.size + _LENGTH.unpack_from(self._held)[0]
            if len(self._held) < end:
                break
            whole.append(self._swap.apply(bytes(self._held[:end])))
            del self._held[:end]
        return b"".join(whole)


@dataclass(slots=True)
class Proxy:
    """One port that leads to another.

    Args:
        listen: where it listens; port 0 for any free one.
        target: where it leads.
        is_kafka: whether the target tells its address, see above.
    """

    listen: Address
    target: Address
    is_kafka: bool = False
    delay: float = 0.0
    """Seconds that each byte takes longer."""
    rate: float = 0.0
    """Bytes per second in each direction of each connection; 0 for no limit."""
    reset: float = 0.0
    """How probable it is that a read breaks its connection, from 0 to 1."""
    resets: int = 0
    """Connections that were broken so."""
    _open: asyncio.Event = field(default_factory=asyncio.Event)
    _server: asyncio.Server | None = None
    _swap: Swap | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def start(self) -> Address:
        """Listen; returns where."""
        self._open.set()
        self._server = await asyncio.start_server(self._serve, *self.listen)
        host, port = self._server.sockets[0].getsockname()[:2]
        if self.is_kafka:
            self._swap = Swap(self.target, (host, port))
        return host, port

    async def stop(self) -> None:
        """End every connection."""
        assert self._server is not None, "start() comes first"
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def cut(self) -> None:
        """Let nothing pass."""
        self._open.clear()

    def join(self) -> None:
        """Let everything pass again, what was held first."""
        self._open.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._open.wait()
            await asyncio.sleep(self.delay)
            there_reader, there_writer = await asyncio.open_connection(*self.target)
            try:
                swapped = Frames(self._swap).feed if self._swap else _as_it_is
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._pump(reader, there_writer, _as_it_is))
                    group.create_task(self._pump(there_reader, writer, swapped))
            finally:
                there_writer.close()
        except* (OSError, asyncio.CancelledError):
            pass  # one side has ended the connection hard, or the proxy ends; the other side is told by close()
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, change: Callable[[bytes], bytes]
    ) -> None:
        """Carry one direction until its end; reading goes on while earlier bytes are still on their way."""
        chunks: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_HELD_CHUNKS)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._deliver(chunks, writer, change))
            now = asyncio.get_running_loop().time
            data = b"-"
            while data:
                data = await reader.read(_CHUNK_BYTES)
                if data and random.random() < self.reset:
                    self.resets += 1
                    raise ConnectionResetError("reset on order")
                await chunks.put((now(), data))

    async def _deliver(
        self,
        chunks: asyncio.Queue[tuple[float, bytes]],
        writer: asyncio.StreamWriter,
        change: Callable[[bytes], bytes],
    ) -> None:
        now = asyncio.get_running_loop().time
        while True:
            came, data = await chunks.get()
            await asyncio.sleep(max(came + self.delay - now(), 0))
            await self._open.wait()
            if not data:
                break
            writer.write(change(data))
            await writer.drain()
            if self.rate > 0:
                await asyncio.sleep(len(data) / self.rate)
        with contextlib.suppress(OSError):
            writer.write_eof()

    def obey(self, line: str) -> str:
        """Carry out an order; returns the answer."""
        order, _, value = line.strip().partition(" ")
        try:
            number = float(value or 0)
        except ValueError:
            return f"{value!r} is not a number"
        match order:
            case "delay" if number >= 0:
                self.delay = number
            case "rate" if number >= 0:
                self.rate = number
            case "reset" if 0 <= number <= 1:
                self.reset = number
            case "resets":
                return "ok" if self.resets >= number else f"{self.resets} connections were broken"
            case "cut":
                self.cut()
            case "join":
                self.join()
            case _:
                return f"{line.strip()!r} is not an order; say {_ORDERS}"
        return "ok"


async def serve(proxy: Proxy) -> None:
    """Listen and obey standard input until it ends."""
    host, port = await proxy.start()
    print(f"listening {host}:{port}", flush=True)
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(orders), sys.stdin
    )
    while line := await orders.readline():
        print(proxy.obey(line.decode()), flush=True)
    await proxy.stop()


def address(text: str) -> Address:
    """HOST:PORT as a pair.

    Example:
        >>> address("kafka:9092")
        ('kafka', 9092)
    """
    host, _, port = text.rpartition(":")
    return host, int(port)


def _as_it_is(data: bytes) -> bytes:
    return data


def _as_told(told: Address) -> bytes:
    return told[0].encode() + _LENGTH.pack(told[1])


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(
        description="A TCP proxy that is slow, narrow, silent or lossy on order."
    )
    parser.add_argument("listen", type=address)
    parser.add_argument("target", type=address)
    parser.add_argument(
        "--kafka", action="store_true", help="the target tells its own address; tell the proxy's"
    )
    given = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(Proxy(given.listen, given.target, given.kafka)))


if __name__ == "__main__":
    main()

"""A TCP proxy before a real server, to take the server away and give it back at once."""

import socket
import struct
import threading
from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import Self

_CHUNK_BYTES = 65_536
_HEADER = struct.Struct(">BBHBI")
"""Of a frame: version, flags, stream, operation, length of the body."""


class Proxy:
    """Listens on a port of its own and passes bytes on to a server, until it is told not to.

    Example:
        with Proxy("127.0.0.1", 9042) as proxy:
            proxy.cut()   # connections break, new ones are refused
            proxy.heal()  # back on the same port
    """

    def __init__(self, host: str, port: int, answer: Callable[[bytes], bytes | None] | None = None) -> None:
        self._target = (host, port)
        self._answer = answer
        """Given each of Cassandra's frames from a client, the answer in the server's place; None lets the server have it."""
        self._answering = threading.Lock()
        self.is_mute = False
        """Whether what the server says is dropped."""
        self.dropped_bytes = 0
        """Of the server's answers."""
        self._flowing = threading.Event()
        self._flowing.set()
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._listener = self._listen(0)
        self.port: int = self._listener.getsockname()[1]
        self.forwarded_bytes = 0
        """From clients to the server."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._flowing.set()
        self.cut()

    def cut(self) -> None:
        """Break every connection and refuse new ones."""
        with self._lock:
            _end(self._listener)
            for each in self._sockets:
                _end(each)
            self._sockets.clear()

    def heal(self) -> None:
        """Take connections again."""
        with self._lock:
            self._listener = self._listen(self.port)

    def freeze(self) -> None:
        """Keep the connections, and pass nothing on."""
        self._flowing.clear()

    def thaw(self) -> None:
        """Pass on what was kept back."""
        self._flowing.set()

    def _listen(self, port: int) -> socket.socket:
        listener = socket.create_server(("127.0.0.1", port), backlog=64)
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        return listener

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection(self._target)
                with self._lock:
                    if listener is not self._listener or listener.fileno() < 0:
                        _end(client)
                        _end(server)
                        return
                    self._sockets += [client, server]
                threading.Thread(target=self._pump, args=(client, server, True), daemon=True).start()
                threading.Thread(target=self._pump, args=(server, client, False), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, upstream: bool) -> None:
        with suppress(OSError):
            held = b""
            while data := source.recv(_CHUNK_BYTES):
                self._flowing.wait()
                if upstream and self._answer is not None:
                    data, held = self._let_through(held + data, source)
                elif self.is_mute and not upstream:
                    self.dropped_bytes += len(data)
                    continue
                with nullcontext() if upstream else self._answering:
                    sink.sendall(data)
                self.forwarded_bytes += len(data) * upstream
        _end(source)
        _end(sink)

    def _let_through(self, data: bytes, client: socket.socket) -> tuple[bytes, bytes]:
        """What goes on to the server, and the frame that has not come whole; the others are answered here."""
        assert self._answer is not None, "without answers nothing is cut into frames"
        passed = []
        while len(data) >= _HEADER.size and len(data) >= (
            end := _HEADER.size + _HEADER.unpack_from(data)[-1]
        ):
            frame, data = data[:end], data[end:]
            answer = self._answer(frame)
            if answer is None:
                passed.append(frame)
            else:
                with self._answering:
                    client.sendall(answer)
        return b"".join(passed), data


def _end(each: socket.socket) -> None:
    with suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()

"""Streams from TCP sockets: lines of text, whatever a converter makes of the bytes, frames with their length before them.

A connection that ends or fails is made again after 2 seconds, for ever; listeners are told each time. A socket cannot send again: what
was on its way when the process died is lost, what a block holds is not.

Owns: SocketReceiver, RawSocketReceiver, text_lines.
Never: a server.
"""

import socket
import struct
import threading
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from typing import Any, BinaryIO, cast

from engine.errors import ConfigurationError, LifecycleError, SourceError
from engine.sources.receiver import Receiver

CONNECT_SECONDS = 10.0
READ_BYTES = 64 * 1024
MAX_LINE_BYTES = 16 << 20
MAX_FRAME_BYTES = 32 << 20
"""Bounds of what one record may be: without them a peer that sends no line end fills the memory."""
_SIZE = struct.Struct(">i")

Converter = Callable[[BinaryIO], Iterable[Any]]


def text_lines(stream: BinaryIO) -> Iterator[str]:
    r"""The lines of UTF-8 text, without their ends (LF or CR LF); bytes that are no UTF-8 become the replacement character.

    Raises:
        SourceError: a line is longer than 16 MiB.

    Example:
        >>> import io
        >>> list(text_lines(io.BytesIO(b"one\r\ntwo\n\nlast")))
        ['one', 'two', '', 'last']
    """
    while line := stream.readline(MAX_LINE_BYTES + 2):
        text = line.removesuffix(b"\n").removesuffix(b"\r") if line.endswith(b"\n") else line
        if len(text) > MAX_LINE_BYTES:
            raise SourceError(
                f"a line of the socket is longer than {MAX_LINE_BYTES} bytes; send line ends, or use rawSocketStream"
            )
        yield text.decode("utf-8", "replace")


def raw_frames(stream: BinaryIO, most: int) -> Iterator[bytes]:
    """Frames of bytes, each with its size before it in 4 bytes, big endian.

    Raises:
        SourceError: a size is negative, or above the limit, or the connection ended inside a frame.
    """
    while head := _exactly(stream, _SIZE.size, may_end=True):
        (size,) = _SIZE.unpack(head)
        if not 0 <= size <= most:
            raise SourceError(f"a frame of the socket has {size} bytes; send 0 to {most} bytes at a time")
        yield _exactly(stream, size)


def _exactly(stream: BinaryIO, size: int, *, may_end: bool = False) -> bytes:
    """So many bytes; none where the stream may end before the first.

    Raises:
        SourceError: it ended after the first.
    """
    data = stream.read(size)
    if len(data) < size and (data or not may_end):
        raise SourceError(f"the connection ended after {len(data)} of {size} bytes")
    return data


class _Connected(Receiver):
    """A receiver with one connection, which a thread reads to its end."""

    def __init__(self, hostname: str, port: int, storageLevel: Any) -> None:
        super().__init__(storageLevel)
        if not isinstance(hostname, str) or not hostname:
            raise ConfigurationError(f"hostname is {hostname!r:.60}; give the name or address of a server")
        if not isinstance(port, int) or not 0 < port < 65_536:
            raise ConfigurationError(f"port is {port!r:.60}; give a number from 1 to 65535")
        self._address = hostname, port
        self._connection: socket.socket | None = None
        self._lock = threading.Lock()

    def onStart(self) -> None:
        """Connect in a thread."""
        threading.Thread(target=self._receive, name=f"socket-{self._address[1]}", daemon=True).start()

    def onStop(self) -> None:
        """Close the connection, so that the thread which reads it ends."""
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(OSError):  # it is not connected any more
                connection.shutdown(socket.SHUT_RDWR)

    def _receive(self) -> None:
        host, port = self._address
        try:
            connection = socket.create_connection(self._address, CONNECT_SECONDS)
        except OSError as error:
            self.restart(f"Error connecting to {host}:{port}", error)
            return
        with closing(connection):
            connection.settimeout(None)
            with self._lock:
                self._connection = connection
            if self.isStopped():
                return
            self._read_to_the_end(connection)

    def _read_to_the_end(self, connection: socket.socket) -> None:
        try:
            with closing(connection.makefile("rb", READ_BYTES)) as stream:
                self._store_all(cast("BinaryIO", stream))
        except LifecycleError:
            return  # the context has stopped
        except Exception as error:  # noqa: BLE001  the network and the converter may raise anything; the receiver starts again
            if self._is_current(connection):
                self.restart("Error receiving data", error)
        else:
            if self._is_current(connection):
                self.restart("Socket data stream had no more data")

    def _is_current(self, connection: socket.socket) -> bool:
        """Whether the receiver still uses this connection, and did not close it itself."""
        return self._connection is connection and not self.isStopped()

    @abstractmethod
    def _store_all(self, stream: BinaryIO) -> None:
        """Store what the connection sends until it ends."""


class SocketReceiver(_Connected):
    """Stores what a converter makes of a connection's bytes."""

    def __init__(self, hostname: str, port: int, converter: Converter, storageLevel: Any = None) -> None:
        super().__init__(hostname, port, storageLevel)
        if not callable(converter):
            raise ConfigurationError(
                f"converter is {converter!r:.60}; give a function of the connection as a binary file"
            )
        self._converter = converter

    def _store_all(self, stream: BinaryIO) -> None:
        for element in self._converter(stream):
            self._attached.store_one(element)


class RawSocketReceiver(_Connected):
    """Stores each frame of a connection as one record, which is durable with its block."""

    def __init__(self, hostname: str, port: int, most: int, storageLevel: Any = None) -> None:
        super().__init__(hostname, port, storageLevel)
        if not 0 < most <= MAX_FRAME_BYTES:
            raise ConfigurationError(
                f"maxBlockSizeBytes is {most}; give 1 to {MAX_FRAME_BYTES}, which the block log can hold"
            )
        self._most = most

    def _store_all(self, stream: BinaryIO) -> None:
        for frame in raw_frames(stream, self._most):
            self._attached.store_one(frame)

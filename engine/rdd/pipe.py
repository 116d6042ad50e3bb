"""A program that elements are piped through: fed and read in turns by one thread, ended with its partition.

Owns: piped.
Never: a shell, a thread.
"""

import os
import selectors
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any, Final

from engine.errors import UserFunctionError

_CHUNK: Final = 65_536
"""Bytes that are written or read at once."""


def piped(command: str, env: Mapping[str, str], check_code: bool, elements: Iterator[Any]) -> Iterator[str]:
    """The lines that the program prints, without their line ends.

    Raises:
        UserFunctionError: the exit code is not 0, and it is to be checked.
    """
    # `env` sets variables on top of those that the executor has, and then becomes the program.
    settings = ["env", *(f"{name}={value}" for name, value in env.items())] if env else []
    child = subprocess.Popen(
        [*settings, *shlex.split(command)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    )
    try:
        yield from _lines(_exchange(child, elements))
        code = child.wait()
        if check_code and code:
            raise UserFunctionError(f"Pipe function `{command}` exited with error code {code}")
    finally:
        child.kill()
        child.wait()
        for stream in (child.stdin, child.stdout):
            if stream is not None:
                stream.close()


def _lines(chunks: Iterator[bytes]) -> Iterator[str]:
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line.decode()
    if rest:
        yield rest.decode()


def _encoded(elements: Iterator[Any]) -> Iterator[memoryview]:
    """The elements as lines, in pieces of about a chunk."""
    piece = bytearray()
    for element in elements:
        piece += (str(element).rstrip("\n") + "\n").encode()
        if len(piece) >= _CHUNK:
            yield memoryview(bytes(piece))
            piece.clear()
    yield memoryview(bytes(piece))


def _exchange(child: "subprocess.Popen[bytes]", elements: Iterator[Any]) -> Iterator[bytes]:
    """What the program prints, in pieces, while it is given the elements as far as it takes them."""
    assert child.stdin is not None
    assert child.stdout is not None
    pieces = _encoded(elements)
    pending: memoryview | None = None
    os.set_blocking(child.stdin.fileno(), False)
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        selector.register(child.stdin, selectors.EVENT_WRITE)
        while True:
            for ready, _ in selector.select():
                if ready.fileobj is child.stdout:
                    chunk = os.read(child.stdout.fileno(), _CHUNK)
                    if not chunk:
                        child.stdin.close()
                        return
                    yield chunk
                    continue
                pending = _fed(child.stdin.fileno(), pending or next(pieces, None))
                if pending is None:
                    selector.unregister(child.stdin)
                    child.stdin.close()


def _fed(stdin: int, piece: memoryview | None) -> memoryview | None:
    """What is left of the piece after one write; None when there is no piece, or nobody who reads it."""
    if piece is None:
        return None
    try:
        return piece[os.write(stdin, piece) :]
    except BlockingIOError:
        return piece
    except BrokenPipeError:
        return None

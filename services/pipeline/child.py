"""A unit's side of the socket that ties it to its replica.

The replica says              the unit says
    unit NAME [EXECUTORS]         warm            the libraries are loaded, nothing is opened
    hold                          page ADDRESS    its streaming page is up
    go                            started         batches run
                                  held            no batch runs, and none begins until the next word
The end of the replica, however it comes, closes the socket: the unit lets its batch commit and ends.

Owns: Tie.
Never: a decision; the replica's words are carried out.
"""

import select
import socket
from collections.abc import Iterator

from engine.errors import ConfigurationError

_LONGEST = 4_096


class Tie:
    """The unit's end of the socket.

    Args:
        descriptor: of the socket, which the replica handed over.
    """

    def __init__(self, descriptor: int) -> None:
        try:
            self._socket = socket.socket(fileno=descriptor)
        except OSError as error:
            raise ConfigurationError(
                f"--control={descriptor} is no open socket ({error.strerror}); units are started by a replica"
            ) from error
        self._rest = b""
        self.is_cut = False
        """Whether the replica is gone, or has let go of the unit."""

    def tell(self, word: str) -> None:
        """Tell the replica; when it is gone, the next look shows it."""
        try:
            self._socket.sendall(f"{word}\n".encode())
        except OSError:
            self.is_cut = True

    def words(self, seconds: float) -> Iterator[str]:
        """What the replica has said, waited for until the first word or so many seconds."""
        ready, _, _ = select.select([self._socket], [], [], seconds)
        if not ready:
            return
        try:
            heard = self._socket.recv(_LONGEST)
        except OSError:
            heard = b""
        if not heard:
            self.is_cut = True
            return
        *lines, self._rest = (self._rest + heard).split(b"\n")
        for line in lines:
            yield line.decode()

    def next_unit(self) -> tuple[str, int | None] | None:
        """Wait for the unit that this process is to run, and the executors it is to have; None when there will be none."""
        while not self.is_cut:
            for word in self.words(60.0):
                match word.split():
                    case ["unit", name]:
                        return name, None
                    case ["unit", name, executors]:
                        return name, int(executors)
        return None

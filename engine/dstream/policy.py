"""What becomes of an output that failed: the stream stops, or the output runs again in place first.

Owns: Retry, OnFailure, retry_of.
Never: a clock; the scheduler waits.
"""

from dataclasses import dataclass
from typing import Any, Literal

from engine.errors import ConfigurationError

_MOST = 1_000


@dataclass(frozen=True, slots=True)
class Retry:
    """Run a failed output again, up to so many times, before the stream stops with its error.

    Replay: the runs have the same batch, elements and write timestamp, so each writes the same cells. Input is paused meanwhile.

    Raises:
        ConfigurationError: a number is out of its range.

    Example:
        >>> [Retry(4, backoff=0.5, longest=2).pause(failures) for failures in (1, 2, 3, 4)]
        [0.5, 1.0, 2, 2]
    """

    times: int
    """How often it runs again, 0 to 1000."""
    backoff: float = 0.1
    """Seconds before the first of them, >= 0; twice as long before each further one."""
    longest: float = 10.0
    """No pause is longer, seconds."""

    def __post_init__(self) -> None:
        if type(self.times) is not int or not 0 <= self.times <= _MOST:
            raise ConfigurationError(f"times of Retry is {self.times!r:.60}; give 0 to {_MOST}")
        for name, value in (("backoff", self.backoff), ("longest", self.longest)):
            if not isinstance(value, int | float) or not 0 <= value <= 86_400:
                raise ConfigurationError(f"{name} of Retry is {value!r:.60}; give seconds, 0 to 86400")

    def pause(self, failures: int) -> float:
        """Seconds to wait after that many failures."""
        return min(self.longest, self.backoff * 2.0 ** (failures - 1))


OnFailure = Literal["stop"] | Retry
"""The policy of an output."""

STOP = Retry(0)


def retry_of(operation: str, given: Any) -> Retry:
    """The policy that a user gave.

    Args:
        operation: its name, for the message.
        given: "stop" or a `Retry`.

    Raises:
        ConfigurationError: it is neither.
    """
    if isinstance(given, Retry):
        return given
    if given != "stop":
        raise ConfigurationError(f'{operation}: onFailure is {given!r:.60}; give "stop" or Retry(n)')
    return STOP

"""Named places at which a test makes the engine crash, raise or wait; without the environment variable they do nothing.

`FAIL_POINT="after_sink=crash"` kills the process the first time it gets there; `=raise` raises, `=delay:0.05` waits so
many seconds every time. Several are separated by commas. `FAIL_POINT_TRACE=FILE` writes the name of each point that is
reached into the file, so that a killer knows where its victim was.

Owns: FAIL_POINTS, fail_point.
Never: anything in production but one look at an empty dict.
"""

import os
import re
import signal
import time

from engine.errors import ConfigurationError

FAIL_POINTS = (
    "plan",
    "before_begin",
    "after_begin",
    "run",
    "before_sink",
    "in_sink",
    "after_sink",
    "before_commit",
    "after_commit",
    "before_snapshot",
    "in_snapshot",
    "after_snapshot",
    "purge",
    "after_purge",
)
"""Every point, in the order of a batch."""


class FailPointError(Exception):
    """Raised by a fail point of kind `raise`."""


_DELAY = re.compile(r"delay:\d+(\.\d+)?")


def _parse(setting: str) -> dict[str, str]:
    kinds = dict(part.partition("=")[::2] for part in setting.split(",") if part)
    for name, kind in kinds.items():
        if name not in FAIL_POINTS:
            raise ConfigurationError(
                f"FAIL_POINT: unknown fail point {name!r}; choose from {', '.join(FAIL_POINTS)}"
            )
        if kind not in {"crash", "raise"} and not _DELAY.fullmatch(kind):
            raise ConfigurationError(
                f"FAIL_POINT: {name} has unknown kind {kind!r}; use crash, raise or delay:SECONDS"
            )
    return kinds


_KINDS = _parse(os.environ.get("FAIL_POINT", ""))
_TRACE = os.environ.get("FAIL_POINT_TRACE", "")
_TRACE_FD = os.open(_TRACE, os.O_WRONLY | os.O_CREAT, 0o644) if _TRACE else -1


def fail_point(name: str) -> None:
    """Crash, raise or wait here if the environment says so."""
    if _TRACE_FD >= 0:
        os.pwrite(_TRACE_FD, name.ljust(32).encode(), 0)
    kind = _KINDS.get(name)
    if kind is None:
        return
    if kind == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "raise":
        raise FailPointError(f"fail point {name}")
    time.sleep(float(kind.removeprefix("delay:")))

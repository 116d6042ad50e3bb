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
from collections.abc import Mapping
from types import MappingProxyType

from engine.errors import ConfigurationError

FAIL_POINTS: Mapping[str, str] = MappingProxyType(
    {
        "new_segment": "the lock is held, a journal segment is made, its name not durable",
        "recover": "the journal is read, the graph knows nothing of it",
        "restore": "no shard is restored",
        "in_restore": "an executor has read a shard's snapshot, and none of its deltas",
        "plan": "the ranges are chosen",
        "before_begin": "nothing of the batch is durable",
        "in_append": "a frame is written to the journal, not durable",
        "after_begin": "the intent is durable",
        "before_state": "no shard is advanced",
        "run": "an executor has read a range to its end",
        "reply": "an executor process has done its tasks, the driver has not heard",
        "after_state": "every shard is advanced, in memory",
        "before_sink": "an output begins",
        "in_sink": "the rows of a partition are about to be written",
        "after_sink": "every row of an output is acknowledged",
        "before_ledger": "every output is done",
        "after_ledger": "the ledger has the batch",
        "before_commit": "everything but the commit record is done",
        "after_commit": "the commit record is durable",
        "before_hint": "the source has not heard of the commit",
        "after_hint": "the source has the offsets",
        "before_snapshot": "a shard is due for a snapshot",
        "in_snapshot": "an executor has the shard's bytes, and no file",
        "before_rename": "a new file is durable under a temporary name",
        "after_rename": "it has its name, which is not durable",
        "after_snapshot": "the file is durable, the journal does not refer to it",
        "purge": "nothing old is removed",
        "in_purge": "an old file is removed, its folder not synced, others are still there",
        "after_purge": "everything old is removed",
        "before_block": "a receiver's block is not in its log",
        "after_block": "the block is durable, the receiver does not know",
    }
)
"""Every point and what is so there, in the order of a life: start, batch, between batches."""


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

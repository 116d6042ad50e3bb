"""What the functions of a task may know of the batch that they run for; it travels as local properties of the job.

And the other way, in the driver: what an output reports of its writes to the scheduler that runs it.

Owns: announce, announce_base, announce_owner, batch_time, run_version, base_version, state_owner, has_folder, watermark,
collecting_writes, report_writes.
Never: a clock.
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache

from engine.batch import Batch, Time
from engine.rdd.api import Context
from engine.rdd.running import current_task
from engine.reports import WriteReport

_TIME = "engine.time"
_VERSION = "engine.version"
_BASE = "engine.base"
_OWNER = "engine.owner"
_FOLDER = "engine.folder"
_WATERMARKS = "engine.watermarks"
_collecting: list[list[WriteReport]] = []
"""In the driver, where reports of writes go: to the newest; one batch runs in a process, but an output may use threads."""


def announce(context: Context, batch: Batch) -> None:
    """Tell the tasks of later jobs which batch they run for."""
    context.setLocalProperty(_TIME, str(int(batch.time)))
    context.setLocalProperty(_VERSION, str(batch.write_timestamp))
    context.setLocalProperty(_WATERMARKS, json.dumps(dict(batch.watermarks)))


def announce_base(context: Context, version: int) -> None:
    """Tell the tasks of the next job on which state version they build."""
    context.setLocalProperty(_BASE, str(version))


def announce_owner(context: Context, owner: int, *, has_folder: bool) -> None:
    """Tell the tasks of all later jobs whose state they work on, and whether it has a checkpoint folder."""
    context.setLocalProperty(_OWNER, str(owner))
    context.setLocalProperty(_FOLDER, str(has_folder))


def _property(key: str) -> str:
    value = current_task().getLocalProperty(key)
    if value is None:
        raise RuntimeError(f"{key} is known only while a batch runs")
    return value


def batch_time() -> Time:
    """The time of the batch that this task runs for; for functions that run in tasks."""
    return Time(_property(_TIME))


def run_version() -> int:
    """The batch's write timestamp in microseconds, which no other run of it has."""
    return int(_property(_VERSION))


def base_version() -> int:
    """The version of the state that this job builds on."""
    return int(_property(_BASE))


def state_owner() -> int:
    """The started context whose state this job works on; executors drop what an earlier one left with them."""
    return int(_property(_OWNER))


def has_folder() -> bool:
    """Whether what this job changes in the state goes to a checkpoint folder."""
    return _property(_FOLDER) == str(True)


def watermark(stream: str) -> int | None:
    """The event-time watermark of an input: the smallest of its partitions' largest event times before this batch.

    Time: milliseconds since the epoch; None until each partition has had a record.
    Replay: equal in every run of the batch, as it comes from the journal.
    """
    return _marks(_property(_WATERMARKS)).get(stream)


@lru_cache(maxsize=4)
def _marks(text: str) -> dict[str, int]:
    """Parsed once a batch, and not once a key."""
    marks: dict[str, int] = json.loads(text)
    return marks


@contextmanager
def collecting_writes() -> Iterator[list[WriteReport]]:
    """Collects what is reported of writes inside, in the driver."""
    reports: list[WriteReport] = []
    _collecting.append(reports)
    try:
        yield reports
    finally:
        _collecting.remove(reports)


def report_writes(reports: Iterable[WriteReport]) -> None:
    """Tell whoever runs this output what it wrote; outside of a batch nobody listens."""
    if _collecting:
        _collecting[-1].extend(reports)

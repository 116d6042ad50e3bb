"""meta.json: what was fixed at the first start of an application.

It is written once and never again. A reader takes FORMAT_VERSION and the older formats that it knows; what a newer one left is refused
by its number here, and a record of it by `records`. A field is never added to a format that is there: it makes a new one.

Owns: Meta, read_meta, too_early.
Never: the journal.
"""

import logging
from pathlib import Path
from typing import Any

import msgspec

from engine.batch import Time
from engine.checkpoint.files import write_durably
from engine.checkpoint.records import FORMAT_VERSION, KNOWN_FORMATS, OLDEST_FORMAT
from engine.errors import CheckpointError, StateVersionError

log = logging.getLogger(__name__)


class Meta(msgspec.Struct, kw_only=True):
    """What was fixed at the first start."""

    format: int
    app: str
    batch_ms: int
    zero_ms: int
    shards: int
    partitioner: str

    def differences(self, other: "Meta") -> list[tuple[str, Any, Any]]:
        """(name, here, there) of each field that differs, format and zero time aside."""
        names = [name for name in self.__struct_fields__ if name not in {"format", "zero_ms"}]
        return [
            (name, getattr(self, name), getattr(other, name))
            for name in names
            if getattr(self, name) != getattr(other, name)
        ]


def read_meta(folder: Path, mine: Meta, zero: Time) -> Meta:
    """What the folder has; a new one gets mine, with this zero time.

    Raises:
        CheckpointError: the file is missing beside a journal.
        StateVersionError: it cannot be read, or is of another format, application or setting.
    """
    path = folder / "meta.json"
    if not path.exists():
        if (folder / "journal").exists():
            raise CheckpointError(f"{path} is missing beside a journal; restore it from a copy")
        others = sorted(other.parent.name for other in folder.parent.glob("*/meta.json"))
        if others:
            log.warning(
                "application %r begins anew in %s, beside %s: state belongs to the application's name",
                *(mine.app, folder.parent, ", ".join(others)),
            )
        made = msgspec.structs.replace(mine, zero_ms=int(zero))
        write_durably(path, msgspec.json.format(msgspec.json.encode(made)))
        return made
    found = found_meta(path)
    for name, here, there in mine.differences(found):
        raise StateVersionError(
            f"{path} was written with {name}={there!r}, this process has {name}={here!r}; "
            f"start with {there!r}, or use another checkpoint folder"
        )
    return found


def found_meta(path: Path) -> Meta:
    """What a file has, of any application.

    Raises:
        StateVersionError: it cannot be read, or is of a format that this version does not know.
    """
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Meta)
    except (OSError, msgspec.MsgspecError) as cause:
        raise StateVersionError(f"{path} cannot be read ({cause}); restore it from a copy") from cause
    if not OLDEST_FORMAT <= found.format <= FORMAT_VERSION:
        raise StateVersionError(
            f"{path} has format {found.format}, this version knows {KNOWN_FORMATS}; run the version that wrote it"
        )
    return found


def too_early(folder: Path, newest: int | None, results: Time) -> CheckpointError:
    """What a folder is refused with whose newest batch is older than results are; it has none at 0, and None is no folder."""
    known = "is missing" if newest is None else "holds no batch"
    if newest:
        known = f"ends with batch {_told(Time(newest))}"
    return CheckpointError(
        f"checkpoint folder {folder} {known}, and results are written up to batch {_told(results)}, which would be counted again; restore "
        "a newer folder, go on with a backfill of the ledger's batches (docs/upgrades.md), or start with another application name and other tables"
    )


def _told(batch: Time) -> str:
    return f"{int(batch)} ({batch.as_datetime()})"

"""The checkpoint of an application that has no checkpoint folder.

Owns: VolatileCheckpoint.
Never: a file.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from engine.batch import Batch, Duration, Time
from engine.checkpoint.checkpoint import Checkpoint, Delta, Maxima, SnapshotTask
from engine.checkpoint.records import Topics


class VolatileCheckpoint(Checkpoint):
    """The same verbs for an application without a checkpoint folder: it starts from nothing every time."""

    def __init__(self, app: str, batch: Duration, shards: int) -> None:
        super().__init__(Path(), app, batch, shards)

    def open(self, zero: Time, *, takeover: bool = False, must_reach: Time | None = None) -> Time:  # noqa: ARG002  there is no folder
        """The zero time as given."""
        return zero

    def begin(self, batch: Batch, topics: Topics | None = None) -> None:
        """Nothing is recorded."""

    def commit(
        self,
        batch: Batch,  # noqa: ARG002 - as all below: there is no folder
        operators: Mapping[str, str],  # noqa: ARG002
        versions: Mapping[str, int],  # noqa: ARG002
        maxima: Maxima,  # noqa: ARG002
        deltas: Sequence[Delta],  # noqa: ARG002
    ) -> int:
        """Nothing is recorded; an application with state has a folder."""
        return 0

    def snapshots_due(self, executors: int) -> list[SnapshotTask]:  # noqa: ARG002  as above
        """None."""
        return []

    def purge(self, horizon: Time) -> None:
        """Nothing was kept."""

    def volume(self) -> None:
        """None."""

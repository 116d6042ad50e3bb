"""An engine whose checkpoint folder does not outlive it, as that of a container without a volume; it goes on at the end of the log.

Owns: PARTS.
"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from engine import StreamingContext
from engine.dstream.dstream import DStream
from engine.sources.decoders import json_decoder
from engine.sources.direct import create_direct_stream
from engine.sources.log import LogSource
from services.pipeline import main
from services.settings import Settings

FORGOTTEN = "forgotten-"
"""What the names of such folders begin with."""


class Forgetful(StreamingContext):
    """A context whose folder is a new one with each process."""

    def checkpoint(
        self,
        directory: str | Path,
        *,
        takeover: bool = False,
        mustReach: int | None = None,  # noqa: N803, ARG002 - the name is the library's; what is missing is no error here
    ) -> None:
        """Keep journal and state where the next process does not look."""
        super().checkpoint(Path(tempfile.mkdtemp(prefix=FORGOTTEN, dir=directory)), takeover=takeover)


def newest_of(
    ssc: StreamingContext,
    settings: Settings,
    topic: str,
    _partitions: Sequence[int] | None = None,
) -> DStream[Any]:
    """The decoded records of a topic from its end on, as consumers without an offset of their own often read it."""
    kind, event_time = main.RECORDS[topic]
    return create_direct_stream(
        ssc,
        LogSource(settings.log_dir, [topic]),
        name=topic,
        decoder=json_decoder(kind),
        event_time=event_time,
        reset="latest",
        max_rate_per_partition=settings.max_rate_per_partition,
    )


PARTS: Mapping[str, object] = {"StreamingContext": Forgetful, "input_of": newest_of}

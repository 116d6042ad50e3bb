"""The embedded pipeline over a backlog, in a process of its own, which tells how much memory it and its workers took at most.

`python -m tests.recovery.backlog DATA_DIR RATE` prints one line of JSON.
"""

import json
import sys
from pathlib import Path
from typing import Any

from services.pipeline.main import build, context_of
from services.settings import Settings

START_MS = 1_700_000_000_000


def settings_of(folder: Path, rate: int) -> Settings:
    """Of a stack in a folder."""
    return Settings(
        stack="embedded",
        data_dir=folder,
        jobs=("campaign_windows",),
        max_rate_per_partition=rate,
        ad_partitions=2,
    )


def peak_mb(pid: int) -> int:
    """The most resident memory that a process has had, MB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) // 1_024


def drain(folder: Path, rate: int) -> dict[str, Any]:
    """Run batches until nothing waits."""
    with context_of(settings_of(folder, rate)) as context:
        ssc = build(settings_of(folder, rate), context)
        ssc.start(thread=False)
        (stream,) = ssc.graph.inputs
        sizes: list[int] = []
        while not sizes or sizes[-1]:
            ssc.runBatch()
            batch = ssc.graph.first_remembered()
            sizes.append(batch.count() if batch is not None else 0)
        told = {
            "sizes": sizes,
            "driver_mb": peak_mb(_own()),
            "workers_mb": [peak_mb(pid) for pid in context.executor_pids],
            "ends": sorted(stream.ends.values()),
        }
        ssc.stop()
    return told


def _own() -> int:
    return int(Path("/proc/self").readlink().name)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(drain(Path(sys.argv[1]), int(sys.argv[2]))))

"""The job on the engine, in a process that is killed: `python -c "from tools.bench.restart_engine import main; main(FOLDER, SECONDS)"`.

Owns: main.
"""

from pathlib import Path
from typing import Any

from engine import LocalContext, StreamingContext, StreamingListener
from tools.bench.restarts import Told, build


class _Commits(StreamingListener):
    """Tells of every batch AFTER its commit."""

    def __init__(self, told: Told) -> None:
        self._told = told

    def onBatchCompleted(self, batchCompleted: Any) -> None:  # noqa: N802, N803  PySpark's names
        """A batch is committed."""
        self._told.tell(int(batchCompleted.batchInfo.batchTime))


def main(folder: str, interval: int) -> None:
    """Run batches of so many seconds until the process is killed."""
    ssc = StreamingContext(LocalContext("local[2]", "recovery"), interval)
    ssc.checkpoint(f"{folder}/checkpoints")
    build(ssc, folder, name="counts", keyType=str, stateType=int)
    ssc.addStreamingListener(_Commits(Told(Path(folder) / "done")))
    ssc.start()
    ssc.awaitTermination()

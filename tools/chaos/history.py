"""What the verifier's metrics tell of drills: DATA_DIR/drills/running.json while one runs, one line in history.jsonl for each that ended.

    running.json    {"fault", "seed", "run", "started"}
    history.jsonl   {"fault", "seed", "run", "started", "ended", "detect", "restart", "first_batch", "caught_up", "verdict"}

Times are seconds since the epoch, durations seconds, null for what did not happen; the verdict is exact, inexact, unknown or no-effect. A line is one write
of O_APPEND and ends with a newline; running.json is put in place in one step.

Owns: History.
Never: a line for a drill that was interrupted.
"""

import json
import os
import time
from pathlib import Path

from tools.chaos.scene import Outcome
from tools.stack.folder import write_json


class History:
    """The drills of one stack.

    Args:
        data_dir: of the stack.
        fault: the drill's.
        seed: the drill's.
    """

    def __init__(self, data_dir: Path, fault: str, seed: int) -> None:
        self._folder = data_dir / "drills"
        self._running = self._folder / "running.json"
        self._facts = {"fault": fault, "seed": seed}
        self._started = 0.0

    def begin(self, run: int) -> None:
        """A run begins."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._started = time.time()
        write_json(self._running, {**self._facts, "run": run, "started": self._started})

    def end(self, outcome: Outcome) -> None:
        """A run has ended by itself."""
        line = {
            **self._facts,
            "run": outcome.run,
            "started": self._started,
            "ended": time.time(),
            "detect": outcome.detect,
            "restart": outcome.restart,
            "first_batch": outcome.first_batch,
            "caught_up": outcome.caught_up,
            "verdict": outcome.word,
        }
        descriptor = os.open(self._folder / "history.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, f"{json.dumps(line)}\n".encode())
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """No run is going on, however the last one ended."""
        self._running.unlink(missing_ok=True)

"""The counter-demos: an engine with one thing wrong, one kill, and the rows that are broken by it.

Owns: Demo, DEMOS, show.
Never: the wrong engine; demos/ has them.
"""

import shutil
import socket
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from engine.errors import StreamingError
from services.settings import Settings
from services.sqlite.migrate import migrate
from services.topics import create_topics
from tools.stack.api import Stack
from tools.stack.control import looks
from tools.verify import Verdict, verify
from tools.verify.proof import open_store
from tools.verify.verdict import CannotTellError

BATCHES = 4
"""So many are committed before the kill, and so many after it."""

_WAIT_SECONDS = 60.0
_LOOK_SECONDS = 0.01
_DELAY_SECONDS = 0.2
"""The point at which the kill comes lasts longer by this, so that it can be hit."""
_COLUMNS = 80


@dataclass(frozen=True, slots=True)
class Demo:
    """One thing that is wrong."""

    name: str
    does: str
    """What is wrong, in a few words."""
    point: str
    """The fail point of the engine at which the kill comes."""
    broken: str
    """The table that must have wrong, missing or surplus rows."""
    whole: Sequence[str]
    """The tables that must not."""
    why: str
    has_gap: bool = False
    """Whether the ledger must have a gap too, and nothing else; without one it must be whole."""

    @property
    def engine(self) -> tuple[str, ...]:
        """What runs in place of the engine."""
        return (sys.executable, "-m", "tools.chaos.demos", self.name)

    @property
    def rest(self) -> str:
        """How the ledger and the other tables must be."""
        return "a gap in the ledger" if self.has_gap else f"{', '.join(self.whole)} and the ledger whole"

    def is_as_foretold(self, verdict: Verdict) -> bool:
        """Whether rows and ledger are broken where they must be, and nowhere else."""
        faults = {table.name: table.faults for table in verdict.tables}
        gaps = [fault.found.startswith("a gap") for fault in verdict.ledger.faults] if verdict.ledger else []
        return (
            faults.get(self.broken, 0) > 0
            and not any(faults.get(name, 0) for name in self.whole)
            and all(gaps)
            and bool(gaps) == self.has_gap
        )


DEMOS: Mapping[str, Demo] = MappingProxyType(
    {
        demo.name: demo
        for demo in (
            Demo(
                "no-checkpoint",
                "a checkpoint folder that is lost with its process",
                "run",
                "page_totals",
                (),
                "The engine's checkpoint was gone with its process, as one in a container without a volume. So it knew no offset, and began "
                "as a consumer without one often does: this engine is set to read from the end of the log. After the kill it counted "
                "from zero: whatever had come while it was away is in no row, and every total that it wrote since is the sum since the "
                "restart. The ledger shows the gap. With a folder that stays, the next process takes over the state and the ranges of "
                "the batch that was cut short.",
                has_gap=True,
            ),
            Demo(
                "counters",
                "a sink that adds to the row instead of writing its value",
                "before_commit",
                "page_totals",
                ("campaign_windows", "trending_pages"),
                "The kill came after the rows were written and before the batch was committed. No engine can close that gap: it cannot know "
                "whether the write went through, so it runs the batch again. A write of absolute values under a fixed key is the "
                "same the second time; `views = views + n` counts the batch twice. The other tables, written as absolute values by the "
                "same engine through the same kill, are exact.",
            ),
            Demo(
                "processing-time",
                "windows by the time of processing",
                "run",
                "campaign_windows",
                ("page_totals", "trending_pages"),
                "Every event is counted once, and yet the windows are wrong: an event counts for the ten seconds in which it was "
                "processed. What came while the engine was away went into the window of its return; even without a kill the events around each border "
                "fall into the next window. A window by the event's own time gives the same rows whenever it is computed.",
            ),
        )
    }
)
"""By name."""


def show(name: str, say: Callable[[str], None], engine: Sequence[str] = ()) -> int:
    """Run the wrong engine on a stack of its own, kill it once, show what is broken; 0 when it broke as foretold, else 1.

    Args:
        name: of DEMOS.
        say: takes each line.
        engine: what to run in its place.

    Raises:
        StreamingError: the stack did not come up, or the engine did nothing.
    """
    demo = DEMOS[name]
    say(f"{demo.name}: {demo.does}; an embedded stack of its own, SIGKILL once")
    with _folder() as folder:
        settings = _settings(folder)
        stack = Stack(settings, commands={"engine": engine or demo.engine}, is_tied=True)
        try:
            _live_and_die(stack, demo, folder / "trace", say)
        finally:
            stack.down()
        verdict = verify(settings)
    for line in verdict.lines():
        say(line)
    if demo.is_as_foretold(verdict):
        for line in textwrap.wrap(demo.why, _COLUMNS):
            say(line)
        say(f"broken as foretold, in {demo.broken}")
        say(verdict.line)
        return 0
    say(f"NOT as foretold: {demo.broken} should be broken, and {demo.rest}")
    say(verdict.reason or verdict.line)
    return 1


def _live_and_die(stack: Stack, demo: Demo, trace: Path, say: Callable[[str], None]) -> None:
    """Some batches, one kill, some batches."""
    # The engine comes first, so that its first life has the log from its begin.
    create_topics(stack.settings)
    migrate(stack.settings.results_path)
    point = {"FAIL_POINT": f"{demo.point}=delay:{_DELAY_SECONDS:g}", "FAIL_POINT_TRACE": str(trace)}
    stack.start("engine", point)
    stack.up()
    batches = _await_batches(stack.settings, 0)
    for _ in looks(_WAIT_SECONDS, _LOOK_SECONDS / 10):
        if trace.read_bytes()[:32].decode().strip() == demo.point:
            break
    say(f"killing the engine after {batches} batches, at its point {demo.point}")
    kill = stack.kill("engine")
    stack.wait_for("engine", "death", after=kill.time)
    stack.wait_for("engine", "restart", after=kill.time)
    _await_batches(stack.settings, batches)


def _await_batches(settings: Settings, before: int) -> int:
    """Wait until the ledger has some batches more; how many it has then.

    Raises:
        StreamingError: it has not.
    """
    for _ in looks(_WAIT_SECONDS, 10 * _LOOK_SECONDS):
        try:
            with closing(open_store(settings)) as store:
                found = sum(len(piece) for piece in store.ledger(settings.app, 0))
        except CannotTellError:
            continue
        if found >= before + BATCHES:
            return found
    raise StreamingError(f"the ledger has not got {BATCHES} batches more within {_WAIT_SECONDS:g} s")


def _settings(folder: Path) -> Settings:
    ports = []
    for _ in range(2):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            ports.append(probe.getsockname()[1])
    return Settings(
        stack="embedded",
        data_dir=folder / "stack",
        metrics_port=ports[0],
        producer_metrics_port=ports[1],
        batch_seconds=0.5,
    )


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="chaos-demo-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)

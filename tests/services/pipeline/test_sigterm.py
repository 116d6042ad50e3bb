"""SIGTERM in the middle of a batch: it is committed and the exit code is 0; one that fails, or lasts too long, is told."""

import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from engine.sources.log import LogWriter
from services.producer.events import page_event
from services.settings import REPOSITORY, Settings, base_environment
from services.sqlite.migrate import migrate
from services.topics import PAGE_VIEWS, create_topics
from tests.engine.children import wait_until
from tests.ports import free_port
from tests.services.pipeline.world import small

pytestmark = pytest.mark.slow

AS_PROCESS_1 = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child")
IMPATIENT = "from services.pipeline import main; main.DRAIN_SECONDS = 0.2; main.command()"
"""The engine service with a shorter wait for the running batch."""
EVENTS = 200


class Engine:
    """The engine service, which waits half a second whenever it writes rows.

    Args:
        settings: of its stack.
        trace: file in which it says where it is.
        before: a command that runs it.
        program: what Python runs.
        wait: how long it waits, seconds.
    """

    def __init__(
        self,
        settings: Settings,
        trace: Path,
        before: tuple[str, ...] = (),
        program: tuple[str, ...] = ("-m", "services.pipeline.main"),
        wait: float = 0.5,
    ) -> None:
        self._trace = trace
        self._popen = subprocess.Popen(
            [*before, sys.executable, *program],
            cwd=REPOSITORY,
            env={
                **base_environment(),
                **settings.environment(),
                "PYTHONUNBUFFERED": "1",
                "FAIL_POINT": f"in_sink=delay:{wait}",
                "FAIL_POINT_TRACE": str(trace),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.is_wrapped = bool(before)

    def reach_sink(self) -> None:
        """Return when it writes rows."""
        wait_until(
            lambda: self._trace.exists() and self._trace.read_text().strip() == "in_sink", "in_sink", 60
        )

    @property
    def process(self) -> psutil.Process:
        """The engine itself."""
        own = psutil.Process(self._popen.pid)
        return own.children()[0] if self.is_wrapped else own

    def end(self) -> tuple[int, str]:
        """Exit code and what it said, once it has ended."""
        said, _ = self._popen.communicate(timeout=60)
        return self._popen.returncode, said

    def kill(self) -> None:
        """End it, should it be there yet."""
        self._popen.kill()
        self._popen.communicate()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """An embedded stack with views in one partition."""
    made = small(tmp_path, metrics_port=free_port(), jobs="page_totals")
    create_topics(made)
    migrate(made.results_path)
    append(made, 0)
    return made


def append(settings: Settings, first: int) -> None:
    """Append views with numbers from this one on."""
    with LogWriter(settings.log_dir, PAGE_VIEWS, 0) as writer:
        writer.append([(seq, *page_event(1, 0, seq, seq)) for seq in range(first, first + EVENTS)])


@pytest.fixture
def engines() -> Iterator[list[Engine]]:
    """The engines that a test starts."""
    started: list[Engine] = []
    yield started
    for engine in started:
        engine.kill()


def counted(settings: Settings) -> tuple[int, set[int]]:
    """The views of all pages, and the attempts of the ledger's batches."""
    with closing(sqlite3.connect(settings.results_path)) as store:
        total = store.execute("SELECT sum(views) FROM page_totals").fetchone()[0]
        return int(total or 0), {attempt for (attempt,) in store.execute("SELECT attempt FROM ledger")}


def frames(settings: Settings) -> tuple[int, int]:
    """How many batches were begun, and how many committed."""
    text = b"".join(
        path.read_bytes() for path in (settings.checkpoint_dir / "pipeline" / "journal").glob("*.log")
    )
    return len(re.findall(rb'"type":"begin"', text)), len(re.findall(rb'"type":"commit"', text))


@pytest.mark.fault(15, "SIGTERM while rows are written, once and once more; as process 1 where unshare may")
@pytest.mark.parametrize(
    ("signals", "before"), [(1, ()), (2, ()), (2, AS_PROCESS_1)], ids=["once", "twice", "process 1"]
)
def test_batch_under_way_is_committed(
    settings: Settings, engines: list[Engine], tmp_path: Path, signals: int, before: tuple[str, ...]
) -> None:
    """A batch that writes its rows when SIGTERM comes is committed, further signals cut nothing, and nothing is repeated."""
    if before and subprocess.run([*before, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine makes no namespace of processes")
    engine = Engine(settings, tmp_path / "trace", before)
    engines.append(engine)
    engine.reach_sink()
    total, _ = counted(settings)
    begun, committed = frames(settings)
    for _ in range(signals):
        engine.process.send_signal(signal.SIGTERM)
    code, said = engine.end()

    # The signal came before the rows and the commit.
    assert (total, begun - committed) == (0, 1)
    assert code == 0, said
    assert "Traceback" not in said
    assert ("pid 1\n" in said) == bool(before)
    begun, committed = frames(settings)
    assert begun == committed
    assert counted(settings) == (EVENTS, {0})

    if before or signals == 1:
        return
    append(settings, EVENTS)
    (tmp_path / "trace").unlink()
    engine = Engine(settings, tmp_path / "trace")
    engines.append(engine)
    engine.reach_sink()
    engine.process.send_signal(signal.SIGTERM)
    assert engine.end()[0] == 0
    assert counted(settings) == (2 * EVENTS, {0})


@pytest.mark.fault(15, "SIGTERM while rows are written, which the table then refuses")
def test_batch_that_fails_after_sigterm_is_told(
    settings: Settings, engines: list[Engine], tmp_path: Path
) -> None:
    """A batch that fails while SIGTERM waits for it ends the engine with its error and exit code 1, and the next start runs it."""
    engine = Engine(settings, tmp_path / "trace", wait=5)
    engines.append(engine)
    engine.reach_sink()
    engine.process.send_signal(signal.SIGTERM)
    with closing(sqlite3.connect(settings.results_path)) as store:
        store.execute("ALTER TABLE page_totals RENAME TO away")
    code, said = engine.end()

    assert code == 1, said
    assert "table 'page_totals': SQLite" in said.splitlines()[-1]
    assert "pipeline: stopped" not in said
    with closing(sqlite3.connect(settings.results_path)) as store:
        store.execute("ALTER TABLE away RENAME TO page_totals")
    assert repeated(settings, engines, tmp_path) == (EVENTS, {1})


@pytest.mark.fault(15, "SIGTERM while rows are written, for longer than it waits: the batch is cut off")
@pytest.mark.parametrize("master", ["local", "local[1]"])
def test_batch_that_is_cut_off_is_told(
    settings: Settings, engines: list[Engine], tmp_path: Path, master: str
) -> None:
    """A batch that outlasts the wait of SIGTERM is cut off with a line that names it and exit code 0, and the next start runs it."""
    own = settings.model_copy(update={"master": master})
    engine = Engine(own, tmp_path / "trace", program=("-c", IMPATIENT), wait=60)
    engines.append(engine)
    engine.reach_sink()
    engine.process.send_signal(signal.SIGTERM)
    code, said = engine.end()

    assert code == 0, said
    assert re.search(r"batch \d+ was cut off and runs again at the next start", said)
    begun, committed = frames(own)
    assert begun == committed + 1
    assert repeated(own, engines, tmp_path) == (EVENTS, {1})


def repeated(settings: Settings, engines: list[Engine], tmp_path: Path) -> tuple[int, set[int]]:
    """What is counted once the next start has run the batch again, and by which attempts."""
    (tmp_path / "trace").unlink()
    engine = Engine(settings, tmp_path / "trace", wait=0)
    engines.append(engine)
    wait_until(lambda: counted(settings)[0] == EVENTS, "the batch is committed", 60)
    engine.process.send_signal(signal.SIGTERM)
    assert engine.end()[0] == 0
    total, attempts = counted(settings)
    return total, attempts - {0}

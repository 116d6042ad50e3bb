"""The command line of the demo; `scripts/demo` runs it.

Owns: command, Demo.
Never: a process that it leaves behind.
"""

import contextlib
import fcntl
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click
from rich.console import Console
from rich.live import Live
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from engine.errors import ConfigurationError, StreamingError
from services.settings import REPOSITORY, Settings, exit_code, load_settings
from tools.demo.choice import choose
from tools.demo.view import (
    LEGEND,
    PROOF_LEGEND,
    Story,
    closing_rows,
    minutes,
    plain_line,
    screen,
    shortfalls,
)
from tools.demo.watch import Sample, Watch
from tools.numbers import Number
from tools.stack.api import Stack
from tools.stack.spark import SparkCluster
from tools.stack.status import pages
from tools.verify import Verdict, verify

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""

_LOOK_SECONDS = 0.5
_PLAIN_SECONDS = 4.0
_RECOVERY_SECONDS = 60.0
_SPARK_RECOVERY_SECONDS = 240.0
_COMMITS_BEFORE = 3
"""Batches that are committed before a worker is killed, so that there is something to lose."""
"""A driver is a JVM, and gets its executors when the master has given up the old ones."""


@click.command(context_settings={"max_content_width": 80, "help_option_names": ["-h", "--help"]})
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".demo"),
    show_default=True,
    help="Kept by the demo alone: emptied at the start.",
)
@click.option("--kill-after", type=Number(min=1), help="Seconds until the kill. [default: 20, embedded 12]")
@click.option("--go-on", type=Number(min=1), help="Seconds after the recovery. [default: 10]")
@click.option(
    "--backend",
    type=click.Choice(["local", "spark"]),
    default="local",
    show_default=True,
    envvar="BACKEND",
    help="spark: a standalone cluster of two workers; one is killed as well.",
)
def command(data_dir: Path, kill_after: float | None, go_on: float | None, backend: str) -> None:
    """Run the whole pipeline for about a minute, kill its engine with -9 in the middle, and prove every row.

    With Java 17 and Maven it starts a real Kafka and a real Cassandra; without them, or with
    STACK=embedded, a log on disk and SQLite take their place; where Prometheus is installed it
    runs too. Everything that it starts it also stops; taken ports are replaced by free ones.

    Exit codes: 0 every row of every job's table is exact, 1 not, 2 refused.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(exit_code(lambda: run(data_dir, kill_after, go_on, backend)))


def run(data_dir: Path, kill_after: float | None, go_on: float | None, backend: str) -> int:
    """Choose a stack and show the demo on it."""
    settings, line, hint = choose(load_settings(), REPOSITORY / data_dir)
    click.echo(line)
    if hint:
        click.echo(hint)
    if kill_after is None:
        kill_after = 20.0 if settings.stack == "processes" else 12.0
    with _alone(settings.data_dir):
        try:
            if backend == "spark":
                return _on_spark(settings, kill_after, go_on or 20.0)
            return Demo(settings, Console()).run(kill_after, go_on or 10.0)
        except KeyboardInterrupt:
            click.echo("interrupted; everything that the demo started has been stopped")
            return INTERRUPTED


def _on_spark(settings: Settings, kill_after: float, go_on: float) -> int:
    """The demo with its jobs on a Spark cluster of its own."""
    with tempfile.TemporaryDirectory(prefix="demo-spark-") as folder:
        click.echo("backend: a standalone Spark cluster, one master and two workers")
        with SparkCluster(Path(folder)) as cluster:
            own = settings.model_copy(update={"master": cluster.master})
            return Demo(own, Console(), cluster).run(kill_after, go_on)


class Demo:
    """One showing.

    Args:
        settings: of the demo's own stack.
        console: where it is shown.
        cluster: that computes the jobs; None for executors of our own.
    """

    def __init__(self, settings: Settings, console: Console, cluster: SparkCluster | None = None) -> None:
        self._cluster = cluster
        self._patience = _RECOVERY_SECONDS if cluster is None else _SPARK_RECOVERY_SECONDS
        self._settings = settings
        self._console = console
        self._story = Story(addresses="  ".join(" ".join(page) for page in pages(settings).items()))
        self._last: Sample | None = None
        self._kills = 0
        self._stack = Stack(
            settings,
            report=self._report,
            is_tied=True,
            environment={} if cluster is None else cluster.environment,
        )
        self._show: Callable[[str], None] = click.echo
        self._began = 0.0

    def run(self, kill_after: float, go_on: float) -> int:
        """Start, watch, kill, watch, verify, stop; returns the exit code."""
        try:
            with self._working("starting"):
                self._stack.down(wipe=True)
                self._stack.up()
            self._watch_and_kill(kill_after, go_on)
            with self._working("verifying every row"):
                verdict = verify(self._settings)
        finally:
            with self._working("stopping everything"):
                self._stack.down()
        return self._close(verdict)

    def _watch_and_kill(self, kill_after: float, go_on: float) -> None:
        self._began = time.monotonic()
        with contextlib.closing(Watch(self._settings)) as watch, self._screen(watch) as look:
            if self._cluster is not None:
                self._kill_worker(self._cluster, kill_after / 2, watch, look)
            self._story.now = f"running; kill -9 of the engine at {minutes(kill_after)}"
            self._until(kill_after, look)
            before = watch.progress.newest().time
            event = self._stack.kill("engine")
            self._kills += 1
            self._story.tell(f"kill -9 of the engine, pid {event.facts['pid']}")
            self._story.now = "the engine is killed"
            restart = self._await_commit(watch, before, event.time, look)
            self._story.tell(restart)
            self._story.now = "running again"
            self._until(self._story.seconds + go_on, look)
            self._last = watch.look()

    def _kill_worker(
        self, cluster: SparkCluster, kill_after: float, watch: Watch, look: Callable[[], None]
    ) -> None:
        """Kill a worker with all its processes, and start another; the batch under way goes on by itself."""
        self._story.now = f"running on Spark; kill -9 of a worker at {minutes(kill_after)}"
        deadline = time.monotonic() + self._patience
        commits: set[int] = set()
        while self._story.seconds < kill_after or len(commits) < _COMMITS_BEFORE:
            if time.monotonic() > deadline:
                raise StreamingError(
                    f"no {_COMMITS_BEFORE} batches within {self._patience:g} s after the start"
                )
            commits |= {watch.progress.newest().time} - {0}
            look()
            time.sleep(_LOOK_SECONDS)
        name, before, killed = cluster.busiest_worker(), watch.progress.newest().time, time.time()
        pid = cluster.kill_worker(name)
        self._story.tell(f"kill -9 of Spark's {name} with its executor, pid {pid}")
        cluster.add_worker()
        self._story.now = "a worker is killed; another one starts"
        while watch.progress.newest().time <= before:
            if time.time() > killed + self._patience:
                raise StreamingError(f"no new commit within {self._patience:g} s after the kill of {name}")
            look()
            time.sleep(_LOOK_SECONDS)
        self._story.tell(f"next commit {time.time() - killed:.1f} s after the worker's death")

    def _await_commit(self, watch: Watch, before: int, killed: float, look: Callable[[], None]) -> str:
        """Wait for the first new commit; returns what the recovery took, in words."""
        deadline = time.monotonic() + self._patience
        due = 0.0
        while watch.progress.newest().time <= before:
            if time.monotonic() > deadline:
                raise StreamingError(f"no new commit within {self._patience:g} s after the kill")
            if time.monotonic() >= due:
                look()
                due = time.monotonic() + _LOOK_SECONDS
            time.sleep(0.005)
        seconds = time.time() - killed
        restart = self._stack.wait_for("engine", "restart", after=killed)
        return (
            f"restarted as pid {restart.facts['pid']} after {restart.time - killed:.2f} s, "
            f"first new commit after {seconds:.2f} s"
        )

    def _until(self, seconds: float, look: Callable[[], None]) -> None:
        while self._story.seconds < seconds:
            look()
            time.sleep(_LOOK_SECONDS)

    @contextlib.contextmanager
    def _screen(self, watch: Watch) -> Iterator[Callable[[], None]]:
        """A function that takes a look and shows it."""
        if not self._console.is_terminal:
            click.echo(self._story.addresses)
            click.echo(LEGEND)
            yield self._plain(watch)
            return
        with Live(console=self._console, auto_refresh=False, transient=False) as live:

            def look() -> None:
                self._story.seconds = time.monotonic() - self._began
                live.update(screen(self._story, watch.look(), self._settings), refresh=True)

            yield look
            look()

    def _plain(self, watch: Watch) -> Callable[[], None]:
        """Lines every few seconds, and at once when something has happened."""
        due, told = 0.0, 0

        def look() -> None:
            nonlocal due, told
            self._story.seconds = time.monotonic() - self._began
            for when, what in self._story.told[told:]:
                click.echo(f"{minutes(when)}  {what}")
            told = len(self._story.told)
            sample = watch.look()
            if time.monotonic() >= due:
                click.echo(plain_line(self._story, sample, self._settings))
                due = time.monotonic() + _PLAIN_SECONDS

        return look

    @contextlib.contextmanager
    def _working(self, text: str) -> Iterator[None]:
        """Show that something takes a while."""
        if not self._console.is_terminal:
            click.echo(text)
            yield
            return
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with Progress(*columns, console=self._console, transient=True) as progress:
            task = progress.add_task(text)
            self._show = lambda told: progress.update(task, description=told)
            yield

    def _report(self, text: str) -> None:
        self._show(text)

    def _close(self, verdict: Verdict) -> int:
        """Show some results and say what was found; the verdict is the last line."""
        rows = closing_rows(self._last) if self._last else ()
        for line in (*rows, *PROOF_LEGEND, *verdict.lines()):
            click.echo(line)
        faults = [verdict.reason] if verdict.reason else []
        faults += shortfalls(
            {table.name: table.rows for table in verdict.tables}, self._kills, self._settings.jobs
        )
        for fault in faults:
            click.echo(f"not shown: {fault}")
        click.echo(verdict.line)
        return verdict.code or bool(faults)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Only one demo at a time in a folder; the kernel lets go of it however this one ends."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise ConfigurationError(
            f"--data-dir={str(folder)!r} is used by a demo that runs now; wait for its end or name another folder"
        ) from None
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    command(prog_name="scripts/demo")

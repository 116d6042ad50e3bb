"""Kill -9 of a worker and of the driver on a real cluster; every table is then what it must be."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.engine import victim
from tests.engine.children import ROOT, wait_until
from tools.stack.spark import SparkCluster

pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.timeout(450)]

START_SECONDS = 200.0
Drive = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A log and empty tables."""
    victim.prepare(tmp_path)
    return tmp_path


@pytest.fixture
def drive(spark_cluster: SparkCluster, folder: Path) -> Iterator[Drive]:
    """Starts a driver; whatever is left of it at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(point: str = "", after: int = 0) -> subprocess.Popen[str]:
        started.append(launch(spark_cluster, folder, point, after))
        return started[-1]

    yield start
    for driver in started:
        driver.kill()
        driver.communicate()


def launch(cluster: SparkCluster, folder: Path, point: str, after: int) -> subprocess.Popen[str]:
    """Start a driver."""
    command = [
        sys.executable,
        "-m",
        "tests.engine.spark.driver",
        str(folder),
        cluster.master,
        point,
        str(after),
    ]
    with (folder / "driver.err").open("ab") as errors:
        return subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True
        )


def finish(driver: subprocess.Popen[str], folder: Path) -> list[str]:
    """Wait until a driver has run to the end of the log; its lines."""
    lines = driver.communicate(timeout=START_SECONDS)[0].splitlines()
    assert driver.returncode == 0, (folder / "driver.err").read_text()[-3_000:]
    return lines


def test_a_job_on_spark_is_exact(drive: Drive, folder: Path) -> None:
    """State, windows, dead letters and the ledger of a job on Spark are what they must be."""
    lines = finish(drive(), folder)

    assert lines[-1] == "done"
    assert victim.found(folder) == victim.expected()


@pytest.mark.parametrize("point", ["before_commit", "after_commit"])
def test_a_driver_that_is_killed_starts_again_exact(drive: Drive, folder: Path, point: str) -> None:
    """A driver that dies by SIGKILL around a commit leaves a folder from which the next one ends exact."""
    killed = drive(point, after=4)
    killed.communicate(timeout=START_SECONDS)
    assert killed.returncode == -9

    lines = finish(drive(), folder)

    # The batch that was begun has run again before the driver's first line.
    assert lines[0] == "committed 5"
    assert victim.found(folder) == victim.expected()


def test_a_worker_that_is_killed_in_a_batch_is_survived_exact(
    spark_cluster: SparkCluster, drive: Drive, folder: Path
) -> None:
    """A worker that dies by SIGKILL with all its processes in the middle of a batch costs time and nothing else."""
    (folder / "hold").write_text("4")
    driver = drive()
    wait_until(lambda: any(folder.glob("held-?")), "a task is held", START_SECONDS)
    held = {int(path.read_text()) for path in folder.glob("held-?")}
    victims = [
        name
        for name in spark_cluster.worker_names
        if held & {process.pid for process in spark_cluster.python_workers(name)}
    ]
    spark_cluster.kill_worker(victims[0])
    spark_cluster.add_worker()
    (folder / "go-on").touch()
    finish(driver, folder)
    spark_cluster.await_workers(2)

    assert victim.found(folder) == victim.expected()

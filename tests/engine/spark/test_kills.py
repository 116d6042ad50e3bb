"""Kill -9 of a worker and of the driver on a real cluster; every table is then what it must be."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.engine.children import ROOT, wait_until
from tests.recovery.app import prepare
from tests.recovery.truth import differences
from tools.stack.spark import SparkCluster

pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.timeout(600)]

START_SECONDS = 200.0
Drive = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A log and empty tables."""
    prepare(tmp_path)
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


def die_at(point: str, after: int, drive: Drive) -> list[str]:
    """Start a driver that kills itself at a fail point; its lines."""
    driver = drive(point, after)
    lines = driver.communicate(timeout=START_SECONDS)[0].splitlines()
    assert driver.returncode == -9
    return lines


def kill_a_worker_that_holds_a_task(cluster: SparkCluster, folder: Path) -> None:
    """Wait until a task of an output is held, kill its worker with all processes, and let the other tasks go on."""
    wait_until(lambda: any(folder.glob("held-?")), "a task is held", START_SECONDS)
    held = {int(path.read_text()) for path in folder.glob("held-?")}
    victims = [
        name
        for name in cluster.worker_names
        if held & {process.pid for process in cluster.python_workers(name)}
    ]
    cluster.kill_worker(victims[0])
    cluster.add_worker()
    (folder / "go-on").touch()


def test_kills_of_drivers_and_of_a_worker_leave_the_tables_exact(
    spark_cluster: SparkCluster, drive: Drive, folder: Path
) -> None:
    """Drivers that die by SIGKILL on either side of a commit, and a worker in the middle of a batch, cost time and nothing else."""
    # One job for all, as most of the time goes into starts.
    die_at("before_commit", 2, drive)
    # The batch that was begun has run again before a driver's first line.
    assert die_at("after_commit", 4, drive)[0] == "committed 3"
    (folder / "hold").write_text("7")
    driver = drive()
    kill_a_worker_that_holds_a_task(spark_cluster, folder)
    lines = finish(driver, folder)
    spark_cluster.await_workers(2)

    assert lines[0] == "committed 5"
    assert lines[-1] == "done"
    assert differences(folder) == []

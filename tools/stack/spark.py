"""A standalone Apache Spark cluster on loopback, from the pyspark wheel: one master and some workers, each a plain process.

The workers' Python is this one, and the engine is importable in it. Nothing outlives the process that started the cluster: each
JVM has a parent that waits for the end of a pipe, and executors end by themselves when their worker is gone.

Owns: SparkCluster.
Never: a process that outlives `stop`.
"""

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Self

import psutil

from engine.errors import ConfigurationError, StreamingError
from services.settings import REPOSITORY, base_environment
from tools.stack.processes import end_processes

_LOOPBACK = "127.0.0.1"
_START_SECONDS = 60.0
_GRACE_SECONDS = 5.0
_LOOK_SECONDS = 0.05
_JVM = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1"
"""For many small JVMs on few cores: the thorough compiler and the parallel collectors cost more than they bring."""
_TIED = """
import os, signal, subprocess, sys, threading
child = subprocess.Popen(sys.argv[2:])
signal.signal(signal.SIGTERM, lambda *_: child.terminate())
def watch():
    os.read(int(sys.argv[1]), 1)  # returns when the starter's end closes, however it ended
    child.kill()
threading.Thread(target=watch, daemon=True).start()
sys.exit(child.wait() and 1)
"""
_DAEMON = "engine.spark.daemon"
_MASTER = "org.apache.spark.deploy.master.Master"
_WORKER = "org.apache.spark.deploy.worker.Worker"


def spark_home() -> Path:
    """Where the wheel keeps Spark.

    Raises:
        ConfigurationError: pyspark or Java is not installed.
    """
    found = importlib.util.find_spec("pyspark")
    if found is None or found.origin is None:
        raise ConfigurationError("pyspark is not installed; run pip install '.[spark]'")
    if shutil.which("java") is None and "JAVA_HOME" not in base_environment():
        raise ConfigurationError("`java` is not on PATH; install a JDK 17")
    return Path(found.origin).parent


def free_ports(count: int) -> list[int]:
    """So many ports of the loopback address on which nobody listens now."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind((_LOOPBACK, 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


class SparkCluster:
    """A master and its workers.

    Args:
        folder: for logs and the workers' own files.
        workers: how many.
        cores: of each worker; an application takes one of each, so that two may run beside each other: the one that was
            killed, until the master has noticed, and the one that follows.
        memory: of each worker, in Spark's spelling.
    """

    def __init__(self, folder: Path, workers: int = 2, *, cores: int = 2, memory: str = "1200m") -> None:
        self._home = spark_home()
        self._folder = folder
        self._workers = workers
        self._size = ("--cores", str(cores), "--memory", memory)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._started = 0
        self._watched, self._alive = os.pipe()
        self._ports = dict(zip(("rpc", "page"), free_ports(2), strict=True))

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def master(self) -> str:
        """What a SparkContext takes as its master."""
        return f"spark://{_LOOPBACK}:{self._ports['rpc']}"

    @property
    def environment(self) -> dict[str, str]:
        """What a driver on this machine has in its environment to run on this cluster."""
        return {
            "SPARK_CONF_DIR": str(self._folder / "conf"),
            "SPARK_LOCAL_IP": _LOOPBACK,
            "PYSPARK_PYTHON": sys.executable,
        }

    @property
    def settings(self) -> dict[str, str]:
        """What an application on this cluster has in its SparkConf; spark-defaults.conf of `environment` has the same."""
        return {
            "spark.driver.host": _LOOPBACK,
            "spark.driver.bindAddress": _LOOPBACK,
            "spark.cores.max": str(self._workers),
            "spark.executor.cores": "1",
            "spark.driver.memory": "512m",
            "spark.driver.extraJavaOptions": _JVM,
            "spark.executor.extraJavaOptions": _JVM,
            "spark.executor.memory": "512m",
            # A batch has no time to wait for the one executor that has a partition in its memory.
            "spark.locality.wait": "0s",
            # Over TCP each task waits 40 ms: Nagle's algorithm there meets a delayed acknowledgement here.
            "spark.python.unix.domain.socket.enabled": "true",
            "spark.python.daemon.module": _DAEMON,
            "spark.ui.enabled": "false",
            "spark.ui.showConsoleProgress": "false",
            "spark.local.dir": str(self._folder / "local"),
        }

    @property
    def worker_names(self) -> list[str]:
        """The workers that were started and not ended."""
        return [name for name in self._processes if name != "master"]

    def start(self) -> Self:
        """Start the master, then the workers; returns when all of them are registered.

        Raises:
            StreamingError: one does not come up.
        """
        (self._folder / "conf").mkdir(parents=True, exist_ok=True)
        lines = [f"{name} {value}" for name, value in self.settings.items()]
        (self._folder / "conf" / "spark-defaults.conf").write_text("\n".join([*lines, ""]))
        rpc, page = self._ports["rpc"], self._ports["page"]
        try:
            self._launch(
                "master", _MASTER, "--host", _LOOPBACK, "--port", str(rpc), "--webui-port", str(page)
            )
            for _ in range(self._workers):
                self.add_worker()
            self.await_workers(self._workers)
        except BaseException:
            self.stop()
            raise
        return self

    def add_worker(self) -> str:
        """Start one more worker; returns its name."""
        self._started += 1
        name = f"worker-{self._started}"
        folder = self._folder / name
        folder.mkdir(parents=True, exist_ok=True)
        own = ("--host", _LOOPBACK, "--port", "0", "--webui-port", "0", "--work-dir", str(folder))
        self._launch(name, _WORKER, *own, *self._size, self.master)
        return name

    def await_workers(self, count: int) -> None:
        """Wait until the master counts so many live workers.

        Raises:
            StreamingError: it does not within a minute, or a process has ended.
        """
        self._await(lambda: self._alive_workers() == count, f"Spark's master does not count {count} workers")

    def executors(self, worker: str) -> list[psutil.Process]:
        """The executors' JVMs under a worker."""
        return [
            process for process in self._under(worker) if "CoarseGrainedExecutorBackend" in _command(process)
        ]

    def python_workers(self, worker: str) -> list[psutil.Process]:
        """The Python processes that compute a worker's tasks; their parent, the daemon, is not one of them."""
        found = [process for process in self._under(worker) if _DAEMON in _command(process)]
        return [process for process in found if process.ppid() in {other.pid for other in found}]

    def busiest_worker(self) -> str:
        """The worker whose Python processes have computed most."""
        return max(self.worker_names, key=lambda name: sum(map(_cpu_seconds, self.python_workers(name))))

    def kill_worker(self, worker: str) -> int:
        """End a worker and all it has started with SIGKILL, as a power cut would; returns its pid."""
        popen = self._processes.pop(worker)
        members = [psutil.Process(popen.pid), *psutil.Process(popen.pid).children(recursive=True)]
        for member in members:
            _kill(member)
        popen.wait()
        return popen.pid

    def stop(self) -> None:
        """End everything; a second call does nothing."""
        if self._alive < 0:
            return
        processes = [psutil.Process(popen.pid) for popen in self._processes.values() if popen.poll() is None]
        end_processes(processes, _GRACE_SECONDS, self._reap)
        for popen in self._processes.values():
            popen.wait()
        self._processes.clear()
        for descriptor in (self._watched, self._alive):
            os.close(descriptor)
        self._watched = self._alive = -1

    def _reap(self) -> None:
        for popen in self._processes.values():
            popen.poll()
        time.sleep(_LOOK_SECONDS)

    def _under(self, worker: str) -> list[psutil.Process]:
        return psutil.Process(self._processes[worker].pid).children(recursive=True)

    def _launch(self, name: str, main: str, *arguments: str) -> None:
        environment = base_environment() | {
            "SPARK_HOME": str(self._home),
            "SPARK_LOCAL_IP": _LOOPBACK,
            "SPARK_LOCAL_DIRS": str(self._folder / "local"),
            "SPARK_DAEMON_MEMORY": "256m",
            "SPARK_DAEMON_JAVA_OPTS": _JVM,
            "PYSPARK_PYTHON": sys.executable,
            "PYTHONHASHSEED": "0",
            "PYTHONPATH": str(REPOSITORY),
        }
        with (self._folder / f"{name}.out").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [
                    *(sys.executable, "-c", _TIED, str(self._watched)),
                    *(str(self._home / "bin" / "spark-class"), main, *arguments),
                ],
                cwd=self._folder,
                pass_fds=(self._watched,),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _alive_workers(self) -> int:
        try:
            with urllib.request.urlopen(
                f"http://{_LOOPBACK}:{self._ports['page']}/json/", timeout=5
            ) as answer:
                return str(answer.read(), "utf-8").count('"state" : "ALIVE"')
        except OSError:
            return -1

    def _await(self, is_done: Callable[[], bool], complaint: str) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not is_done():
            ended = [name for name, popen in self._processes.items() if popen.poll() is not None]
            if ended or time.monotonic() > deadline:
                raise StreamingError(
                    f"{complaint}{f' ({ended[0]} has ended)' if ended else ''}; see {self._folder}/*.out"
                )
            time.sleep(_LOOK_SECONDS)


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def _cpu_seconds(process: psutil.Process) -> float:
    try:
        return float(sum(process.cpu_times()[:2]))
    except psutil.NoSuchProcess:
        return 0.0


def _kill(process: psutil.Process) -> None:
    try:
        process.send_signal(signal.SIGKILL)
    except psutil.NoSuchProcess:
        return

"""The examples run and print what they are for."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer

from services.settings import REPOSITORY
from tests.servers import KafkaServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

Start = Callable[..., "Example"]
_MOST_SECONDS = 90


class Example:
    """An example that runs.

    Args:
        name: of its file.
        arguments: what follows it on the command line.
    """

    def __init__(self, name: str, *arguments: object) -> None:
        self.lines: list[str] = []
        self._process = subprocess.Popen(
            [sys.executable, "-u", str(REPOSITORY / "examples" / f"{name}.py"), *map(str, arguments)],
            cwd=REPOSITORY,
            env={
                **os.environ,
                "PYTHONPATH": str(REPOSITORY),
                "PYSPARK_PYTHON": sys.executable,
                "SPARK_LOCAL_IP": "127.0.0.1",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._guard = threading.Timer(_MOST_SECONDS, self._process.kill)
        self._guard.start()

    def read_until(self, *wanted: str) -> None:
        """Read its output until each of the texts was in a line."""
        missing = set(wanted)
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line.rstrip())
            missing = {text for text in missing if text not in line}
            if not missing:
                return
        assert self._process.stderr is not None
        told = self._process.stderr.read()[-2_000:]
        raise AssertionError(f"it ended without {sorted(missing)} after {self.lines[-20:]}; {told}")

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        """Send it a signal and wait for its end; returns the exit code."""
        self._process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Wait for its end; returns the exit code."""
        self._process.communicate()
        self._guard.cancel()
        return self._process.returncode


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts examples; what is left of them is killed at the end."""
    started: list[Example] = []

    def begin(name: str, *arguments: object) -> Example:
        started.append(Example(name, *arguments))
        return started[-1]

    yield begin
    for example in started:
        example.end(signal.SIGKILL)


class LineServer:
    """Sends each client the same lines once, and keeps its connection open."""

    def __init__(self, *lines: str) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._bytes = "".join(f"{line}\n" for line in lines).encode()
        self._clients: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._clients.append(client)
            client.sendall(self._bytes)

    def close(self) -> None:
        """Close all connections."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for client in self._clients:
            client.close()


@pytest.fixture
def server() -> Iterator[LineServer]:
    """A server of two lines."""
    made = LineServer("to be or", "not to be a b")
    yield made
    made.close()


def test_network_wordcount(start: Start, server: LineServer) -> None:
    """The words of a socket's lines are counted and printed in the format of pprint."""
    example = start("network_wordcount", "127.0.0.1", server.port)
    example.read_until("('to', 2)", "('be', 2)", "('or', 1)", "('not', 1)")
    assert any(line.startswith("Time: ") for line in example.lines)


def test_stateful_network_wordcount(start: Start, server: LineServer) -> None:
    """Counts go on from the initial state and stay in every batch."""
    example = start("stateful_network_wordcount", "127.0.0.1", server.port)
    example.read_until("('to', 2)", "('world', 1)", "('hello', 1)")
    example.read_until("('to', 2)")


def test_recoverable_network_wordcount_goes_on_after_a_kill(
    start: Start, server: LineServer, tmp_path: Path
) -> None:
    """A program that was killed starts again on its checkpoints, counts on, and leaves the dropped words out."""
    arguments = ("127.0.0.1", server.port, tmp_path / "checkpoints", tmp_path / "output")
    first = start("recoverable_network_wordcount", *arguments)
    first.read_until("('to', 2)", "Dropped 2 word(s) totally")
    first.end(signal.SIGKILL)
    second = start("recoverable_network_wordcount", *arguments)
    second.read_until("('to', 2)", "Dropped 2 word(s) totally")
    counted = [line for line in (tmp_path / "output").read_text().splitlines() if "('to', 2)" in line]
    assert len(counted) >= 2


def test_sql_network_wordcount(start: Start, server: LineServer) -> None:
    """SQL of a real SparkSession sees each batch."""
    example = start("sql_network_wordcount", "127.0.0.1", server.port)
    example.read_until("|  to|    2|", "|  be|    2|")


def test_queue_stream(start: Start) -> None:
    """Each RDD of the queue is one batch, and the program ends by itself."""
    example = start("queue_stream")
    example.read_until("(0, 100)", "(9, 100)")
    assert example.wait() == 0


def test_hdfs_wordcount(start: Start, tmp_path: Path) -> None:
    """The words of a file that is moved into the folder are counted."""
    folder = tmp_path / "incoming"
    folder.mkdir()
    example = start("hdfs_wordcount", folder)
    example.read_until("Time: ")
    (tmp_path / "new").write_text("to be or\nnot to be\n")
    (tmp_path / "new").rename(folder / "new")
    example.read_until("('to', 2)", "('not', 1)")


@pytest.mark.servers
def test_direct_kafka_wordcount(
    start: Start, kafka_server: KafkaServer, fresh_topic: Callable[[int], str]
) -> None:
    """The words of a topic are counted from its first record."""
    topic = fresh_topic(1)
    producer = Producer({"bootstrap.servers": kafka_server.bootstrap})
    for line in ("to be or", "not to be"):
        producer.produce(topic, line)
    assert producer.flush(30) == 0
    example = start("direct_kafka_wordcount", kafka_server.bootstrap, topic)
    example.read_until("('to', 2)", "('not', 1)")

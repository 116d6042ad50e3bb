"""The engine's way to one server, so that it can be cut and slowed down.

In containers the way is a network: a cut takes the server off it, a delay puts a container with the proxy under the server's
name. For plain processes the engine alone is started again with the address of a proxy beside it.

Owns: Lane, lane_of, lane_of_engine.
Never: what the drill looks for.
"""

import contextlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from engine.errors import StreamingError
from services.settings import REPOSITORY, base_environment
from tools.stack.compose import ComposeStack
from tools.stack.docker import docker
from tools.stack.verbs import Verbs

_PROXY_FILE = REPOSITORY / "tools" / "stack" / "proxy.py"
_PORTS = {"kafka": 29092, "cassandra": 9042}
"""Where the servers listen for the other containers."""
_END_SECONDS = 40.0


class Lane(Protocol):
    """The engine's way to one server."""

    def open(self) -> None:
        """Make the way one that can be disturbed."""
        ...

    def cut(self) -> None:
        """Let nothing pass."""
        ...

    def slow(self, seconds: float) -> None:
        """Let an answer take so much longer."""
        ...

    def mend(self) -> None:
        """Let everything pass again, at once; the second time it changes nothing."""
        ...

    def close(self) -> None:
        """Leave the way as it was found."""
        ...


def lane_of(stack: Verbs, server: str, say: Callable[[str], None]) -> Lane:
    """The way to a server in this stack."""
    if isinstance(stack, ComposeStack):
        return NetworkLane(stack, server)
    return ProxyLane(stack, server, say)


def lane_of_engine(stack: Verbs, engine: str, say: Callable[[str], None]) -> Lane:
    """The way of one replica to Kafka."""
    if isinstance(stack, ComposeStack):
        return EngineLane(stack, engine)
    return ProxyLane(stack, "kafka", say, engine)


class EngineLane:
    """A replica's own way to the network on which the services meet: Kafka and Cassandra at once.

    Args:
        stack: of containers.
        engine: the replica.
    """

    def __init__(self, stack: ComposeStack, engine: str) -> None:
        self._stack = stack
        self._engine = engine
        self._is_cut = False

    def open(self) -> None:
        """Nothing is needed beforehand."""

    def cut(self) -> None:
        """Take the replica off the network."""
        self._is_cut = True
        self._stack.cut(self._engine)

    def slow(self, seconds: float) -> None:
        """Not offered.

        Raises:
            StreamingError: always.
        """
        raise StreamingError(f"the way of {self._engine} can be cut and not made {seconds:g} s slower")

    def mend(self) -> None:
        """Put it back."""
        if self._is_cut:
            self._stack.join(self._engine)
            self._is_cut = False

    def close(self) -> None:
        """Nothing is left to do."""


class ProxyProcess:
    """A proxy at work, which takes orders.

    Args:
        command: what starts it, reading its orders from standard input.

    Raises:
        StreamingError: it did not start.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - close() closes it
        self._popen = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env=base_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            start_new_session=True,  # Ctrl-C is for the drill, which then ends the proxy as it should
        )
        self.address = self._answer().removeprefix("listening ")
        """HOST:PORT where it listens."""
        if ":" not in self.address:
            said = self._end() or self.address or "it ended at once"
            raise StreamingError(f"the proxy did not start: {said}")

    def tell(self, order: str) -> None:
        """Give an order and have it answered.

        Raises:
            StreamingError: the proxy is gone, or does not know the order.
        """
        assert self._popen.stdin is not None, "it was opened with a pipe"
        try:
            self._popen.stdin.write(f"{order}\n")
            self._popen.stdin.flush()
        except OSError as error:
            raise StreamingError(f"the proxy is gone, so there is no {order!r}") from error
        answer = self._answer()
        if answer != "ok":
            raise StreamingError(f"the proxy does not {order!r}: {answer or 'it is gone'}")

    def close(self) -> None:
        """End it, by force when it does not end by itself."""
        self._end()

    def _end(self) -> str:
        """End it; the last line that it said of what ails it."""
        with self._popen, self._errors:
            try:
                self._popen.communicate(timeout=_END_SECONDS)
            except (OSError, subprocess.TimeoutExpired):
                self._popen.kill()
            self._errors.seek(0)
            # Docker's own last line says where its help is.
            said = [line for line in self._errors if line.strip() and "docker run --help" not in line]
        return said[-1].strip() if said else ""

    def _answer(self) -> str:
        assert self._popen.stdout is not None, "it was opened with a pipe"
        return self._popen.stdout.readline().strip()


class ProxyLane:
    """A proxy beside plain processes; an engine is started again to go through it, and once more to do without.

    Args:
        stack: of processes.
        server: where the way leads.
        say: is told what goes on.
        engine: which one, where there are replicas.
    """

    def __init__(self, stack: Verbs, server: str, say: Callable[[str], None], engine: str = "engine") -> None:
        self._stack = stack
        self._server = server
        self._engine = engine
        self._say = say
        self._proxy: ProxyProcess | None = None

    def open(self) -> None:
        """Start the proxy, then the engine on it."""
        settings = self._stack.settings
        port = settings.kafka_port if self._server == "kafka" else settings.cassandra_port
        command = [sys.executable, str(_PROXY_FILE), "127.0.0.1:0", f"127.0.0.1:{port}"]
        if self._server == "kafka":
            command.append("--kafka")
        self._proxy = ProxyProcess(command)
        host, _, own = self._proxy.address.rpartition(":")
        environment = (
            {"KAFKA_BOOTSTRAP": self._proxy.address}
            if self._server == "kafka"
            else {"CASSANDRA_HOSTS": host, "CASSANDRA_PORT": own}
        )
        self._say(f"starting {self._engine} behind a proxy for {self._server}")
        self._restart_engine(environment)

    def cut(self) -> None:
        """Have the proxy hold every byte."""
        self._tell("cut")

    def slow(self, seconds: float) -> None:
        """Have the proxy pass each byte later; half on the way there, half on the way back."""
        self._tell(f"delay {seconds / 2:g}")

    def mend(self) -> None:
        """Have the proxy pass everything."""
        if self._proxy is not None:
            self._proxy.tell("join")
            self._proxy.tell("delay 0")

    def close(self) -> None:
        """Start the engine without the proxy, then end that."""
        if self._proxy is not None:
            self._say(f"starting {self._engine} without the proxy")
            try:
                self._restart_engine({})
            finally:
                self._proxy.close()
                self._proxy = None

    def _tell(self, order: str) -> None:
        assert self._proxy is not None, "open() comes first"
        self._proxy.tell(order)

    def _restart_engine(self, environment: dict[str, str]) -> None:
        began = time.time()
        if any(status.name == self._engine and status.pid for status in self._stack.status()):
            self._stack.kill(self._engine, signal.SIGTERM)
            self._stack.wait_for(self._engine, "death", after=began, timeout_seconds=_END_SECONDS)
        self._stack.start(self._engine, environment)


class NetworkLane:
    """The network between containers; the engine is not touched.

    Args:
        stack: of containers.
        server: where the way leads.
    """

    def __init__(self, stack: ComposeStack, server: str) -> None:
        self._stack = stack
        self._server = server
        self._proxy: ProxyProcess | None = None
        self._proxy_name = f"{stack.project}-{server}-proxy"
        self._is_disturbed = False

    def open(self) -> None:
        """Nothing is needed beforehand."""

    def cut(self) -> None:
        """Take the server off the network."""
        self._is_disturbed = True
        self._stack.cut(self._server)

    def slow(self, seconds: float) -> None:
        """Put a proxy in the server's place.

        It comes onto the network BEFORE the server comes back, and so gets the address that the server had: connections that
        lived on there would else go past the proxy.
        """
        self._is_disturbed = True
        port = _PORTS[self._server]
        behind = f"{self._server}-behind"
        self._stack.cut(self._server)
        options = f"--rm --interactive --name {self._proxy_name} --network {self._stack.network}".split()
        options += (
            f"--network-alias {self._server} --read-only --cap-drop ALL --memory 64m --pids-limit 64".split()
        )
        options += ["--security-opt", "no-new-privileges:true"]
        # The image's own copy: that of the clone may be its owner's alone.
        proxy = ["python", "/app/tools/stack/proxy.py", f"0.0.0.0:{port}", f"{behind}:{port}"]
        self._proxy = ProxyProcess(["docker", "run", *options, self._stack.container("engine").image, *proxy])
        self._proxy.tell(f"delay {seconds / 2:g}")
        self._stack.join(self._server, behind)

    def mend(self) -> None:
        """Take the proxy away and put the server back under its own name."""
        if self._proxy is not None:
            self._proxy.close()
            self._proxy = None
            with contextlib.suppress(StreamingError):  # it is gone already, as it should be
                docker("rm", "--force", self._proxy_name)
        if self._is_disturbed:
            self._stack.join(self._server)
            self._is_disturbed = False

    def close(self) -> None:
        """Nothing is left."""

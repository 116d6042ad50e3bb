"""The running pipeline that Prometheus watches, as the live tests may treat it, and what they do to it.

Owns: SCENES, LASTING, NOT_LIVE, Watched, SmallVolume, held_down, faster_rules, faster_scrapes.
Never: an alert that is set by hand; each comes from what the processes export.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psutil

from services.settings import REPOSITORY, base_environment
from tests.tools.stack_world import pid_of, supervisor_pid
from tools.chaos.lanes import ProxyProcess
from tools.stack.api import Stack
from tools.stack.control import looks
from tools.stack.folder import Folder
from tools.stack.programs import Record

SCENES: Final[Mapping[str, frozenset[str]]] = {
    "dead engine": frozenset({"EngineDown-critical"}),
    "held engine": frozenset({"EngineStalled-critical"}),
    "results and restarts": frozenset(
        {
            "RestartLoop-critical",
            "DeadLetterRate-warning",
            "WindowMismatch-critical",
            "VerifierSilent-warning",
            "CheckpointDiskFilling-warning",
            "StateGrowth-warning",
        }
    ),
    "slow engine": frozenset(
        {
            "BatchOverrun-warning",
            "LagGrowing-warning",
            "EndToEndLatencyHigh-warning",
            "SinkSlow-warning",
            "CheckpointSlow-warning",
            "BatchFailed-critical",
            "CheckpointFailing-warning",
            "ExecutorsDying-warning",
        }
    ),
    "hanging servers": frozenset(
        {
            "CassandraTimeouts-warning",
            "CassandraDown-critical",
            "SchedulingDelayHigh-warning",
            "SchedulingDelayHigh-critical",
            "SinkErrors-warning",
            "KafkaUnhealthy-critical",
        }
    ),
    "dead Kafka": frozenset({"ProducerBehind-warning", "KafkaDown-critical", "ProducerSilent-warning"}),
}
"""By scene the alerts, as NAME-SEVERITY, that fire in it on the running pipeline and clear again."""

LASTING: Final = frozenset({"ExecutorsDying-warning", "RestartLoop-critical"})
"""They count what happened within five minutes, so they clear in a later scene."""

NOT_LIVE: Final[Mapping[str, str]] = {
    "CompactionsPending-warning": "a hundred compactions at once need more data than a test can write",
    "UnitWithoutOwner-critical": "the pipeline of the scenes is one engine, which has no units",
}
"""The alerts that only promtool shows, each with the reason."""

FASTER: Final = 6
"""So many times as short are `for`, `keep_firing_for` and the ranges of the rules in the scenes; the texts are the project's."""
SCRAPES_FASTER: Final = 2
"""So many times as often Prometheus asks in the scenes."""
BATCH_SECONDS: Final = 0.5
VOLUME_MIB: Final = 512
"""Size of the checkpoint's volume."""

_LOOK_SECONDS = 0.3
_UNITS = {"s": 1, "m": 60}
_DURATION = re.compile(r"(for: |\[)(\d+)([sm])\b")
_BOUND = re.compile(r"(scrape_duration_seconds\{[^}]*\} < )([\d.]+)")
_INTERVAL = re.compile(r"(_interval: |_timeout: )(\d+)s")


def faster_rules(text: str) -> str:
    """A file of rules with shorter durations; what an hour remembers and what a scrape may take keep their meaning.

    Example:
        >>> faster_rules("expr: rate(x[1m]) > max_over_time(y[1h]); for: 15s")
        'expr: rate(x[10000ms]) > max_over_time(y[1h]); for: 2500ms'
    """

    def shorter(found: re.Match[str]) -> str:
        return f"{found[1]}{int(found[2]) * _UNITS[found[3]] * 1_000 // FASTER}ms"

    return _BOUND.sub(
        lambda found: f"{found[1]}{float(found[2]) / SCRAPES_FASTER:g}", _DURATION.sub(shorter, text)
    )


def faster_scrapes(text: str) -> str:
    """A scrape configuration with shorter intervals and time limits.

    Example:
        >>> faster_scrapes("scrape_interval: 5s")
        'scrape_interval: 2500ms'
    """
    return _INTERVAL.sub(lambda found: f"{found[1]}{int(found[2]) * 1_000 // SCRAPES_FASTER}ms", text)


class SmallVolume:
    """A small file system for the engine's checkpoint, which only processes that are started with `inside` see.

    It is a tmpfs in a mount namespace of its own, so it needs no rights and is gone with its keeper. Where the system grants no user a
    namespace there is none: `inside` changes nothing, and nothing can be filled.

    Args:
        folder: where it is mounted.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        mount = f'mount -t tmpfs -o size={VOLUME_MIB}m tmpfs "$0" && echo mounted && cat'
        self._keeper = subprocess.Popen(
            ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._keeper.stdout is not None
        self.is_mounted = self._keeper.stdout.readline() == b"mounted\n"
        seen_by_keeper = Path("/proc") / str(self._keeper.pid) / "root"
        self._ballast = seen_by_keeper / folder.relative_to("/") / "ballast"

    def inside(self, *command: str) -> tuple[str, ...]:
        """The command that runs a command where the volume is seen."""
        if not self.is_mounted:
            return command
        namespaces = ("--user", "--mount", "--preserve-credentials", f"--wd={REPOSITORY}")
        return ("nsenter", f"--target={self._keeper.pid}", *namespaces, *command)

    def fill(self, left_mib: int) -> None:
        """Leave so much room."""
        free = os.statvfs(self._ballast.parent)
        with self._ballast.open("wb") as ballast:
            for _ in range(free.f_bavail * free.f_frsize // 2**20 - left_mib):
                ballast.write(bytes(2**20))

    def empty(self) -> None:
        """Leave the room to the engine."""
        self._ballast.unlink(missing_ok=True)

    def close(self) -> None:
        """Give it back; it is gone with the last process that sees it."""
        self._keeper.communicate(b"", timeout=20)


class Watched:
    """A stack, and what its Prometheus says.

    Args:
        stack: that runs.
        volume: the checkpoint's.
    """

    def __init__(self, stack: Stack, volume: SmallVolume) -> None:
        self.stack = stack
        self.volume = volume
        self.raised: set[str] = set()
        """What was seen firing so far."""
        self._address = f"http://127.0.0.1:{stack.settings.prometheus_port}/api/v1/"

    def ask(self, what: str, **arguments: str) -> Any:
        """An answer of Prometheus' HTTP API."""
        query = f"?{urllib.parse.urlencode(arguments)}" if arguments else ""
        with urllib.request.urlopen(self._address + what + query, timeout=10) as answer:  # noqa: S310 - loopback
            return json.load(answer)["data"]

    def values(self, expression: str) -> list[float]:
        """The values of an expression now."""
        return [float(sample["value"][1]) for sample in self.ask("query", query=expression)["result"]]

    def wait_for_values(self, expression: str) -> None:
        """Return as soon as an expression has a value."""
        self.wait_until(lambda: bool(self.values(expression)), 60, expression)

    def firing(self) -> set[str]:
        """The alerts that fire, each as NAME-SEVERITY."""
        return {
            f"{alert['labels']['alertname']}-{alert['labels']['severity']}"
            for alert in self.ask("alerts")["alerts"]
            if alert["state"] == "firing"
        }

    def health(self) -> Mapping[str, str]:
        """By service whether its last scrape went well."""
        return {
            target["labels"]["service"]: target["health"] for target in self.ask("targets")["activeTargets"]
        }

    def wait_until(self, is_so: Callable[[], bool], seconds: float, told: str) -> None:
        """Return as soon as something holds."""
        for _ in looks(seconds, _LOOK_SECONDS):
            if is_so():
                return
        raise AssertionError(f"{told}: not within {seconds:g} s; {sorted(self.firing())} fire")

    def wait_for_alerts(self, names: Collection[str], seconds: float = 60) -> None:
        """Return as soon as each of the alerts has fired since this call began."""
        missing = set(names)
        began = time.monotonic()
        for _ in looks(seconds, _LOOK_SECONDS):
            self.raised |= (fired := self.firing())
            missing -= fired
            if not missing:
                return
        raise AssertionError(
            f"{sorted(missing)} did not fire within {time.monotonic() - began:.0f} s, {sorted(self.firing())} do"
        )

    def wait_for_clear(self, names: Collection[str], seconds: float = 60) -> None:
        """Return as soon as none of the alerts, which have all fired before, does any more."""
        assert set(names) <= self.raised, set(names) - self.raised
        self.wait_until(lambda: not self.firing() & set(names), seconds, f"{sorted(names)} cleared")

    def be_faster(self) -> None:
        """Give Prometheus the project's rules with durations FASTER times as short, see above; it reads them without a new start."""
        conf = Folder(self.stack.settings.data_dir).conf / "prometheus"
        for path in (conf / "rules").glob("*.yml"):
            path.write_text(faster_rules(path.read_text()))
        (conf / "prometheus.yml").write_text(faster_scrapes((conf / "prometheus.yml").read_text()))
        os.kill(pid_of(self.stack, "prometheus"), signal.SIGHUP)
        shortest = 10.0 / FASTER
        self.wait_until(
            lambda: any(
                abs(rule.get("duration", 0) - shortest) < 0.01
                for group in self.ask("rules")["groups"]
                for rule in group["rules"]
            ),
            20,
            "Prometheus reads the faster rules",
        )

    def anew(self, name: str, environment: Mapping[str, str] | None = None) -> None:
        """End a process as `down` does, and start it with more variables."""
        began = time.time()
        self.stack.kill(name, signal.SIGTERM)
        self.stack.wait_for(name, "death", after=began)
        self.stack.start(name, environment)

    def kill_engine_and_see_it_start(self) -> None:
        """SIGKILL to the engine; returns when Prometheus has seen the one that the supervisor starts."""
        began = "process_start_time_seconds{service='engine'}"
        self.wait_for_values(began)
        (before,) = self.values(began)
        self.stack.kill("engine")
        self.wait_until(lambda: any(start > before for start in self.values(began)), 30, "a new engine")

    def kill_executors(self, trace: Path, point: str) -> None:
        """SIGKILL to the engine's executors while one of them is at a fail point."""
        engine = psutil.Process(pid_of(self.stack, "engine"))
        for _ in looks(30, 0.005):
            if trace.exists() and trace.read_text().split() == [point]:
                break
        assert trace.read_text().split() == [point]
        executors = [
            child for child in engine.children() if "engine.rdd.executor" in " ".join(child.cmdline())
        ]
        assert executors
        for executor in executors:
            executor.kill()

    @contextmanager
    def slow_way(self, server: str, *more: str) -> Iterator[ProxyProcess]:
        """A proxy in front of a server, which takes orders."""
        settings = self.stack.settings
        port = settings.kafka_port if server == "kafka" else settings.cassandra_port
        proxy = REPOSITORY / "tools" / "stack" / "proxy.py"
        way = ProxyProcess([sys.executable, str(proxy), "127.0.0.1:0", f"127.0.0.1:{port}", *more])
        try:
            yield way
        finally:
            way.close()

    def command_of(self, server: str) -> tuple[str, ...]:
        """How a server of the stack was started."""
        record = Record.read(Folder(self.stack.settings.data_dir).record(server))
        assert record is not None
        return record.program.command

    def nodetool(self, *arguments: str) -> None:
        """Tell Cassandra something, as an operator does."""
        settings, command = self.stack.settings, self.command_of("cassandra")
        jars = command[command.index("-cp") + 1]
        home = settings.data_dir / "nodetool"
        home.mkdir(exist_ok=True)
        subprocess.run(
            [
                "java",
                "-XX:TieredStopAtLevel=1",
                *(option for option in command if option.startswith("--add-")),
                f"-Duser.home={home}",
                f"-Dcassandra.logdir={home}",
                "-cp",
                jars,
                "org.apache.cassandra.tools.NodeTool",
                "-h",
                "127.0.0.1",
                "-p",
                str(settings.cassandra_jmx_port),
                *arguments,
            ],
            check=True,
            env=base_environment(),
            stdout=subprocess.DEVNULL,
            timeout=60,
        )

    @contextmanager
    def second_broker(self, port: int) -> Iterator[subprocess.Popen[bytes]]:
        """A broker that joins the stack's; it is killed at the end."""
        conf = Folder(self.stack.settings.data_dir).conf / "server.properties"
        data = self.stack.settings.data_dir / "kafka-2"
        data.mkdir()
        meta = (self.stack.settings.data_dir / "kafka" / "meta.properties").read_text()
        meta = re.sub(r"node\.id=1", "node.id=2", re.sub(r"directory\.id=.*\n", "", meta))
        (data / "meta.properties").write_text(meta)
        changed = {
            "process.roles": "broker",
            "node.id": "2",
            "listeners": f"PLAINTEXT://127.0.0.1:{port}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
            "log.dirs": str(data),
        }
        text = conf.read_text()
        for name, value in changed.items():
            text = re.sub(rf"^{re.escape(name)}=.*$", f"{name}={value}", text, flags=re.MULTILINE)
        own = data / "server.properties"
        own.write_text(text)
        command = [
            part
            for part in self.command_of("kafka")[:-1]
            if not part.startswith(("-javaagent", "-XX:ArchiveClassesAtExit"))
        ]
        with (data / "out").open("wb") as out:
            broker = subprocess.Popen(
                [*command, str(own)], env=base_environment(), stdout=out, stderr=out, cwd=data
            )
        try:
            yield broker
        finally:
            broker.kill()
            broker.wait()


@contextmanager
def held_down(stack: Stack, name: str) -> Iterator[None]:
    """Kill a process with SIGKILL, and keep its supervisor from starting it again until the end."""
    supervisor = psutil.Process(supervisor_pid(stack.settings))
    supervisor.suspend()
    try:
        os.kill(pid_of(stack, name), signal.SIGKILL)
        yield
    finally:
        supervisor.resume()

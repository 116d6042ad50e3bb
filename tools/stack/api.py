"""The stack as an object: what `scripts/stack`, the demo, the chaos drills and the tests use.

Owns: Stack.
Never: the ownership of a process; that is the supervisor's, and outlives whoever made a Stack.
"""

import fcntl
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from engine.errors import ConfigurationError, StreamingError
from services.cassandra import migrate as cassandra_schema
from services.settings import REPOSITORY, Settings, base_environment
from services.sqlite import migrate as sqlite_schema
from services.topics import create_topics
from tools.stack import jars
from tools.stack.control import Control, looks
from tools.stack.engines import engines_of, page_port
from tools.stack.events import Event, EventLog
from tools.stack.folder import Folder, read_json, write_json
from tools.stack.monitors import MONITORS, check_prometheus, is_watching, monitor_ports, prometheus_program
from tools.stack.processes import send, signal_tree
from tools.stack.programs import Program, State
from tools.stack.ready import check_ports, has_said, is_answering
from tools.stack.servers import server_ports, server_program
from tools.stack.status import Status, status_of

SERVERS = ("kafka", "cassandra")

_COMMANDS: Mapping[str, Sequence[str]] = {
    "producer": (sys.executable, "-m", "services.producer.main"),
    "engine": (sys.executable, "-m", "services.pipeline.main"),
    "replica": (sys.executable, "-m", "services.pipeline.replica"),
    "verifier": (sys.executable, "-m", "tools.verify.watch"),
}
_READY_LINES = {"producer": "goes on at", "engine": "pipeline: started", "replica": "pipeline: started"}
"""What each says when it is at work: the producer when it has read back where it stopped, the engine when a batch runs."""
_READY_SECONDS = 180.0
_HOPELESS_DEATHS = 3


class Stack:
    """One stack of plain processes, found by its DATA_DIR; any number of objects and processes may look at the same one.

    Args:
        settings: of the stack; its processes get all of them as environment variables. Where `monitoring` was not given, it is
            that of the stack which runs in DATA_DIR.
        commands: what to run in place of producer and engine; it must say "goes on at" or "pipeline: started" when it works.
            In place of the verifier: it must answer /metrics on its port.
        environment: more variables for producer and engine.
        report: is told in a line what happens.
        is_tied: whether a supervisor that this object starts ends everything when the calling process dies.

    Raises:
        ConfigurationError: the settings are those of a stack in containers.

    Example:
        stack = Stack(load_settings())
        stack.up()
        stack.kill("engine")
        stack.wait_for("engine", "restart", after=time.time() - 1)
        stack.down()
    """

    def __init__(
        self,
        settings: Settings,
        *,
        commands: Mapping[str, Sequence[str]] | None = None,
        environment: Mapping[str, str] | None = None,
        report: Callable[[str], None] = lambda _: None,
        is_tied: bool = False,
    ) -> None:
        if settings.stack not in {"processes", "embedded"}:
            raise ConfigurationError(
                f"STACK={settings.stack!r} runs in containers and not as plain processes; start it with `make up`, "
                "or set STACK=processes or STACK=embedded"
            )
        self._folder = Folder(settings.data_dir)
        self._events = EventLog(self._folder.events)
        self._control = Control(self._folder, self._events, is_tied=is_tied)
        self.settings = self._as_it_runs(settings)
        self.names: tuple[str, ...] = SERVERS if settings.stack == "processes" else ()
        """The processes of this stack, in the order in which they start."""
        self.services = ("producer", *engines_of(self.settings))
        """Those of our own programs that are no monitors."""
        self.names += self.services + (MONITORS if self.settings.monitoring else ())
        self._commands = {**_COMMANDS, **(commands or {})}
        self._environment = dict(environment or {})
        self._report = report

    def up(self, names: Iterable[str] = ()) -> None:
        """Start what does not run, servers first, and return when all of it is at work; a second call changes nothing.

        Between servers and services the topics and the schema are made; monitors start beside the services.

        Args:
            names: the processes to start; all when empty.

        Raises:
            ConfigurationError: a setting, a taken port, a missing program, a topic or a schema stands against it.
            StreamingError: a process died before it was ready, or was not ready in time.
        """
        wanted = self._checked(names)
        self._folder.make()
        with self._alone():
            self._refuse_other_settings()
            programs = self._prepare(self._missing(wanted))
            self._control.ensure_supervisor()
            # What died while nobody watched it, a moment ago; from here on the supervisor sees every death.
            programs |= self._prepare([name for name in self._missing(wanted) if name not in programs])
            self._events.append("stack", "up", names=wanted)
            self._start([programs[name] for name in SERVERS if name in programs])
            self._initialise(wanted)
            self._start([programs[name] for name in self.services + MONITORS if name in programs])

    def start(self, name: str, environment: Mapping[str, str] | None = None, *, wait: bool = True) -> None:
        """Start one process that does not run.

        Args:
            name: of the process.
            environment: more variables for it, also when it is started again after a death.
            wait: whether to return only when it is at work.

        Raises:
            ConfigurationError: it runs already with other variables, its port is taken, or it refused its settings.
            StreamingError: it died before it was ready, or was not ready in time.
        """
        self._checked([name])
        self._folder.make()
        with self._alone():
            self._refuse_other_settings()
            if self._control.process(name) is not None:
                if environment:
                    raise ConfigurationError(
                        f"{name} runs already and cannot get other variables; kill it first"
                    )
                return
            program = self._prepare([name])[name].with_environment(environment or {})
            self._control.ensure_supervisor()
            self._start([program], wait=wait)

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> Event:
        """Signal one process; all but the servers are started again by the supervisor, a server stays down.

        After SIGKILL it returns when the process is gone, so that `start` may follow at once.

        Returns:
            The event of kind "kill", written just before the signal was sent.

        Raises:
            ConfigurationError: it does not run.
        """
        process = self._running(name)
        write_json(self._folder.run / f"{name}.killed", process.pid)
        event = self._events.append(name, "kill", pid=process.pid, signal=number.name)
        send(process, number)
        if number == signal.SIGKILL:
            self._control.await_death(name, process)
        return event

    def pause(self, name: str) -> Event:
        """Hold a process and its children where they are (SIGSTOP).

        Raises:
            ConfigurationError: it does not run.
        """
        return self._signal_tree(name, "pause", signal.SIGSTOP)

    def resume(self, name: str) -> Event:
        """Let a process and its children go on (SIGCONT).

        Raises:
            ConfigurationError: it does not run.
        """
        return self._signal_tree(name, "resume", signal.SIGCONT)

    def down(self, *, wipe: bool = False) -> None:
        """End every process of the stack, services first, and its supervisor; the data stays.

        Args:
            wipe: whether to remove everything in DATA_DIR as well, but for the jars.

        Raises:
            ConfigurationError: DATA_DIR is not a stack's folder, so it is not wiped.
        """
        if self._folder.marker.exists():
            if any(self._control.process(name) for name in self._folder.names()):
                self._report("ending every process")
            self._control.end_supervisor()
            self._control.end_orphans(MONITORS + self.services + SERVERS)
            self._events.append("stack", "down")
        if wipe:
            self._folder.wipe(self.settings.jars_dir)

    def status(self) -> list[Status]:
        """How each process stands."""
        return [status_of(name, self._control, self.settings) for name in self.names]

    def events(self) -> list[Event]:
        """What has happened in this DATA_DIR, oldest first."""
        return self._events.read()

    def wait_for(self, name: str, kind: str, *, after: float, timeout_seconds: float = 60.0) -> Event:
        """The first event of a kind, waited for.

        Args:
            name: of the process.
            kind: of the event.
            after: only events later than this, in seconds since the epoch.
            timeout_seconds: how long to wait.

        Raises:
            StreamingError: there was none in time.
        """
        for _ in looks(timeout_seconds):
            for event in self.events():
                if event.time > after and (event.name, event.kind) == (name, kind):
                    return event
        raise StreamingError(
            f"{name} had no event {kind!r} within {timeout_seconds:g} s; see {self._folder.events}"
        )

    def _checked(self, names: Iterable[str]) -> list[str]:
        """The names in the order in which they start; all when there are none."""
        given = list(names)
        unknown = [name for name in given if name not in self.names]
        if unknown:
            raise ConfigurationError(
                f"STACK={self.settings.stack!r} has no process {unknown[0]!r}; choose from {', '.join(self.names)}"
            )
        return [name for name in self.names if name in given or not given]

    def _missing(self, names: Sequence[str]) -> list[str]:
        return [name for name in names if self._control.process(name) is None]

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One command at a time changes the stack; the next one waits."""
        self._folder.run.mkdir(parents=True, exist_ok=True)
        with (self._folder.run / "command.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _running_settings(self) -> dict[str, str]:
        """The variables that the stack which runs was started with; none when nothing runs."""
        theirs: dict[str, str] | None = read_json(self._folder.settings)
        return theirs if theirs and any(map(self._control.process, self._folder.names())) else {}

    def _as_it_runs(self, settings: Settings) -> Settings:
        """The settings, with the monitoring of the stack that runs where they do not say."""
        if "monitoring" in settings.model_fields_set:
            return settings
        is_monitored = self._running_settings().get("MONITORING") == str(True)
        return settings.model_copy(update={"monitoring": True}) if is_monitored else settings

    def _refuse_other_settings(self) -> None:
        """What runs must have been started with the settings of now; what is started next will be."""
        mine = self.settings.environment()
        theirs = self._running_settings()
        if theirs:
            for variable, value in mine.items():
                if theirs.get(variable) != value:
                    raise ConfigurationError(
                        f"{variable}={value!r}, but the stack in {self._folder.root} runs with {theirs.get(variable)!r}; "
                        f"set {variable} to that, or run `scripts/stack down` first"
                    )
        write_json(self._folder.settings, mine)

    def _prepare(self, names: Sequence[str]) -> dict[str, Program]:
        """The programs of processes that do not run; nothing is started before every port was found free."""
        servers = [name for name in names if name in SERVERS]
        if servers:
            jars.check_programs(
                self.settings.jars_dir, (*SERVERS, *((jars.AGENT,) if self.settings.monitoring else ()))
            )
        if "prometheus" in names:
            check_prometheus()
        for name in names:
            check_ports(self._ports(name))
        return {name: self._program(name) for name in names}

    def _ports(self, name: str) -> dict[str, int]:
        """The ports that a process listens on, by the variable that gives each."""
        if name in SERVERS:
            return server_ports(self.settings, name)
        if name in MONITORS:
            return monitor_ports(self.settings, name)
        if name in engines_of(self.settings):
            return {"METRICS_PORT": page_port(self.settings, name)}
        return {"PRODUCER_METRICS_PORT": self.settings.producer_metrics_port}

    def _program(self, name: str) -> Program:
        if name in SERVERS:
            return server_program(name, self.settings, self._folder, self._report)
        if name == "prometheus":
            return prometheus_program(self.settings, self._folder)
        return self._service_program(name)

    def _service_program(self, name: str) -> Program:
        more, kind = {"PYTHONUNBUFFERED": "1", **self._environment}, name
        if self.settings.engines > 1 and name in engines_of(self.settings):
            kind = "replica"
            more |= {"REPLICA": name, "METRICS_PORT": str(page_port(self.settings, name))}
        return Program(
            name=name,
            command=tuple(self._commands[kind]),
            environment={**base_environment(), **self.settings.environment(), **more},
            log=str(self._folder.logs / f"{name}.log"),
            folder=str(REPOSITORY),
            ready_line=_READY_LINES.get(kind, ""),
        )

    def _start(self, programs: Sequence[Program], *, wait: bool = True) -> None:
        """Have the programs started side by side, and wait until each is at work."""
        began = time.monotonic()
        positions = {program.name: _size(Path(program.log)) for program in programs}
        for program in programs:
            self._report(f"{program.name}: starting")
            self._control.request(program)
        waiting = list(programs) if wait else []
        for _ in looks(_READY_SECONDS):
            for program in list(waiting):
                if self._is_ready(program, positions[program.name]):
                    waiting.remove(program)
                    seconds = round(time.monotonic() - began, 3)
                    self._events.append(program.name, "ready", seconds=seconds)
                    self._report(f"{program.name}: ready after {seconds:.1f} s")
            if not waiting:
                return
        raise StreamingError(
            f"{waiting[0].name} was not ready within {_READY_SECONDS:g} s; see {waiting[0].log}"
        )

    def _is_ready(self, program: Program, position: int) -> bool:
        """Whether a program is at work; raises when it will not be."""
        record = self._control.record(program.name)
        if record and record.state == State.REFUSED:
            raise ConfigurationError(f"{program.name}: {record.reason}")
        if record and (
            record.state in {State.DOWN, State.ENDED, State.STOPPED}
            or record.quick_deaths >= _HOPELESS_DEATHS
        ):
            raise StreamingError(
                f"{program.name}: {record.reason or 'it dies again and again'}; see {self._folder.logs / program.name}.log"
            )
        if program.name in SERVERS:
            return is_answering(program.name, self.settings)
        if program.name in MONITORS:
            return is_watching(program.name, self.settings)
        return has_said(Path(program.log), program.ready_line, position)

    def _initialise(self, wanted: Sequence[str]) -> None:
        """Make topics and schema, where this call has a part in it."""
        settings = self.settings
        if settings.stack == "embedded" or "kafka" in wanted:
            create_topics(settings)
        if settings.stack == "embedded":
            sqlite_schema.migrate(settings.results_path)
        elif "cassandra" in wanted:
            cassandra_schema.migrate(settings.cassandra_hosts, settings.cassandra_port, settings.keyspace)

    def _running(self, name: str) -> psutil.Process:
        self._checked([name])
        process = self._control.process(name)
        if process is None:
            raise ConfigurationError(f"{name} does not run; start it with `scripts/stack start {name}`")
        return process

    def _signal_tree(self, name: str, kind: str, number: signal.Signals) -> Event:
        process = self._running(name)
        event = self._events.append(name, kind, pid=process.pid)
        signal_tree(process, number)
        return event


def _size(log: Path) -> int:
    return log.stat().st_size if log.exists() else 0

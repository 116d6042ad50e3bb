"""The stack in containers as an object with the verbs of api.Stack: what the chaos drills do to it.

The containers are those of one compose project, whoever brought them up. A service of ours is killed from inside: Docker takes
`docker kill` for a wish and does not start it again, while a death from inside is one that the restart policy heals.
A server is killed from outside, and so it stays down until it is started.

A service's own container is never changed or made anew: where one has to be different for a while, a twin takes its place.

Owns: ComposeStack, project_of, settings_of.
Never: a change to the definition of a container.
"""

import signal
import time
from collections.abc import Callable, Iterable, Mapping

from engine.errors import ConfigurationError, StreamingError
from services.settings import Settings, compose_project
from tools.progress import ApiProgress
from tools.stack.control import looks
from tools.stack.docker import (
    Container,
    containers_of,
    docker,
    docker_logs,
    happenings,
    kill_inside,
    look,
    make_twin,
    signal_of,
)
from tools.stack.engines import engines_of, page_port
from tools.stack.events import Event, EventLog
from tools.stack.folder import read_json
from tools.stack.programs import State
from tools.stack.ready import is_answering, is_healthy

SERVERS = ("kafka", "cassandra")
NETWORK = "data"
"""The one network on which the services meet; published ports lie on others, so they outlive a cut."""

_TOLD_BY = {
    "engine": (
        *("KEYSPACE", "APP", "JOBS", "MASTER", "ENGINES", "BATCH_SECONDS", "MAX_RATE_PER_PARTITION"),
        *("BACKPRESSURE", "INITIAL_RATE", "TASK_TIMEOUT"),
    ),
    "producer": ("AD_RATE", "PAGE_RATE", "SEED", "AD_PARTITIONS", "PAGE_PARTITIONS"),
}
"""By service the variables that its container tells, when they were set."""
_PORTS = (
    ("kafka", 9092, "KAFKA_PORT"),
    ("cassandra", 9042, "CASSANDRA_PORT"),
    ("engine", 19108, "METRICS_PORT"),
)
"""Service, its port inside the container, and the variable of the port that the host publishes for it."""
_READY_SECONDS = 180.0
_LOOK_SECONDS = 0.1
_TOLD_SECONDS = 1.0
"""A service that was at work sooner is not told of."""


def project_of(settings: Settings) -> str:
    """The compose project: the running one's marker tells it, else the variable, else the name in docker-compose.yml."""
    known = read_json(settings.data_dir / "compose")
    if known:
        return str(known["project"])
    return compose_project()


def settings_of(project: str, settings: Settings) -> Settings:
    """The settings that the containers of a project run with, ports as the host publishes them.

    Args:
        project: the compose project.
        settings: give DATA_DIR, and whatever the containers do not tell.
    """
    told: dict[str, str] = {}
    containers = {container.name: container for container in containers_of(project)}
    for name, variables in _TOLD_BY.items():
        if name in containers:
            environment = containers[name].environment
            told |= {variable: environment[variable] for variable in variables if environment.get(variable)}
    for name, inside, variable in _PORTS:
        if name in containers and inside in containers[name].ports:
            told[variable] = str(containers[name].ports[inside])
    told |= {"KAFKA_BOOTSTRAP": f"127.0.0.1:{told.get('KAFKA_PORT', settings.kafka_port)}"}
    return Settings.model_validate({**settings.environment(), **told, "CASSANDRA_HOSTS": "127.0.0.1"})


class ComposeStack:
    """The containers of one compose project.

    Args:
        settings: of the stack; its ports are those that the host publishes.
        project: its compose project; found by DATA_DIR when not given.
        report: is told in a line what happens.
    """

    def __init__(
        self, settings: Settings, *, project: str = "", report: Callable[[str], None] = lambda _: None
    ) -> None:
        self.settings = settings
        self.project = project or project_of(settings)
        self._report = report
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        self._log = settings.data_dir / "events.jsonl"
        self._events = EventLog(self._log)
        self._ids: dict[str, str] = {}

    # Starting and ending.

    def up(self, names: Iterable[str] = ()) -> None:
        """See that the containers run, start those that are stopped, and return when all of them are at work.

        Raises:
            ConfigurationError: the project has no containers; they are made by `make up`.
            StreamingError: one was not at work in time.
        """
        wanted = set(names)
        began = time.monotonic()
        for container in self._lasting():
            if not wanted or container.name in wanted:
                if container.state == State.PAUSED:
                    self.resume(container.name)
                elif container.state in {State.DOWN, State.ENDED, State.STOPPED}:
                    self.start(container.name, wait=False)
                self._await_ready(container.name)
        self._report(f"all services are at work after {time.monotonic() - began:.1f} s")

    def start(self, name: str, environment: Mapping[str, str] | None = None, *, wait: bool = True) -> None:
        """Start one container that does not run.

        Raises:
            ConfigurationError: it would need other variables, which containers do not get after they were made.
            StreamingError: it was not at work in time.
        """
        if environment:
            raise ConfigurationError(f"the container of {name} cannot get other variables; make it anew")
        container = self.container(name)
        if container.state not in {State.RUNNING, State.PAUSED}:
            docker("start", container.id)
            self._events.append(name, "start", pid=self.container(name).pid)
        if wait:
            self._await_ready(name)

    def down(self, *, wipe: bool = False) -> None:
        """Remove containers and networks; volumes stay unless they are wiped."""
        more = ["--volumes"] if wipe else []
        docker("compose", "--project-name", self.project, "down", "--remove-orphans", *more)
        self._ids.clear()

    # Breaking and mending.

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> Event:
        """Signal the first process of a service; SIGKILL to one of ours comes from inside, so its restart policy heals it.

        After a server's SIGKILL it returns when the container has ended.

        Raises:
            ConfigurationError: it does not run.
        """
        container = self._running(name)
        if number == signal.SIGKILL and name not in SERVERS:
            at = kill_inside(container.id)
            return self._events.append_at(at, name, "kill", pid=container.pid, signal=number.name)
        event = self._events.append(name, "kill", pid=container.pid, signal=number.name)
        docker("kill", "--signal", number.name, container.id)
        return event

    def pause(self, name: str) -> Event:
        """Freeze every process of a container."""
        container = self._running(name)
        event = self._events.append(name, "pause", pid=container.pid)
        docker("pause", container.id)
        return event

    def resume(self, name: str) -> Event:
        """Let a frozen container go on."""
        container = self._running(name)
        event = self._events.append(name, "resume", pid=container.pid)
        docker("unpause", container.id)
        return event

    def cut(self, name: str) -> Event:
        """Take a container off the network on which the services meet."""
        event = self._events.append(name, "cut", pid=self._running(name).pid)
        docker("network", "disconnect", self.network, self._running(name).id)
        return event

    def join(self, name: str, *aliases: str) -> Event:
        """Put a container back on that network.

        Args:
            name: of the service.
            aliases: names by which the others find it; its own when there are none.
        """
        container = self.container(name)
        if self.network in container.networks:
            docker("network", "disconnect", self.network, container.id)
        options = [f"--alias={alias}" for alias in aliases or (name,)]
        docker("network", "connect", *options, self.network, container.id)
        return self._events.append(name, "join", pid=container.pid)

    def stop(self, name: str) -> Event:
        """End a container by SIGTERM and wait until it has ended; it stays so until `start`."""
        container = self.container(name)
        event = self._events.append(name, "stop", pid=container.pid)
        docker("stop", container.id)
        return event

    def replace(self, name: str, volumes: Mapping[str, str]) -> None:
        """Put a twin with other volumes in the place of a stopped container; `start` starts it."""
        make_twin(self.container(name).id, self._twin(name), volumes)
        self._ids.clear()

    def restore(self, name: str) -> None:
        """Remove the twin, if there is one; the service's own container is there again, and stopped."""
        if self.has_container(self._twin(name)):
            docker("rm", "--force", self._twin(name))
        self._ids.clear()

    def _twin(self, name: str) -> str:
        return f"{self.project}-{name}-twin"

    @staticmethod
    def has_container(full_name: str) -> bool:
        """Whether there is a container of this name."""
        return bool(docker("ps", "--all", "--quiet", "--filter", f"name=^{full_name}$").strip())

    @property
    def network(self) -> str:
        """The network on which the services meet."""
        return f"{self.project}_{NETWORK}"

    # Looking.

    def said(self, name: str, after: float) -> str:
        """The log of a container since a moment, in seconds since the epoch."""
        return docker_logs(self.container(name).id, after)

    @property
    def names(self) -> tuple[str, ...]:
        """The services that run on, one-shots left out."""
        return tuple(container.name for container in self._lasting())

    def status(self) -> list[Container]:
        """How each container stands, one-shots left out."""
        return self._lasting()

    def container(self, name: str) -> Container:
        """How one container stands.

        Raises:
            ConfigurationError: the project has none of this service.
        """
        if name not in self._ids:
            self._lasting()
        if name not in self._ids:
            raise ConfigurationError(
                f"project {self.project!r} has no container of {name!r}; it has {', '.join(self._ids)}"
            )
        return look([self._ids[name]])[0]

    def events(self) -> list[Event]:
        """What was done and seen, oldest first; a death or restart is written when somebody looks for it."""
        return self._events.read()

    def wait_for(self, name: str, kind: str, *, after: float, timeout_seconds: float = 60.0) -> Event:
        """The first event of a kind, waited for; deaths and restarts are learnt from the container, with Docker's times.

        Raises:
            StreamingError: there was none in time.
        """
        for _ in looks(timeout_seconds, _LOOK_SECONDS):
            self._learn(self.container(name), after)
            for event in self.events():
                if event.time > after and (event.name, event.kind) == (name, kind):
                    return event
        raise StreamingError(f"{name} had no event {kind!r} within {timeout_seconds:g} s; see {self._log}")

    def _learn(self, container: Container, after: float) -> None:
        """Write down what Docker knows of later than this, each thing once; a start after a death is a restart."""
        name, known = container.name, {(event.name, event.kind, event.time) for event in self.events()}
        has_died = False
        for happening in happenings(container.id, after):
            is_death = happening.kind == "death"
            kind = "restart" if has_died and not is_death else happening.kind
            has_died = has_died or is_death
            moment = round(happening.time, 4)
            if (name, kind, moment) in known:
                continue
            if is_death:
                code = happening.exit_code
                # Docker does not tell which process died: the pid of the restart shows that it is another one.
                facts = {"exit_code": code, "signal": signal_of(code)}
            else:
                facts = {"pid": container.pid, "restarts": container.restarts}
            self._events.append_at(moment, name, kind, **facts)

    def _lasting(self) -> list[Container]:
        lasting = [container for container in containers_of(self.project) if container.is_lasting]
        # A twin hides the container whose place it takes.
        found = list(
            {container.name: container for container in sorted(lasting, key=lambda one: one.is_twin)}.values()
        )
        if not found:
            raise ConfigurationError(
                f"project {self.project!r} has no containers; run `make up`, or use STACK=processes"
            )
        self._ids = {container.name: container.id for container in found}
        return found

    def _running(self, name: str) -> Container:
        container = self.container(name)
        if container.pid is None:
            raise ConfigurationError(f"{name} does not run ({container.reason}); start it with `make up`")
        return container

    def _await_ready(self, name: str) -> None:
        """Return when a server answers, the engine tells its progress, or anything else runs."""
        engines = engines_of(self.settings)
        began = time.monotonic()
        for _ in looks(_READY_SECONDS, _LOOK_SECONDS):
            if name in SERVERS:
                is_ready = is_answering(name, self.settings)
            elif name in engines and len(engines) > 1:
                is_ready = is_healthy(page_port(self.settings, name))
            elif name in engines:
                is_ready = ApiProgress([self.settings.metrics_port]).epoch() > 0
            else:
                is_ready = self.container(name).state == State.RUNNING
            if is_ready:
                if (seconds := time.monotonic() - began) > _TOLD_SECONDS:
                    self._report(f"{name}: at work after {seconds:.1f} s")
                return
        raise StreamingError(
            f"{name} was not at work within {_READY_SECONDS:g} s; see `docker compose logs {name}`"
        )

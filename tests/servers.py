"""A pytest plugin: one real Kafka and one real Cassandra for the whole session, started when the first test asks for them.

A test that uses them is marked `servers`. It may kill a server, also without starting it again: after each such test whatever
is down is started, on the same data. Where Java or Maven is missing these tests do not run, and pytest's closing section says
which package is missing and how many tests that cost.

Owns: the fixtures servers_stack, kafka_server, cassandra_server, fresh_topic.
Never: the ports and the data folder of `scripts/stack`.
"""

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from services.cassandra.migrate import migrate
from services.settings import Settings, load_settings
from services.topics import Topic, create_kafka_topics
from tests.closing import is_held_back, keep_back
from tests.ports import free_ports
from tools.stack import jars
from tools.stack.api import SERVERS, Stack
from tools.stack.programs import State

_STACK = pytest.StashKey[Stack]()


@dataclass(frozen=True, slots=True)
class Server:
    """One of the two servers, as a test may treat it."""

    stack: Stack
    name: str

    def kill(self) -> None:
        """End it with SIGKILL; returns when it is gone."""
        self.stack.kill(self.name)

    def start(self) -> None:
        """Start it again on its data; returns when it answers."""
        self.stack.start(self.name)


@dataclass(frozen=True, slots=True)
class KafkaServer(Server):
    """The session's Kafka."""

    @property
    def bootstrap(self) -> str:
        """Its address, "HOST:PORT"."""
        return self.stack.settings.kafka_bootstrap


@dataclass(frozen=True, slots=True)
class CassandraServer(Server):
    """The session's Cassandra."""

    @property
    def hosts(self) -> tuple[str, ...]:
        """Contact points."""
        return self.stack.settings.cassandra_hosts

    @property
    def port(self) -> int:
        """Of CQL."""
        return self.stack.settings.cassandra_port

    def keyspace(self) -> str:
        """The name of a new keyspace with the newest schema."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        migrate(self.hosts, self.port, name)
        return name


@pytest.fixture(scope="session")
def servers_stack(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """A stack of its own with both servers running, on free ports, its data in pytest's folder."""
    missing = jars.missing_programs(load_settings().jars_dir)
    if missing:
        pytest.skip(f"needs {' and '.join(missing)}")
    ports = free_ports(6)
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("servers"),
        jars_dir=load_settings().jars_dir,
        kafka_port=ports[0],
        kafka_controller_port=ports[1],
        cassandra_port=ports[2],
        cassandra_storage_port=ports[3],
        cassandra_jmx_port=ports[4],
        metrics_port=ports[5],
    )
    stack = Stack(settings, is_tied=True)
    try:
        stack.up(SERVERS)
        request.config.stash[_STACK] = stack
        yield stack
    finally:
        if _STACK in request.config.stash:
            del request.config.stash[_STACK]
        # The logs of a session with failures stay.
        stack.down(wipe=not request.session.testsfailed)


@pytest.fixture(scope="session")
def kafka_server(servers_stack: Stack) -> KafkaServer:
    """The session's Kafka: bootstrap, kill(), start()."""
    return KafkaServer(servers_stack, "kafka")


@pytest.fixture(scope="session")
def cassandra_server(servers_stack: Stack) -> CassandraServer:
    """The session's Cassandra: hosts, port, keyspace(), kill(), start()."""
    return CassandraServer(servers_stack, "cassandra")


@pytest.fixture(scope="session")
def fresh_topic(kafka_server: KafkaServer) -> Callable[[int], str]:
    """A function that makes a new topic with so many partitions and returns its name."""

    def make(partitions: int) -> str:
        topic = Topic(f"test-{uuid.uuid4().hex[:12]}", partitions)
        create_kafka_topics(kafka_server.bootstrap, [topic])
        return topic.name

    return make


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the tests that cannot run from failing, and remember them for the closing section."""
    missing = jars.missing_programs(load_settings().jars_dir)
    if missing:
        unable = [item for item in items if item.get_closest_marker("servers")]
        remedy = f"{' and '.join(missing)} not found; install {jars.packages(missing)}"
        keep_back(config, unable, "real servers", remedy)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Fetch the servers' jars before the first test, whose time limit would else hold for the download."""
    wanted = any(
        item.get_closest_marker("servers") and not is_held_back(session.config, item)
        for item in session.items
    )
    if wanted and not session.config.option.collectonly:
        for server in SERVERS:
            jars.fetch(load_settings().jars_dir, server, print)


def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Start again what a test has left down."""
    stack = item.config.stash.get(_STACK, None)
    if stack is None or not item.get_closest_marker("servers"):
        return
    servers = [status for status in stack.status() if status.name in SERVERS]
    for status in servers:
        if status.state == State.PAUSED:
            stack.resume(status.name)
    down = [status.name for status in servers if status.pid is None]
    if down:
        stack.up(down)

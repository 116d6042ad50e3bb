"""How Kafka and Cassandra are started: their configuration filled in, their command, their first data folder.

With MONITORING=true each gets the agent that exports its own metrics.

Owns: server_program, server_ports.
Never: a wait; whether a server answers is ready.py's question.
"""

import base64
import uuid
from collections.abc import Callable
from pathlib import Path
from string import Template

from services.settings import REPOSITORY, Settings, base_environment
from tools.stack import jars
from tools.stack.folder import Folder
from tools.stack.programs import Program

_TEMPLATES = REPOSITORY / "services" / "servers"
_FILES = {
    "kafka": ("server.properties", "kafka.jvm.options"),
    "cassandra": ("cassandra.yaml", "cassandra.jvm.options"),
}
_LOG_FILES = {"kafka": "log4j2.yaml", "cassandra": "logback.xml"}
"""Copied as they are: their own dollar signs are system properties."""
_GRACE_SECONDS = 40.0
_AGENT_FILES = REPOSITORY / "services" / "prometheus" / "jmx"
# Without these the JVM writes no class data archive beside an agent, not even one that changes no class, as this one.
_AGENT_OPTIONS = ("-XX:+UnlockDiagnosticVMOptions", "-XX:+AllowArchivingWithJavaAgent")


def server_ports(settings: Settings, server: str) -> dict[str, int]:
    """The ports that a server listens on, by the variable that gives each; the one that clients use comes first."""
    if server == "kafka":
        ports = {"KAFKA_PORT": settings.kafka_port, "KAFKA_CONTROLLER_PORT": settings.kafka_controller_port}
    else:
        ports = {
            "CASSANDRA_PORT": settings.cassandra_port,
            "CASSANDRA_STORAGE_PORT": settings.cassandra_storage_port,
            "CASSANDRA_JMX_PORT": settings.cassandra_jmx_port,
        }
    return ports | (_agent_port(server, settings) if settings.monitoring else {})


def server_program(server: str, settings: Settings, folder: Folder, report: Callable[[str], None]) -> Program:
    """A server as a program, with its jars fetched and its configuration written.

    Args:
        server: kafka or cassandra.
        settings: of the stack.
        folder: of the stack; gets conf/ and the server's data folder.
        report: is told when jars are fetched.

    Raises:
        StreamingError: the jars cannot be fetched.
    """
    class_path = jars.fetch(settings.jars_dir, server, report)
    data = folder.root / server
    data.mkdir(exist_ok=True)
    options = _fill_in(server, settings, folder)
    if settings.monitoring:
        options += _agent(server, settings, report)
    archive, archive_options = jars.archive_of(settings.jars_dir, server, options)
    draft = archive_options[0].partition("=")[2]
    main = ["org.apache.cassandra.service.CassandraDaemon"]
    if server == "kafka":
        _format(data)
        main = ["kafka.Kafka", str(folder.conf / "server.properties")]
    return Program(
        name=server,
        command=("java", *options, *archive_options, "-cp", ":".join(map(str, class_path)), *main),
        environment=base_environment(),
        log=str(folder.logs / f"{server}.out"),
        folder=str(folder.logs),
        restarts=False,
        grace_seconds=_GRACE_SECONDS,
        keep=None if draft == str(archive) else (draft, str(archive)),
    )


def _fill_in(server: str, settings: Settings, folder: Folder) -> list[str]:
    """Write the server's configuration; returns the options of its JVM."""
    names = settings.environment() | {
        "DIRECTORY": str(folder.root / server),
        "CONF_URI": folder.conf.as_uri(),
        "LOGS": str(folder.logs),
    }
    for name in _FILES[server]:
        (folder.conf / name).write_text(Template((_TEMPLATES / name).read_text()).substitute(names))
    log_file = _LOG_FILES[server]
    (folder.conf / log_file).write_text((_TEMPLATES / log_file).read_text())
    lines = (folder.conf / f"{server}.jvm.options").read_text().splitlines()
    return [line for line in lines if line.startswith("-")]


def _agent_port(server: str, settings: Settings) -> dict[str, int]:
    if server == "kafka":
        return {"KAFKA_METRICS_PORT": settings.kafka_metrics_port}
    return {"CASSANDRA_METRICS_PORT": settings.cassandra_metrics_port}


def _agent(server: str, settings: Settings, report: Callable[[str], None]) -> list[str]:
    """The options that load the agent."""
    jar = jars.fetch_agent(settings.jars_dir, report)
    (port,) = _agent_port(server, settings).values()
    return [*_AGENT_OPTIONS, f"-javaagent:{jar}=127.0.0.1:{port}:{_AGENT_FILES / server}.yml"]


def _format(data: Path) -> None:
    """Give an empty data folder its identity, as `kafka-storage format` does, without the two seconds of a JVM.

    The file is Kafka's meta.properties, version 1; a node without a bootstrap record starts with its own newest features.
    """
    identity = data / "meta.properties"
    if not identity.exists():
        lines = ("version=1", f"cluster.id={_kafka_uuid()}", "node.id=1", f"directory.id={_kafka_uuid()}")
        draft = data / ".meta.properties"
        draft.write_text("\n".join(lines) + "\n")
        draft.replace(identity)


def _kafka_uuid() -> str:
    """128 random bits in Kafka's spelling; one that begins with a hyphen would look like an option to its tools."""
    text = "-"
    while text.startswith("-"):
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
    return text

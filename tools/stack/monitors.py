"""What watches the pipeline when MONITORING=true: Prometheus with its configuration, and the verifier.

Owns: MONITORS, monitor_ports, check_prometheus, has_prometheus, prometheus_program, is_watching.
Never: a rule or a scrape interval; those are in services/prometheus/.
"""

import json
import shutil
import urllib.error
import urllib.request

from engine.errors import ConfigurationError
from services.settings import REPOSITORY, Settings, base_environment
from tools.stack.engines import engines_of, page_port
from tools.stack.folder import Folder
from tools.stack.programs import Program

MONITORS = ("verifier", "prometheus")
"""In the order in which they start."""

PACKAGE = "prometheus"
"""Debian's package, which has promtool as well."""

_CONFIGURATION = REPOSITORY / "services" / "prometheus"
_RETENTION = ("--storage.tsdb.retention.time=2d", "--storage.tsdb.retention.size=512MB")
_ASK_SECONDS = 1.0
_READY_PATHS = {"verifier": "/metrics", "prometheus": "/-/ready"}


def monitor_ports(settings: Settings, name: str) -> dict[str, int]:
    """The port that a monitor listens on, by the variable that gives it."""
    if name == "verifier":
        return {"VERIFIER_METRICS_PORT": settings.verifier_metrics_port}
    return {"PROMETHEUS_PORT": settings.prometheus_port}


def has_prometheus() -> bool:
    """Whether Prometheus is installed."""
    return shutil.which("prometheus") is not None


def check_prometheus() -> None:
    """Prove that Prometheus can be started on this machine.

    Raises:
        ConfigurationError: it is not installed.
    """
    if not has_prometheus():
        raise ConfigurationError(
            f"MONITORING='True' needs prometheus, not found on PATH; install it (Debian: apt-get install {PACKAGE}) "
            "or set MONITORING=false"
        )


def prometheus_program(settings: Settings, folder: Folder) -> Program:
    """Prometheus as a program, with its configuration, rules and targets written.

    Args:
        settings: of the stack.
        folder: of the stack; gets conf/prometheus/ and prometheus/, its data.
    """
    conf = folder.conf / "prometheus"
    shutil.rmtree(conf, ignore_errors=True)
    (conf / "targets").mkdir(parents=True)
    shutil.copy(_CONFIGURATION / "prometheus.yml", conf)
    shutil.copytree(_CONFIGURATION / "rules", conf / "rules")
    (conf / "targets" / "stack.json").write_text(json.dumps(_targets(settings), indent=2) + "\n")
    address = f"127.0.0.1:{settings.prometheus_port}"
    return Program(
        name="prometheus",
        command=(
            shutil.which("prometheus") or "prometheus",
            f"--config.file={conf / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder.root / 'prometheus'}",
            *_RETENTION,
            f"--web.listen-address={address}",
            f"--web.external-url=http://{address}/",
            "--log.level=warn",
        ),
        environment=base_environment(),
        log=str(folder.logs / "prometheus.log"),
        folder=str(folder.logs),
    )


def is_watching(name: str, settings: Settings) -> bool:
    """Whether a monitor answers."""
    (port,) = monitor_ports(settings, name).values()
    try:
        with urllib.request.urlopen(
            f"http://127.0.0.1:{port}{_READY_PATHS[name]}", timeout=_ASK_SECONDS
        ) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def _targets(settings: Settings) -> list[dict[str, object]]:
    """Who is scraped, in the form of Prometheus' file_sd: each with its service's name as a label."""
    ports = {
        "engine": [page_port(settings, name) for name in engines_of(settings)],
        "producer": [settings.producer_metrics_port],
        "verifier": [settings.verifier_metrics_port],
        "prometheus": [settings.prometheus_port],
    }
    if settings.stack == "processes":
        ports |= {"kafka": [settings.kafka_metrics_port], "cassandra": [settings.cassandra_metrics_port]}
    return [
        {"targets": [f"127.0.0.1:{port}" for port in of_service], "labels": {"service": service}}
        for service, of_service in ports.items()
    ]

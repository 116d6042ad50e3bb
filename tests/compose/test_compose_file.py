"""The stack's invariants, from its files alone: these tests need no Docker and run in a second."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from tests.compose.model import CHECKS, ROOT, Stack, read_stack

Check = Callable[[Stack], Iterator[str]]
CHECK_OF = {check.__name__: check for check in CHECKS}

MUTANTS: tuple[tuple[str, str, str, str], ...] = (
    # check, text of docker-compose.yml, what stands in its place, a part of the fault
    ("pins", "apache/kafka:4.3.1", "apache/kafka:latest", "is not an exact tag"),
    ("pins", "cassandra:5.0.9", "cassandra", "is not an exact tag"),
    ("pins", "cassandra:5.0.9", "cassandra:5.0.8", "services/servers/pom.xml"),
    ("pins", "prom/prometheus:v3.13.1", "prom/prometheus:v3.13", "is not an exact tag"),
    ("pins", "dstreams:0.1.0", "dstreams:0.0.9", "the project has version"),
    ("gates", "test:\n        - CMD", "tests:\n        - CMD", "kafka has no health check"),
    (
        "gates",
        "- bash\n        - -c",
        "- nc\n        - -z",
        "kafka: its health check is content with an open port",
    ),
    ("gates", "19108/healthz", "19108/metrics", "engine: its health check is content with a thread"),
    ("gates", "19109/healthz", "19109/metrics", "producer: its health check is content with a thread"),
    ("gates", "19110/healthz", "19110/metrics", "verifier: its health check is content with a thread"),
    (
        "gates",
        "kafka: {condition: service_healthy}",
        "kafka: {condition: service_started}",
        "service_started",
    ),
    ("gates", "agent: {condition: service_completed_successfully}", "agent: {}", "waits for None"),
    ("gates", "      prometheus: {condition: service_healthy}", "      {}", "grafana uses prometheus"),
    (
        "adoption",
        "migrate: {condition: service_completed_successfully}",
        "migrate: {}",
        "nobody waits for migrate",
    ),
    ("memory", "mem_limit: 32m", "cpus: 1", "agent has no mem_limit"),
    ("memory", "-Xmx384m", "-Xmx600m", "a heap of 600"),
    ("memory", "MAX_HEAP_SIZE: 512M", "MAX_HEAP_SIZE: 1536M", "a heap of 1664"),
    ("memory", "HEAP_NEWSIZE: 128M", "HEAP: 128M", "HEAP_NEWSIZE"),
    ("memory", "mem_limit: 1024m", "mem_limit: 2g", "light stack add up"),
    ("memory", "mem_limit: 512m", "mem_limit: 2g", "full stack add up"),
    ("memory", "mem_limit: 320m", "mem_limit: 512m", "verify beside the light stack"),
    ("memory", "/opt/kafka/logs:size=4m", "/opt/kafka/logs:size=64m", "a tmpfs of 130 MiB"),
    ("scratch", "size=16m,mode=1777", "mode=1777", "a tmpfs without a size"),
    ("scratch", "size=16m,mode=1777", "size=300m,mode=1777", "prometheus: its tmpfs may take"),
    ("hardening", 'user: "999:999"', 'user: "0:0"', "cassandra: user"),
    ("hardening", 'user: "10001:10001"', "", "engine: user"),
    ("hardening", "cap_drop: [ALL]", "cap_drop: [NET_RAW]", "cap_drop"),
    ("hardening", "mem_limit: 768m", "mem_limit: 768m\n    cap_add: [SYS_ADMIN]", "kafka: cap_add"),
    ("hardening", "mem_limit: 768m", "mem_limit: 768m\n    privileged: true", "kafka: privileged"),
    ("hardening", "mem_limit: 768m", "mem_limit: 768m\n    read_only: false", "kafka: read_only"),
    ("hardening", "no-new-privileges:true", "label:disable", "security_opt"),
    ("state", "kafka-data:/var/lib/kafka/data", "./data:/var/lib/kafka/data", "on no named volume"),
    (
        "state",
        "checkpoints:/var/lib/dstreams/checkpoints",
        "checkpoints:/checkpoints",
        "engine: /var/lib/dstreams",
    ),
    ("state", "KAFKA_LOG_DIRS: /var/lib/kafka/data", "KAFKA_LOG_DIRS: /tmp/logs", "KAFKA_LOG_DIRS"),
    ("state", "DATA_DIR: /var/lib/dstreams", "DATA_DIR: /data", "engine: DATA_DIR"),
    ("state", "path=/prometheus", "path=/data", "prometheus: its storage"),
    ("state", "commitlog_sync=batch", "commitlog_sync=periodic", "commitlog_sync"),
    (
        "state",
        '      - "/etc/kafka/secrets:size=1m,mode=0755"\n',
        "",
        "nothing is mounted on /etc/kafka/secrets",
    ),
    ("ports", '"127.0.0.1:${KAFKA_PORT:-19092}:9092"', '"${KAFKA_PORT:-19092}:9092"', "kafka:"),
    ("ports", '"127.0.0.1:${GRAFANA_PORT:-13000}:3000"', '"127.0.0.1:13000:3000"', "grafana:"),
    ("ports", "networks: [pages]", "networks: [data]", "grafana publishes a port"),
    ("networks", "internal: true", "internal: false", "data is not internal"),
    ("networks", 'enable_ip_masquerade: "false"', 'enable_ip_masquerade: "true"', "has a way out"),
    ("networks", "networks: [pages]\n", "labels: []\n", "grafana is on the default network"),
    ("networks", "networks: [data, pages]", "networks: [data, servers]", "engine is on the network servers"),
    ("operation", 'options: {max-size: 10m, max-file: "3"}', "", "grows without end"),
    ("scratch", "size=64m,mode=1777,exec", "size=64m,mode=1777", "kafka: Java cannot map"),
    ("scratch", "-Xlog:disable ", "", "cassandra: logs of the collector"),
    ("scratch", "SYSTEMLOG|ASYNCDEBUGLOG", "SYSTEMLOG", "cassandra: its log files"),
    ("scratch", "agent:/mnt/shared/config:ro,nocopy", "agent:/mnt:ro", "kafka: its log files"),
    ("operation", "restart: unless-stopped", "restart: always", "restart is 'always'"),
    ("operation", "stop_grace_period: 40s", "scale: 1", "kafka has no stop_grace_period"),
    ("operation", "mem_limit: 768m", "mem_limit: 768m\n    container_name: kafka", "fixed container_name"),
    ("operation", "pull_policy: never", "pull_policy: missing", "must be never"),
    ("operation", "profiles: [tools]", "profiles: [tools]\n    build: .", "build the same image"),
    ("age", "retries: 5", "retries: 5\n      start_interval: 1s", "start_interval is newer"),
    ("age", "context: .", "context: .\n      pull: true", "pull is newer"),
    ("age", "networks: [pages]", "networks: {pages: {gw_priority: 1}}", "gw_priority is newer"),
)


@pytest.fixture(scope="module")
def stack() -> Stack:
    """The files of this repository."""
    return read_stack()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_stack_holds_its_invariants(check: Check, stack: Stack) -> None:
    """No check finds a fault in the stack's files."""
    assert list(check(stack)) == []


@pytest.mark.parametrize(("name", "old", "new", "fault"), MUTANTS, ids=lambda text: text[:40])
def test_each_check_finds_its_fault(name: str, old: str, new: str, fault: str, stack: Stack) -> None:
    """A compose file with a fault in it is refused by the check that is there for it."""
    assert old in stack.compose_text
    mutant = replace(stack, compose_text=stack.compose_text.replace(old, new))

    assert any(fault in found for found in CHECK_OF[name](mutant)), list(CHECK_OF[name](mutant))


@pytest.mark.parametrize(
    ("name", "old", "new", "fault"),
    [
        ("pins", "python:3.11-slim-bookworm", "python:slim", "PYTHON_IMAGE"),
        ("pins", "python:3.11-slim-bookworm", "python:3.12-slim-bookworm", "PYTHON_IMAGE"),
        ("pins", "FROM ${DEBIAN_IMAGE}", "FROM debian", "FROM debian"),
        ("state", "chown -R 10001:10001", "chown -R root", "does not belong"),
        ("state", "chmod -R a+rX /app", "true", "under a strict umask"),
        ("age", "COPY --from=agent", "COPY --link --from=agent", "needs BuildKit"),
        ("age", "# The one image", "# syntax=docker/dockerfile:1\n# The one image", "needs BuildKit"),
    ],
)
def test_each_check_of_the_dockerfile_finds_its_fault(
    name: str, old: str, new: str, fault: str, stack: Stack
) -> None:
    """A Dockerfile with a fault in it is refused by the check that is there for it."""
    assert old in stack.dockerfile
    mutant = replace(stack, dockerfile=stack.dockerfile.replace(old, new))

    assert any(fault in found for found in CHECK_OF[name](mutant))


def test_every_check_has_a_mutant() -> None:
    """No check is without a proof that it can fail."""
    assert {name for name, *_ in MUTANTS} == set(CHECK_OF)


def test_engine_has_more_time_to_stop_than_its_last_batch_takes(stack: Stack) -> None:
    """Docker waits longer for the engine than the engine waits for its running batch."""
    main = (ROOT / "services/pipeline/main.py").read_text()
    drain = int(main.partition("DRAIN_SECONDS = ")[2].split()[0])

    assert int(stack.services["engine"]["stop_grace_period"].removesuffix("s")) > drain


def test_kafka_has_the_settings_of_plain_processes(stack: Stack) -> None:
    """What services/servers/server.properties sets for its own reasons, the container sets too."""
    properties = dict(
        line.split("=", 1)
        for line in (ROOT / "services/servers/server.properties").read_text().splitlines()
        if "=" in line and not line.startswith("#")
    )
    own = ("listener", "controller", "log.dirs", "inter.broker", "process.roles", "node.id")
    variables = stack.environment("kafka")

    for name, value in properties.items():
        if not any(part in name for part in own):
            assert variables.get("KAFKA_" + name.upper().replace(".", "_")) == value, name


@pytest.mark.skipif(not shutil.which("docker"), reason="docker is not installed")
@pytest.mark.parametrize("profile", ["light", "full", "tools"])
def test_compose_itself_accepts_the_file(profile: str) -> None:
    """`docker compose config` takes the file without a word."""
    done = subprocess.run(
        ["docker", "compose", "--profile", profile, "config", "--quiet"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")

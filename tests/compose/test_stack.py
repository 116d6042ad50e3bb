"""The stack in containers, for real, as `make up` leaves it: health, the verdict, the memory, rights and ways out, and what is held.

Its tests come first of all: the stack is fresh, and no drill has hit it.
"""

import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.compose.model import FULL_BYTES, LIGHT_BYTES, LONG_RUNNING, MIB, is_light, read_stack
from tests.compose.world import ComposeWorld, Grafana
from tests.grafana.boards_world import boards
from tests.ports import free_port
from tests.tools.stack_world import wait_until
from tools.stack.control import looks

pytestmark = [pytest.mark.compose, pytest.mark.slow, pytest.mark.timeout(1_200)]

Figures = Callable[[str], None]

VERIFIED_SECONDS = 60
"""How long after `make up` the verdict may take."""

HELD = ("kafka", "cassandra", "verifier", "prometheus", "grafana")
"""Their programs are held; engine and producer go on, and have nobody to work with."""

SIGNAL_PROGRAM = """
for stat in /proc/[0-9]*/stat; do
  read -r pid name state parent rest <"$stat" || continue
  if [ "$name" = "(java)" ] || [ "$parent" = 1 ]; then kill "-$0" "$pid" && hit=1; fi
done
[ -n "$hit" ] || { echo "there is no program under init" >&2; exit 1; }
"""
"""Runs inside a container: a signal, its argument, to the service's program and not to its init."""


def closing_line(text: str) -> dict[str, int]:
    """The figures of verify's verdict.

    Example:
        >>> closing_line("verify: windows=3 exact=3")
        {'windows': 3, 'exact': 3}
    """
    line = next(line for line in text.splitlines() if line.startswith("verify:"))
    return {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", line)}


def exact_verdict(world: ComposeWorld) -> dict[str, int]:
    """The figures of a verify that must be exact."""
    done = world.verify()
    assert done.returncode == 0, done.stdout + done.stderr
    return closing_line(done.stdout)


def test_make_up_leaves_everything_healthy(compose_stack: ComposeWorld, figures: Figures) -> None:
    """After `make up` every long-running service is healthy and every one-shot has ended well."""
    containers = compose_stack.found
    health = {name: (one["State"].get("Health") or {}).get("Status") for name, one in containers.items()}

    assert {name: health[name] for name in LONG_RUNNING} == dict.fromkeys(LONG_RUNNING, "healthy")
    assert [containers[name]["State"]["ExitCode"] for name in ("agent", "migrate")] == [0, 0]
    figures(f"make up, full, image and all: healthy after {compose_stack.seconds_to_health:.0f} s")


def test_verify_is_exact_within_a_minute(compose_stack: ComposeWorld, figures: Figures) -> None:
    """Within 60 s of the end of `make up`, `make verify` has ended too, has windows, and every one of them is exact."""
    began = time.monotonic()
    done = compose_stack.run("make", "verify", timeout_seconds=400)
    ended = time.monotonic()

    verdict = closing_line(done.stdout)
    assert done.returncode == 0, done.stdout
    assert 0 < verdict["windows"] == verdict["exact"]
    assert ended - compose_stack.healthy_at < VERIFIED_SECONDS
    figures(
        f"make verify in containers: {verdict['windows']} windows in {ended - began:.0f} s, "
        f"exact {ended - compose_stack.healthy_at:.0f} s after make up"
    )


def test_memory_is_below_the_sums(compose_stack: ComposeWorld, figures: Figures) -> None:
    """What the light and the full stack use is within 4 and 6 GB."""
    used = compose_stack.memory_mib()
    services = read_stack().services
    light = sum(used[name] for name in used if is_light(services[name]))
    full = sum(used.values())

    assert set(used) == set(LONG_RUNNING)
    assert light * MIB < LIGHT_BYTES
    assert full * MIB < FULL_BYTES
    each = ", ".join(f"{name} {used[name]:.0f}" for name in LONG_RUNNING)
    figures(f"memory by docker stats: light {light:.0f} MiB, full {full:.0f} MiB ({each})")


def test_pages_answer_on_loopback(compose_stack: ComposeWorld) -> None:
    """The published addresses serve: streaming page, metrics of all, Grafana's boards; Prometheus reaches every target."""
    assert b"<html" in compose_stack.get("METRICS_PORT", "/")
    for variable, metric in (
        ("METRICS_PORT", b"engine_records_total"),
        ("PRODUCER_METRICS_PORT", b"producer_events_total"),
        ("VERIFIER_METRICS_PORT", b"verify_runs_total"),
        ("KAFKA_METRICS_PORT", b"kafka_messages_in_total"),
        ("CASSANDRA_METRICS_PORT", b"cassandra_client_requests_total"),
    ):
        assert metric in compose_stack.get(variable, "/metrics")
    listed = json.loads(compose_stack.get("GRAFANA_PORT", "/api/search?type=dash-db"))
    assert {one["uid"] for one in listed} == {board["uid"] for board in boards().values()}

    def unreached() -> list[str]:
        answer = json.loads(compose_stack.get("PROMETHEUS_PORT", "/api/v1/targets"))
        targets = answer["data"]["activeTargets"]
        return [one["labels"]["service"] for one in targets if one["health"] != "up"] if targets else ["none"]

    for _ in looks(60, 1.0):
        if not unreached():
            break
    assert unreached() == []


@pytest.fixture
def grafana(compose_stack: ComposeWorld) -> Iterator[Grafana]:
    """A second Grafana of the stack that lets nobody look without the password, with a database of its own."""
    port = free_port()
    options = f"--rm --detach --no-deps --volume /var/lib/grafana --publish 127.0.0.1:{port}:3000".split()
    container = compose_stack.compose(
        "run", *options, "--env", "GF_AUTH_ANONYMOUS_ENABLED=false", "grafana"
    ).strip()
    try:
        yield Grafana(f"http://127.0.0.1:{port}")
    finally:
        compose_stack.run("docker", "rm", "--force", "--volumes", container)


def test_grafana_takes_the_provisioning_and_the_password(
    compose_stack: ComposeWorld, grafana: Grafana
) -> None:
    """A Grafana with our files has the data source and every board under its uid, and tells so to nobody but admin with the password."""
    folder = compose_stack.folder / "secrets"
    password = (folder / "grafana-password").read_text()
    assert re.fullmatch(r"[0-9a-f]{36}", password)
    assert folder.stat().st_mode & 0o777 == 0o700
    wait_until(lambda: grafana.status("/api/health") == 200, 60)
    listing = "/api/search?type=dash-db"
    wait_until(lambda: len(grafana.ask(listing, password)) == len(boards()), 60)

    found = {board["uid"]: board["title"] for board in grafana.ask(listing, password)}
    assert found == {board["uid"]: board["title"] for board in boards().values()}
    assert [source["uid"] for source in grafana.ask("/api/datasources", password)] == ["prometheus"]
    assert [
        grafana.status("/api/datasources", word) for word in (password, None, "admin", password[::-1])
    ] == [
        200,
        401,
        401,
        401,
    ]


def test_containers_have_no_rights_to_lose(compose_stack: ComposeWorld) -> None:
    """No process in any container is root, has a capability, can get one, or can write into its image."""
    probe = "grep -E '^(Uid|CapEff|CapBnd|NoNewPrivs):' /proc/1/status; touch /x 2>&1"
    for service in LONG_RUNNING:
        done = compose_stack.run(
            "docker", "compose", "--profile", "full", "exec", "-T", service, "sh", "-c", probe
        )
        facts = dict(line.split(":", 1) for line in done.stdout.splitlines() if "\t" in line)

        assert facts["Uid"].split()[0] != "0", service
        assert {int(facts[name], 16) for name in ("CapEff", "CapBnd")} == {0}, service
        assert facts["NoNewPrivs"].strip() == "1", service
        assert "Read-only file system" in done.stdout, service


def test_kafka_and_cassandra_serve_programs_on_the_host(compose_stack: ComposeWorld) -> None:
    """Both servers are reached from the host, and Cassandra keeps what it acknowledges."""
    for variable in ("KAFKA_PORT", "CASSANDRA_PORT"):
        socket.create_connection(("127.0.0.1", compose_stack.ports[variable]), timeout=10).close()
    query = "SELECT value FROM system_views.settings WHERE name = 'commitlog_sync'"

    assert "batch" in compose_stack.compose("exec", "-T", "cassandra", "cqlsh", "-e", query)


def leads_out(network: dict[str, Any]) -> bool:
    """Whether Docker translates addresses outward on a network, by what it says of it."""
    options = network["Options"] or {}
    return (
        not network["Internal"] and options.get("com.docker.network.bridge.enable_ip_masquerade") != "false"
    )


def test_no_container_has_a_way_out(compose_stack: ComposeWorld) -> None:
    """No network that any container is on leads outward, by the running networks themselves; Docker's own `bridge` does."""
    joined = {
        name
        for container in compose_stack.containers().values()
        for name in container["NetworkSettings"]["Networks"]
    }
    networks = {name: compose_stack.network(name) for name in joined - {"none"}}

    assert {name.removeprefix(f"{compose_stack.project}_") for name in networks} == {
        "data",
        "servers",
        "pages",
    }
    assert [name for name, network in networks.items() if leads_out(network)] == []
    assert leads_out(compose_stack.network("bridge"))
    assert {network["Driver"] for network in networks.values()} == {"bridge"}


def test_logs_go_to_docker_and_not_into_memory(compose_stack: ComposeWorld) -> None:
    """Kafka and Cassandra write what they log to standard output, and their folders of logs, which are memory, stay empty."""
    for service, folder, word in (
        ("kafka", "/opt/kafka/logs", "Kafka Server started"),
        ("cassandra", "/var/log/cassandra", "Startup complete"),
    ):
        kib = int(compose_stack.compose("exec", "-T", service, "du", "-sk", folder).split()[0])

        assert word in compose_stack.compose("logs", "--no-log-prefix", service)
        assert kib < 100, service


def test_service_that_does_nothing_is_unhealthy(compose_stack: ComposeWorld, figures: Figures) -> None:
    """A program that is held keeps its port, and one without its servers answers 503; each is unhealthy until it does its work again."""
    try:
        signal_all(compose_stack, "STOP")
        ill = turned(compose_stack, "unhealthy")
    finally:
        signal_all(compose_stack, "CONT")
    well = turned(compose_stack, "healthy")

    exact_verdict(compose_stack)
    assert all("503" in ill[name][1] for name in ("producer", "engine"))
    for word, found in (("held: unhealthy", ill), ("let go: healthy", well)):
        figures(f"{word} after " + ", ".join(f"{name} {found[name][0]:.0f} s" for name in LONG_RUNNING))


def signal_all(world: ComposeWorld, name: str) -> None:
    """A signal to the program of each service that is held."""
    for service in HELD:
        world.compose("exec", "-T", service, "sh", "-c", SIGNAL_PROGRAM, name)


def turned(world: ComposeWorld, wanted: str) -> dict[str, tuple[float, str]]:
    """By service the seconds until it had this state of health, and what its check then said; all must come to it."""
    found: dict[str, tuple[float, str]] = {}
    began = time.monotonic()
    for _ in looks(240, 0.5):
        for name, container in world.containers().items():
            if name in LONG_RUNNING and container["State"]["Health"]["Status"] == wanted:
                said = container["State"]["Health"]["Log"][-1]["Output"]
                found.setdefault(name, (time.monotonic() - began, said))
        if len(found) == len(LONG_RUNNING):
            return found
    raise AssertionError(f"{sorted(set(LONG_RUNNING) - set(found))} never became {wanted}")

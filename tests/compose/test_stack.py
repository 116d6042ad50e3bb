"""The stack in containers, for real: health, the verdict, a kill, the memory, and what stays when it is taken down.

The tests stand in an order: the last ones take the stack down and up again.
"""

import json
import re
import socket
import time
from collections.abc import Callable

import pytest

from tests.compose.model import FULL_BYTES, LIGHT_BYTES, LONG_RUNNING, MIB, is_light, read_stack
from tests.compose.world import ComposeWorld
from tools.stack.control import looks

pytestmark = [pytest.mark.compose, pytest.mark.slow, pytest.mark.timeout(1_200)]

Figures = Callable[[str], None]

SIGNAL_JAVA = """
for comm in /proc/[0-9]*/comm; do
  read -r name <"$comm" || continue
  if [ "$name" = java ]; then pid=${comm#/proc/}; kill "-$0" "${pid%/comm}" && exit 0; fi
done
echo "there is no Java" >&2
exit 1
"""
"""Runs inside a server's container: a signal, its argument, to the server itself and not to its init."""


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
    """Within 60 s of `make up`, `make verify` has windows and every one of them is exact."""
    began = time.monotonic()
    done = compose_stack.run("make", "verify", timeout_seconds=400)

    verdict = closing_line(done.stdout)
    assert done.returncode == 0, done.stdout
    assert 0 < verdict["windows"] == verdict["exact"]
    figures(f"make verify in containers: {verdict['windows']} windows in {time.monotonic() - began:.0f} s")


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
    boards = json.loads(compose_stack.get("GRAFANA_PORT", "/api/search"))
    assert len(boards) >= 4

    def unreached() -> list[str]:
        answer = json.loads(compose_stack.get("PROMETHEUS_PORT", "/api/v1/targets"))
        targets = answer["data"]["activeTargets"]
        return [one["labels"]["service"] for one in targets if one["health"] != "up"] if targets else ["none"]

    for _ in looks(60, 1.0):
        if not unreached():
            break
    assert unreached() == []


def test_grafana_wants_the_generated_password(compose_stack: ComposeWorld) -> None:
    """The password is a file of its own that only its owner can come to, and Grafana is told where it is."""
    folder = compose_stack.folder / "secrets"
    password = (folder / "grafana-password").read_text()

    assert re.fullmatch(r"[0-9a-f]{36}", password)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert compose_stack.compose("exec", "-T", "grafana", "cat", "/run/secrets/grafana-password") == password


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
    """Both servers are reached from the host, and from inside nothing outside is."""
    for variable in ("KAFKA_PORT", "CASSANDRA_PORT"):
        socket.create_connection(("127.0.0.1", compose_stack.ports[variable]), timeout=10).close()
    out = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=3)"
    done = compose_stack.run("docker", "compose", "exec", "-T", "engine", "python", "-c", out)
    read = compose_stack.compose(
        "exec",
        "-T",
        "cassandra",
        "cqlsh",
        "-e",
        "SELECT value FROM system_views.settings WHERE name = 'commitlog_sync'",
    )

    assert done.returncode != 0
    assert "batch" in read


def test_engine_killed_inside_its_container_comes_back_exact(
    compose_stack: ComposeWorld, figures: Figures
) -> None:
    """A crash of the engine ends its container; the restart policy brings it back, and no window is lost or doubled."""
    before = exact_verdict(compose_stack)
    restarts = compose_stack.containers()["engine"]["RestartCount"]
    began = time.monotonic()
    compose_stack.kill_from_inside("engine")
    for _ in looks(180, 1.0):
        engine = compose_stack.containers()["engine"]
        if engine["RestartCount"] > restarts and engine["State"]["Health"]["Status"] == "healthy":
            break
    after = exact_verdict(compose_stack)

    assert engine["RestartCount"] == restarts + 1
    assert engine["State"]["Health"]["Status"] == "healthy"
    assert after["windows"] > before["windows"]
    figures(
        f"engine killed in its container: healthy again and verified exact after {time.monotonic() - began:.0f} s"
    )


def test_kafka_that_hangs_is_unhealthy(compose_stack: ComposeWorld, figures: Figures) -> None:
    """A broker that is held keeps its port and answers nothing: its container turns unhealthy, and healthy when it goes on."""
    seconds = {}
    for signal, wanted in (("STOP", "unhealthy"), ("CONT", "healthy")):
        began = time.monotonic()
        compose_stack.compose("exec", "-T", "kafka", "sh", "-c", SIGNAL_JAVA, signal)
        for _ in looks(60, 0.5):
            health = compose_stack.containers()["kafka"]["State"]["Health"]["Status"]
            if health == wanted:
                break
        assert health == wanted
        seconds[wanted] = time.monotonic() - began

    exact_verdict(compose_stack)
    figures(
        f"kafka held: unhealthy after {seconds['unhealthy']:.0f} s, healthy {seconds['healthy']:.0f} s after it goes on"
    )


def test_refused_settings_end_make_up_with_their_sentence(compose_stack: ComposeWorld) -> None:
    """A setting that does not fit the data ends `make up` with exit code 2 and the reason, and nothing goes on restarting."""
    done = compose_stack.run("scripts/up", timeout_seconds=600, BATCH_SECONDS="7")
    state = compose_stack.containers()["engine"]["State"]["Status"]

    assert done.returncode == 2, done.stdout + done.stderr
    assert "must be multiple of the parent dstream's slide (batch) duration (7000 ms)" in done.stderr
    assert "refused: engine" in done.stderr
    assert state != "restarting"


def test_taken_port_is_named_with_its_variable(compose_stack: ComposeWorld) -> None:
    """A port that another program has is refused before anything is started, with the variable to set."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = compose_stack.run("scripts/up", GRAFANA_PORT=str(port))

    assert done.returncode == 2
    assert f"port {port}" in done.stderr
    assert "GRAFANA_PORT" in done.stderr


def test_stack_resumes_from_its_volumes(compose_stack: ComposeWorld) -> None:
    """`make down` leaves no container and no network; the next `make up` goes on where the ledger ended, exactly."""
    compose_stack.up()
    before = exact_verdict(compose_stack)
    compose_stack.down()
    left = {kind: compose_stack.left(kind) for kind in ("container", "network", "volume")}
    marker = compose_stack.folder / "compose"

    assert (left["container"], left["network"], marker.exists()) == ([], [], False)
    assert len(left["volume"]) == len(read_stack().compose["volumes"])

    compose_stack.up()
    after = exact_verdict(compose_stack)
    assert after["windows"] > before["windows"]
    assert json.loads(marker.read_text()) == {"profile": "full", "project": compose_stack.project}


def test_light_goes_on_where_full_ended(compose_stack: ComposeWorld, figures: Figures) -> None:
    """PROFILE=light ends what is only in full, starts by itself on the same volumes, stays exact, and has its own memory."""
    before = exact_verdict(compose_stack)
    light = {name for name, one in read_stack().services.items() if is_light(one) and name in LONG_RUNNING}
    compose_stack.up(PROFILE="light")
    after_change = set(compose_stack.containers())
    compose_stack.down()
    compose_stack.up(PROFILE="light")
    seconds = compose_stack.seconds_to_health
    after = exact_verdict(compose_stack)
    used = compose_stack.memory_mib()

    assert after_change & set(LONG_RUNNING) == light
    assert set(used) == light
    assert sum(used.values()) * MIB < LIGHT_BYTES
    assert after["windows"] > before["windows"]
    assert json.loads((compose_stack.folder / "compose").read_text())["profile"] == "light"
    each = ", ".join(f"{name} {used[name]:.0f}" for name in LONG_RUNNING if name in used)
    figures(
        f"PROFILE=light: healthy after {seconds:.0f} s, {after['windows']} windows exact, "
        f"memory {sum(used.values()):.0f} MiB ({each})"
    )


def test_logs_go_to_docker_and_not_into_memory(compose_stack: ComposeWorld) -> None:
    """Kafka and Cassandra write what they log to standard output, and their folders of logs, which are memory, stay empty."""
    for service, folder, word in (
        ("kafka", "/opt/kafka/logs", "Kafka Server started"),
        ("cassandra", "/var/log/cassandra", "Startup complete"),
    ):
        kib = int(compose_stack.compose("exec", "-T", service, "du", "-sk", folder).split()[0])

        assert word in compose_stack.compose("logs", "--no-log-prefix", service)
        assert kib < 100, service


def test_wipe_removes_every_volume(compose_stack: ComposeWorld) -> None:
    """`make down WIPE=1` leaves nothing at all, and `make up` starts anew after it."""
    compose_stack.down(WIPE="1")

    assert [compose_stack.left(kind) for kind in ("container", "network", "volume")] == [[], [], []]
    assert not (compose_stack.folder / "secrets").exists()

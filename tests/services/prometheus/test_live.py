"""Prometheus on the running pipeline of plain processes: targets, rules, and the alerts of an engine that dies and one that is held.

One stack with monitoring serves the whole module; the tests wait for conditions by asking Prometheus.
"""

import json
import os
import signal
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psutil
import pytest

from services.settings import REPOSITORY, Settings, load_settings
from tests.services.prometheus.test_rules import loaded, rules
from tests.tools.stack_world import free_ports, pid_of, supervisor_pid
from tools.stack import jars
from tools.stack.api import Stack
from tools.stack.control import looks

pytestmark = [pytest.mark.slow, pytest.mark.servers, pytest.mark.timeout(300)]
_LOOK_SECONDS = 0.5
_MOST_SERIES = 200
"""Of one server's agent, the JVM's own included."""


class Watched:
    """A stack, and what its Prometheus says.

    Args:
        stack: that runs.
    """

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
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
        """The names of the alerts that fire."""
        return {
            alert["labels"]["alertname"]
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
        fired = sorted(self.firing())
        raise AssertionError(f"{told}: not within {seconds:g} s; {fired} fire")


@pytest.fixture(scope="module")
def monitored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """A stack of plain processes with monitoring, its data in pytest's folder."""
    settings = Settings.model_validate(
        {
            "data_dir": tmp_path_factory.mktemp("monitored"),
            "jars_dir": load_settings().jars_dir,
            "monitoring": True,
            "ad_rate": 200,
            "page_rate": 100,
            "verify_seconds": 5.0,
            **free_ports(),
        }
    )
    for profile in (*jars.SERVERS, jars.AGENT):
        jars.fetch(settings.jars_dir, profile, print)
    stack = Stack(settings, is_tied=True)
    try:
        stack.up()
        yield Watched(stack)
    finally:
        stack.down(wipe=True)


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


def test_every_target_is_scraped(monitored: Watched) -> None:
    """Every service of the scrape configuration answers Prometheus."""
    jobs = loaded(REPOSITORY / "services" / "prometheus" / "prometheus.yml")["scrape_configs"]
    wanted = {job["job_name"]: "up" for job in jobs}

    monitored.wait_until(lambda: monitored.health() == wanted, 60, "all targets up")


def test_agents_export_every_metric_of_their_rules(
    monitored: Watched, figures: Callable[[str], None]
) -> None:
    """Each rule of the agents in Kafka and Cassandra gives at least one series of its type, and all of them are few."""
    for server in ("kafka", "cassandra"):
        for rule in loaded(REPOSITORY / "services" / "prometheus" / "jmx" / f"{server}.yml")["rules"]:
            name = rule["name"]
            monitored.wait_for_values(name)
            known = monitored.ask("metadata")
            # Prometheus 2 keeps a counter under its family's name where the agent speaks OpenMetrics.
            kinds = known.get(name) or known[name.removesuffix("_total")]
            assert [kind["type"] for kind in kinds] == [rule["type"].lower()]
        (series,) = monitored.values(f'scrape_samples_scraped{{service="{server}"}}')
        (seconds,) = monitored.values(f'min_over_time(scrape_duration_seconds{{service="{server}"}}[1m])')
        figures(f"{server}'s agent: {series:.0f} series in {seconds * 1_000:.0f} ms")
        assert series < _MOST_SERIES


def test_every_recording_rule_has_a_value(monitored: Watched) -> None:
    """Each recorded figure is there, and no rule fails."""
    for rule in rules("recording"):
        name = rule["record"]
        monitored.wait_for_values(name)
    groups = monitored.ask("rules")["groups"]
    assert [rule["name"] for group in groups for rule in group["rules"] if rule["health"] != "ok"] == []


def test_no_alert_fires_when_it_has_settled(monitored: Watched) -> None:
    """The pipeline at work ends the alerts of its start, and none is left."""
    monitored.wait_until(
        lambda: not monitored.firing() and monitored.values("engine:checkpoint_age:seconds < 5") != [],
        60,
        "no alert",
    )


def test_dead_engine_fires_and_clears(monitored: Watched) -> None:
    """An engine that is killed and not started again fires EngineDown and no other alert of its own; its start clears it."""
    with held_down(monitored.stack, "engine"):
        monitored.wait_until(lambda: "EngineDown" in monitored.firing(), 40, "EngineDown")
        assert monitored.firing() & {"EngineStalled", "LagGrowing"} == set()
        assert monitored.values("topic:backlog_records:sum > 0") != []
    monitored.wait_until(lambda: "EngineDown" not in monitored.firing(), 30, "EngineDown cleared")


def test_held_engine_fires_stalled_and_clears(monitored: Watched) -> None:
    """An engine that is paused fires EngineStalled, although it keeps its port; its going on clears it."""
    monitored.stack.pause("engine")
    try:
        monitored.wait_until(lambda: "EngineStalled" in monitored.firing(), 40, "EngineStalled")
    finally:
        monitored.stack.resume("engine")
    monitored.wait_until(lambda: "EngineStalled" not in monitored.firing(), 40, "EngineStalled cleared")

"""Prometheus on the running pipeline of plain processes: targets, rules, and the alerts of an engine that dies and one that is held.

One stack with monitoring serves the whole module; the tests wait for conditions by asking Prometheus.
"""

from collections.abc import Callable

import pytest

from services.settings import REPOSITORY
from tests.services.prometheus.live_world import SCENES, Watched, held_down
from tests.services.prometheus.test_rules import loaded, rules

pytestmark = [pytest.mark.slow, pytest.mark.servers, pytest.mark.timeout(300)]
_MOST_SERIES = 200
"""Of one server's agent, the JVM's own included."""


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
    down = SCENES["dead engine"]
    with held_down(monitored.stack, "engine"):
        monitored.wait_for_alerts(down, 40)
        assert monitored.firing() & {"EngineStalled-critical", "LagGrowing-warning"} == set()
        assert monitored.values("topic:backlog_records:sum > 0") != []
    monitored.wait_for_clear(down, 30)


def test_held_engine_fires_stalled_and_clears(monitored: Watched) -> None:
    """An engine that is paused fires EngineStalled, although it keeps its port; its going on clears it."""
    stalled = SCENES["held engine"]
    monitored.stack.pause("engine")
    try:
        monitored.wait_for_alerts(stalled, 40)
    finally:
        monitored.stack.resume("engine")
    monitored.wait_for_clear(stalled, 40)

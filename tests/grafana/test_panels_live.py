"""Every panel of every board against a Prometheus that watches the running pipeline, calm and through drills.

One stack of plain processes for the module, on ports of its own: Kafka, Cassandra, producer, engine, verifier, Prometheus.
"""

import math
import shutil
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from grafana.board import LABELS
from grafana.expressions import ANNOTATIONS, INTERVAL, STALLED_AFTER, STATE, STATES
from services.settings import REPOSITORY, Settings, base_environment, load_settings
from tests.grafana.boards_world import Panel, Variables, boards, data_source, panels_of
from tests.servers import _free_ports
from tests.tools.stack_world import wait_until
from tools.stack import jars
from tools.stack.api import Stack

pytestmark = [pytest.mark.slow, pytest.mark.servers, pytest.mark.timeout(300)]

CALM_SECONDS = 14
"""How long the pipeline is watched before a drill, to know what is usual."""
CALM_AGE = f"2 * {INTERVAL} + 2"
"""Seconds without a commit that are still usual: a batch that is due, one that runs, and a scrape. A death is longer than that."""
PROOF = "Rows, exact"
"""The panel that shows a drill last: it waits for the verifier."""
SETTLED_SECONDS = 60
"""Until the last panel has data, from the moment at which the stack is up."""
STEP = Variables(boards()["overview.json"]).step
"""Seconds between two looks of a board."""
PORTS = [name for name in Settings.model_fields if name.endswith("_port")]

Series = dict[str, dict[float, float]]
"""By labels the values by time."""


@dataclass(slots=True)
class Watched:
    """The pipeline, and the Prometheus that watches it."""

    stack: Stack
    calm_since: float

    @property
    def settings(self) -> Settings:
        """Of the stack."""
        return self.stack.settings

    def ask(self, path: str, **parameters: object) -> Any:
        """What Prometheus' API answers."""
        address = f"http://127.0.0.1:{self.settings.prometheus_port}/api/v1/{path}"
        query = urllib.parse.urlencode(parameters, doseq=True)
        answer = msgspec.json.decode(self.fetch(f"{address}?{query}"))
        assert answer["status"] == "success", answer
        return answer["data"]

    @staticmethod
    def fetch(address: str) -> bytes:
        """The bytes behind an address."""
        with urllib.request.urlopen(address, timeout=20) as answer:  # noqa: S310 - the test's own Prometheus
            body: bytes = answer.read()
            return body

    def over(self, expr: str, since: float, until: float) -> Series:
        """The values of an expression at every scrape of a span; what is not a number is left out."""
        found = self.ask(
            "query_range", query=expr, start=since, end=until, step=data_source()["jsonData"]["timeInterval"]
        )
        return _series(found["result"], "values")

    def now(self, expr: str, at: float | None = None) -> Series:
        """The values of an expression now, or at a time; what is not a number is left out."""
        return _series(self.ask("query", query=expr, time=at or time.time())["result"], "value")

    def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """A command of the project on this stack."""
        environment = {**base_environment(), **self.settings.environment(), **variables}
        return subprocess.run(
            [sys.executable, "-m", *command],
            cwd=REPOSITORY,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=180,
        )


def _series(result: list[Any], field: str) -> Series:
    found: Series = {}
    for one in result:
        labels = ",".join(f"{name}={value}" for name, value in sorted(one["metric"].items()))
        points = one[field] if field == "values" else [one[field]]
        values = {at: float(value) for at, value in points if not math.isnan(float(value))}
        if values:
            found[labels] = values
    return found


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """The pipeline with its monitoring, at work, with a poisoned record in each topic."""
    if shutil.which("prometheus") is None:
        pytest.skip("needs prometheus (package prometheus)")
    missing = jars.missing_programs(load_settings().jars_dir)
    if missing:
        pytest.skip(f"needs {' and '.join(missing)}")
    settings = Settings.model_validate(
        {
            "data_dir": tmp_path_factory.mktemp("boards"),
            "jars_dir": load_settings().jars_dir,
            "monitoring": True,
            "verify_seconds": 3,
            **dict(zip(PORTS, _free_ports(len(PORTS)), strict=True)),
        }
    )
    stack = Stack(settings, is_tied=True)
    try:
        stack.up()
        yield Watched(stack, time.time())
    finally:
        stack.down(wipe=True)


def panels() -> Iterator[tuple[Panel, Mapping[str, Any]]]:
    """Every panel with its board."""
    for name, board in boards().items():
        for panel in panels_of(name, board):
            yield panel, board


def values_of(watched: Watched, panel: Panel, target: Mapping[str, Any], variables: Variables) -> Series:
    """What Grafana would get for a query now."""
    expr = variables.filled(target["expr"])
    if target["instant"]:
        return watched.now(expr)
    until = time.time()
    return watched.over(expr, until - SETTLED_SECONDS, until)


def empty_queries(
    watched: Watched,
    chosen: Mapping[str, str] | None = None,
    asked: Iterable[tuple[Panel, Mapping[str, Any]]] | None = None,
) -> list[str]:
    """The queries that have no data, and those whose legends name a label that no series has; of all panels or of some."""
    found = []
    for panel, board in asked or panels():
        for target in panel.targets:
            series = values_of(watched, panel, target, Variables(board, chosen, target))
            if not series:
                found.append(f"{panel.place} {target['refId']}: {target['expr']}")
            found += [
                f"{panel.place} {target['refId']}: no series has the label {label!r}"
                for label in labels_of(target.get("legendFormat", ""))
                if series and not any(f"{label}=" in labels for labels in series)
            ]
    return found


def labels_of(legend: str) -> list[str]:
    """The labels that a legend names."""
    return [part.partition("}}")[0].strip() for part in legend.split("{{")[1:]]


def test_no_panel_is_empty(watched: Watched, figures: Callable[[str], None]) -> None:
    """While the pipeline runs every query of every panel has data, and every legend its labels."""
    for topic in ("ad-events", "page-views"):
        poisoned = watched.run("services.producer.poison", "--topic", topic, "--partition", "0")
        assert poisoned.returncode == 0, poisoned.stderr
    began = time.monotonic()
    empty = ["not asked yet"]

    def is_full() -> bool:
        empty[:] = empty_queries(watched)
        return not empty

    try:
        wait_until(is_full, SETTLED_SECONDS)
    finally:
        all_panels = [panel for panel, _ in panels()]
        places = {line.partition(" ")[0] for line in empty}
        figures(
            f"panels: {len(all_panels)}, queries: {sum(len(panel.targets) for panel in all_panels)}, "
            f"empty: {len(empty)} after {time.monotonic() - began:.0f} s {' '.join(sorted(places))}"
        )
        for line in empty:
            figures(f"  empty: {line}")


def test_no_panel_is_empty_for_one_job_and_one_topic(watched: Watched) -> None:
    """With one value chosen in every variable no panel loses its data."""
    assert empty_queries(watched, {"job": "campaign_windows", "topic": "ad-events", "partition": "0"}) == []


def test_empty_query_is_found(watched: Watched) -> None:
    """A query of what nobody exports counts as empty, and so does a legend with a label that no series has."""
    panel, board = next((panel, board) for panel, board in panels() if panel.facts["type"] == "timeseries")
    silent = {**panel.targets[0], "expr": "engine_speed"}
    nameless = {**panel.targets[0], "expr": "up", "legendFormat": "{{color}}"}
    changed = Panel("mutant.json", {**panel.facts, "targets": [silent, nameless]})

    first, second = empty_queries(watched, asked=[(changed, board)])

    assert "engine_speed" in first
    assert second.endswith("no series has the label 'color'")


def test_variables_have_values(watched: Watched) -> None:
    """Every variable finds the values of its label in Prometheus."""
    found = {}
    for name, query in LABELS.items():
        metric = query.removeprefix("label_values(").partition("{")[0].partition(",")[0]
        found[name] = watched.ask(f"label/{name}/values", **{"match[]": metric})

    assert {"campaign_windows", "page_totals", "trending_pages"} <= set(found["job"])
    assert found["topic"] == ["ad-events", "page-views"]
    assert found["partition"] == ["0", "1", "2", "3"]


def test_annotations_can_be_asked(watched: Watched) -> None:
    """Prometheus evaluates every annotation, and the start of the engine is one whose value is a time in milliseconds."""
    found = {name: watched.now(str(facts["expr"])) for name, facts in ANNOTATIONS.items()}

    (started,) = (value for values in found["Engine start"].values() for value in values.values())
    assert abs(time.time() * 1_000 - started) < 3_600_000


# Drills.


def drill(watched: Watched, fault: str) -> tuple[float, float]:
    """Run a drill as somebody would type it; returns when it began, and when the boards had all of it."""
    began = calm(watched)
    done = watched.run("tools.chaos", FAULT=fault, SEED="7")
    assert done.returncode == 0, done.stdout + done.stderr
    wait_until(lambda: bool(watched.now(f'chaos_drill_ended_time_seconds{{fault="{fault}"}} > {began}')), 30)
    wait_until(lambda: is_at_work(watched), 60)
    # The verifier rests for longer than it works; its first word after the fault may be of a run that began before it.
    wait_until(lambda: PROOF not in unchanged(watched, began, time.time(), {PROOF}), 120)
    return began, settled(watched)


def outage(watched: Watched, server: str) -> tuple[float, float]:
    """Kill a server, start it when the boards have seen the pipeline stand still, and wait until it is at work again."""
    began = calm(watched)
    stands = f"max(engine:checkpoint_age:seconds) > {STALLED_AFTER}"
    watched.stack.kill(server)
    wait_until(lambda: bool(watched.now(f'up{{service="{server}"}} == 0') and watched.now(stands)), 60)
    watched.stack.start(server)
    wait_until(lambda: bool(watched.now(f'up{{service="{server}"}} == 1')) and not watched.now(stands), 120)
    return began, settled(watched)


def calm(watched: Watched) -> float:
    """Wait until the pipeline has been at work for so long without a break that it is known what is usual."""
    quiet = f"max(max_over_time(engine:checkpoint_age:seconds[{CALM_SECONDS}s])) < {CALM_AGE}"
    at_work = f"max(max_over_time(({STATE})[{CALM_SECONDS}s:{STEP}s])) == 0"
    wait_until(lambda: bool(watched.now(quiet) and watched.now(at_work)), 120)
    watched.calm_since = time.time() - CALM_SECONDS
    return time.time()


def is_at_work(watched: Watched) -> bool:
    """Whether the engine is at work now, neither down nor behind."""
    return bool(watched.now(f"({STATE}) == 0"))


def settled(watched: Watched) -> float:
    """Wait for the next evaluations, which make of it what rules and ranges show, and end at one at which the engine is at work."""
    later = time.time() + 3 * STEP
    ended = [later]

    def is_over() -> bool:
        ended[0] = time.time()
        return ended[0] > later and bool(watched.now(f"({STATE}) == 0", ended[0]))

    wait_until(is_over, 60)
    return ended[0]


def unchanged(watched: Watched, began: float, ended: float, titles: Collection[str] = ()) -> list[str]:
    """The panels of the drill board, or those with some titles, that show in a drill nothing but what they showed before."""
    board = boards()["recovery-drill.json"]
    return [
        panel.title
        for panel in panels_of("recovery-drill.json", board)
        if (not titles or panel.title in titles)
        and not any(has_changed(watched, board, target, began, ended) for target in panel.targets)
    ]


def has_changed(
    watched: Watched, board: Mapping[str, Any], target: Mapping[str, Any], began: float, ended: float
) -> bool:
    """Whether a series came, went or had a gap, or left the range of its values of before by more than a tenth of that range."""
    before = shown(watched, board, target, watched.calm_since + STEP, began)
    during = shown(watched, board, target, began, ended)
    if set(before) != set(during):
        return True
    scrapes = int((ended - began) / STEP)
    for labels, values in during.items():
        low, high = min(before[labels].values()), max(before[labels].values())
        slack = (high - low) / 10
        if len(values) < scrapes - 1 or any(
            not low - slack <= value <= high + slack for value in values.values()
        ):
            return True
    return False


def shown(
    watched: Watched, board: Mapping[str, Any], target: Mapping[str, Any], since: float, until: float
) -> Series:
    """What a board that begins where the calm began shows of a query at every scrape of a span."""
    if "$__range" not in target["expr"]:
        return watched.over(Variables(board, target=target).filled(target["expr"]), since, until)
    found: Series = {}
    for step in range(int((until - since) / STEP) + 1):
        at = since + step * STEP
        variables = Variables(board, target=target, range_seconds=max(STEP, int(at - watched.calm_since)))
        for labels, values in watched.now(variables.filled(target["expr"]), at).items():
            found.setdefault(labels, {}).update(values)
    return found


def states(watched: Watched, began: float, ended: float) -> list[str]:
    """The states that the engine went through, as the board shows them."""
    values = {
        at: value for series in watched.over(STATE, began, ended).values() for at, value in series.items()
    }
    found: list[str] = []
    for _, value in sorted(values.items()):
        name = STATES[int(value)][0]
        if not found or found[-1] != name:
            found.append(name)
    return found


QUIET = {
    "Engine and drill",
    "Services",
    "Newest drill of each fault",
    "Phases of the newest drills",
    "Past drills",
    "Replayed batches",
    "Restarts in range",
    "Restored",
    "Restore took",
    "Drills",
}
"""Panels that change with what happens and not with how busy the machine is."""
TOO_SHORT = {"Services", "Backlog", "Backlog, peak in range", "Drain"}
"""Panels that need a longer outage than that of an engine which is back within a second or two."""
OUTAGE = {"Services", "Time without a commit", "Longest outage in range", "Drain"}
"""Panels that show the death of a server that no drill announces."""


def test_calm_pipeline_changes_nothing(watched: Watched) -> None:
    """Without a drill the engine goes neither down nor restores, and what a drill changes stays, so that a change is the drill's."""
    now = calm(watched)

    assert set(states(watched, watched.calm_since, now)) <= {"at work", "catching up"}
    still = set(unchanged(watched, now - 6, now))
    assert still >= QUIET - {"Engine and drill"}


def test_every_panel_of_the_drill_board_changes_when_the_engine_is_killed(
    watched: Watched, figures: Callable[[str], None]
) -> None:
    """A kill of the engine is seen on every panel of the drill board, and the engine is at work again at its end."""
    began, ended = drill(watched, "engine-kill")

    seen = states(watched, began, ended)
    still = unchanged(watched, began, ended)
    figures(f"drill engine-kill: {' > '.join(seen)}; panels that did not change: {len(still)} {still}")
    assert seen[-1] == "at work"
    assert set(still) <= TOO_SHORT
    marks = {name for name, facts in ANNOTATIONS.items() if watched.over(str(facts["expr"]), began, ended)}
    assert marks >= {"Engine start", "Drill", "Drill begins", "Drill ends"}
    assert "Recovered" in marks or not {"down", "restoring"} & set(seen)


def test_death_of_a_server_is_seen_on_the_drill_board(
    watched: Watched, figures: Callable[[str], None]
) -> None:
    """While Kafka is dead the drill board shows it, how long nothing was committed, and how the backlog drains."""
    began, ended = outage(watched, "kafka")

    still = set(unchanged(watched, began, ended))
    figures(f"kafka killed: panels that did not change: {sorted(still)}")
    assert still & OUTAGE == set()

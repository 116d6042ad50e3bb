"""The running pipeline that a Prometheus watches, and what the boards show of it while something happens.

Owns: Watched, Series, panels, empty_queries, Drilled, Narrator.
Never: a fault; those are the drills'.
"""

import math
import os
import signal
import time
import urllib.parse
import urllib.request
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from grafana.expressions import INTERVAL, STATE, STATES
from tests.grafana.boards_world import Panel, Variables, boards, data_source, panels_of
from tests.services.prometheus.live_world import faster_rules
from tests.tools.stack_world import pid_of, wait_until
from tools.stack.api import Stack
from tools.stack.folder import Folder

CALM_AGE = f"2 * {INTERVAL} + 2"
"""Seconds without a commit that are still usual: a batch that is due, one that runs, and a scrape. A death is longer than that."""
SETTLED_SECONDS = 60
"""Until the last panel has data, from the moment at which the stack is up."""
STEP = Variables(boards()["overview.json"]).step
"""Seconds between two looks of a board."""
DRILL_BOARD = "recovery-drill.json"

Series = dict[str, dict[float, float]]
"""By labels the values by time."""


@dataclass(frozen=True, slots=True)
class Drilled:
    """When a drill was, in seconds since the epoch."""

    calm: float
    """The pipeline is at work and undisturbed from here on."""
    began: float
    """The drill prepares."""
    struck: float
    """The fault is there."""
    ended: float
    """The boards have all of it, and the engine is at work."""
    mended: float | None = None
    """The fault is over, where the drill then starts the engine again on its old way; None where it does nothing of the kind."""


@dataclass(slots=True)
class Narrator:
    """Hears what a drill says, to know when it strikes."""

    struck: float = 0.0
    """When the first word after the announcement came; the fault follows at once."""
    mended: float | None = None
    """When the engine was started again without the proxy; None when it was not."""
    _is_announced: bool = False

    def __call__(self, text: str) -> None:
        """What the drill does next."""
        if self._is_announced and not self.struck:
            self.struck = time.time()
        self._is_announced = self._is_announced or text.startswith("striking in")
        if text == "starting the engine without the proxy":
            self.mended = time.time()


@dataclass(slots=True)
class Watched:
    """The pipeline, and the Prometheus that watches it."""

    stack: Stack
    quiet_from: float = field(default_factory=time.time)
    """What was before is not the pipeline's usual state."""

    def ask(self, path: str, **parameters: object) -> Any:
        """What Prometheus' API answers."""
        address = f"http://127.0.0.1:{self.stack.settings.prometheus_port}/api/v1/{path}"
        query = urllib.parse.urlencode(parameters, doseq=True)
        with urllib.request.urlopen(f"{address}?{query}", timeout=20) as answer:  # noqa: S310 - the test's own Prometheus
            told = msgspec.json.decode(answer.read())
        assert told["status"] == "success", told
        return told["data"]

    def over(self, expr: str, since: float, until: float) -> Series:
        """The values of an expression at every scrape of a span; what is not a number is left out."""
        found = self.ask(
            "query_range", query=expr, start=since, end=until, step=data_source()["jsonData"]["timeInterval"]
        )
        return _series(found["result"], "values")

    def now(self, expr: str, at: float | None = None) -> Series:
        """The values of an expression now, or at a time; what is not a number is left out."""
        return _series(self.ask("query", query=expr, time=at or time.time())["result"], "value")

    def judge_faster(self) -> None:
        """Give Prometheus the project's alerts with waiting times and ranges some times as short (faster_rules)."""
        conf = Folder(self.stack.settings.data_dir).conf / "prometheus" / "rules" / "alerts.yml"
        conf.write_text(faster_rules(conf.read_text()))
        os.kill(pid_of(self.stack, "prometheus"), signal.SIGHUP)
        wait_until(lambda: any(0 < rule.get("duration", 0) < 2 for rule in self._rules()))

    def _rules(self) -> Iterator[Mapping[str, Any]]:
        for group in self.ask("rules")["groups"]:
            yield from group["rules"]

    def calm(self, seconds: int) -> float:
        """Wait until the pipeline has been at work for so long without a break; returns since when."""

        def is_calm() -> bool:
            quiet = f"max(max_over_time(engine:checkpoint_age:seconds[{seconds}s])) < {CALM_AGE}"
            at_work = f"max(max_over_time(({STATE})[{seconds}s:{STEP}s])) == 0"
            is_old = time.time() - seconds > self.quiet_from
            return is_old and bool(self.now(quiet) and self.now(at_work))

        wait_until(is_calm, 120)
        # The range was looked at in whole steps, so what its first part held was not.
        return time.time() - seconds + STEP

    def settled(self) -> float:
        """Wait for the next evaluations, which make of it what rules and ranges show, and end at one at which the engine is at work."""
        self.quiet_from = time.time()
        later = self.quiet_from + 2 * STEP
        ended = [later]

        def is_over() -> bool:
            ended[0] = time.time()
            return ended[0] > later and bool(self.now(f"({STATE}) == 0", ended[0]))

        wait_until(is_over, 60)
        return ended[0]

    # What a board shows.

    def unchanged(self, drilled: Drilled, titles: Collection[str] = ()) -> list[str]:
        """The panels of the drill board, or those with some titles, that show in a drill nothing but what they showed before."""
        board = boards()[DRILL_BOARD]
        return [
            panel.title
            for panel in panels_of(DRILL_BOARD, board)
            if (not titles or panel.title in titles)
            and not any(self._has_changed(board, target, drilled) for target in panel.targets)
        ]

    def _has_changed(self, board: Mapping[str, Any], target: Mapping[str, Any], drilled: Drilled) -> bool:
        """Whether a series came, went or had a gap, or left the range of its values of before by more than a tenth of that range."""
        before = self._shown(board, target, drilled.calm + STEP, drilled.began, drilled.calm)
        during = self._shown(board, target, drilled.struck, drilled.ended, drilled.calm)
        if set(before) != set(during):
            return True
        scrapes = int((drilled.ended - drilled.struck) / STEP)
        for labels, values in during.items():
            low, high = min(before[labels].values()), max(before[labels].values())
            slack = (high - low) / 10
            if len(values) < scrapes - 1 or any(
                not low - slack <= value <= high + slack for value in values.values()
            ):
                return True
        return False

    def _shown(
        self, board: Mapping[str, Any], target: Mapping[str, Any], since: float, until: float, left: float
    ) -> Series:
        """What a board whose left edge is at a time shows of a query at every scrape of a span."""
        if "$__range" not in target["expr"]:
            return self.over(Variables(board, target=target).filled(target["expr"]), since, until)
        found: Series = {}
        for step in range(int((until - since) / STEP) + 1):
            at = since + step * STEP
            variables = Variables(board, target=target, range_seconds=max(STEP, int(at - left)))
            for labels, values in self.now(variables.filled(target["expr"]), at).items():
                found.setdefault(labels, {}).update(values)
        return found

    def states(self, since: float, until: float) -> list[str]:
        """The states that the engine went through, as the board shows them."""
        values = {
            at: value for series in self.over(STATE, since, until).values() for at, value in series.items()
        }
        found: list[str] = []
        for _, value in sorted(values.items()):
            name = STATES[int(value)][0]
            if not found or found[-1] != name:
                found.append(name)
        return found


def _series(result: list[Any], kind: str) -> Series:
    found: Series = {}
    for one in result:
        labels = ",".join(f"{name}={value}" for name, value in sorted(one["metric"].items()))
        points = one[kind] if kind == "values" else [one[kind]]
        values = {at: float(value) for at, value in points if not math.isnan(float(value))}
        if values:
            found[labels] = values
    return found


# All panels.


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
            found += faults_of_answer(panel, target, series)
    return found


def faults_of_answer(panel: Panel, target: Mapping[str, Any], series: Series) -> Iterator[str]:
    """That a query has no data, or the labels of its legend that no series has."""
    if not series:
        yield f"{panel.place} {target['refId']}: {target['expr']}"
        return
    for label in labels_of(target.get("legendFormat", "")):
        if not any(f"{label}=" in labels for labels in series):
            yield f"{panel.place} {target['refId']}: no series has the label {label!r}"


def labels_of(legend: str) -> list[str]:
    """The labels that a legend names."""
    return [part.partition("}}")[0].strip() for part in legend.split("{{")[1:]]

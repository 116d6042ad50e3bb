"""The page of a replica: who runs which unit, as HTML, as JSON and as metrics; and where commands come in.

    /                       replicas and units, live
    /api/status             the same as JSON
    POST /api/commands      {"command", "name", "time", "executors"?} as application/json: 202, or 400 with {"error": a sentence}
    /units/NAME/...         the streaming page of a unit that runs at this replica
    /metrics                the metrics of this replica, and of each of its units with the label `unit`
    /healthz                200 while this replica has its place in the group, or was told to have none; else 503 with the reason
    /static/NAME            the page's files

Owns: Facts, METRICS, ReplicaPage.
Never: a decision; commands are checked and handed on by the replica.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import aiohttp
import msgspec
from aiohttp import web
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from engine.clock import Clock
from engine.cluster.child import State
from engine.cluster.replica import Replica
from engine.errors import ConfigurationError, StreamingError
from engine.metrics import OPEN, Registry
from engine.metrics import Metric as Row
from engine.monitoring.serving import PREFIX, Assets, add_headers, address_of, listening, no_strangers
from services.pipeline.control import Desired
from services.pipeline.owners import Owners
from services.pipeline.told import SILENT_MS, Progress, ReplicaStatus, UnitStatus, read_told
from services.pipeline.units import Sharing

log = logging.getLogger("replica")

_UNIT_SECONDS: Final = 1.5
"""For an answer of a unit's process, which is on this machine; Prometheus waits 2 s for all of ours."""
_OWNED: Final = frozenset({"starting", "running", "held", "paused"})
"""States of a unit that has an owner; a paused one that has no process yet has one too."""
_PASSED_ON: Final = ("Content-Type", "ETag", "Cache-Control")

_UNIT: Final[Mapping[str, tuple[str, ...]]] = {"unit": OPEN}
METRICS: Final = (
    Row("replica_member", "gauge", "1 while this replica has its place in the group."),
    Row("replica_units", "gauge", "Units that this replica holds."),
    Row("replica_seen", "gauge", "Replicas that have told of themselves on the volume within 5 s."),
    Row(
        "replica_units_without_owner",
        "gauge",
        "Units that should run and that no replica tells to hold, or whose process cannot start; each replica tells of all units.",
    ),
    Row(
        "replica_owner_changes_total",
        "counter",
        "How often a unit has come to another replica; each replica tells of all units.",
        _UNIT,
    ),
    Row(
        "replica_takeover_seconds",
        "gauge",
        "Of a unit's last change of owner, from the last word of the former owner that it ran, up to 1 s old, until it ran again.",
        _UNIT,
    ),
)


class Facts(NamedTuple):
    """What the page asks the replica for."""

    state: Callable[[], str]
    """joining, member, stopping or drained."""
    generation: Callable[[], int | None]
    """Of the group, while this replica is in it."""
    desired: Callable[[], Desired]
    check: Callable[[dict[str, Any]], object]
    """Raises ConfigurationError for what is no command."""
    send: Callable[[dict[str, Any]], Awaitable[None]]
    """Raises StreamingError when Kafka does not take it."""


class ReplicaPage:
    """A small web server in the replica's event loop.

    Args:
        host: address to listen on; whoever can reach it can pause jobs.
        port: of this address.
        name: of the replica.
        sharing: what the replicas share.
        replica: what runs the units.
        owners: who ran what since when.
        facts: what else is to be told.
        clock: what time it is.
    """

    def __init__(
        self,
        host: str,
        port: int,
        name: str,
        sharing: Sharing,
        replica: Replica,
        owners: Owners,
        facts: Facts,
        clock: Clock,
    ) -> None:
        self._host = host
        self._name = name
        self._sharing = sharing
        self._replica = replica
        self._owners = owners
        self._facts = facts
        self._clock = clock
        self._assets = Assets("engine.monitoring", "services.pipeline")
        self._registry = Registry()
        self._registry.register(_OfReplica(self))
        self._listener = listening(host, port, "METRICS_PORT")
        self._session: aiohttp.ClientSession | None = None
        self._runner: web.AppRunner | None = None

    @property
    def address(self) -> str:
        """Where the page is, as people type it."""
        return address_of(self._listener, self._host)

    async def start(self) -> None:
        """Answer until `stop`."""
        timeout = aiohttp.ClientTimeout(total=_UNIT_SECONDS)
        self._session = aiohttp.ClientSession(timeout=timeout, auto_decompress=False)
        application = web.Application(middlewares=[no_strangers(self._host)])
        application.on_response_prepare.append(add_headers)
        application.add_routes(
            [
                web.get("/", self._page),
                web.get("/api/status", self._status),
                web.post("/api/commands", self._command),
                web.get("/units/{unit}", self._unit_root),
                web.get("/units/{unit}/{path:.*}", self._unit),
                web.get("/metrics", self._metrics),
                web.get("/healthz", self._health),
                web.get("/static/{name:.+}", self._assets.file),
            ]
        )
        self._runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=0.5)
        await self._runner.setup()
        await web.SockSite(self._runner, self._listener).start()

    async def stop(self) -> None:
        """Listen no more."""
        if self._runner is not None:
            await self._runner.cleanup()
        if self._session is not None:
            await self._session.close()
        self._listener.close()

    @property
    def address_elsewhere(self) -> str:
        """The same for whoever is on another machine too; "" where that is not known."""
        return "" if self._host in {"0.0.0.0", "::"} else self.address  # noqa: S104 - compared, not bound

    async def progress(self) -> dict[str, Progress]:
        """By unit how far each has come that runs here; one that does not answer is left out."""
        answers = await self._ask_units("api/v1/batches?limit=1&status=completed")
        found = {}
        for unit, answer in answers.items():
            with contextlib.suppress(ValueError, LookupError, TypeError):  # of a process that is about to end
                newest = json.loads(answer)[0]
                lags = newest.get("lagRecords") or {}
                found[unit] = Progress(newest["batchTime"], sum(lags.values()))
        return found

    def table(self) -> dict[str, Any]:
        """All that is known, as plain data for JSON."""
        now, told = self._clock.wall_ms(), read_told(self._sharing.folder)
        return {
            "name": self._name,
            "state": self._facts.state(),
            "generation": self._facts.generation(),
            "time": now,
            "replicas": [
                {
                    "name": each.name,
                    "state": each.state,
                    "time": each.time,
                    "ago_ms": max(now - each.time, 0),
                    "page": each.page,
                    "units": [unit.unit for unit in each.units],
                }
                for each in told
            ],
            "units": self._units(told, now),
            "desired": msgspec.to_builtins(self._facts.desired()),
        }

    def _units(self, told: Iterable[ReplicaStatus], now: int) -> list[dict[str, Any]]:
        holders = _holders(told, now)
        owners, wanted = self._owners.read(), self._facts.desired().units
        rows = []
        for unit in self._sharing.units:
            owner, status = holders.get(unit.name, (None, None))
            past = owners.get(unit.name)
            idle = wanted[unit.name].state if unit.name in wanted else "running"
            rows.append(
                {
                    "unit": unit.name,
                    "job": unit.job,
                    "topic": unit.topic,
                    "partitions": list(unit.partitions),
                    "owner": owner,
                    "state": status.state if status else "no owner" if idle == "running" else idle,
                    "since": status.since if status else None,
                    "restarts": status.restarts if status else None,
                    "lag": status.lag if status else None,
                    "batch": status.batch if status else None,
                    "page": status.page if status else "",
                    "pid": status.pid if status else None,
                    "changes": past.changes if past else 0,
                    "takeover_ms": past.takeover_ms if past else None,
                }
            )
        return rows

    def families(self) -> Iterator[Metric]:
        """The replica's own metrics, as of now."""
        now, told, owners = self._clock.wall_ms(), read_told(self._sharing.folder), self._owners.read()
        holders, drained = _holders(told, now), self._replica.orders.drained
        owned = {name for name, (_, status) in holders.items() if status.state in _OWNED} | drained
        values: dict[str, Mapping[str, float]] = {
            "replica_member": {"": self._facts.state() == "member"},
            "replica_units": {"": len(self._replica.held)},
            "replica_seen": {"": sum(now - each.time <= SILENT_MS for each in told)},
            "replica_units_without_owner": {"": sum(unit.name not in owned for unit in self._sharing.units)},
            "replica_owner_changes_total": {unit: owner.changes for unit, owner in owners.items()},
            "replica_takeover_seconds": {
                unit: owner.takeover_ms / 1_000
                for unit, owner in owners.items()
                if owner.takeover_ms is not None
            },
        }
        for row in METRICS:
            kind = CounterMetricFamily if row.kind == "counter" else GaugeMetricFamily
            family = kind(row.name, row.meaning, labels=list(row.labels))
            for unit, number in values[row.name].items():
                family.add_metric([unit] if row.labels else [], number)
            yield family

    # Answers.

    async def _page(self, request: web.Request) -> web.Response:
        return self._assets.document(request, "replicas.html")

    async def _status(self, _: web.Request) -> web.Response:
        return web.json_response(self.table())

    async def _command(self, request: web.Request) -> web.Response:
        """Check a command and hand it to the group; whoever has heard of it obeys.

        Only JSON that says so: no other site's page can make a browser send that without asking, and it would be told no.
        """
        if request.content_type != "application/json":
            return web.json_response(
                {
                    "error": f"the command is {request.content_type}; send it with Content-Type: application/json"
                },
                status=415,
            )
        try:
            message = json.loads(await request.read())
        except ValueError as error:
            return web.json_response({"error": f"the command is no JSON: {error}"}, status=400)
        try:
            self._facts.check(message)
            await self._facts.send(message)
        except ConfigurationError as error:
            return web.json_response({"error": str(error)}, status=400)
        except StreamingError as error:
            return web.json_response({"error": str(error)}, status=503)
        return web.json_response({}, status=202)

    async def _unit_root(self, request: web.Request) -> web.Response:
        raise web.HTTPFound(f"/units/{request.match_info['unit']}/")

    async def _unit(self, request: web.Request) -> web.Response:
        """The page of a unit that runs here, below its name."""
        assert self._session is not None
        unit = request.match_info["unit"]
        pages = self._pages()
        if unit not in pages:
            raise web.HTTPNotFound(text=f"404: {self._elsewhere(unit)}\n")
        address = pages[unit] + request.match_info["path"]
        headers = {PREFIX: f"/units/{unit}"}
        if "If-None-Match" in request.headers:
            headers["If-None-Match"] = request.headers["If-None-Match"]
        try:
            async with self._session.get(address, params=request.query, headers=headers) as answer:
                body = await answer.read()
                passed = {name: answer.headers[name] for name in _PASSED_ON if name in answer.headers}
                return web.Response(status=answer.status, body=body, headers=passed)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise web.HTTPBadGateway(text=f"502: unit {unit} does not answer ({error})\n") from error

    def _elsewhere(self, unit: str) -> str:
        if unit not in {each.name for each in self._sharing.units}:
            return f"there is no unit {unit!r}; choose from {', '.join(each.name for each in self._sharing.units)}"
        holders = _holders(read_told(self._sharing.folder), self._clock.wall_ms())
        if unit not in holders or holders[unit][0] == self._name:
            return f"unit {unit} has no process now"
        return f"unit {unit} runs at {holders[unit][0]}; ask there"

    async def _metrics(self, _: web.Request) -> web.Response:
        answers = await self._ask_units("metrics")
        body = generate_latest(_Merged(self._registry, answers))
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    async def _health(self, _: web.Request) -> web.Response:
        state = self._facts.state()
        if state in {"member", "drained"}:
            return web.Response(text="ok\n")
        return web.Response(status=503, text=f"replica {self._name} is {state}\n")

    # The units' processes.

    def _pages(self) -> dict[str, str]:
        """By unit the address of its page, of the processes that run here."""
        return {
            running.unit.name: running.child.page
            for running in self._replica.held.values()
            if running.child is not None and running.child.page and running.child.state is not State.ENDED
        }

    async def _ask_units(self, path: str) -> dict[str, bytes]:
        """What the units answer; of those that do, within their time."""
        pages = self._pages()
        answers = await asyncio.gather(*(self._ask(page + path) for page in pages.values()))
        return {unit: answer for unit, answer in zip(pages, answers, strict=True) if answer is not None}

    async def _ask(self, address: str) -> bytes | None:
        assert self._session is not None
        try:
            async with self._session.get(address) as answer:
                return await answer.read() if answer.status == web.HTTPOk.status_code else None
        except (aiohttp.ClientError, TimeoutError) as error:
            log.debug("%s does not answer: %s", address, error)
            return None


def _holders(told: Iterable[ReplicaStatus], now: int) -> dict[str, tuple[str, UnitStatus]]:
    """By unit the replica that tells to hold it, of those that are not silent; of two the one that got it later."""
    found: dict[str, tuple[str, UnitStatus]] = {}
    for each in told:
        if now - each.time <= SILENT_MS:
            for status in each.units:
                if status.unit not in found or found[status.unit][1].since < status.since:
                    found[status.unit] = each.name, status
    return found


class _OfReplica(Collector):
    """The replica's own metrics, made when they are asked for."""

    def __init__(self, page: ReplicaPage) -> None:
        self._page = page

    def collect(self) -> Iterator[Metric]:
        """As of now."""
        yield from self._page.families()

    def describe(self) -> Iterable[Metric]:
        """Nothing: asked at the start, when there is nothing to tell yet."""
        return ()


class _Merged:
    """A registry of the replica's metrics and its units', each of which has the label `unit`.

    Args:
        own: the replica's.
        answers: by unit what it answers to a scrape.
    """

    def __init__(self, own: Registry, answers: Mapping[str, bytes]) -> None:
        self._own = own
        self._answers = answers

    def collect(self) -> Iterator[Metric]:
        """Each family once, as the format wants it."""
        families = {family.name: family for family in self._own.collect()}
        for unit, answer in self._answers.items():
            for family in text_string_to_metric_families(answer.decode()):
                merged = families.setdefault(
                    family.name, Metric(family.name, family.documentation, family.type)
                )
                merged.samples.extend(
                    Sample(sample.name, {**sample.labels, "unit": unit}, sample.value)
                    for sample in family.samples
                )
        yield from families.values()

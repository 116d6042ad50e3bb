"""The streaming page as a small web server beside the engine: pages, their data as JSON, and the metrics.

    /  /batches/<batch time>        the page, one document; its script looks at the address
    /static/<name>                  the page's own files, read once at the start
    /api/v1/statistics              counts since the start, averages and percentiles
    /api/v1/batches                 ?limit=N ?status=completed ?since=REVISION, newest first
    /api/v1/batches/<batch time>    everything that is kept of one batch
    /api/v1/graph                   nodes with their parents
    /api/v1/state                   state by operator, checkpoint, partitions, executors
    /api/v1/progress                epoch, last commit with the ends of its partitions, running batch
    /api/v1/live                    statistics, changed batches and state as of one moment, with process and revision
    /healthz                        200 when this process has committed a batch, not long ago, and goes on; else 503 with the reason
    /metrics                        the registry, where there is one

It reads what the history keeps and writes nothing. While nobody asks it does nothing. A reader asks `live` with the revision that it
has seen; when the process in the answer is another one it asks again from revision 0.

Owns: StreamingPage.
Never: a method but GET and HEAD; an asset from elsewhere; inline script or style.
"""

import asyncio
import json
import os
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final, Self

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from engine.clock import Clock, SystemClock
from engine.context import StreamingContext
from engine.errors import StreamingError
from engine.monitoring import page
from engine.monitoring.collectors import ExecutorCollector
from engine.monitoring.entries import View
from engine.monitoring.history import History
from engine.monitoring.serving import Assets, Handler, add_headers, address_of, listening, no_strangers

PORT: Final = 4040
"""Spark's page has the same."""

_LATE_MS: Final = 2_000
"""A batch that is due for longer and not planned waits for an input."""
_START_SECONDS: Final = 10.0


class StreamingPage:
    """The streaming page of a context: timelines, batches, graph and state in a browser, live.

    Pages: `/` and `/batches/<batch time>`. JSON: `/api/v1/statistics`, `batches`, `batches/<batch time>`, `graph`, `state`,
    `progress`, and `live`, which is what the page asks for every second. `/healthz` for supervisors, `/metrics` for Prometheus.

    Guarantees: it never touches a batch; a page that nobody looks at costs a fifth of a millisecond a batch.

    Args:
        ssc: what is shown; may be given later by `watch`, when it is made after the page is up.
        host: address to listen on; whoever can reach it can read everything that the page shows.
        port: of this address.
        registry: what `/metrics` shows; without one there is no such path.
        clock: what time it is.
        setting: what the port is called in a refusal.

    Example:
        >>> from engine import LocalContext, StreamingContext
        >>> with LocalContext("local", "shown") as context:
        ...     ssc = StreamingContext(context, 1)
        ...     page = StreamingPage(ssc, port=0).start()
        ...     page.address.startswith("http://127.0.0.1:")
        ...     page.stop()
        True
    """

    def __init__(
        self,
        ssc: StreamingContext | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = PORT,
        registry: CollectorRegistry | None = None,
        clock: Clock | None = None,
        setting: str = "port",
    ) -> None:
        self._clock = SystemClock() if clock is None else clock
        self.history = History(self._clock)
        self._host, self._port, self._setting = host, port, setting
        self._registry = registry
        self._ssc: StreamingContext | None = None
        self._waits_for = "the engine is starting"
        self._instance = f"{os.getpid()}-{self._clock.wall_ms()}"
        self._assets = Assets("engine.monitoring")
        self._socket: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready, self._stopping = threading.Event(), asyncio.Event()
        self._failure: Exception | None = None
        """What ended the thread."""
        self._end: page.Status | None = None
        """What ended the stream; asked for once, as each answer would add to the error's traceback."""
        self._thread = threading.Thread(target=self._serve, name="streaming-page", daemon=True)
        if ssc is not None:
            self.watch(ssc)

    # Life cycle.

    def watch(self, ssc: StreamingContext) -> None:
        """Show this context.

        Call it once, before the context starts: what listeners are told is not told again.
        """
        ssc.addStreamingListener(self.history)
        self._ssc = ssc

    def waiting_for(self, text: str) -> None:
        """Say what the start waits for, until the context has started; may be called again as the start goes on."""
        self._waits_for = text

    def start(self) -> Self:
        """Listen, and answer on a thread of its own until `stop` or the end of the process.

        Raises:
            ConfigurationError: the address cannot be opened.
            StreamingError: the server did not come up behind it.
        """
        self._socket = listening(self._host, self._port, self._setting)
        self._thread.start()
        if not self._ready.wait(_START_SECONDS):
            self._failure = TimeoutError(f"it has not answered for {_START_SECONDS:g} s")
        if self._failure is not None:
            self._socket.close()
            self._socket = None
            raise StreamingError(
                f"the streaming page on {self._host} did not start: {self._failure}; "
                "without it nobody can see the engine, so it does not start either"
            ) from self._failure
        return self

    def stop(self) -> None:
        """Stop listening and end the thread; a second call does nothing.

        Not guaranteed: answers that are under way. The end of the process needs no call: the thread ends with it.
        """
        if self._thread.is_alive() and self._loop is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()

    @property
    def address(self) -> str:
        """Where the page is, as people type it.

        Raises:
            StreamingError: it was not started.
        """
        if self._socket is None:
            raise StreamingError("the page has no address yet; call start() first")
        return address_of(self._socket, self._host)

    def _serve(self) -> None:
        """An event loop of its own: a slow reader holds up nobody but other readers."""
        try:
            asyncio.run(self._answer_until_stopped())
        except Exception as error:
            # Whatever it is: `start` waits for it, and later nobody does.
            if self._ready.is_set():
                raise
            self._failure = error
            self._ready.set()

    async def _answer_until_stopped(self) -> None:
        """The thread's life."""
        assert self._socket is not None
        self._loop = asyncio.get_running_loop()
        runner = web.AppRunner(self._application(), access_log=None, handle_signals=False)
        await runner.setup()
        await web.SockSite(runner, self._socket).start()
        self._ready.set()
        try:
            await self._stopping.wait()
        finally:
            await runner.cleanup()

    # Answers.

    def _application(self) -> web.Application:
        """Every path; the router answers all others by 404, and other methods by 405, in plain text."""
        application = web.Application(middlewares=[no_strangers(self._host)])
        application.on_response_prepare.append(add_headers)
        application.add_routes(
            [
                web.get("/", self._page),
                web.get(r"/batches/{time:\d{1,16}}", self._page),
                web.get("/static/{name:.+}", self._assets.file),
                web.get("/healthz", self._health),
                web.get("/api/v1/statistics", self._json(self._statistics)),
                web.get("/api/v1/batches", self._json(self._batches)),
                web.get(r"/api/v1/batches/{time:\d{1,16}}", self._json(self._batch)),
                web.get("/api/v1/graph", self._json(lambda _: self._graph())),
                web.get("/api/v1/state", self._json(lambda _: self._state(self.history.view()))),
                web.get("/api/v1/progress", self._json(lambda _: page.progress(self.history.view()))),
                web.get("/api/v1/live", self._json(self._live)),
            ]
        )
        if self._registry is not None:
            application.router.add_get("/metrics", self._metrics)
        return application

    def _json(self, answer: Callable[[web.Request], Any]) -> Handler:
        async def handle(request: web.Request) -> web.Response:
            text = json.dumps(answer(request), separators=(",", ":"))
            return web.Response(text=text, content_type="application/json")

        return handle

    async def _page(self, request: web.Request) -> web.Response:
        """One document for all pages; its script looks at the address."""
        return self._assets.document(request, "index.html")

    async def _metrics(self, _: web.Request) -> web.Response:
        """The registry in Prometheus's text format: OpenMetrics tells nothing more of it, and takes half as long again."""
        assert self._registry is not None
        return web.Response(
            body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4}
        )

    async def _health(self, _: web.Request) -> web.Response:
        """200 when this process has committed a batch, the stream goes on, and the last commit is not long ago."""
        view = self.history.view()
        status = self._status(view)
        if view.committed_at is None or status.phase in {"failed", "stopped"}:
            return web.Response(status=503, text=f"{status.text or 'no batch is committed yet'}\n")
        stall = page.standstill(view)
        if stall:
            return web.Response(status=503, text="; ".join(filter(None, [stall, status.text])) + "\n")
        return web.Response(text="ok\n")

    def _statistics(self, _: web.Request) -> page.Json:
        view = self.history.view()
        return page.statistics(view, self._status(view), self._clock.wall_ms())

    def _batches(self, request: web.Request) -> list[page.Json]:
        """All that are kept, or those of a status, or those that changed after a revision; the newest `limit` of them."""
        rows = page.batch_rows(self.history.view(), self._clock.wall_ms(), _number(request, "since"))
        if "status" in request.query:
            rows = [row for row in rows if row["status"] == request.query["status"].upper()]
        return rows[: _number(request, "limit") or None]

    def _batch(self, request: web.Request) -> page.Json:
        """One batch.

        Raises:
            web.HTTPNotFound: it is not kept any more, was before this process, or never was.
        """
        view, time = self.history.view(), int(request.match_info["time"])
        for entry in view.entries:
            if entry.time == time:
                return page.batch_page(entry, view)
        raise web.HTTPNotFound(
            text=f"404: batch {time} is not among the {len(view.entries)} batches that are kept\n"
        )

    def _graph(self) -> page.Json:
        # Until the start the graph is still being built, on another thread.
        is_fixed = self._ssc is not None and self.history.view().started is not None
        return page.graph(self._ssc.graph.describe() if self._ssc is not None and is_fixed else ())

    def _state(self, view: View) -> page.Json:
        return page.state(view, self._clock.wall_ms(), _usage(view.executors))

    def _live(self, request: web.Request) -> page.Json:
        """What the page asks for every second: all that changed since a revision, as of one moment."""
        view, now = self.history.view(), self._clock.wall_ms()
        return {
            "instance": self._instance,
            "revision": view.revision,
            "statistics": page.statistics(view, self._status(view), now),
            "batches": page.batch_rows(view, now, _number(request, "since")),
            "state": self._state(view),
        }

    def _status(self, view: View) -> page.Status:
        """Where the engine is in its life, as far as events and the context tell."""
        if self._ssc is None or view.started is None:
            return page.Status("starting", self._waits_for)
        self._end = self._end or self._ended(self._ssc)
        if self._end is not None:
            return self._end
        # Where no shard had to be read nothing tells of it; a commit does.
        is_restoring = view.restored is None and view.committed_at is None
        if is_restoring and view.started.committed is not None and view.started.operators:
            return page.Status("starting", "state is being restored from the checkpoint folder")
        waiting = page.waiting_times(view, self._clock.wall_ms())
        if view.running is None and waiting and self._clock.wall_ms() - waiting[0] > _LATE_MS:
            inputs = ", ".join(stream.name for stream in self._ssc.graph.inputs)
            return page.Status(
                "waiting", f"the next batch is due and cannot be planned yet: waiting for {inputs}"
            )
        if not view.entries:
            return page.Status("starting", "waiting for the first batch")
        return page.Status("running", "")

    def _ended(self, ssc: StreamingContext) -> page.Status | None:
        """How the stream has ended; None while it runs."""
        try:
            has_ended = ssc.awaitTerminationOrTimeout(0)
        except Exception as error:  # noqa: BLE001 - whatever ended the stream is what the page has to say
            return page.Status("failed", f"the stream has ended with an error: {error}")
        return page.Status("stopped", "the context was stopped") if has_ended else None


def _usage(pids: Sequence[int]) -> dict[int, page.Usage]:
    """What the executors have used, by number; those that are gone are not among them."""
    cpu, memory = ExecutorCollector(lambda: pids, {"cpu": "", "memory": ""}).collect()
    return {
        int(used.labels["executor"]): page.Usage(round(used.value, 3), int(resident.value))
        for used, resident in zip(cpu.samples, memory.samples, strict=True)
    }


def _number(request: web.Request, name: str) -> int:
    """A number in the query; 0 when there is none.

    Raises:
        web.HTTPBadRequest: it is no number.
    """
    text = request.query.get(name, "0")
    if not (text.isascii() and text.isdecimal() and len(text) <= 16):
        raise web.HTTPBadRequest(text=f"400: {name}={text!r} is not a whole number\n")
    return int(text)

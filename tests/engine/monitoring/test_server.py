"""The streaming page's server: paths, methods, headers, ports, health."""

import http.client
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from socket import create_server, socket
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
from aiohttp import web

from engine import LocalContext, StreamingContext
from engine.batch import Batch, Time
from engine.errors import ConfigurationError, StreamingError
from engine.monitoring import PrometheusListener, StreamingPage, server
from tests.engine.app import START_MS
from tests.engine.children import ROOT, wait_until
from tests.engine.monitoring.shown import Shown


class Answer(NamedTuple):
    """What the server says to one request."""

    status: int
    headers: dict[str, str]
    body: str

    @property
    def json(self) -> Any:
        """The body as data."""
        return json.loads(self.body)


def ask(page: StreamingPage, path: str, method: str = "GET", **headers: str) -> Answer:
    """One request."""
    connection = http.client.HTTPConnection(urlsplit(page.address).netloc, timeout=10)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return Answer(answer.status, dict(answer.getheaders()), answer.read().decode())
    finally:
        connection.close()


@pytest.fixture
def shown(tmp_path: Path) -> Iterator[Shown]:
    """An application with two batches done, and its page up."""
    with LocalContext("local", "shown") as context, Shown(context, tmp_path) as made:
        made.page.start()
        yield made.run(["a"], ["a", "b"])


@pytest.mark.parametrize(
    "path",
    ["/", f"/batches/{START_MS + 1_000}", "/static/page.css", "/api/v1/statistics", "/nowhere", "/healthz"],
)
def test_every_answer_has_the_security_headers(shown: Shown, path: str) -> None:
    """Pages, assets, data and errors carry a policy without inline code, and may not be framed or sniffed."""
    headers = ask(shown.page, path).headers

    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] in {"no-store", "no-cache"}
    assert headers["Server"] == "dstreams"


def test_page_has_no_inline_code_and_names_only_own_assets(shown: Shown) -> None:
    """Every script, style and picture of the page comes from this server and is there."""
    html = ask(shown.page, "/").body

    assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=", html)
    named = re.findall(r'(?:src|href)="(static/[^"]+)"', html)
    assert len(named) == 5
    assert {ask(shown.page, f"/{path}").status for path in named} == {200}
    assert "http://" not in html
    assert "https://" not in html


def test_page_below_a_proxys_path_begins_its_addresses_there(shown: Shown) -> None:
    """A proxy that names its path gets a document with that base; what is no path changes nothing."""
    below = ask(shown.page, "/", **{"X-Forwarded-Prefix": "/units/totals-0"})
    forged = ask(shown.page, "/", **{"X-Forwarded-Prefix": '/"><script>'})

    assert '<base href="/units/totals-0/">' in below.body
    assert below.headers["ETag"] != forged.headers["ETag"]
    assert forged.body == ask(shown.page, "/").body


def test_scripts_import_only_each_other(shown: Shown) -> None:
    """Every module that a script imports is served."""
    waiting, seen = ["main.js"], set()
    while waiting:
        name = waiting.pop()
        seen.add(name)
        answer = ask(shown.page, f"/static/{name}")
        assert (answer.status, answer.headers["Content-Type"]) == (200, "text/javascript; charset=utf-8")
        waiting += [found for found in re.findall(r'from "\./([^"]+)"', answer.body) if found not in seen]

    assert {"charts.js", "graph.js", "batch.js", "overview.js"} <= seen


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_only_get_and_head_are_answered(shown: Shown, method: str) -> None:
    """Any other method is refused in plain text."""
    answer = ask(shown.page, "/api/v1/statistics", method)

    assert answer.status == 405
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert answer.headers["Allow"] == "GET,HEAD"


def test_head_has_the_headers_and_no_body(shown: Shown) -> None:
    """HEAD answers like GET without the body."""
    answer = ask(shown.page, "/", "HEAD")

    assert (answer.status, answer.body) == (200, "")
    assert int(answer.headers["Content-Length"]) > 1_000


@pytest.mark.parametrize(
    "path", ["/nowhere", "/static/../server.py", "/static/%2e%2e/server.py", "/batches/soon", "/metrics"]
)
def test_unknown_path_is_plain_404(shown: Shown, path: str) -> None:
    """A path that is not there, or leads out of the folder of assets, is a plain 404."""
    answer = ask(shown.page, path)

    assert answer.status == 404
    assert answer.headers["Content-Type"].startswith("text/plain")


def test_unchanged_asset_is_not_sent_again(shown: Shown) -> None:
    """An asset with the tag that the browser has is answered by 304."""
    first = ask(shown.page, "/static/page.css")

    again = ask(shown.page, "/static/page.css", **{"If-None-Match": first.headers["ETag"]})

    assert (again.status, again.body) == (304, "")


def test_batches_are_limited_and_filtered(shown: Shown) -> None:
    """`limit` cuts the list, `status` picks, and a number that is none is refused."""
    assert [row["batchTime"] for row in ask(shown.page, "/api/v1/batches?limit=1").json] == [START_MS + 2_000]
    assert len(ask(shown.page, "/api/v1/batches?status=completed").json) == 2
    assert ask(shown.page, "/api/v1/batches?status=failed").json == []
    assert ask(shown.page, "/api/v1/batches?limit=many").status == 400


def test_batch_is_found_by_its_time(shown: Shown) -> None:
    """A batch that is kept is told, one that is not is a 404 in a sentence."""
    assert ask(shown.page, f"/api/v1/batches/{START_MS + 2_000}").json["inputSize"] == 2
    missing = ask(shown.page, "/api/v1/batches/5")
    assert missing.status == 404
    assert "batch 5 is not among the 2 batches that are kept" in missing.body


def test_live_is_the_union_of_what_the_page_shows(shown: Shown) -> None:
    """One answer holds statistics, changed batches and state, and names process and revision."""
    live = ask(shown.page, "/api/v1/live").json
    later = ask(shown.page, f"/api/v1/live?since={live['revision']}").json

    assert live["statistics"] == ask(shown.page, "/api/v1/statistics").json
    assert live["batches"] == ask(shown.page, "/api/v1/batches").json
    assert live["state"] == ask(shown.page, "/api/v1/state").json
    assert later["batches"] == []
    assert later["instance"] == live["instance"]


def test_health_follows_the_life_of_the_engine(tmp_path: Path) -> None:
    """Health is 503 with the reason before the first commit, 200 after it, and 503 again when the context has stopped."""
    with LocalContext("local", "shown") as context, Shown(context, tmp_path) as made:
        made.page.start()
        before = ask(made.page, "/healthz")
        made.run(["a"])
        running = ask(made.page, "/healthz")
        made.ssc.stop(stopSparkContext=False)
        after = ask(made.page, "/healthz")

    assert (before.status, before.body) == (503, "waiting for the first batch\n")
    assert (running.status, running.body) == (200, "ok\n")
    assert (after.status, after.body) == (503, "the context was stopped\n")


def test_health_ends_when_no_batch_is_committed_for_long(tmp_path: Path) -> None:
    """Five intervals and 30 s after the last commit health is 503; a batch that hangs is named with its output, and a commit heals it."""
    hangs, may_go_on = threading.Event(), threading.Event()

    def hang(words: list[Any]) -> None:
        if len(words) > 1:
            hangs.set()
            may_go_on.wait(30)

    with LocalContext("local", "shown") as context, Shown(context, tmp_path, hang) as made:
        made.page.start()
        made.run(["a"])
        batches = threading.Thread(target=made.run, args=(["a", "b"],))
        batches.start()
        try:
            assert hangs.wait(30)
            made.clock.advance(34_000)
            long = ask(made.page, "/healthz")
            made.clock.advance(1)
            too_long = ask(made.page, "/healthz")
        finally:
            may_go_on.set()
            batches.join(30)
        healed = ask(made.page, "/healthz")
        made.clock.advance(35_001)
        unplanned = ask(made.page, "/healthz")

    assert (long.status, long.body) == (200, "ok\n")
    assert too_long.status == 503
    assert too_long.body == (
        f"no batch was committed for 35 s; batch {START_MS + 2_000} runs in output words.table\n"
    )
    assert (healed.status, healed.body) == (200, "ok\n")
    assert unplanned.status == 503
    assert unplanned.body.startswith("no batch was committed for 35 s; the next batch is due")


@pytest.mark.fault(
    27, "the wall clock set an hour on and back while nothing is committed; health goes by the monotonic one"
)
def test_health_does_not_go_by_the_wall_clock(tmp_path: Path) -> None:
    """A wall clock that jumps on makes no stream unhealthy, and one that jumps back hides no standstill."""
    with LocalContext("local", "shown") as context, Shown(context, tmp_path) as made:
        made.page.start()
        made.run(["a"])
        made.clock.jump(3_600_000)
        on = ask(made.page, "/healthz")
        made.clock.jump(-7_200_000)
        made.clock.advance(35_001)
        back = ask(made.page, "/healthz")

    assert (on.status, on.body) == (200, "ok\n")
    assert back.status == 503
    assert back.body.startswith("no batch was committed for 35 s")


def test_error_that_ended_the_stream_is_the_reason(tmp_path: Path) -> None:
    """Health names the error, again and again the same, when a batch ended the stream."""

    def fail(_: object) -> None:
        raise KeyError("page")

    with LocalContext("local", "shown") as context, Shown(context, tmp_path, fail) as made:
        made.page.start()
        with pytest.raises(StreamingError):
            made.run(["a"])
        answers = [ask(made.page, "/healthz") for _ in range(3)]

    assert {answer.status for answer in answers} == {503}
    assert len({answer.body for answer in answers}) == 1
    assert "KeyError: 'page'" in answers[0].body


def test_page_is_up_before_the_context(tmp_path: Path) -> None:
    """A page that was started first says what the start waits for, and has no figures yet."""
    page = StreamingPage(port=0)
    page.waiting_for("waiting for Kafka at 127.0.0.1:9092")
    page.start()
    try:
        health = ask(page, "/healthz")
        told = ask(page, "/api/v1/statistics").json
        progress = ask(page, "/api/v1/progress").json
        graph = ask(page, "/api/v1/graph").json
    finally:
        page.stop()

    assert (health.status, health.body) == (503, "waiting for Kafka at 127.0.0.1:9092\n")
    assert (told["status"], told["startTime"]) == ("starting", None)
    assert progress == {"epoch": 0, "committed": None, "running": None}
    assert graph == {"nodes": []}


def test_plan_that_waits_for_its_input_is_told(tmp_path: Path) -> None:
    """When no batch is planned although one has been due for long, the page says for which input it waits."""
    with LocalContext("local", "shown") as context, Shown(context, tmp_path) as made:
        made.page.start()
        made.run(["a"])
        made.clock.advance(5_000)

        told = ask(made.page, "/api/v1/statistics").json

    assert told["status"] == "waiting"
    assert told["statusText"].endswith("waiting for words.queue")
    assert told["numWaitingBatches"] == 5


def test_metrics_are_those_of_the_registry() -> None:
    """With a registry /metrics has its samples in Prometheus's text format, whatever else the asker accepts."""
    listener = PrometheusListener()
    page = StreamingPage(port=0, registry=listener.registry).start()
    try:
        told = ask(page, "/metrics", Accept="application/openmetrics-text;version=1.0.0,*/*;q=0.1")
    finally:
        page.stop()

    assert 'engine_batches_total{outcome="completed"} 0.0' in told.body
    assert told.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"


def test_taken_port_is_refused_in_a_sentence() -> None:
    """A port that somebody listens on is named with its setting and the remedy."""
    with create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        with pytest.raises(
            ConfigurationError, match=rf"^METRICS_PORT={port} cannot be opened .*; choose another port$"
        ):
            StreamingPage(port=port, setting="METRICS_PORT").start()


def test_address_that_is_not_ours_is_refused() -> None:
    """A host that this machine does not have is named."""
    with pytest.raises(ConfigurationError, match=r"203\.0\.113\.9"):
        StreamingPage(port=0, host="203.0.113.9").start()


class Broken(StreamingPage):
    """A page whose server cannot be made."""

    def _application(self) -> web.Application:
        raise LookupError("no such path")


class Stuck(StreamingPage):
    """A page whose server is not made until it may be."""

    may_go_on = threading.Event()

    def _application(self) -> web.Application:
        self.may_go_on.wait(30)
        return super()._application()


def test_server_that_does_not_come_up_is_an_error_with_its_cause() -> None:
    """What keeps the thread from serving is raised by `start`, and the port is free again."""
    page = Broken(port=0)

    with pytest.raises(StreamingError, match="did not start: no such path") as caught:
        page.start()

    assert isinstance(caught.value.__cause__, LookupError)
    assert listens_nowhere(page)


def test_server_that_takes_too_long_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that does not serve in time is not taken for one that does."""
    monkeypatch.setattr(server, "_START_SECONDS", 0.05)
    page = Stuck(port=0)

    try:
        with pytest.raises(StreamingError, match=r"did not start: it has not answered for 0\.05 s"):
            page.start()
    finally:
        page.may_go_on.set()
    page.stop()
    assert listens_nowhere(page)


def listens_nowhere(page: StreamingPage) -> bool:
    """Whether a page has let go of its port."""
    try:
        return not page.address
    except StreamingError:
        return True


@pytest.mark.parametrize(
    "path", ["/", "/static/page.css", "/api/v1/live", "/healthz", "/metrics", "/nowhere"]
)
@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:4040", "127.0.0.1.evil.example", "10.0.0.7", "[::2]:80", "a b:c", ""],
)
def test_host_that_a_stranger_may_own_is_refused(shown: Shown, path: str, host: str) -> None:
    """A name with dots, which may be pointed at this machine, reads nothing: no page, no data, no metrics."""
    answer = ask(shown.page, path, Host=host)

    assert answer.status == 421
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert answer.body.startswith(f"421: Host is {host!r}; ask for localhost")
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.0.0.1:19108", "localhost:1", "LOCALHOST", "[::1]", "[::1]:4040", "engine:19108"],
)
def test_host_of_this_machine_or_a_container_is_answered(shown: Shown, host: str) -> None:
    """Loopback and names without dots are answered, with any port."""
    assert ask(shown.page, "/healthz", Host=host).status == 200


@pytest.mark.parametrize(
    ("bound", "asked", "status"),
    [
        ("127.0.0.2", "127.0.0.2", 503),
        ("127.0.0.2", "10.0.0.7", 421),
        ("0.0.0.0", "10.0.0.7:19108", 503),  # noqa: S104  every address is what the case is about
        ("0.0.0.0", "evil.example", 421),  # noqa: S104  as above
    ],
)
def test_page_answers_to_the_address_that_it_listens_on(bound: str, asked: str, status: int) -> None:
    """Its own address is answered; when it listens on all of them, each is, and a name with dots still is not."""
    page = StreamingPage(port=0, host=bound).start()
    try:
        assert ask(page, "/healthz", Host=asked).status == status
    finally:
        page.stop()


def test_restart_without_a_shard_to_read_gets_to_running(tmp_path: Path) -> None:
    """Where no event tells that state was read, a start after commits says running once it has committed a batch itself."""
    with LocalContext("local", "shown") as context, Shown(context, tmp_path) as made:
        made.page.start()
        before = made.view.started
        assert before is not None
        earlier = replace(before, committed=Batch(Time(START_MS), {}))
        made.page.history.onStreamingStarted(earlier)
        restoring = ask(made.page, "/api/v1/statistics").json
        made.run(["a"])
        told = ask(made.page, "/api/v1/statistics").json

    assert restoring["statusText"] == "state is being restored from the checkpoint folder"
    assert made.view.restored is None
    assert (told["status"], told["statusText"]) == ("running", "")


def test_stopped_page_lets_go_of_its_port_and_thread() -> None:
    """After `stop` nobody listens, no thread is left, and a second call does nothing."""
    page = StreamingPage(port=0).start()
    address = urlsplit(page.address)
    page.stop()
    page.stop()

    with socket() as probe:
        assert probe.connect_ex((address.hostname or "", address.port or 0)) != 0
    assert "streaming-page" not in {thread.name for thread in threading.enumerate()}


def test_page_without_start_has_no_address() -> None:
    """The address is known when the page listens."""
    with pytest.raises(StreamingError, match="start"):
        _ = StreamingPage(port=0).address


@pytest.mark.slow
def test_page_of_a_running_context_in_one_line(tmp_path: Path) -> None:
    """A page that is made with its context shows the batches of its thread."""
    with LocalContext("local", "live") as context:
        ssc = StreamingContext(context, 0.05)
        ssc.queueStream([["a"]]).foreachRDD(lambda rdd: rdd.count())
        page = StreamingPage(ssc, port=0).start()
        try:
            ssc.start()
            wait_until(lambda: ask(page, "/healthz").status == 200, "a batch is committed")
            assert ask(page, "/api/v1/statistics").json["app"] == "live"
        finally:
            ssc.stop(stopSparkContext=False)
            page.stop()


@pytest.mark.slow
def test_example_of_the_documents_runs(tmp_path: Path) -> None:
    """The job in docs/streaming-page.md runs as it stands, on a free port, and says where its page is."""
    document = (ROOT / "docs" / "streaming-page.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", document, re.DOTALL)

    done = subprocess.run(
        [sys.executable, "-c", example.replace("port=4040", "port=0")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert "see http://127.0.0.1:" in done.stdout
    assert "('to', 1)" in done.stdout

"""The page of a replica: what it tells of units and replicas, the commands that it takes, what it passes on of its units."""

import http.client
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import pytest

from engine.errors import ConfigurationError
from services.pipeline.web import _Merged
from tests.services.pipeline.replicas_world import Shown, shown

pytestmark = pytest.mark.slow

JSON = {"Content-Type": "application/json"}
SCRAPED = b"""# HELP engine_records_total Records.
# TYPE engine_records_total counter
engine_records_total{topic="views"} 5.0
# HELP process_open_fds Files.
# TYPE process_open_fds gauge
process_open_fds 3.0
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    """A replica whose three units run."""
    with shown(tmp_path_factory.mktemp("shared")) as one:
        yield one


class UnitsPage(BaseHTTPRequestHandler):
    """A unit's own page: metrics, a batch, and a document that tells what it was asked."""

    def do_GET(self) -> None:
        """Answer."""
        body = {
            "/metrics": SCRAPED,
            "/api/v1/batches?limit=1&status=completed": b'[{"batchTime": 9000, "lagRecords": {"views": 3}}]',
        }.get(self.path, f"{self.path} below {self.headers['X-Forwarded-Prefix']}".encode())
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def unit_page(page: Shown) -> Iterator[None]:
    """The unit trending has a page."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), UnitsPage)
    Thread(target=server.serve_forever, daemon=True).start()
    child = page.replica.held[0].child
    assert child is not None
    before, child.page = child.page, f"http://127.0.0.1:{server.server_port}/"
    yield
    child.page = before
    server.shutdown()
    server.server_close()


def ask(page: Shown, path: str, body: bytes | None = None, **headers: str) -> tuple[int, str]:
    """Status and text of an answer; no redirection is followed."""
    connection = http.client.HTTPConnection(urlsplit(page.address).netloc, timeout=10)
    connection.request("GET" if body is None else "POST", path, body, headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def status(page: Shown) -> dict[str, Any]:
    """What the replica tells."""
    told: dict[str, Any] = json.loads(ask(page, "/api/status")[1])
    return told


def test_status_has_every_unit_with_its_owner(page: Shown) -> None:
    """Each unit is told with owner and state, and the replica with its units."""
    told = status(page)

    assert (told["name"], told["state"], told["generation"]) == ("engine-1", "member", 7)
    assert [(unit["unit"], unit["owner"], unit["state"]) for unit in told["units"]] == [
        ("trending", "engine-1", "running"),
        ("totals-0", "engine-1", "running"),
        ("totals-1", "engine-1", "running"),
    ]
    assert [(each["name"], each["units"]) for each in told["replicas"]] == [
        ("engine-1", ["trending", "totals-0", "totals-1"])
    ]


def test_wrong_command_is_refused_and_not_sent(page: Shown) -> None:
    """The answer to a wrong command is its sentence; nobody else hears of it."""
    code, text = ask(page, "/api/commands", b'{"command": "pause", "name": "none", "time": 1}', **JSON)

    assert code == 400
    assert json.loads(text)["error"].startswith("there is no job or unit 'none' to pause; choose from")
    assert ask(page, "/api/commands", b"pause", **JSON)[0] == 400
    assert page.sent == []


def test_command_of_another_sites_page_is_refused(page: Shown) -> None:
    """What a browser sends for any site without asking (a form, plain text) is no command, however right it is."""
    code, text = ask(
        page,
        "/api/commands",
        b'{"command": "pause", "name": "totals", "time": 1}',
        **{"Content-Type": "text/plain"},
    )

    assert code == 415
    assert "application/json" in json.loads(text)["error"]
    assert page.sent == []


def test_metrics_tell_of_units_without_owner(page: Shown) -> None:
    """While every unit has an owner the metric is 0, and each unit's changes of owner are told."""
    _, text = ask(page, "/metrics")

    assert "replica_units_without_owner 0.0" in text
    assert "replica_units 3.0" in text
    assert 'replica_owner_changes_total{unit="totals-1"} 0.0' in text


@pytest.mark.usefixtures("unit_page")
def test_units_metrics_get_their_unit(page: Shown) -> None:
    """What a unit tells to a scrape stands there with the label `unit`, beside the replica's own of the same name."""
    _, text = ask(page, "/metrics")

    assert 'engine_records_total{topic="views",unit="trending"} 5.0' in text
    assert 'process_open_fds{unit="trending"} 3.0' in text
    assert text.count("# TYPE process_open_fds gauge") == 1
    assert "\nprocess_open_fds " in text


@pytest.mark.usefixtures("unit_page")
def test_page_of_a_unit_is_below_its_replicas(page: Shown) -> None:
    """A path below /units/NAME/ is asked of the unit, which hears where it is shown."""
    assert ask(page, "/units/trending/api/v1/live?since=0") == (
        200,
        "/api/v1/live?since=0 below /units/trending",
    )
    assert ask(page, "/units/trending")[0] == 302


@pytest.mark.parametrize(
    ("path", "sentence"),
    [("/units/none/", "there is no unit 'none'; choose from"), ("/units/../static/../x", "404")],
    ids=["no unit", "no path"],
)
def test_page_of_no_unit_is_not_found(page: Shown, path: str, sentence: str) -> None:
    """What is no unit here is a 404 with the reason."""
    code, text = ask(page, path)

    assert (code, sentence in text) == (404, True)


def test_replica_that_is_no_member_is_not_healthy(page: Shown) -> None:
    """Health is the place in the group, or having been told to have none."""
    assert ask(page, "/healthz") == (200, "ok\n")
    page.state = "joining"
    try:
        assert ask(page, "/healthz") == (503, "replica engine-1 is joining\n")
    finally:
        page.state = "member"


def test_strangers_are_refused(page: Shown) -> None:
    """A name that a site may have been given is not answered, as on the streaming page."""
    assert ask(page, "/api/status", Host="example.org")[0] == 421


def test_taken_port_is_refused_in_a_sentence(page: Shown, tmp_path: Path) -> None:
    """A second page on the same port says which setting to change."""
    other = Shown(tmp_path)
    port = urlsplit(page.address).port
    with pytest.raises(ConfigurationError, match=f"METRICS_PORT={port} cannot be opened"):
        type(page.page)("127.0.0.1", port, "engine-2", other.sharing, page.replica, None, None, None)  # type: ignore[arg-type]  # it gets no further


def test_merging_keeps_each_family_once() -> None:
    """Two units' samples of one metric stand in one family."""

    class Nothing:
        """A registry without metrics."""

        def collect(self) -> Iterator[Any]:
            """Nothing."""
            return iter(())

    families = list(_Merged(Nothing(), {"a": SCRAPED, "b": SCRAPED}).collect())  # type: ignore[arg-type]  # all that is asked of it

    assert [(family.name, [sample.labels["unit"] for sample in family.samples]) for family in families] == [
        ("engine_records", ["a", "b"]),
        ("process_open_fds", ["a", "b"]),
    ]

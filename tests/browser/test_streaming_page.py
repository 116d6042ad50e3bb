"""The streaming page of a small engine, in Chromium."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Route

from services.settings import REPOSITORY, base_environment
from tests.browser.conftest import Open
from tests.engine.children import kill
from tests.ports import free_port

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PHONE = {
    "viewport": {"width": 360, "height": 740},
    "device_scale_factor": 2,
    "is_mobile": True,
    "has_touch": True,
}


class Engine:
    """The small engine as a process; a second start goes on in the same folder.

    Args:
        folder: of its checkpoints.
    """

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None

    def start(self, *options: str) -> "Engine":
        """Start it and return when it says so."""
        command = [
            sys.executable,
            "-m",
            "tests.browser.engine_app",
            str(self.port),
            str(self._folder),
            *options,
        ]
        self._process = subprocess.Popen(
            command, cwd=REPOSITORY, env=base_environment(), stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline().startswith("engine: started")
        return self

    def kill(self) -> None:
        """End it with SIGKILL."""
        if self._process is not None:
            kill(self._process.pid)
            self._process.communicate()
            self._process = None


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Engine]]:
    """Starts a small engine with options, of the test alone."""
    engine = Engine(tmp_path / "checkpoints")
    yield engine.start
    engine.kill()


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A small engine that keeps up, for all tests that do nothing to it."""
    engine = Engine(tmp_path_factory.mktemp("engine") / "checkpoints").start()
    yield engine
    engine.kill()


def test_charts_move_without_reload(engine: Engine, look: Open) -> None:
    """Each timeline has drawn points, and new batches arrive on a page that is left alone."""
    seen = look(engine.address)
    seen.page.evaluate("window.wasNeverReloaded = true")
    seen.wait_for_batches(4)
    first = seen.batches()

    seen.wait_for_batches(first + 8)

    assert seen.page.evaluate("window.wasNeverReloaded") is True
    for key in ("inputRate", "processingTime", "totalDelay"):
        assert seen.coloured(key, "--accent") > 20
    assert seen.texts(".timeline h3") == ["Input rate", "Scheduling delay", "Processing time", "Total delay"]
    assert seen.texts(".histogram canvas") == [""] * 4
    assert seen.text("#headline").startswith("Running batches of 250 ms for ")
    assert seen.text("#restart") == ""
    # A minute at least is shown, and what there is begins it.
    assert seen.left_of("totalDelay", "--accent") < 0.05


def test_table_says_what_the_api_says(engine: Engine, look: Open) -> None:
    """Every completed batch that the table shows has the records, delays and outputs that the API tells of it."""
    seen = look(engine.address)
    seen.wait("() => document.querySelectorAll('#completed tbody tr').length >= 5")

    shown = seen.page.evaluate(
        """() => [...document.querySelectorAll("#completed tbody tr")].map((row) => [
          Number(row.querySelector("a").getAttribute("href").split("/").at(-1)),
          ...[...row.children].slice(1, 7).map((cell) => cell.innerText.trim())])"""
    )
    told = {row["batchTime"]: row for row in seen.ask("/api/v1/batches")}

    assert len(shown) >= 5
    for time, records, scheduling, processing, total, outputs, status in shown:
        row = told[time]
        assert records == str(row["inputSize"])
        assert [scheduling, processing, total] == [
            f"{row[name]} ms" for name in ("schedulingDelay", "processingTime", "totalDelay")
        ]
        assert outputs == f"{row['numCompletedOutputOps']}/{row['numTotalOutputOps']}"
        assert status == row["status"].lower()


def test_row_leads_to_the_page_of_its_batch(engine: Engine, look: Open) -> None:
    """A click on a batch shows its ranges, outputs and stages as the API tells them, and the way back."""
    seen = look(engine.address)
    seen.page.locator("#completed tbody a").first.click()
    seen.wait("() => document.querySelectorAll('#batch .stages li').length > 0")
    time = int(seen.page.url.rpartition("/")[2])
    seen.wait("() => document.querySelectorAll('#batch .stages li').length === 9")
    told = seen.ask(f"/api/v1/batches/{time}")

    assert seen.texts("#batch .stage") == [stage["name"] for stage in told["stages"]]
    assert seen.texts("#batch table[aria-label^='Outputs'] tbody tr td:nth-child(2)") == ["table"]
    ranges = seen.texts("#batch table[aria-label^='Ranges'] tbody td")
    assert ranges[:2] == ["words.queue", "0"]
    assert [int(text.replace(",", "")) for text in ranges[2:5]] == [
        told["ranges"][0][name] for name in ("fromOffset", "untilOffset", "records")
    ]
    seen.page.click("text=All batches")
    seen.wait("() => !document.getElementById('overview').hidden && location.pathname === '/'")


def test_click_on_a_point_leads_to_its_batch(engine: Engine, look: Open) -> None:
    """The batch under the pointer on a timeline opens by a click."""
    seen = look(engine.address)
    seen.wait_for_batches(5)
    plot = seen.page.locator('[data-key="totalDelay"] .plot .u-over')
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    assert box is not None

    seen.page.mouse.move(box["x"] + box["width"] - 8, box["y"] + 20)
    seen.page.mouse.click(box["x"] + box["width"] - 8, box["y"] + 20)

    seen.wait("() => document.querySelectorAll('#batch .batch-title').length === 1")
    assert "/batches/" in seen.page.url


def test_batch_page_opens_by_its_address(engine: Engine, look: Open) -> None:
    """The address of a batch can be sent to someone: it shows that batch at once."""
    seen = look(engine.address)
    seen.wait_for_batches(3)
    time = seen.ask("/api/v1/batches?status=completed")[0]["batchTime"]

    seen.open(f"/batches/{time}")

    seen.wait("time => document.getElementById('batch').dataset.batch === String(time)", time)
    seen.open("/batches/5")
    seen.wait("() => document.getElementById('batch').innerText.includes('does not keep this batch')")
    seen.complaints = [text for text in seen.complaints if "404" not in text]


def test_graph_is_drawn_with_every_operator(engine: Engine, look: Open) -> None:
    """The drawing leads from the input over the operators, state with its keys, to the output."""
    seen = look(engine.address)
    seen.wait("() => document.querySelector('#graph svg')?.textContent.includes('4 keys')")

    boxes = seen.page.eval_on_selector_all(
        "#graph .node",
        "all => all.map(one => [...one.querySelectorAll('text')].map(line => line.textContent).join(' '))",
    )
    assert boxes == [
        "queue input",
        "flatMap · map · reduceByKey",
        "totals updateStateByKey 4 keys",
        "table output every 250 ms",
    ]
    assert seen.page.locator("#graph .edge").count() == 3


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_schemes_are_readable(engine: Engine, look: Open, scheme: str) -> None:
    """In light and in dark the text stands out from its ground by at least 4.5 to 1."""
    seen = look(engine.address, color_scheme=scheme)
    seen.wait_for_batches(3)

    ratios = seen.page.evaluate(CONTRAST, ["--ink", "--ink-2", "--muted", "--accent", "--bad"])
    ground = seen.page.evaluate("getComputedStyle(document.body).backgroundColor")

    assert min(ratios) >= 4.5
    assert (sum(map(int, ground[4:-1].split(","))) < 200) == (scheme == "dark")
    assert seen.coloured("totalDelay", "--accent") > 20


CONTRAST = """
(names) => {
  const style = getComputedStyle(document.documentElement);
  const brush = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const luminance = (name) => {
    brush.fillStyle = style.getPropertyValue(name).trim();
    brush.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...brush.getImageData(0, 0, 1, 1).data].map((part) => {
      const share = part / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  return names.flatMap((name) => ["--paper", "--card"].map((ground) => {
    const [low, high] = [luminance(name), luminance(ground)].sort((one, other) => one - other);
    return (high + 0.05) / (low + 0.05);
  }));
}
"""


def test_phone_needs_no_sideways_scrolling(engine: Engine, look: Open) -> None:
    """On a phone of 360 pixels both pages fit, and the rows of tables name their figures."""
    seen = look(engine.address, **PHONE)
    seen.wait("() => document.querySelectorAll('#completed tbody tr').length >= 5")
    label = seen.page.evaluate(
        "getComputedStyle(document.querySelector('#completed tbody td:nth-child(4)'), '::before').content"
    )

    assert not seen.is_wider_than_the_window()
    assert label == '"Processing"'
    seen.page.locator("#completed tbody a").first.tap()
    seen.wait("() => document.querySelectorAll('#batch .stages li').length > 0")
    assert not seen.is_wider_than_the_window()


def test_keyboard_reaches_a_batch_and_charts_have_words(engine: Engine, look: Open) -> None:
    """The first Tab leads to the skip link, focus can be seen, and each chart says its figures to a screen reader."""
    seen = look(engine.address)
    seen.wait_for_batches(3)

    seen.page.keyboard.press("Tab")
    assert seen.page.evaluate("document.activeElement.className") == "skip"
    seen.page.locator("#completed tbody a").first.focus()
    assert seen.page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    seen.page.keyboard.press("Enter")
    seen.wait("() => !document.getElementById('batch').hidden")
    seen.page.go_back()
    seen.wait("() => !document.getElementById('overview').hidden")

    for label in seen.page.eval_on_selector_all(
        "[role=img]", "all => all.map(one => one.getAttribute('aria-label'))"
    ):
        assert len(label) > 20


def test_killed_engine_is_told_and_its_successor_found(start: Callable[..., Engine], look: Open) -> None:
    """When the engine dies the page says since when, keeps what it has, and goes on by itself with the next one."""
    engine = start()
    seen = look(engine.address)
    seen.wait_for_batches(6)
    before = seen.batches()

    engine.kill()

    seen.wait("() => !document.getElementById('silence').hidden")
    assert seen.text("#silence").startswith("The engine does not answer since ")
    assert seen.text("#phase") == "no answer"
    assert seen.batches() >= before

    engine.start()

    seen.wait("() => document.getElementById('silence').hidden")
    seen.wait_for_batches(before + 4)
    assert seen.text("#phase") == "running"
    assert "epoch 2" in seen.text("#tiles")
    seen.wait("() => document.getElementById('restart').innerText.includes('; caught up at ')")
    told = seen.ask("/api/v1/statistics")["restart"]
    assert told["restoredKeys"] == 4
    assert told["committedBatchTime"] < told["time"] < told["caughtUpTime"]
    late = look(engine.address)
    late.wait_for_batches(4)
    assert late.text("#restart") == seen.text("#restart")
    assert late.coloured("totalDelay", "--ink-2") > 5  # the mark of the restart
    assert late.left_of("totalDelay", "--accent") < 0.3
    assert "the inputs tell none" in seen.text("#tiles")


def test_answer_that_cannot_be_drawn_does_not_stop_the_page(engine: Engine, look: Open) -> None:
    """An answer that the page cannot draw is told on it and in the console, and the next one is drawn again."""
    seen = look(engine.address)
    seen.wait_for_batches(2)
    live = re.compile(r"/api/v1/live")

    def spoil(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, json={**answer.json(), "state": {}})

    seen.page.route(live, spoil)
    seen.wait("() => !document.getElementById('failure').hidden")
    assert seen.text("#failure").startswith("The page could not draw the engine's last answer (TypeError: ")
    assert seen.complaints
    assert all("could not draw" in text for text in seen.complaints)
    seen.page.unroute(live)

    seen.wait("() => document.getElementById('failure').hidden")
    seen.wait_for_batches(seen.batches() + 4)
    assert seen.text("#phase") == "running"
    seen.complaints.clear()


def test_answer_that_is_no_figures_is_shown(engine: Engine, look: Open) -> None:
    """An answer with an error is not called silence: its status and text are shown until there are figures again."""
    seen = look(engine.address)
    seen.wait_for_batches(2)
    live = re.compile(r"/api/v1/live")

    seen.page.route(live, lambda route: route.fulfill(status=502, body="no way to the engine"))
    seen.wait("() => !document.getElementById('silence').hidden")
    assert re.match(
        r"There are no figures since [\d:]+, .* ago\. What answered said 502: no way to the engine\. This page asks",
        seen.text("#silence"),
    )
    assert seen.text("#phase") == "refused"
    seen.page.unroute(live)
    seen.page.route(live, lambda route: route.fulfill(status=200, body="<p>Welcome</p>"))
    seen.wait("() => document.getElementById('silence').innerText.includes('said 200: <p>Welcome</p>.')")
    seen.page.unroute(live)

    seen.wait("() => document.getElementById('silence').hidden")
    assert seen.text("#phase") == "running"
    seen.complaints = [text for text in seen.complaints if "502" not in text]


def test_batch_that_cannot_be_read_is_asked_for_again(engine: Engine, look: Open) -> None:
    """On the page of a batch an error is shown as what it is, and the batch as soon as it is told."""
    seen = look(engine.address)
    seen.wait_for_batches(2)
    time = seen.ask("/api/v1/batches?status=completed")[0]["batchTime"]
    address = re.compile(rf"/api/v1/batches/{time}")

    seen.page.route(address, lambda route: route.fulfill(status=500, body="500: out of order"))
    seen.open(f"/batches/{time}")
    seen.wait("() => document.getElementById('batch').innerText.includes('500: out of order')")
    assert "does not keep this batch" not in seen.text("#batch")
    seen.page.unroute(address)

    seen.wait("() => document.querySelectorAll('#batch .stages li').length > 0")
    seen.complaints = [text for text in seen.complaints if "500" not in text]


def test_overload_is_red_and_batches_wait(start: Callable[..., Engine], look: Open) -> None:
    """An output slower than the interval turns processing time red, and batches that wait are listed."""
    engine = start("--slow", "0.9")
    seen = look(engine.address)
    seen.wait_for_batches(4)
    seen.wait("() => document.querySelectorAll('#waiting tbody tr').length >= 2")

    assert "bad" in (seen.page.locator("#tiles .tile").nth(1).get_attribute("class") or "").split()
    assert "over" in (seen.page.locator('[data-key="processingTime"]').get_attribute("class") or "").split()
    assert seen.coloured("processingTime", "--bad") > 40
    assert seen.text('[data-key="processingTime"] .legend') == "batch interval 250 ms"
    assert seen.coloured("totalDelay", "--bad") == 0
    assert seen.texts("#waiting tbody td:nth-child(3)")[0] == "queued"
    bad = seen.page.eval_on_selector_all(
        "#completed td[data-label=Processing]", "all => all.map(one => one.dataset.tone)"
    )
    assert set(bad) == {"bad"}


def test_hanging_batch_is_not_called_normal(start: Callable[..., Engine], look: Open) -> None:
    """While a batch hangs the lag that its plan found stays what one batch takes, and the tile says how old it has become."""
    engine = start("--hang")
    seen = look(engine.address)

    seen.wait("() => document.querySelectorAll('#waiting tbody tr').length >= 9")

    (hanging,) = seen.ask("/api/v1/batches?status=processing")
    assert hanging["lagRecords"] == {"lines": 2}
    assert re.fullmatch(
        r"Lag, uncommitted\s+2\s+when last asked,\nup to \d[\d.]* s old", seen.texts("#tiles .tile")[4]
    )


def test_failed_batch_shows_its_error(start: Callable[..., Engine], look: Open) -> None:
    """A failed batch is red in the table, its page has the traceback as text, and the head says what ended the stream."""
    engine = start("--fail")
    seen = look(engine.address)
    seen.wait("() => document.getElementById('phase').textContent === 'failed'")
    seen.wait("() => document.querySelector('#completed tbody .bad-row') !== null")

    assert "no such <b>table</b>" in seen.text("#notice")
    assert seen.page.locator("b").count() == 0
    seen.page.locator("#completed .bad-row a").click()
    seen.wait("() => document.querySelector('#batch pre') !== null")
    assert 'raise LookupError("no such <b>table</b>")' in seen.text("#batch pre")
    assert seen.texts("#batch td[data-label=Status]") == ["failed"]

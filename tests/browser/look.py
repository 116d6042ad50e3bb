"""A page in a browser, and what a test asks of it."""

import json
import re
import urllib.request
from pathlib import Path
from typing import Any

from playwright.sync_api import BrowserContext, ConsoleMessage, Request, TimeoutError  # noqa: A004 - playwright names it so

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SECONDS = 40.0
"""The longest that a test waits for something to be so."""

_UNREACHABLE = re.compile(r"Failed to load resource: net::ERR_(CONNECTION|NETWORK|EMPTY|SOCKET)_?\w*")
"""What the browser itself says of an engine that is dead, or of a network of this machine that came or went."""


class Look:
    """One page of a browser context of its own.

    Args:
        context: the browser context.
        address: what to open.
    """

    def __init__(self, context: BrowserContext, address: str) -> None:
        self.context = context
        self.address = address.rstrip("/")
        self.complaints: list[str] = []
        """What the console said beyond an engine that does not answer: errors, warnings, violations of the policy."""
        self.foreign: list[str] = []
        """Requests to anyone but the page's own server."""
        self.page = context.new_page()
        self.page.set_default_timeout(SECONDS * 1_000)
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", self._see)
        self.open("/")

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"} and not _UNREACHABLE.match(message.text):
            self.complaints.append(message.text)

    def _see(self, request: Request) -> None:
        if not request.url.startswith((self.address, "data:")):
            self.foreign.append(request.url)

    def open(self, path: str) -> None:
        """Go to a path, once more when the network of this machine changed under it."""
        for _ in range(3):
            self.page.goto(self.address + path)
            if self.page.evaluate(_HAS_ITS_LIBRARY) and self.is_so(
                "() => !['Streaming', 'Replicas'].includes(document.title)", seconds=20
            ):
                return

    def ask(self, path: str) -> Any:
        """What the API answers to a request that is not the page's."""
        with urllib.request.urlopen(self.address + path, timeout=10) as answer:  # noqa: S310 - an address of ours
            return json.load(answer)

    def text(self, selector: str) -> str:
        """The text of an element as a reader sees it."""
        return self.page.inner_text(selector)

    def texts(self, selector: str) -> list[str]:
        """The texts of all such elements, read at one moment."""
        found: list[str] = self.page.eval_on_selector_all(
            selector, "all => all.map(one => one.innerText.trim())"
        )
        return found

    def wait(self, condition: str, argument: Any = None, seconds: float = SECONDS) -> None:
        """Wait until a condition holds: a function in JavaScript, as the page's policy forbids to evaluate text again and again."""
        self.page.wait_for_function(condition, arg=argument, timeout=seconds * 1_000)

    def is_so(self, condition: str, seconds: float) -> bool:
        """Whether a condition comes to hold within so many seconds."""
        try:
            self.page.wait_for_function(condition, timeout=seconds * 1_000)
        except TimeoutError:
            return False
        return True

    def wait_for_batches(self, count: int) -> None:
        """Wait until the timelines show at least so many batches."""
        self.wait("count => " + _SHOWN + " >= count", count, SECONDS + 2 * count)

    def batches(self) -> int:
        """Batches that the timelines show."""
        return int(self.page.evaluate(_SHOWN))

    def coloured(self, key: str, colour: str) -> int:
        """Pixels of a timeline that have the colour of a CSS variable."""
        return int(self.page.evaluate(_PIXELS, [key, colour]))

    def left_of(self, key: str, colour: str) -> float:
        """Where a timeline's first pixel of such a colour is, as a share of the plot's width."""
        return float(self.page.evaluate(_LEFT, [key, colour]))

    def is_wider_than_the_window(self) -> bool:
        """Whether the page must be scrolled sideways."""
        return bool(self.page.evaluate("document.documentElement.scrollWidth > window.innerWidth"))

    def shoot(self, folder: Path | None, name: str, *, whole: bool = False) -> None:
        """Take a picture for the documents, if they are asked for."""
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            self.page.mouse.move(0, 0)
            self.page.screenshot(path=folder / f"streaming-{name}.png", full_page=whole)


_HAS_ITS_LIBRARY = "!document.querySelector('script[src*=uPlot]') || typeof uPlot === 'function'"
_SHOWN = """
Number(/ of (\\d+) batches/.exec(
  document.querySelector('[data-key="totalDelay"] .plot')?.getAttribute("aria-label") ?? "")?.[1] ?? 0)
"""

_COLUMNS = """
const columnsOf = ([key, variable]) => {
  const probe = document.createElement("canvas").getContext("2d");
  probe.fillStyle = getComputedStyle(document.documentElement).getPropertyValue(variable).trim();
  probe.fillRect(0, 0, 1, 1);
  const wanted = probe.getImageData(0, 0, 1, 1).data;
  const canvas = document.querySelector(`[data-key="${key}"] .plot canvas`);
  // A copy, as the page's own canvas is not made to be read again and again.
  const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", { willReadFrequently: true });
  copy.drawImage(canvas, 0, 0);
  const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);
  const columns = [];
  for (let at = 0; at < data.length; at += 4) {
    if (data[at + 3] > 200 && [0, 1, 2].every((part) => Math.abs(data[at + part] - wanted[part]) < 12)) columns.push((at / 4) % canvas.width);
  }
  return columns;
};
"""
_PIXELS = f"(given) => {{ {_COLUMNS} return columnsOf(given).length; }}"
_LEFT = f"""(given) => {{ {_COLUMNS}
  const [canvas, over] = ["canvas", ".u-over"].map((name) =>
    document.querySelector(`[data-key="${{given[0]}}"] .plot ${{name}}`).getBoundingClientRect());
  const first = canvas.left + Math.min(...columnsOf(given)) / devicePixelRatio;
  return (first - over.left) / over.width;
}}"""

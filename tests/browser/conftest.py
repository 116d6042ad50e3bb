"""One Chromium for a module; where it is missing, pytest's closing section says what that cost and what to install.

`pytest tests/browser --screenshots docs/images` takes the pictures of the documents from the pages that the tests look at.
"""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Playwright, sync_playwright

from tests.browser.look import ARGUMENTS, Look
from tests.closing import keep_back

Open = Callable[..., Look]
"""Opens an address in a page of its own; more arguments are those of a browser context."""


def chromium() -> str | None:
    """Debian's Chromium, when it is installed."""
    return shutil.which("chromium")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where pictures go."""
    parser.addoption("--screenshots", metavar="FOLDER", help="take the documents' pictures into this folder")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the tests that cannot run from failing, and remember them for the closing section."""
    if chromium() is None:
        unable = [item for item in items if item.get_closest_marker("browser")]
        keep_back(config, unable, "a browser", "chromium not found; install Debian's package chromium")


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    """The driver of browsers; its event loop occupies the thread, so it ends before other tests begin."""
    with sync_playwright() as driver:
        yield driver


@pytest.fixture(scope="module")
def browser(playwright: Playwright) -> Iterator[Browser]:
    """One Chromium, headless, that speaks to nobody but our own server."""
    launched = playwright.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
    yield launched
    launched.close()


@pytest.fixture
def look(browser: Browser) -> Iterator[Open]:
    """Opens pages; at the end of the test none of them may have complained or asked anyone else for anything."""
    opened: list[Look] = []

    def open_page(address: str, **options: object) -> Look:
        opened.append(Look(browser.new_context(**options), address))  # type: ignore[arg-type]  # the options are playwright's
        return opened[-1]

    yield open_page
    for one in opened:
        one.context.close()
    for one in opened:
        assert one.complaints == []
        assert one.foreign == []


@pytest.fixture(scope="session")
def screenshots(request: pytest.FixtureRequest) -> Path | None:
    """Where pictures go; None when none are asked for."""
    folder = request.config.getoption("--screenshots", default=None)
    return Path(folder) if folder else None

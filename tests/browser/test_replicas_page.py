"""The page of a replica, in Chromium; the units' processes are stand-ins."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.pipeline.control import apply
from tests.browser.conftest import Open
from tests.services.pipeline.replicas_world import Shown, shown

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture
def replica(tmp_path: Path) -> Iterator[Shown]:
    """A replica whose three units run."""
    with shown(tmp_path) as one:
        yield one


def test_page_follows_the_units(replica: Shown, look: Open) -> None:
    """Units and replicas are shown with their states, which change on the page as they change."""
    page = look(replica.address)
    page.wait("() => document.querySelectorAll('#units tbody tr').length === 3")
    page.wait("() => document.querySelector('#phase').textContent === 'member'")
    page.wait("() => document.querySelector('#replicas').textContent.includes('engine-1')")

    apply(replica.sharing.folder, replica.check({"command": "pause", "name": "trending", "time": 1}))

    page.wait("() => document.querySelector('#units tbody tr').textContent.includes('paused')")


def test_page_says_when_nobody_answers(tmp_path: Path, look: Open) -> None:
    """A replica that is gone leaves what is shown, under a sentence that says so."""
    with shown(tmp_path) as replica:
        page = look(replica.address)
        page.wait("() => document.querySelectorAll('#units tbody tr').length === 3")

    page.wait("() => !document.querySelector('#silence').hidden")
    page.wait("() => document.querySelector('#phase').textContent === 'no answer'")

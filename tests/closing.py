"""A pytest plugin: what a run says at its end: what tests have measured, what was left out, and what this machine cannot run.

With `-n 2` the tests run in processes of pytest-xdist, which hand their lines to the one that reports.

Owns: the fixture figures, keep_back, is_held_back, leave_to, and the sections.
"""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

_FIGURES = pytest.StashKey[list[str]]()
_LEFT_OUT = pytest.StashKey[list[str]]()
_HELD_BACK = pytest.StashKey[dict[str, list[str]]]()
"""By the sentence that the section ends with, the tests."""
_OUTPUT = "closing"


def pytest_configure(config: pytest.Config) -> None:
    """Begin with nothing to say."""
    config.stash[_FIGURES] = []
    config.stash[_LEFT_OUT] = []
    config.stash[_HELD_BACK] = {}


@pytest.fixture(scope="session")
def figures(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Takes a line for the closing section."""
    return request.config.stash[_FIGURES].append


def keep_back(config: pytest.Config, items: Sequence[pytest.Item], needs: str, remedy: str) -> None:
    """Keep tests from failing that cannot run: they are skipped, and the closing section names each and says what to install.

    Args:
        config: pytest's.
        items: the tests.
        needs: what they need, as in "needs a browser".
        remedy: why it is not there, and what to do.
    """
    for item in items:
        item.add_marker(pytest.mark.skip(reason=f"needs {needs}: {remedy}"))
    if items:
        sentence = f"{len(items)} tests need {needs} and did not run: {remedy}"
        config.stash[_HELD_BACK][sentence] = [item.nodeid for item in items]


def is_held_back(config: pytest.Config, item: pytest.Item) -> bool:
    """Whether the test was kept back."""
    return any(item.nodeid in names for names in config.stash[_HELD_BACK].values())


def leave_to(config: pytest.Config, sentence: str) -> None:
    """Say at the end that other tests than these exist, and what runs them."""
    config.stash[_LEFT_OUT].append(sentence)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In a process of pytest-xdist, hand over what there is to say."""
    config = session.config
    if hasattr(config, "workeroutput"):
        config.workeroutput[_OUTPUT] = (
            config.stash[_FIGURES],
            config.stash[_LEFT_OUT],
            config.stash[_HELD_BACK],
        )


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take what a process of pytest-xdist has to say: figures are its own, the others are the same in each."""
    figures, left_out, held_back = getattr(node, "workeroutput", {}).get(_OUTPUT, ([], [], {}))
    stash = node.config.stash
    stash[_FIGURES] += figures
    stash[_LEFT_OUT] = list(left_out) or stash[_LEFT_OUT]
    stash[_HELD_BACK].update(held_back)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the sections."""
    for sentence in config.stash[_LEFT_OUT]:
        terminalreporter.line(sentence)
    if config.stash[_FIGURES]:
        terminalreporter.section("figures")
    for line in config.stash[_FIGURES]:
        terminalreporter.line(line)
    if config.stash[_HELD_BACK]:
        terminalreporter.section("not run", red=True)
    for sentence, names in config.stash[_HELD_BACK].items():
        for name in names:
            terminalreporter.line(name)
        terminalreporter.line(sentence)

"""Tests that this machine cannot run: they are skipped, and the closing section names each and says what to install.

Owns: keep_back, is_held_back, and the section.
"""

from collections.abc import Sequence

import pytest

_HELD_BACK = pytest.StashKey[dict[str, list[str]]]()
"""By the sentence that the section ends with, the tests."""


def keep_back(config: pytest.Config, items: Sequence[pytest.Item], needs: str, remedy: str) -> None:
    """Keep tests from failing that cannot run.

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
        config.stash.setdefault(_HELD_BACK, {})[sentence] = [item.nodeid for item in items]


def is_held_back(config: pytest.Config, item: pytest.Item) -> bool:
    """Whether the test was kept back."""
    return any(item.nodeid in names for names in config.stash.get(_HELD_BACK, {}).values())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what could not run, and what to do."""
    held_back = config.stash.get(_HELD_BACK, {})
    if held_back:
        terminalreporter.section("not run", red=True)
    for sentence, names in held_back.items():
        for name in names:
            terminalreporter.line(name)
        terminalreporter.line(sentence)

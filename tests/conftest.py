"""What all tests share: the servers' fixtures, and the figures that a run prints at its end."""

import signal
from collections.abc import Callable

import pytest
from hypothesis import settings

# A loaded machine is slow now and then; how long an example may take says nothing about the code.
settings.register_profile("repository", deadline=None, max_examples=60)
settings.load_profile("repository")

pytest_plugins = ["tests.not_run", "tests.servers"]

FIGURES = pytest.StashKey[list[str]]()
"""Lines for the closing section of the run."""


def pytest_configure(config: pytest.Config) -> None:
    """Begin without figures, and with SIGINT: started in the background it is ignored, by every child too."""
    config.stash[FIGURES] = []
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the figures."""
    if config.stash[FIGURES]:
        terminalreporter.section("figures")
        for line in config.stash[FIGURES]:
            terminalreporter.line(line)


@pytest.fixture(scope="session")
def figures(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Takes a line for the closing section."""
    return request.config.stash[FIGURES].append

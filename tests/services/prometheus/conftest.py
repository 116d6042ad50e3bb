"""Tests that need promtool or prometheus do not run without them, and pytest's closing section says which package has them.

Owns: the fixture promtool.
"""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tools.stack.monitors import PACKAGE

_UNABLE = pytest.StashKey[list[str]]()
_PROGRAMS = {"promtool": "promtool", "monitored": "prometheus"}
"""By fixture the program that it needs."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the tests that cannot run from failing, and remember them for the closing section."""
    unable = []
    for item in items:
        missing = [
            program for fixture, program in _PROGRAMS.items() if fixture in getattr(item, "fixturenames", ())
        ]
        missing = [program for program in missing if shutil.which(program) is None]
        if missing:
            item.add_marker(pytest.mark.skip(reason=f"needs {missing[0]}"))
            unable.append(item.nodeid)
    config.stash[_UNABLE] = unable


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what could not run, and what to install."""
    unable = config.stash.get(_UNABLE, [])
    if unable:
        terminalreporter.section("not run", red=True)
        for name in unable:
            terminalreporter.line(name)
        terminalreporter.line(
            f"{len(unable)} tests need promtool or prometheus and did not run: not found on PATH; install {PACKAGE}"
        )


@pytest.fixture(scope="session")
def promtool() -> Callable[..., str]:
    """Runs promtool; returns what it said, and fails the test when it found fault."""

    def run(*arguments: str | Path) -> str:
        done = subprocess.run(
            ["promtool", *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run

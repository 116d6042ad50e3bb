"""Tests that need promtool or prometheus do not run without them, and pytest's closing section says which package has them.

Owns: the fixtures promtool and monitored.
"""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.settings import Settings, load_settings
from tests.closing import keep_back
from tests.ports import setting_ports
from tests.services.prometheus.live_world import BATCH_SECONDS, SmallVolume, Watched
from tools.stack import jars
from tools.stack.api import Stack
from tools.stack.monitors import PACKAGE

_PROGRAMS = {"promtool": "promtool", "monitored": "prometheus"}
"""By fixture the program that it needs."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the tests that cannot run from failing, and remember them for the closing section."""
    lacking = {fixture for fixture, program in _PROGRAMS.items() if shutil.which(program) is None}
    unable = [item for item in items if lacking & set(getattr(item, "fixturenames", ()))]
    keep_back(config, unable, "promtool or prometheus", f"not found on PATH; install {PACKAGE}")


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


@pytest.fixture(scope="package")
def monitored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """A stack of plain processes with monitoring, its data in pytest's folder, its checkpoint on a small volume."""
    settings = Settings.model_validate(
        {
            "data_dir": tmp_path_factory.mktemp("monitored"),
            "jars_dir": load_settings().jars_dir,
            "monitoring": True,
            "batch_seconds": BATCH_SECONDS,
            "ad_rate": 200,
            "page_rate": 100,
            "verify_seconds": 5.0,
            **setting_ports(),
        }
    )
    for profile in (*jars.SERVERS, jars.AGENT):
        jars.fetch(settings.jars_dir, profile, print)
    volume = SmallVolume(settings.checkpoint_dir)
    engine = volume.inside(sys.executable, "-m", "services.pipeline.main")
    stack = Stack(settings, commands={"engine": engine}, is_tied=True)
    try:
        stack.up()
        yield Watched(stack, volume)
    finally:
        stack.down(wipe=True)
        volume.close()

"""One running pipeline with its monitoring for the live tests of the boards.

Most drills on it are asked for by name (`make test-drills`), as each takes half a minute; three are made with every run.

Owns: the fixture watched.
"""

import shutil
from collections.abc import Iterator

import pytest

from services.settings import Settings, load_settings
from tests.grafana.live_world import Watched
from tests.ports import free_ports
from tools.stack import jars
from tools.stack.api import Stack

PORTS = [name for name in Settings.model_fields if name.endswith("_port")]


@pytest.fixture(scope="package")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """The pipeline at work as plain processes: Kafka, Cassandra, producer, engine, verifier, Prometheus, on ports of their own."""
    if shutil.which("prometheus") is None:
        pytest.skip("needs prometheus (package prometheus)")
    missing = jars.missing_programs(load_settings().jars_dir)
    if missing:
        pytest.skip(f"needs {' and '.join(missing)}")
    settings = Settings.model_validate(
        {
            "data_dir": tmp_path_factory.mktemp("boards"),
            "jars_dir": load_settings().jars_dir,
            "monitoring": True,
            "verify_seconds": 3,
            # Each drill verifies the whole log.
            "ad_rate": 400,
            "page_rate": 200,
            **dict(zip(PORTS, free_ports(len(PORTS)), strict=True)),
        }
    )
    stack = Stack(settings, is_tied=True)
    try:
        stack.up()
        yield Watched(stack)
    finally:
        stack.down(wipe=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the drills that are marked out, unless the marker is named."""
    if "drills" in config.option.markexpr:
        return
    left_out = [item for item in items if item.get_closest_marker("drills")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("drills")]

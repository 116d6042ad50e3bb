"""One stack in containers for the whole session, with a name, ports and a folder of its own.

Its tests are marked `compose` and run only when the mark is asked for (`make test-compose`). Where Docker or an image is
missing they do not run, and pytest's closing section says why.
"""

import functools
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from services.settings import REPOSITORY
from tests.closing import keep_back, leave_to
from tests.compose.model import read_stack
from tests.compose.world import ComposeWorld
from tests.ports import free_ports

_PULL_SECONDS = 900
_ORDER = ("test_stack", "test_chaos_compose", "test_stack_again", "test_replicas_compose")
"""All tests share one stack: first it is looked at as `make up` leaves it, then broken and healed, and ended at last."""


@pytest.fixture(scope="session")
def compose_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComposeWorld]:
    """The full stack, up and healthy; its containers, networks and volumes are gone after the session."""
    world = ComposeWorld(tmp_path_factory.mktemp("compose"), free_ports(len(ComposeWorld.PORTS)))
    try:
        world.up()
        yield world
    finally:
        world.remove()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the tests of containers out unless they are asked for, and keep those that cannot run from failing."""
    marked = [item for item in items if item.get_closest_marker("compose")]
    is_asked = "compose" in str(config.option.markexpr)
    items.sort(key=_place)
    if not is_asked and marked:
        leave_to(config, f"{len(marked)} tests of the stack in containers are left to `make test-compose`")
        items[:] = [item for item in items if item not in marked]
        config.hook.pytest_deselected(items=marked)
    elif marked and not config.option.collectonly and (reason := unable()):
        keep_back(config, marked, "the stack in containers", reason)


def _place(item: pytest.Item) -> int:
    """Where a test of containers stands among them; the others stay where they are, before these."""
    return 1 + _ORDER.index(item.path.stem) if item.get_closest_marker("compose") else 0


@functools.cache
def unable() -> str:
    """Why there can be no stack in containers here; "" when there can."""
    if not shutil.which("docker"):
        return "docker is not installed"
    if not _succeeds("docker", "info"):
        return "the Docker engine does not answer"
    if not _succeeds("docker", "compose", "version"):
        return "docker has no compose plugin"
    stack = read_stack()
    images = {service["image"] for service in stack.services.values() if "pull_policy" not in service}
    images |= set(stack.base_images)
    missing = [image for image in sorted(images) if not _is_there(image)]
    return f"no registry answers, and there is no image {', '.join(missing)}" if missing else ""


def _is_there(image: str) -> bool:
    """Whether an image is on this machine, or was just pulled."""
    return _succeeds("docker", "image", "inspect", image) or _succeeds("docker", "pull", "--quiet", image)


def _succeeds(*command: str) -> bool:
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, timeout=_PULL_SECONDS, check=False)
    return done.returncode == 0

"""The proxy that disturbs the engine's way to a server: whatever becomes of it, it ends, and the engine goes on without it."""

import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from engine.errors import StreamingError
from tests.tools.stack_world import STEADY, a_stack, embedded, python, state_of
from tools.chaos import lanes
from tools.chaos.hits import Cut
from tools.chaos.lanes import ProxyProcess
from tools.chaos.scene import Scene
from tools.progress import Progress
from tools.stack.api import Stack

_ENGINE = f'echo "KAFKA_BOOTSTRAP=$KAFKA_BOOTSTRAP"; {STEADY[-1]}'
_DOCKER_REFUSES = """
import sys
sys.exit("docker: Error response from daemon: network nosuch not found\\n\\nRun 'docker run --help' for more information")
"""
_DEAF = "import os, signal, time; print(f'listening 127.0.0.1:{os.getpid()}', flush=True); time.sleep(1000)"


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """A stack whose engine writes down where it would find Kafka."""
    made = a_stack(embedded(tmp_path), engine=("sh", "-c", _ENGINE))
    yield made
    made.down()


def brokers(stack: Stack) -> list[str]:
    """Where each engine that was started would find Kafka, oldest first."""
    said = (stack.settings.data_dir / "logs" / "engine.log").read_text().splitlines()
    return [line.partition("=")[2] for line in said if line.startswith("KAFKA_BOOTSTRAP=")]


@pytest.mark.slow
def test_way_is_left_as_it_was_found_though_the_proxy_has_died(stack: Stack) -> None:
    """A proxy that was killed in the middle of a drill is named, and the engine is started again without it."""
    stack.up()
    said: list[str] = []
    hit = Cut(Scene(stack, "kafka", Progress(stack.settings), said.append, 1.0))
    hit.prepare()
    (proxy,) = (child for child in psutil.Process().children() if "proxy.py" in " ".join(child.cmdline()))
    proxy.kill()
    proxy.wait(10)

    with pytest.raises(StreamingError, match="the proxy is gone"):
        hit.heal()

    before, behind, after = brokers(stack)
    assert before == after != behind
    assert state_of(stack, "engine") == "running"
    assert said[-1] == "starting engine without the proxy"


@pytest.mark.slow
def test_proxy_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that goes on when its orders end is killed after a while, and the drill goes on."""
    monkeypatch.setattr(lanes, "_END_SECONDS", 0.2)
    proxy = ProxyProcess(python(_DEAF))
    pid = int(proxy.address.partition(":")[2])

    proxy.close()

    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (
            "import sys; sys.exit('the first line\\nOSError: the port is taken\\n')",
            "OSError: the port is taken",
        ),
        (_DOCKER_REFUSES, "docker: Error response from daemon: network nosuch not found"),
        ("print('what is this')", "what is this"),
        ("", "it ended at once"),
    ],
)
def test_proxy_that_does_not_start_says_why(code: str, reason: str) -> None:
    """The reason is the last line that it said of what ails it, Docker's advice aside."""
    with pytest.raises(StreamingError) as caught:
        ProxyProcess(python(code))

    assert str(caught.value) == f"the proxy did not start: {reason}"

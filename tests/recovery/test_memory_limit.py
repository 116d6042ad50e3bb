"""The kernel kills a process in the middle of a batch, as it takes more memory than its control group allows."""

import signal
from pathlib import Path

import pytest

from tests.recovery import app
from tests.recovery.machine import MemoryGroup
from tests.recovery.truth import attempts, differences
from tests.recovery.victims import Victims

pytestmark = pytest.mark.slow

DEADLY = int(app.value_of(1, 3 * app.RATE + 3))
"""A number of the fourth batch."""


@pytest.mark.fault(48, "an executor takes more than its memory control group allows: the kernel kills it")
def test_worker_that_the_kernel_kills_for_memory_costs_one_more_run(
    victims: Victims, memory_group: MemoryGroup, tmp_path: Path
) -> None:
    """An executor that the kernel kills for memory is replaced, its batch runs once more, and every table is exact."""
    app.prepare(tmp_path)
    group = str(memory_group.folder)
    assert victims.run(tmp_path, master="local[2]", deadly=DEADLY, in_map=True, group=group) == 0
    assert memory_group.kills() == 1
    assert (tmp_path / "dead").read_text() != (tmp_path / "pid").read_text()

    assert differences(tmp_path) == []
    assert attempts(tmp_path) == [0, 0, 0, 1, 0, 0, 0, 0, 0]


@pytest.mark.fault(
    48, "the engine's only process takes more than its group allows: the kernel kills it, as in a container"
)
def test_engine_that_the_kernel_kills_for_memory_goes_on_exactly(
    victims: Victims, memory_group: MemoryGroup, tmp_path: Path
) -> None:
    """An engine that the kernel kills for memory in a batch runs it again at its next start, and every table is exact."""
    app.prepare(tmp_path)
    group = str(memory_group.folder)
    assert victims.run(tmp_path, deadly=DEADLY, in_map=True, group=group) == -signal.SIGKILL
    assert memory_group.kills() == 1
    assert victims.run(tmp_path) == 0

    assert differences(tmp_path) == []
    assert attempts(tmp_path) == [0, 0, 0, 1, 0, 0, 0, 0, 0]

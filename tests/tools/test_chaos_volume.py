"""A checkpoint volume that fills up under the running pipeline, on a small volume of its own; in containers it is a drill."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from services.settings import REPOSITORY
from tests.engine.checkpoint.full import UNSHARE, fill, mount
from tests.engine.checkpoint.test_full_volume import SENTENCE, unable
from tests.tools.stack_world import embedded, now, state_of
from tools.progress import Progress
from tools.stack.api import Stack
from tools.verify import verify


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_pipeline_outlives_a_full_volume(tmp_path: Path) -> None:
    """The engine ends with 1 and says why, is started again until there is room, and then goes on; every row is exact."""
    if reason := unable():
        pytest.skip(reason)
    command = [*UNSHARE, sys.executable, "-m", "tests.tools.test_chaos_volume", str(tmp_path)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["exit_codes"] == [1, 1]
    assert SENTENCE.search(told["log"]), told["log"]
    assert told["states"] in (["waiting", "running"], ["running", "running"])
    assert told["verdict"] == 0


def main(folder: Path) -> None:
    """Fill the volume of a running embedded stack, see its engine die twice, make room and verify; print what was seen."""
    settings = embedded(folder, checkpoint_dir=folder / "small", ad_rate=400, page_rate=200)
    mount(settings.checkpoint_dir, size_kib=16 << 10)
    stack = Stack(settings, is_tied=True)
    progress = Progress(settings)
    try:
        stack.up()
        progress.await_newer(0, 60)
        since, deaths = now(), []
        fill(settings.checkpoint_dir / "ballast")
        for _ in range(2):
            deaths.append(stack.wait_for("engine", "death", after=deaths[-1].time if deaths else since))
        states = [state_of(stack, "engine")]
        before = progress.newest().time
        (settings.checkpoint_dir / "ballast").unlink()
        progress.await_newer(before, 60)
        states.append(state_of(stack, "engine"))
        log = "\n".join(path.read_text() for path in settings.data_dir.rglob("engine*.log"))
        told = {
            "exit_codes": [death.facts["exit_code"] for death in deaths],
            "states": states,
            "log": log,
            "verdict": verify(settings).code,
        }
        print(json.dumps(told))  # noqa: T201 - read by the test
    finally:
        progress.close()
        stack.down()


if __name__ == "__main__":
    main(Path(sys.argv[1]))

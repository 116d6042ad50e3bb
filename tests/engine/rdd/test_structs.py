"""Structs of a script travel to its executors and back."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from services.settings import REPOSITORY


@pytest.mark.slow
def test_structs_of_a_script_keep_fields_types_and_methods() -> None:
    """Records of a Struct class in `__main__` are decoded in executors, come back as that class, and go out again."""
    script = Path(__file__).with_name("script_with_structs.py")

    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=REPOSITORY,
        env={"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.stderr == ""
    assert json.loads(done.stdout) == [True, [["/a", 6], ["/b", 2]], ["x"]]

"""What the plugin of the real servers does where it cannot start them."""

import subprocess
import sys
from pathlib import Path

import pytest

from services.settings import REPOSITORY, base_environment


@pytest.mark.slow
@pytest.mark.parametrize("processes", [(), ("-n", "2", "--dist", "loadfile")], ids=["one process", "two"])
def test_tests_that_cannot_run_are_named_with_the_missing_package(
    tmp_path: Path, processes: tuple[str, ...]
) -> None:
    """Without Java and Maven the closing section names each test that did not run and what to install; the others run."""
    environment = base_environment() | {"PATH": str(tmp_path), "JARS_DIR": str(tmp_path / "jars")}
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            *processes,
            "tests/services/test_topics.py",
        ],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    closing = done.stdout.partition("= not run =")[2]
    assert done.returncode == 0
    assert "tests/services/test_topics.py::test_kafka_topics_are_made_once" in closing
    assert (
        "5 tests need real servers and did not run: java and mvn not found; install openjdk-17-jre-headless maven"
    ) in closing
    assert "10 passed, 5 skipped" in done.stdout

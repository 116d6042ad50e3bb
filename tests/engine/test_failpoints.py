"""Fail points do what the environment says, and refuse what it cannot mean."""

import signal
from pathlib import Path

import pytest

from engine import failpoints
from engine.errors import ConfigurationError
from engine.failpoints import FailPointError, fail_point
from tests.engine.children import python

PROGRAM = """
    from engine.failpoints import fail_point
    fail_point("plan")
    fail_point("run")
    print("survived", flush=True)
    fail_point("purge")
"""


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("nowhere=crash", "FAIL_POINT: unknown fail point 'nowhere'; choose from new_segment, recover"),
        ("plan=explode", "FAIL_POINT: plan has unknown kind 'explode'; use crash, raise or delay:SECONDS"),
        ("plan", "plan has unknown kind ''"),
        ("plan=delay:long", "plan has unknown kind 'delay:long'"),
        ("plan=crash,run=delay:", "run has unknown kind 'delay:'"),
    ],
)
def test_unknown_settings_are_refused(setting: str, words: str) -> None:
    """A point or kind that does not exist is refused with the value and what can be."""
    with pytest.raises(ConfigurationError, match=words):
        failpoints._parse(setting)


def test_points_do_nothing_without_a_setting() -> None:
    """Without the environment variable every point is passed."""
    for name in failpoints.FAIL_POINTS:
        fail_point(name)


def test_raise_raises_and_delay_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A point of kind raise raises with its name; one of kind delay goes on after its time."""
    monkeypatch.setattr(failpoints, "_KINDS", failpoints._parse("plan=raise,run=delay:0.001"))
    with pytest.raises(FailPointError, match="fail point plan"):
        fail_point("plan")

    fail_point("run")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setting", "said"), [("run=crash", ""), ("plan=delay:0.01,purge=crash", "survived\n")]
)
def test_crash_kills_the_process_where_it_is(tmp_path: Path, setting: str, said: str) -> None:
    """A point of kind crash ends the process with SIGKILL, and the trace names the point that was reached last."""
    trace = tmp_path / "trace"
    with python(PROGRAM, FAIL_POINT=setting, FAIL_POINT_TRACE=str(trace)) as victim:
        assert victim.stdout is not None
        assert victim.stdout.read() == said

    assert victim.returncode == -signal.SIGKILL
    assert trace.read_text().strip() == ("purge" if said else "run")

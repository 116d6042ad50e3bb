"""How the supervisor keeps the processes of a stack: starts, deaths, restarts, pauses, ends. Real processes, stand-in commands."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from engine.errors import ConfigurationError, StreamingError
from services.settings import Settings
from tests.tools.stack_world import (
    ENDING,
    FAILING,
    PARENT,
    REFUSING,
    a_stack,
    embedded,
    forge_record,
    kinds_of,
    now,
    pid_of,
    python,
    say_environment,
    state_of,
    stranger,
    supervisor_pid,
    wait_until,
)
from tools.stack.processes import end_processes, has_ended
from tools.stack.supervisor import pause_seconds

pytestmark = pytest.mark.slow


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    """The settings of an embedded stack that is ended after the test."""
    made = embedded(tmp_path)
    yield made
    a_stack(made).down()


def test_up_starts_all_and_a_second_up_changes_nothing(settings: Settings) -> None:
    """`up` makes topics and schema and starts producer and engine; once more, it leaves them as they are."""
    stack = a_stack(settings)
    stack.up()
    pids = [pid_of(stack, "producer"), pid_of(stack, "engine")]
    stack.up()
    assert [pid_of(stack, "producer"), pid_of(stack, "engine")] == pids
    assert settings.results_path.exists()
    assert (settings.log_dir / "ad-events").is_dir()
    assert kinds_of(stack, "engine") == ["start", "ready"]


def test_up_of_one_name_starts_only_that(settings: Settings) -> None:
    """`up producer` leaves the engine stopped."""
    stack = a_stack(settings)
    stack.up(["producer"])
    assert (state_of(stack, "producer"), state_of(stack, "engine")) == ("running", "stopped")


def test_killed_engine_is_restarted_at_once(settings: Settings) -> None:
    """After kill -9 the supervisor starts the engine again within 0.2 s, and writes kill, death and restart down."""
    stack = a_stack(settings)
    stack.up()
    gaps = []
    for count in range(1, 5):
        before = pid_of(stack, "engine")
        kill = stack.kill("engine")
        restart = stack.wait_for("engine", "restart", after=kill.time)
        gaps.append(restart.time - kill.time)
        assert restart.facts["restarts"] == count
        assert restart.facts["pid"] != before
    deaths = [event.facts for event in stack.events() if event.kind == "death"]
    assert [death["signal"] for death in deaths] == ["SIGKILL"] * 4
    # Killed on purpose and soon after its start, four times: no pause grows from that.
    assert "wait" not in kinds_of(stack, "engine")
    assert min(gaps) < 0.2


def test_producer_is_restarted_too(settings: Settings) -> None:
    """The supervisor looks after the producer as after the engine."""
    stack = a_stack(settings)
    stack.up()
    kill = stack.kill("producer", signal.SIGABRT)
    stack.wait_for("producer", "restart", after=kill.time)
    death = stack.wait_for("producer", "death", after=kill.time)
    assert death.facts["signal"] == "SIGABRT"


def test_pause_between_restarts_grows_while_it_dies_at_once(settings: Settings) -> None:
    """An engine that dies at every start is started again at once, then after growing pauses; `up` gives up and says so."""
    stack = a_stack(settings, engine=FAILING)
    with pytest.raises(
        StreamingError, match=r"engine: it died \(exit code 1\) and is started again in .*engine\.log"
    ):
        stack.up()
    stack.wait_for("engine", "restart", after=now() - 60)
    wait_until(lambda: kinds_of(stack, "engine").count("wait") >= 3)
    pauses = [event.facts["delay_seconds"] for event in stack.events() if event.kind == "wait"]
    assert pauses[:3] == [0.25, 0.5, 1.0]
    assert state_of(stack, "engine") == "waiting"


def test_pauses_end_at_five_seconds() -> None:
    """However often a process has died, it is tried again every five seconds."""
    assert pause_seconds(1) == 0
    assert pause_seconds(1_000_000) == 5


def test_refused_settings_are_not_tried_again(settings: Settings) -> None:
    """After exit code 2 the supervisor leaves a process; `up` and `status` give its own last line as the reason."""
    stack = a_stack(settings, engine=REFUSING)
    with pytest.raises(ConfigurationError, match=r"engine: it refused to start .*SEED is not valid"):
        stack.up()
    status = stack.status()[-1]
    assert (status.name, status.state.value, status.pid) == ("engine", "refused", None)
    assert "SEED is not valid: it must be a number" in status.reason
    wait_until(lambda: kinds_of(stack, "engine") == ["start", "death", "refused"])


def test_refused_process_starts_when_asked_again(settings: Settings) -> None:
    """Once what was refused is put right, `start` starts it."""
    with pytest.raises(ConfigurationError):
        a_stack(settings, engine=REFUSING).up()
    stack = a_stack(settings)
    stack.start("engine")
    assert state_of(stack, "engine") == "running"


def test_program_that_ends_well_is_left_alone(settings: Settings) -> None:
    """A process that ends with 0 has done its work: no restart, and the state says so."""
    stack = a_stack(settings, producer=ENDING)
    stack.up(["engine"])
    stack.start("producer", wait=False)
    stack.wait_for("producer", "death", after=0)
    wait_until(lambda: state_of(stack, "producer") == "ended")
    assert "restart" not in kinds_of(stack, "producer")


def test_command_that_is_not_there_is_refused(settings: Settings) -> None:
    """A program that cannot be started at all is refused with the system's reason."""
    with pytest.raises(ConfigurationError, match=r"engine: it cannot be started: .*no-such-program"):
        a_stack(settings, engine=("no-such-program",)).up(["engine"])


def test_paused_process_and_its_children_stand_still(settings: Settings) -> None:
    """`pause` holds a process and its children, `resume` lets them go on, and neither is a death."""
    stack = a_stack(settings, engine=PARENT)
    stack.up()
    engine = psutil.Process(pid_of(stack, "engine"))
    members = [engine, *engine.children()]
    assert len(members) == 2
    stack.pause("engine")
    wait_until(lambda: all(member.status() == psutil.STATUS_STOPPED for member in members))
    assert state_of(stack, "engine") == "paused"
    stack.resume("engine")
    wait_until(lambda: all(member.status() != psutil.STATUS_STOPPED for member in members))
    assert state_of(stack, "engine") == "running"
    assert kinds_of(stack, "engine") == ["start", "ready", "pause", "resume"]


def test_down_ends_all_with_their_children(settings: Settings) -> None:
    """After `down` no process is left, not a paused one, not a child of one, and not the supervisor."""
    stack = a_stack(settings, engine=PARENT)
    stack.up()
    engine = psutil.Process(pid_of(stack, "engine"))
    members = [engine, *engine.children(), psutil.Process(pid_of(stack, "producer"))]
    members.append(psutil.Process(supervisor_pid(settings)))
    stack.pause("engine")
    stack.down()
    assert all(has_ended(member) for member in members)
    assert [status.state.value for status in stack.status()] == ["stopped", "stopped"]
    assert settings.results_path.exists()


def test_service_gets_a_chance_to_end_by_itself(settings: Settings) -> None:
    """`down` asks with SIGTERM first: a process that answers it ends with its own exit code."""
    stack = a_stack(settings)
    stack.up()
    stack.down()
    deaths = [event for event in stack.events() if event.kind == "death"]
    assert {event.name: event.facts["exit_code"] for event in deaths} == {"producer": 0, "engine": 0}


def test_stubborn_process_is_killed_after_its_grace() -> None:
    """A process that ignores SIGTERM gets SIGKILL when the grace is over, and so does its child."""
    code = "import signal, subprocess; signal.signal(15, signal.SIG_IGN); subprocess.run(['sleep', '1000'])"
    with subprocess.Popen(python(code)) as popen:
        process = psutil.Process(popen.pid)
        wait_until(lambda: len(process.children()) == 1)
        child = process.children()[0]
        end_processes([process], 0.3)
        assert popen.wait() == -signal.SIGKILL
        assert has_ended(child)


def test_next_up_takes_over_from_a_killed_supervisor(settings: Settings) -> None:
    """When the supervisor is killed its processes live on; `up` finds them, and they are watched over again."""
    stack = a_stack(settings)
    stack.up()
    pids = [pid_of(stack, "producer"), pid_of(stack, "engine")]
    os.kill(supervisor_pid(settings), signal.SIGKILL)
    stack.up()
    assert [pid_of(stack, "producer"), pid_of(stack, "engine")] == pids
    kill = stack.kill("engine")
    stack.wait_for("engine", "restart", after=kill.time)
    assert "adopted" in kinds_of(stack, "engine")


def test_down_ends_what_a_killed_supervisor_has_left(settings: Settings) -> None:
    """`down` without a supervisor ends its orphans."""
    stack = a_stack(settings)
    stack.up()
    orphans = [psutil.Process(pid_of(stack, name)) for name in stack.names]
    os.kill(supervisor_pid(settings), signal.SIGKILL)
    stack.down()
    assert all(has_ended(orphan) for orphan in orphans)
    assert [status.state.value for status in stack.status()] == ["stopped", "stopped"]


def test_death_while_no_supervisor_was_there_is_told(settings: Settings) -> None:
    """A process that died unwatched is shown as down, and the next `up` starts it."""
    stack = a_stack(settings)
    stack.up()
    os.kill(supervisor_pid(settings), signal.SIGKILL)
    stack.kill("engine")
    assert state_of(stack, "engine") == "down"
    stack.up()
    assert state_of(stack, "engine") == "running"


def test_reused_pid_is_never_signalled(settings: Settings) -> None:
    """A pid that belongs to another process by now is neither shown as ours, nor killed, nor ended by `down`."""
    stack = a_stack(settings)
    stack.up()
    stack.down()
    with stranger() as pid:
        forge_record(settings, "engine", pid)
        assert state_of(stack, "engine") == "down"
        with pytest.raises(ConfigurationError, match="engine does not run"):
            stack.kill("engine")
        stack.down()
        assert psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_child_gets_every_setting_and_nothing_of_the_callers_shell(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process sees the stack's settings and the variables it was given, whatever the caller has set meanwhile."""
    monkeypatch.setenv("SEED", "99")
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    names = ("SEED", "DATA_DIR", "PYTHONHASHSEED", "FAIL_POINT")
    stack = a_stack(settings, engine=say_environment(*names), environment={"FAIL_POINT": "run=crash"})
    stack.up()
    said = (settings.data_dir / "logs" / "engine.log").read_text().splitlines()
    assert said[:4] == ["SEED=1", f"DATA_DIR={settings.data_dir}", "PYTHONHASHSEED=", "FAIL_POINT=run=crash"]


def test_variables_of_start_hold_for_restarts_until_the_next_start(settings: Settings) -> None:
    """Variables given to `start` are there after a restart too; a process that runs cannot get others."""
    stack = a_stack(settings, engine=say_environment("FAIL_POINT"))
    stack.up(["producer"])
    stack.start("engine", {"FAIL_POINT": "run=crash"})
    with pytest.raises(ConfigurationError, match="engine runs already"):
        stack.start("engine", {"FAIL_POINT": ""})
    kill = stack.kill("engine")
    stack.wait_for("engine", "restart", after=kill.time)
    log = settings.data_dir / "logs" / "engine.log"
    wait_until(lambda: log.read_text().count("FAIL_POINT=run=crash\n") == 2)


def test_stack_that_is_tied_ends_with_its_caller(settings: Settings) -> None:
    """When the process that started a tied stack is killed, the stack ends by itself."""
    code = (
        "import os, sys\n"
        "from tests.tools.stack_world import a_stack\n"
        "from services.settings import load_settings\n"
        "a_stack(load_settings()).up()\n"
        "os.kill(os.getpid(), 9)\n"
    )
    subprocess.run(python(code), env={**os.environ, **settings.environment()}, check=False)
    stack = a_stack(settings)
    wait_until(lambda: state_of(stack, "engine") == "stopped")
    assert kinds_of(stack, "engine")[-1] == "death"


def test_two_ups_at_once_start_one_of_each(settings: Settings) -> None:
    """Two commands at the same moment end with one supervisor, one producer and one engine."""
    code = "from tests.tools.stack_world import *\nfrom services.settings import load_settings\nfrom tools.stack.api import Stack\n"
    code += "Stack(load_settings(), commands={'engine': STEADY, 'producer': STEADY}).up()"
    runs = [subprocess.Popen(python(code), env={**os.environ, **settings.environment()}) for _ in range(2)]
    assert [run.wait() for run in runs] == [0, 0]
    stack = a_stack(settings)
    assert kinds_of(stack, "engine") == ["start", "ready"]
    assert kinds_of(stack, "producer") == ["start", "ready"]

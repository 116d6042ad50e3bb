"""What is wanted of units and replicas: which commands there are, and what follows from those that came."""

from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from engine.cluster.replica import Orders
from engine.errors import ConfigurationError, StateVersionError
from services.pipeline.control import Desired, after, apply, checked, is_drained, orders_of, read_desired
from tests.services.pipeline.replicas_world import UNITS

REPLICAS = ("engine-1", "engine-2")


def message(command: str, name: str, time: int = 7, **more: Any) -> dict[str, Any]:
    """A command as it comes."""
    return {"command": command, "name": name, "time": time, **more}


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (message("stop", "totals"), "there is no command 'stop'; choose from pause, drain, resume, rescale"),
        (message("pause", "engine-1"), "there is no job or unit 'engine-1' to pause; choose from"),
        (message("drain", "totals-0"), "there is no job or replica 'totals-0' to drain; choose from"),
        (message("resume", "engine-9"), "there is no job, unit or replica 'engine-9' to resume; choose from"),
        (
            message("rescale", "trending"),
            "executors=None is not valid: it must be a whole number from 1 to 64",
        ),
        (message("rescale", "trending", executors=True), "executors=True is not valid"),
        (message("rescale", "trending", executors=65), "executors=65 is not valid"),
        ({"command": "pause"}, "is no command"),
        (message("pause", "totals", "now"), "is no command"),  # type: ignore[arg-type]  # what else may come
    ],
    ids=["command", "replica", "unit", "unknown", "none", "bool", "many", "short", "time"],
)
def test_wrong_command_is_refused_with_what_can_be(wrong: dict[str, Any], sentence: str) -> None:
    """The refusal names what was wrong and, of names, all that are right."""
    with pytest.raises(ConfigurationError) as refused:
        checked(wrong, UNITS, REPLICAS)

    assert sentence in str(refused.value)


def test_command_to_a_job_is_one_to_each_of_its_units() -> None:
    """A unit of a paused job is resumed alone, and the other stays paused."""
    paused = after(Desired(), checked(message("pause", "totals", 7), UNITS, REPLICAS))
    resumed = after(paused, checked(message("resume", "totals-0", 8), UNITS, REPLICAS))

    assert orders_of(resumed, UNITS) == Orders(paused=frozenset({"totals-1"}))


def test_same_commands_in_any_order_and_any_number_make_the_same(tmp_path: Path) -> None:
    """Whoever has all commands, in whatever order and some of them twice, wants the same."""
    commands = [
        checked(message(*one), UNITS, REPLICAS)
        for one in (
            ("pause", "totals", 1),
            ("drain", "totals", 2),
            ("resume", "totals-1", 3),
            ("drain", "engine-2", 2),
        )
    ]
    wanted = []
    for number, order in enumerate(permutations([*commands, commands[0]])):
        for command in order:
            apply(tmp_path / str(number), command)
        wanted.append(read_desired(tmp_path / str(number)))

    assert orders_of(wanted[0], UNITS) == Orders(drained=frozenset({"totals-0"}))
    assert is_drained(wanted[0], "engine-2")
    assert all(one == wanted[0] for one in wanted)


def test_command_survives_whoever_noted_it(tmp_path: Path) -> None:
    """What was noted is read again, with the newest time that a later command must exceed."""
    apply(tmp_path, checked(message("rescale", "totals", 9, executors=4), UNITS, REPLICAS))

    desired = read_desired(tmp_path)

    assert orders_of(desired, UNITS).executors == {"totals-0": 4, "totals-1": 4}
    assert desired.newest() == 9


@pytest.mark.parametrize("text", ['{"format": 2}', "[]", "{"], ids=["newer", "other", "torn"])
def test_file_that_cannot_be_read_is_refused_with_the_remedy(tmp_path: Path, text: str) -> None:
    """A file of another version, or a damaged one, is not taken for none."""
    (tmp_path / "control.json").write_text(text)

    with pytest.raises(
        StateVersionError, match=r"control\.json .*(restore it|use the version that wrote it)"
    ):
        read_desired(tmp_path)

"""Parity: programs come from their seed, a difference is seen, and some programs equal PySpark's own."""

import re
from collections.abc import Callable

import pytest
from click.testing import CliRunner

from tools.parity.__main__ import main
from tools.parity.compare import INTENDED, compare
from tools.parity.functions import add, keyed
from tools.parity.programs import BATCHES, OPERATIONS, Operation, Program, program
from tools.parity.shown import shown

_SOME = 200


def test_programs_come_from_their_seed() -> None:
    """Equal seed and number give the same program and data, another seed gives others."""
    again = [program(7, number, 0.5) for number in range(_SOME)]
    first = [program(7, number, 0.5) for number in range(_SOME)]
    other = [program(8, number, 0.5) for number in range(_SOME)]
    assert [(str(one), one.batches, one.others) for one in first] == [
        (str(one), one.batches, one.others) for one in again
    ]
    assert [str(one) for one in first] != [str(one) for one in other]


def test_every_operation_occurs() -> None:
    """Among a thousand programs each operation has its place, and the windows with every intended difference too."""
    programs = [program(7, number, 0.5) for number in range(1_000)]
    names = {operation.name for one in programs for operation in one.operations}
    assert {operation.name for operation in OPERATIONS} <= names
    assert {name for one in programs for name in one.differences} == set(INTENDED)


def _program(*operations: Operation) -> Program:
    return Program(0, [[]] * BATCHES, [[]] * BATCHES, operations)


def _step(difference: str = "", *, is_ordered: bool = True) -> Operation:
    return Operation(
        "step", "numbers", "numbers", lambda stream, _: stream, is_ordered=is_ordered, difference=difference
    )


@pytest.mark.parametrize(
    ("theirs", "ours", "is_ordered", "difference", "verdict"),
    [
        (["1", "2"], ["1", "2"], True, "", "equal"),
        (["1", "2"], ["2", "1"], True, "", "different"),
        (["1", "2"], ["2", "1"], False, "", "equal"),
        (["1"], ["1", "1"], False, "", "different"),
        (None, [], False, "", "different"),
        (["(1, 0)", "(2, 3)"], ["(2, 3)"], False, "", "different"),
        (["(1, 0)", "(2, 3)"], ["(2, 3)"], False, "keys that left", "intended"),
        (["(1, [])"], [], False, "keys that left", "intended"),
        (["(1, 4)", "(2, 3)"], ["(2, 3)"], False, "keys that left", "different"),
        ([], ["0"], False, "emptied count", "intended"),
        ([], ["10"], False, "emptied count", "different"),
    ],
)
def test_verdict(
    theirs: list[str] | None, ours: list[str] | None, is_ordered: bool, difference: str, verdict: str
) -> None:
    """Order counts where it is defined, and a difference is intended only where it stands for nothing."""
    one = _program(_step(difference, is_ordered=is_ordered))
    assert compare(one, [theirs], [ours]).verdict == verdict


def test_equal_keys_show_alike() -> None:
    """What Python holds equal has one text, and what it does not has two."""
    assert shown((True, 1)) == shown((1.0, 1)) == shown((1, 1))
    assert shown(("1", 1)) != shown((1, 1))
    assert shown(("k", [3, 1])) == shown(("k", (number for number in (1, 3))))


def test_functions_are_of_their_kind() -> None:
    """The functions of programs do what their operations are named for."""
    assert keyed(7) == (3, 7)
    assert add(2, 3) == 5


@pytest.mark.slow
@pytest.mark.spark
@pytest.mark.timeout(600)
def test_programs_equal_pysparks(figures: Callable[[str], None]) -> None:
    """Some programs give on PySpark's own DStreams what they give here, but for the intended differences."""
    done = CliRunner().invoke(main, ["--programs", "20", "--seed", "7"])
    line = done.output.strip().splitlines()[-1]
    figures(line)
    found = re.fullmatch(r"parity: programs=20 equal=(\d+) intended=(\d+) different=0", line)
    assert found, done.output
    assert done.exit_code == 0
    assert int(found[1]) >= 15

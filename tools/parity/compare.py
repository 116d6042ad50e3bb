"""Whether two sides gave the same, or differ as they are meant to.

Owns: INTENDED, Difference, Comparison, compare.
Never: a run.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tools.parity.programs import Program

Batches = Sequence[Sequence[str] | None]

_EMPTY = re.compile(r"0|\[\]|\(.*, (0|\[\])\)")
"""An element that stands for nothing: a count of 0, or a key with 0 or with no value."""


class Difference(NamedTuple):
    """Where the engine is meant to differ from PySpark."""

    operator: str
    condition: str
    reason: str


INTENDED: Mapping[str, Difference] = {
    "keys that left": Difference(
        "reduceByKeyAndWindow with an inverse, countByValueAndWindow, groupByKeyAndWindow, reduceByWindow",
        "the window is at least 5 slides long and a key's last batch has left it",
        "PySpark uses the inverse function from 5 slides on only, and then keeps the key with 0 for ever; here it leaves, always",
    ),
    "emptied count": Difference(
        "countByWindow",
        "the window has no element",
        "PySpark gives nothing, or 0 when an inverse got there; here a count of nothing is 0, always",
    ),
}
"""By the name that the programs use. Each shows as elements that stand for nothing, and as nothing else."""


class Comparison(NamedTuple):
    """How one program compares."""

    program: Program
    verdict: str
    """equal, intended or different."""
    batch: int = 0
    """The first that differs."""
    theirs: Sequence[str] | None = None
    ours: Sequence[str] | None = None


def compare(program: Program, theirs: Batches, ours: Batches) -> Comparison:
    """The verdict on a program, from its batches on PySpark and here."""
    for number, (their, our) in enumerate(zip(theirs, ours, strict=True)):
        if _ordered(program, their) == _ordered(program, our):
            continue
        is_meant = program.differences and _solid(their) == _solid(our)
        if not is_meant:
            return Comparison(program, "different", number, their, our)
    is_equal = all(
        _ordered(program, their) == _ordered(program, our) for their, our in zip(theirs, ours, strict=True)
    )
    return Comparison(program, "equal" if is_equal else "intended")


def _ordered(program: Program, batch: Sequence[str] | None) -> list[str] | None:
    if batch is None:
        return None
    return list(batch) if program.is_ordered else sorted(batch)


def _solid(batch: Sequence[str] | None) -> list[str]:
    """The elements that stand for something."""
    return sorted(element for element in batch or () if not _EMPTY.fullmatch(element))

"""Which tests make which fault, read from their markers: `@pytest.mark.fault(16, "SIGSTOP, then a second process")`.

Owns: Made, scan.
Never: an import of a test.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class Made(NamedTuple):
    """A fault as a test makes it."""

    number: int
    how: str
    """How it is made, in a few words."""
    test: str
    """`path::name`."""


def scan(tests: Path) -> list[Made]:
    """The markers of all tests below a folder, by number, path and name."""
    found = [
        made
        for path in sorted(tests.rglob("test_*.py"))
        for made in _of_module(path, path.relative_to(tests.parent).as_posix())
    ]
    return sorted(found)


def _of_module(path: Path, shown: str) -> Iterator[Made]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            for marker in node.decorator_list:
                if isinstance(marker, ast.Call) and ast.unparse(marker.func) == "pytest.mark.fault":
                    number, how = (ast.literal_eval(argument) for argument in marker.args)
                    yield Made(number, how, f"{shown}::{node.name}")

"""One row an operation: who has it, how it differs, and which tests call it.

Owns: Row, rows.
Never: a page.
"""

import ast
import inspect
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from services.settings import REPOSITORY
from tools.api.inventory import Class
from tools.api.signatures import additions, deviations


class Row(NamedTuple):
    """An operation."""

    name: str
    origin: str
    """yes when PySpark has it, else who has."""
    local: str
    """yes, error (it is refused with a sentence) or no."""
    spark: str
    """The same on the Spark backend."""
    difference: str
    """From PySpark or Scala, and why; "" when there is none."""
    tests: int
    """Modules of the engine's tests that use the name."""


MADE_BY_OTHERS = {
    "DStream and pair DStream",
    "RDD",
    "Broadcast",
    "Accumulator",
    "TaskContext",
    "StreamingListener",
}
"""Classes whose constructor no user calls, or that has nothing to say."""


def rows(kind: Class) -> list[Row]:
    """The operations of a class, by name."""
    theirs, ours = _public(kind.theirs), _public(kind.ours) | _declared(kind.ours)
    if kind.title not in MADE_BY_OTHERS and "__init__" in vars(kind.theirs):
        theirs, ours = theirs | {"__init__"}, ours | {"__init__"}
    return [
        _row(kind, name, theirs, ours) for name in sorted(theirs | kind.scala | kind.extra, key=str.lower)
    ]


def _row(kind: Class, name: str, theirs: set[str], ours: set[str]) -> Row:
    local = "no" if name not in ours else "error" if _only_raises(getattr(kind.ours, name, None)) else "yes"
    spark = ("yes" if name in theirs else "no") if kind.is_theirs_on_spark else local
    difference = kind.absent.get(name, "") or _difference(kind.ours, name)
    if local == "error" and not difference:
        difference = _refusal(getattr(kind.ours, name))
    difference = "; ".join(filter(None, [difference.removesuffix("."), *_called(kind, name)]))
    origin = "yes" if name in theirs else "only here" if name in kind.extra else "Scala only"
    used = kind.ours.__name__ if name == "__init__" else name
    return Row(name, origin, local, spark, difference, tests_that_call().get(used, 0))


def _called(kind: Class, name: str) -> list[str]:
    """How the operation is called otherwise than PySpark's."""
    theirs, ours = getattr(kind.theirs, name, None), getattr(kind.ours, name, None)
    if theirs is None or ours is None:
        return []
    more = [f"`{added}`" for added in additions(theirs, ours)]
    return [*deviations(theirs, ours), *([f"also takes {', '.join(more)}"] if more else [])]


def _public(kind: type | ModuleType) -> set[str]:
    """Public names of a class or a module."""
    return {name for name in dir(kind) if not name.startswith("_")}


def _declared(kind: type | ModuleType) -> set[str]:
    """Names of attributes that a class declares for its objects."""
    return {name for base in getattr(kind, "__mro__", ()) for name in vars(base).get("__annotations__", ())}


def _refusal(operation: Any) -> str:
    """The first line of what a method that refuses says of itself."""
    return (inspect.getdoc(operation) or "").partition("\n")[0]


def _only_raises(operation: Any) -> bool:
    """Whether all that an operation does is to refuse; one that a subclass writes does not."""
    function = operation.fget if isinstance(operation, property) else inspect.unwrap(operation)
    function = getattr(function, "__func__", function)
    if not inspect.isfunction(function) or not Path(function.__code__.co_filename).exists():
        return False  # a dataclass writes some of its methods itself
    tree = ast.parse(inspect.cleandoc("\n" + inspect.getsource(function)))
    (definition,) = tree.body
    body = (
        [step for step in definition.body if not _is_text(step)]
        if isinstance(definition, ast.FunctionDef)
        else []
    )
    return bool(body) and isinstance(body[0], ast.Raise) and "NotImplementedError" not in ast.unparse(body[0])


def _is_text(step: ast.stmt) -> bool:
    return isinstance(step, ast.Expr) and isinstance(step.value, ast.Constant)


def _difference(kind: type | ModuleType, name: str) -> str:
    """What the docstring says after "Difference:", to the end of its paragraph."""
    text = inspect.getdoc(kind if name == "__init__" else getattr(kind, name, None)) or ""
    found = re.search(r"Difference:(.*?)(\n\s*\n|\Z)", text, re.DOTALL)
    return " ".join(found[1].split()) if found else ""


@cache
def tests_that_call() -> Mapping[str, int]:
    """By name the modules of the engine's tests that use it."""
    counts: dict[str, int] = {}
    for path in sorted((REPOSITORY / "tests" / "engine").rglob("*.py")):
        for name in set(_names(path)):
            counts[name] = counts.get(name, 0) + 1
    return counts


def _names(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.FunctionDef):
            # A listener's methods are called by the engine.
            yield node.name

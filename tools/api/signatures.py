"""How an operation of ours is called otherwise than PySpark's.

Owns: deviations, additions.
Never: a call.
"""

import inspect
from collections.abc import Mapping
from typing import Any

_SAME_KIND = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def deviations(theirs: Any, ours: Any) -> list[str]:
    """What of PySpark's parameters is otherwise here, each as a phrase; ours beside them are not looked at.

    Defaults that are functions or objects count as equal to each other: every library has its own.

    Example:
        >>> deviations(lambda self, window, slide: 0, lambda self, window, slide=None, name=None: 0)
        ['slide may be left out']
        >>> deviations(lambda self, conf, *, jsc=None: 0, lambda self, settings: 0)
        ['conf is called settings', 'jsc is missing']
    """
    mine, found = list(_parameters(ours).values()), []
    for place, (name, wanted) in enumerate(_parameters(theirs).items()):
        given = _parameters(ours).get(name)
        if given is None:
            other = mine[place] if place < len(mine) else None
            renamed = other is not None and other.name not in _parameters(theirs) and other.kind in _SAME_KIND
            found.append(f"{name} is called {other.name}" if renamed and other else f"{name} is missing")
        elif wanted.kind in _SAME_KIND and (given.kind not in _SAME_KIND or mine.index(given) != place):
            found.append(f"{name} stands elsewhere")
        elif wanted.default is wanted.empty and given.default is not given.empty:
            found.append(f"{name} may be left out")
        elif given.default is given.empty and wanted.default is not wanted.empty:
            found.append(f"{name} must be given")
        elif not _alike(wanted.default, given.default):
            found.append(f"{name} is {given.default!r} by default")
    return found


def additions(theirs: Any, ours: Any) -> list[str]:
    """Names of the parameters that only ours has.

    Example:
        >>> additions(lambda self, func: 0, lambda self, func, *, name=None: 0)
        ['name']
    """
    return [name for name in _parameters(ours) if name not in _parameters(theirs)]


def _parameters(operation: Any) -> Mapping[str, inspect.Parameter]:
    """Those of a method or a function; none of a property."""
    return inspect.signature(operation).parameters if inspect.isroutine(operation) else {}


def _alike(one: Any, other: Any) -> bool:
    plain = (type(None), bool, int, float, str)
    return repr(one) == repr(other) or not (isinstance(one, plain) or isinstance(other, plain))

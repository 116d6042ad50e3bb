"""What a program gave, as text that is equal for equal results of either side.

Owns: shown.
Never: an order; whoever compares knows whether there is one.
"""

from collections.abc import Iterable
from typing import Any


def shown(element: Any) -> str:
    """An element as text; values that were grouped show in order of their text, as their order is not defined.

    Example:
        >>> shown(("a", [2, 1])), shown((1.0, None))
        ("('a', [1, 2])", '(1, None)')
    """
    if isinstance(element, tuple):
        inner = ", ".join(map(shown, element))
        return f"({inner})"
    if isinstance(element, bool | float) and element == int(element):
        # Equal keys are one key, and which of them stands for all is not defined: 1, 1.0 and True show alike.
        return str(int(element))
    if isinstance(element, Iterable) and not isinstance(element, str | bytes):
        return f"[{', '.join(sorted(map(shown, element)))}]"
    return repr(element)

"""How values and functions travel between the driver and its executors: pickle, through pipes of our own, never to a disk.

What pickle can name it sends by name; classes and functions of the driver's `__main__`, lambdas and nested functions go by value.

Owns: dump, dump_by_value, load.
Never: bytes from a disk or a network.
"""

import pickle
from typing import Any, Final

import cloudpickle

_PROTOCOL: Final = 5
_by_value: Final[Any] = cloudpickle.dumps
"""The library has no annotations."""


def dump(value: Any) -> bytes:
    """The bytes of a value; fast for what can be sent by name."""
    try:
        return pickle.dumps(value, _PROTOCOL)
    except (pickle.PicklingError, AttributeError, TypeError):
        # A class of the driver's __main__ cannot be named in an executor.
        return dump_by_value(value)


def dump_by_value(value: Any) -> bytes:
    """The bytes of a value with the functions and classes that it holds."""
    payload: bytes = _by_value(value, _PROTOCOL)
    return payload


def load(payload: bytes | memoryview) -> Any:
    """The value of the bytes."""
    return pickle.loads(payload)  # noqa: S301 - from our own driver or executor, through our own pipe

"""How values and functions travel between the driver and its executors: pickle, through pipes of our own, never to a disk.

What pickle can name it sends by name; classes and functions of the driver's `__main__`, lambdas and nested functions go by value.

Owns: dump, dump_by_value, load.
Never: bytes from a disk or a network.
"""

import io
import pickle
from typing import Any, Final

from engine.rdd.structs import StructPickler

_PROTOCOL: Final = 5


def dump(value: Any) -> bytes:
    """The bytes of a value; fast for what can be sent by name."""
    try:
        return pickle.dumps(value, _PROTOCOL)
    except (pickle.PicklingError, AttributeError, TypeError):
        # A class of the driver's __main__ cannot be named in an executor.
        return dump_by_value(value)


def dump_by_value(value: Any) -> bytes:
    """The bytes of a value with the functions and classes that it holds."""
    payload = io.BytesIO()
    StructPickler(payload, _PROTOCOL).dump(value)
    return payload.getvalue()


def load(payload: bytes | memoryview) -> Any:
    """The value of the bytes."""
    return pickle.loads(payload)  # noqa: S301 - from our own driver or executor, through our own pipe

"""Structs of the driver's `__main__` in PySpark's own pickles, complete: by itself it sends such a class without its fields.

PySpark has no place for a pickler of ours, so its own gets one more rule, in the driver and in each worker that such a class reaches.

Owns: complete_structs.
Never: a class of a module that can be imported; those go by name.
"""

from typing import Any

import pyspark.cloudpickle

from engine.rdd.structs import taken_apart

_Pickler: Any = pyspark.cloudpickle.Pickler
"""The library has no annotations."""
_sparks_own: Any = _Pickler.reducer_override


def _made(make: Any, arguments: tuple[Any, ...]) -> Any:
    """What was taken apart; whoever has it sends it on in the same way."""
    complete_structs()
    return make(*arguments)


def _reducer_override(self: Any, obj: Any) -> Any:
    ours = taken_apart(obj)
    return _sparks_own(self, obj) if ours is NotImplemented else (_made, ours)


def complete_structs() -> None:
    """From now on PySpark's pickles in this process have Structs of `__main__` with their fields."""
    _Pickler.reducer_override = _reducer_override

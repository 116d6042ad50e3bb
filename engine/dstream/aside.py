"""Streams that put a record aside when the user's function raises on it.

Only the source knows where a record lies, and only until elements of several records are put together. So such a stream is
computed by its input: the task that reads the ranges runs every step from there on, and accounts for what it put aside with the range.
Nothing of that costs a stream that does not ask for it.

Owns: AsideDStream, puts_aside.
Never: a record.
"""

from collections.abc import Callable
from typing import Any

from engine.batch import Time
from engine.dstream.nodes import BatchScope, InputDStream, Node, TransformedDStream
from engine.dstream.steps import Step
from engine.errors import ConfigurationError
from engine.rdd.api import RDD

DEAD_LETTER = "dead-letter"


def puts_aside(operation: str, given: object) -> bool:
    """Whether the policy of an operation puts records aside.

    Raises:
        ConfigurationError: it is none.
    """
    if given not in {"stop", DEAD_LETTER}:
        raise ConfigurationError(f'{operation}: onError is {given!r:.60}; give "stop" or "{DEAD_LETTER}"')
    return given == DEAD_LETTER


class AsideDStream(Node):
    """An operator on single elements that puts aside the records on which its function raises.

    Replay: a function that raises on the same elements again puts the same records aside.

    Raises:
        ConfigurationError: the records' offsets are not known there.
    """

    def __init__(self, scope: BatchScope, parent: Node, kind: str, function: Callable[..., Any]) -> None:
        before = _steps_of(kind, parent)
        super().__init__(scope, [parent], parent.slide, kind)
        self.steps = (*before, Step(kind, function, self.name))
        """From the input to here."""
        (self._input,) = self.inputs()
        self._read = self._input.put_aside(self.name, self.steps)

    def compute(self, time: Time) -> RDD[Any] | None:
        """The elements of the batch's records that were not put aside."""
        batch = self.scope.batch(time)
        ranges = batch.ranges.get(self._input.name, ())
        return self._read(batch, ranges) if ranges else self.scope.context.emptyRDD()


def _steps_of(kind: str, node: Node) -> tuple[Step, ...]:
    """The steps from the input to a node."""
    if isinstance(node, AsideDStream):
        return node.steps
    if isinstance(node, TransformedDStream) and node.step is not None:
        return (*_steps_of(kind, node.parents[0]), Step(*node.step, ""))
    if isinstance(node, InputDStream):
        return ()
    raise ConfigurationError(
        f'{kind}: onError="{DEAD_LETTER}" needs the offset of each record, which nobody knows behind {node.name!r}; '
        "put it between the input and the first operator other than map, flatMap, filter, mapValues and flatMapValues"
    )

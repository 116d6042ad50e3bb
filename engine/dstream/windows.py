"""Operations over the last batches of a stream.

One rule for all of them: the window at t is made of the batches with a time in (t - windowDuration, t], and of nothing else. An
inverse function only makes that cheaper. So a key leaves with the last batch that has it, and a count of nothing is 0.

Owns: WindowOperations.
Never: a computation; the nodes do that.
"""

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from engine.dstream.handle import Handle
from engine.dstream.signatures import refuse_uncallable
from engine.dstream.windowed import ReducedWindowedDStream, WindowedDStream
from engine.rdd.api import T

if TYPE_CHECKING:
    # Only for annotations: the handle is made of this class.
    from engine.dstream.dstream import DStream


class WindowOperations(Handle[T]):
    """A stream over the last of its batches, every slide."""

    def window(
        self, windowDuration: float, slideDuration: float | None = None, *, name: str | None = None
    ) -> "DStream[T]":
        """The elements of the last batches, every slide.

        Elements: DStream[T] -> DStream[T], the oldest batch first.
        Time: at t the batches with a time in (t - windowDuration, t]; t moves by slideDuration, the parent's slide when
            not given; both in seconds and multiples of the parent's slide. The first windows are partial.
        State: none where the parent can be computed again from its ranges; after a stateful operator, each batch's elements.

        Raises:
            ConfigurationError: a duration is not a multiple of the parent's slide, or not above 0 (PySpark takes 0).

        Example:
            >>> from engine.testing import run_batches
            >>> run_batches(lambda s: s.window(3, 2), [[1], [2], [3], [4], [5]])
            [[1, 2], [2, 3, 4]]

        Source: `WindowedDStream`. Difference: a window of 0 is refused, and PySpark takes it. When the engine is behind, a time that
            a catch-up batch takes over has no window of its own; with `everyInterval=True` it has, as in PySpark.
        """
        length, slide = self._durations(windowDuration, slideDuration)
        return self._stream(WindowedDStream(self._scope, self.node, length, slide, name))

    def countByWindow(
        self, windowDuration: float, slideDuration: float | None = None, *, name: str | None = None
    ) -> "DStream[int]":
        """The number of elements of the last batches, every slide.

        Elements: DStream[T] -> DStream[int], one a window; 0 for an empty one.
        Time: at t the batches with a time in (t - windowDuration, t]; both durations in seconds and multiples of the parent's slide.
        State: one number for each batch of the window.

        Raises:
            ConfigurationError: a duration is not a multiple of the parent's slide, or not above 0.

        Example:
            >>> from engine.testing import run_batches
            >>> run_batches(lambda s: s.countByWindow(2, 1), [["a", "b"], ["c"], [], []])
            [[2], [3], [1], [0]]

        Source: `pyspark.streaming.DStream.countByWindow`. Difference: an emptied window always gives 0; PySpark gives 0 from 5
            slides on and nothing below.
        """
        return self._counted("countByWindow").reduceByWindow(
            operator.add, operator.sub, windowDuration, slideDuration, name=name, valueType=int
        )

    def countByValueAndWindow(
        self,
        windowDuration: float,
        slideDuration: float | None = None,
        numPartitions: Any = None,
        *,
        name: str | None = None,
        keyType: Any = None,
    ) -> "DStream[tuple[T, int]]":
        """How often each element occurs in the last batches, every slide.

        Elements: DStream[T] -> DStream[tuple[T, int]], one a distinct element of the window, no order.
        Time: at t the batches with a time in (t - windowDuration, t]; both durations in seconds and multiples of the parent's slide.
        State: the counts of each batch of the window and one slide more.

        Args:
            windowDuration: seconds, length of the window.
            slideDuration: seconds; the parent's slide when not given.
            numPartitions: of the result; a number or a partitioner object.
            name: of the operator in the checkpoint; without one the lineage is its name, and may then not change.
            keyType: of an element, for the checkpoint; needed for other than plain values.

        Raises:
            ConfigurationError: a duration is not a multiple of the parent's slide, or not above 0.

        Example:
            >>> from engine.testing import run_batches
            >>> run_batches(lambda s: s.countByValueAndWindow(2, 1), [["a"], ["a"], [], []])
            [[('a', 1)], [('a', 2)], [('a', 1)], []]

        Source: `pyspark.streaming.DStream.countByValueAndWindow`. Difference: elements that are no plain values (None, bool, int, float,
            str, bytes, and tuples, lists and dicts of them) need keyType; PySpark pickles whatever they are.
        """
        types = {"keyType": keyType, "valueType": None if keyType is None else int}
        return self._transformed("map", lambda _, rdd: rdd.map(_with_one)).reduceByKeyAndWindow(
            operator.add, operator.sub, windowDuration, slideDuration, numPartitions, name=name, **types
        )

    def reduceByWindow(
        self,
        reduceFunc: Callable[[T, T], T],
        invReduceFunc: Callable[[T, T], T] | None,
        windowDuration: float,
        slideDuration: float | None = None,
        *,
        name: str | None = None,
        valueType: Any = None,
    ) -> "DStream[T]":
        """The elements of the last batches reduced to one, every slide.

        Elements: DStream[T] -> DStream[T], one a window, none for an empty one.
        Time: at t the batches with a time in (t - windowDuration, t]; both durations in seconds and multiples of the parent's slide.
        State: one reduced element for each batch of the window and one slide more.

        Args:
            reduceFunc: associative.
            invReduceFunc: takes elements out again, `invReduceFunc(reduceFunc(x, y), y) == x`; None reduces the whole window.
            windowDuration: seconds, length of the window.
            slideDuration: seconds; the parent's slide when not given.
            name: of the operator in the checkpoint; without one the lineage is its name, and may then not change.
            valueType: of an element, for the checkpoint; needed for other than plain values.
        Replay: both functions must be deterministic.

        Raises:
            ConfigurationError: a duration is not a multiple of the parent's slide, or not above 0.

        Example:
            >>> from engine.testing import run_batches
            >>> run_batches(lambda s: s.reduceByWindow(max, None, 2, 1), [[3, 1], [2], [1], [], []])
            [[3], [3], [2], [1], []]

        Source: `pyspark.streaming.DStream.reduceByWindow`. Difference: an emptied window gives nothing, also with an inverse.
            Elements that are no plain values (None, bool, int, float, str, bytes, and tuples, lists and dicts of them) need valueType;
            PySpark pickles whatever they are.
        """
        types = {"keyType": None if valueType is None else int, "valueType": valueType}
        keyed = self._transformed("map", lambda _, rdd: rdd.map(_under_one_key))
        return keyed.reduceByKeyAndWindow(
            reduceFunc, invReduceFunc, windowDuration, slideDuration, name=name, **types
        ).map(_value)

    def groupByKeyAndWindow(
        self,
        windowDuration: float,
        slideDuration: float | None = None,
        numPartitions: Any = None,
        *,
        name: str | None = None,
        keyType: Any = None,
        valueType: Any = None,
    ) -> "DStream[tuple[Any, list[Any]]]":
        """One pair a key of the last batches with the list of its values, every slide.

        Elements: DStream[tuple[K, V]] -> DStream[tuple[K, list[V]]], values in the order in which they came, no order of keys.
        Time: at t the batches with a time in (t - windowDuration, t]; both durations in seconds and multiples of the parent's slide.
        State: the values of each batch of the window and one slide more.

        Args:
            windowDuration: seconds, length of the window.
            slideDuration: seconds; the parent's slide when not given.
            numPartitions: of the result; a number or a partitioner object.
            name: of the operator in the checkpoint; without one the lineage is its name, and may then not change.
            keyType: of a key, for the checkpoint; needed for other than plain values.
            valueType: of a single value, likewise.

        Raises:
            ConfigurationError: a duration is not a multiple of the parent's slide, or not above 0.

        Example:
            >>> from engine.testing import run_batches
            >>> run_batches(lambda s: s.groupByKeyAndWindow(2, 1), [[("a", 1)], [("a", 2)], [], []])
            [[('a', [1])], [('a', [1, 2])], [('a', [2])], []]

        Source: `pyspark.streaming.DStream.groupByKeyAndWindow`. Difference: keys and values that are no plain values (None, bool, int,
            float, str, bytes, and tuples, lists and dicts of them) need keyType and valueType; PySpark pickles whatever they are.
        """
        types = {"keyType": keyType, "valueType": None if valueType is None else list[valueType]}
        lists = self._transformed("mapValues", lambda _, rdd: rdd.mapValues(_as_list))
        return lists.reduceByKeyAndWindow(
            operator.iadd, _without_first, windowDuration, slideDuration, numPartitions, name=name, **types
        )

    def reduceByKeyAndWindow(
        self,
        func: Callable[[Any, Any], Any],
        invFunc: Callable[[Any, Any], Any] | None,
        windowDuration: float,
        slideDuration: float | None = None,
        numPartitions: Any = None,
        filterFunc: Callable[[tuple[Any, Any]], bool] | None = None,
        *,
        name: str | None = None,
        keyType: Any = None,
        valueType: Any = None,
    ) -> "DStream[tuple[Any, Any]]":
        """One pair a key of the last batches with its values reduced, every slide.

        Elements: DStream[tuple[K, V]] -> DStream[tuple[K, V]], no order. A key is there when a batch of the window has it.
        Time: at t the batches with a time in (t - windowDuration, t]; t moves by slideDuration; both in seconds and
            multiples of the parent's slide.
        State: the reduced values of each batch of the window and one slide more. With an inverse function it needs a checkpoint
            directory, as in Spark; without one and without a directory the executors' memory alone holds it.

        Args:
            func: associative.
            invFunc: takes values out again, `invFunc(func(x, y), y) == x`; None reduces the whole window each time.
            windowDuration: seconds, length of the window.
            slideDuration: seconds; the parent's slide when not given.
            numPartitions: of the result, a number or a partitioner object; the application's shards, as the state has, when
                not given. Any other costs one more exchange.
            filterFunc: keeps a pair only if true, (key, value) -> bool.
            name: of the operator in the checkpoint; without one the lineage is its name, and may then not change.
            keyType: of a key, for the checkpoint; needed for other than plain values.
            valueType: of a value, likewise.
        Replay: `func` and `invFunc` must be deterministic.

        Raises:
            ConfigurationError: a duration is not a multiple of the parent's slide, or not above 0.

        Example:
            >>> from engine.testing import run_batches
            >>> add, sub = (lambda x, y: x + y), (lambda x, y: x - y)
            >>> run_batches(lambda s: s.reduceByKeyAndWindow(add, sub, 2, 1), [[("a", 1)], [("a", 2)], [], []])
            [[('a', 1)], [('a', 3)], [('a', 2)], []]

        Source: `ReducedWindowedDStream`. Difference: PySpark uses the inverse only for windows of at least 5 slides and
            then keeps keys that are no longer in the window; here a key leaves with its last batch, always. Keys and values that are
            no plain values (None, bool, int, float, str, bytes, and tuples, lists and dicts of them) need keyType and valueType;
            PySpark pickles whatever they are.
        """
        durations = self._durations(windowDuration, slideDuration)
        functions, types = (func, invFunc, filterFunc), (keyType, valueType)
        refuse_uncallable(
            "reduceByKeyAndWindow", func, *(given for given in functions[1:] if given is not None)
        )
        how = None if numPartitions is None else self._spread(numPartitions)()
        return self._stream(
            ReducedWindowedDStream(self._scope, self.node, functions, durations, name, types, how)
        )


def _with_one(element: T) -> tuple[T, int]:
    return (element, 1)


def _under_one_key(element: T) -> tuple[int, T]:
    return (0, element)


def _value(pair: tuple[Any, T]) -> T:
    return pair[1]


def _as_list(value: T) -> list[T]:
    return [value]


def _without_first(values: list[T], gone: list[T]) -> list[T]:
    # The oldest batch leaves first, and its values came first.
    return values[len(gone) :]

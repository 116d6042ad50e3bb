"""How the arguments of users' functions are counted, and what pprint prints."""

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any

import pytest

from engine import LocalContext, StreamingContext
from engine.batch import Time
from engine.dstream.dstream import DStream
from engine.dstream.signatures import positional_arguments
from engine.errors import ConfigurationError
from engine.testing import run_batches
from tests.engine.app import START_MS, App


class Methods:
    """Functions of every bound kind; each notes what it was called with."""

    def __init__(self) -> None:
        self.calls: list[tuple[type, ...]] = []

    def one(self, rdd: Any) -> None:
        """Takes (rdd)."""
        self.calls.append((type(rdd),))

    def two(self, time: Any, rdd: Any) -> None:
        """Takes (time, rdd)."""
        self.calls.append((type(time), type(rdd)))

    def with_default(self, rdd: Any, limit: int = 3) -> None:
        """Takes (rdd) and has a default."""
        self.calls.append((type(rdd), type(limit)))

    def three(self, tag: Any, time: Any, rdd: Any) -> None:
        """Takes three, for partials."""
        self.calls.append((type(tag), type(time), type(rdd)))

    def star(self, *arguments: Any) -> None:
        """Takes any number."""
        self.calls.append(tuple(map(type, arguments)))

    def one_and_star(self, rdd: Any, *rest: Any) -> None:
        """Takes (rdd) and whatever else."""
        self.calls.append((type(rdd), *map(type, rest)))

    def __call__(self, rdd: Any) -> None:
        """Is callable with (rdd)."""
        self.calls.append((type(rdd),))


RDD_ONLY, TIME_AND_RDD = "(rdd)", "(time, rdd)"


@pytest.mark.parametrize(
    ("choose", "expected"),
    [
        (lambda m: m.one, RDD_ONLY),
        (lambda m: m.two, TIME_AND_RDD),
        (lambda m: m.with_default, RDD_ONLY),
        (lambda m: partial(m.three, "tag"), TIME_AND_RDD),
        (lambda m: partial(m.three, "tag", "time"), RDD_ONLY),
        (lambda m: m.star, TIME_AND_RDD),
        (lambda m: m.one_and_star, RDD_ONLY),
        (lambda m: m, RDD_ONLY),
        (lambda m: lambda rdd, k=1: m.one(rdd), RDD_ONLY),
        (lambda m: lambda time, rdd: m.two(time, rdd) or None, TIME_AND_RDD),
    ],
    ids=[
        "method",
        "two",
        "default",
        "partial",
        "partial-one",
        "star",
        "one-star",
        "object",
        "lambda-default",
        "lambda-two",
    ],
)
def test_arguments_of_foreach_rdd_are_counted_as_a_caller_sees_them(
    context: LocalContext, choose: Callable[[Methods], Callable[..., None]], expected: str
) -> None:
    """A foreachRDD function is called with (rdd) or (time, rdd), whatever kind of callable it is."""
    methods = Methods()

    def job(s: DStream[Any]) -> DStream[Any]:
        s.foreachRDD(choose(methods))
        return s

    run_batches(job, [[1]], context=context)

    ((*before, last),) = [call for call in methods.calls if call]
    rdd_types = [kind for kind in (*before, last) if "RDD" in kind.__name__]
    assert len(rdd_types) == 1
    assert (datetime in (*before, last)) == (expected == TIME_AND_RDD)


def test_builtin_is_called_with_the_rdd(context: LocalContext, capsys: pytest.CaptureFixture[str]) -> None:
    """A builtin such as print gets (rdd)."""

    def job(s: DStream[Any]) -> DStream[Any]:
        s.foreachRDD(print)
        return s

    run_batches(job, [[1]], context=context)

    assert "RDD" in capsys.readouterr().out


@pytest.mark.parametrize("function", [lambda: None, lambda a, b, c: None], ids=["none", "three"])
@pytest.mark.parametrize("operator", ["transform", "foreachRDD"])
def test_other_numbers_of_arguments_are_refused(operator: str, function: Callable[..., Any]) -> None:
    """A function of no or of three arguments is refused when the graph is built, with PySpark's words."""
    with pytest.raises(ConfigurationError, match="func should take one or two arguments"):
        run_batches(lambda s: getattr(s, operator)(function), [[1]])


def test_transform_of_two_arguments_gets_the_batch_time(context: LocalContext) -> None:
    """Transform gives a function of two the naive local datetime of the batch and the RDD."""
    times: list[datetime] = []

    def job(s: DStream[Any]) -> DStream[Any]:
        return s.transform(lambda time, rdd: times.append(time) or rdd)

    run_batches(job, [[1], [2]], context=context)

    assert times == [datetime.fromtimestamp(START_MS / 1_000 + n) for n in (1, 2)]  # noqa: DTZ006 - naive local, as PySpark's


@pytest.mark.parametrize(
    ("function", "count"),
    [
        (lambda *, key=1: key, 0),
        (lambda a, /, b, *, key=1: key, 2),
        (max, 1),
        (str.upper, 1),
        (partial(lambda a, b, c: None, c=1), 2),
        (lambda a=1, b=2: None, 1),
    ],
)
def test_positional_arguments(function: Callable[..., Any], count: int) -> None:
    """What must be given by position counts; what has a default or a name alone does not."""
    assert positional_arguments(function) == count


@pytest.mark.parametrize(
    "update",
    [
        lambda values, state: sum(values) + (state or 0),
        lambda values, state, factor=1: factor * sum(values) + (state or 0),
        lambda _time, _key, values, state: sum(values) + (state or 0),
        partial(lambda factor, values, state: factor * sum(values) + (state or 0), 1),
    ],
    ids=["two", "default", "four", "partial"],
)
def test_updates_take_two_or_four_arguments(context: LocalContext, update: Callable[..., int]) -> None:
    """An update function takes (values, state), or Scala's (time, key, values, state)."""
    assert run_batches(lambda s: s.updateStateByKey(update), [[("a", 1)], [("a", 2)]], context=context) == [
        [("a", 1)],
        [("a", 3)],
    ]


def test_update_of_four_gets_time_and_key(context: LocalContext) -> None:
    """An update function of four gets the batch's time in milliseconds and the key."""

    def update(time: Time, key: str, _values: list[int], _state: Any) -> tuple[int, str]:
        return int(time), key

    assert run_batches(lambda s: s.updateStateByKey(update), [[("a", 1)]], context=context) == [
        [("a", (START_MS + 1_000, "a"))]
    ]


LINE = "-" * 43


@pytest.mark.parametrize(
    ("batch", "num", "lines"),
    [
        ([1, "two", ("three", 3)], 10, ["1", "two", "('three', 3)"]),
        ([1, 2, 3, 4], 2, ["1", "2", "..."]),
        ([1, 2], 2, ["1", "2"]),
        ([], 10, []),
        (list(range(11)), 10, [*map(str, range(10)), "..."]),
    ],
    ids=["all", "more", "exactly", "empty", "default"],
)
def test_pprint_prints_in_the_format_of_pyspark(
    context: LocalContext, capsys: pytest.CaptureFixture[str], batch: list[Any], num: int, lines: list[str]
) -> None:
    """Pprint prints a ruled header with the time, up to num elements, three dots when there are more, and a blank line."""
    run_batches(lambda s: s.pprint(num) or s, [batch], context=context)

    time = str(datetime.fromtimestamp(START_MS / 1_000 + 1))  # noqa: DTZ006 - naive local, as PySpark's
    assert capsys.readouterr().out == "\n".join([LINE, f"Time: {time}", LINE, *lines, "", ""])


def test_pprint_shows_parts_of_a_second_when_there_are_some(capsys: pytest.CaptureFixture[str]) -> None:
    """The time of a batch within a second is printed with its microseconds."""
    run_batches(lambda s: s.pprint() or s, [[1], [2]], batchDuration=0.5)

    first, second = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Time: ")]
    assert first.endswith(".500000")
    assert "." not in second


def test_pprint_takes_no_more_than_it_needs(context: LocalContext, tmp_path: Any) -> None:
    """Pprint looks at one element more than it prints, and not at the batch."""
    calls = context.accumulator(0)

    def counted(n: int) -> int:
        calls.add(1)
        return n

    def job(_ssc: StreamingContext, stream: DStream[Any], _app: App) -> None:
        stream.map(counted).pprint(2)

    with App(context, tmp_path, job, [list(range(1_000))]) as app:
        app.run()

    assert calls.value == 3

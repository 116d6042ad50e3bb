"""Which batches a window covers, and that both ways to reduce it agree with a count by hand."""

import random
from collections import Counter
from collections.abc import Callable
from operator import add, itemgetter, sub
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine import LocalContext, ManualClock, StreamingContext
from engine.dstream.dstream import DStream
from engine.errors import ConfigurationError, UserFunctionError
from engine.testing import run_batches
from tests.engine.app import App, collected

DURATIONS = [(1, 1), (2, 1), (3, 1), (3, 2), (2, 2), (4, 2), (1, 3), (2, 3), (7, 1)]
BATCHES = [[("a", 1), ("b", 2)], [("a", 4)], [], [("c", 1), ("a", 1)], [], [], [], [("b", 9)], [("b", 1)], []]


def covered(length: int, slide: int) -> list[list[tuple[str, int]]]:
    """The elements of each window, by the rule: at t the batches in (t - length, t], t a multiple of the slide."""
    return [
        [pair for batch in BATCHES[max(0, end - length) : end] for pair in batch]
        for end in range(slide, len(BATCHES) + 1, slide)
    ]


def summed(pairs: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """The pairs reduced by key."""
    totals: Counter[str] = Counter()
    for key, value in pairs:
        totals[key] += value
    return sorted(totals.items())


@pytest.mark.parametrize(("length", "slide"), DURATIONS)
def test_window_covers_its_batches(context: LocalContext, tmp_path: Path, length: int, slide: int) -> None:
    """A window at t holds the batches with a time in (t - length, t], partial at the start, with gaps when it slides further."""
    got = collected(context, tmp_path, lambda s: s.window(length, slide), BATCHES)

    assert got == [sorted(pairs) for pairs in covered(length, slide)]


@pytest.mark.parametrize(("length", "slide"), DURATIONS)
@pytest.mark.parametrize("inverse", [None, sub])
def test_reduced_window_equals_its_batches_reduced(
    context: LocalContext, tmp_path: Path, length: int, slide: int, inverse: Callable[[int, int], int] | None
) -> None:
    """A reduced window gives its batches reduced by key, with an inverse function and without; a key leaves with its last batch."""
    got = collected(context, tmp_path, lambda s: s.reduceByKeyAndWindow(add, inverse, length, slide), BATCHES)

    assert got == [summed(pairs) for pairs in covered(length, slide)]


@pytest.mark.parametrize("inverse", [None, sub])
def test_reduced_window_survives_a_crash_anywhere(
    context: LocalContext, tmp_path: Path, inverse: Callable[[int, int], int] | None
) -> None:
    """A reduced window gives the same when the application is crashed and restarted after every single batch."""

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        app.collect(stream.reduceByKeyAndWindow(add, inverse, 3, 2), "all")

    with App(context, tmp_path, job, BATCHES) as app:
        for _ in BATCHES:
            app.run().crash()

    assert app.out["all"] == [summed(pairs) for pairs in covered(3, 2)]


def test_plain_window_survives_a_crash_anywhere(context: LocalContext, tmp_path: Path) -> None:
    """A plain window reads the ranges of its older batches again after a restart."""

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        app.collect(stream.window(3, 2), "all")

    with App(context, tmp_path, job, BATCHES) as app:
        for _ in BATCHES:
            app.run().crash()

    assert app.out["all"] == [sorted(pairs) for pairs in covered(3, 2)]


def test_filter_drops_pairs_of_a_window(context: LocalContext, tmp_path: Path) -> None:
    """A reduced window gives only the pairs that its filter keeps, and counts on with those that it dropped."""
    got = collected(
        context,
        tmp_path,
        lambda s: s.reduceByKeyAndWindow(add, sub, 2, 1, filterFunc=lambda pair: pair[1] > 2),
        [[("a", 1)], [("a", 2)], [("a", 1)]],
    )

    assert got == [[], [("a", 3)], [("a", 3)]]


def test_inverse_is_used(context: LocalContext, tmp_path: Path) -> None:
    """With an inverse function each part enters once and leaves once, however long the window is."""
    calls = context.accumulator(0)

    def counted_add(x: int, y: int) -> int:
        calls.add(1)
        return x + y

    def counted_sub(x: int, y: int) -> int:
        calls.add(1)
        return x - y

    batches = [[("a", 1)] for _ in range(20)]
    collected(context, tmp_path, lambda s: s.reduceByKeyAndWindow(counted_add, counted_sub, 10), batches)

    assert calls.value == 19 + 10


def test_window_of_a_window_covers_both(context: LocalContext, tmp_path: Path) -> None:
    """A window over a window holds what each of the inner windows held."""
    got = collected(context, tmp_path, lambda s: s.window(2, 1).window(2, 2), [[1], [2], [3], [4]])

    assert got == [[1, 1, 2], [2, 3, 3, 4]]


def test_slide_is_the_parents_when_not_given(context: LocalContext) -> None:
    """Without a slide duration a window slides with its parent."""
    assert run_batches(lambda s: s.window(4, 2).window(4), [[1], [2], [3], [4]], context=context) == [
        [1, 2],
        [1, 2, 1, 2, 3, 4],
    ]


@pytest.mark.parametrize(
    ("window", "slide", "wrong"),
    [
        (1.5, 1, "windowDuration"),
        (2, 1.5, "slideDuration"),
        (0, 1, "windowDuration"),
        (2, -1, "slideDuration"),
    ],
)
def test_durations_off_the_parents_slide_are_refused(
    context: LocalContext, window: float, slide: float, wrong: str
) -> None:
    """A duration that is no positive multiple of the parent's slide is refused with PySpark's words."""
    words = rf"{wrong} must be multiple of the parent dstream's slide \(batch\) duration \(1000 ms\)"

    with pytest.raises(ConfigurationError, match=words):
        run_batches(lambda s: s.window(window, slide), [[1]], context=context)
    with pytest.raises(ConfigurationError, match=words):
        run_batches(lambda s: s.reduceByKeyAndWindow(add, None, window, slide), [[1]], context=context)


def test_inner_slide_rules_the_outer_window(context: LocalContext) -> None:
    """A window over a stream that slides by 2 s takes multiples of 2 s only."""
    with pytest.raises(ConfigurationError, match=r"duration \(2000 ms\)"):
        run_batches(lambda s: s.window(2, 2).window(3, 3), [[1]], context=context)


@pytest.mark.parametrize("operator", ["join", "union"])
def test_streams_of_unequal_slides_are_refused(context: LocalContext, operator: str) -> None:
    """Streams that slide differently cannot be combined (PySpark joins them at the left one's slide)."""
    with pytest.raises(ConfigurationError, match=r"different slide durations \[1000, 2000\] ms"):
        run_batches(lambda s: getattr(s, operator)(s.window(2, 2)), [[("a", 1)]], context=context)


def test_empty_windows_are_emitted(context: LocalContext, tmp_path: Path) -> None:
    """A window over batches without elements is an empty RDD, and not none."""
    assert collected(context, tmp_path, lambda s: s.window(2, 1), [[], [], []]) == [[], [], []]


def test_windows_count_from_the_zero_time(context: LocalContext, tmp_path: Path) -> None:
    """Slides count from the first start, also after restarts at other times."""

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        app.collect(stream.window(3, 3), "all")

    with App(context, tmp_path, job, [[n] for n in range(1, 8)]) as app:
        app.run(2).crash().run(2).crash().run(3)

    assert app.out["all"] == [[1, 2, 3], [4, 5, 6]]


# The windows that are made of these.

RULES: dict[str, Callable[[list[tuple[str, int]]], list[Any]]] = {
    "countByWindow": lambda pairs: [len(pairs)],
    "countByValueAndWindow": lambda pairs: sorted(Counter(pairs).items()),
    "reduceByWindow": lambda pairs: [sum(value for _, value in pairs)] if pairs else [],
    "reduceByWindow inverse": lambda pairs: [sum(value for _, value in pairs)] if pairs else [],
    "groupByKeyAndWindow": lambda pairs: [
        (key, [value for other, value in pairs if other == key]) for key in sorted({key for key, _ in pairs})
    ],
}
WINDOWS: dict[str, Callable[[DStream[Any], float, float], DStream[Any]]] = {
    "countByWindow": lambda s, length, slide: s.countByWindow(length, slide),
    "countByValueAndWindow": lambda s, length, slide: s.countByValueAndWindow(length, slide),
    "reduceByWindow": lambda s, length, slide: s.map(itemgetter(1)).reduceByWindow(add, None, length, slide),
    "reduceByWindow inverse": lambda s, length, slide: s.map(itemgetter(1)).reduceByWindow(
        add, sub, length, slide
    ),
    "groupByKeyAndWindow": lambda s, length, slide: s.groupByKeyAndWindow(length, slide),
}


@pytest.mark.parametrize(("length", "slide"), DURATIONS)
@pytest.mark.parametrize("operator", WINDOWS)
def test_each_window_follows_the_one_rule(
    context: LocalContext, tmp_path: Path, operator: str, length: int, slide: int
) -> None:
    """Each window operation gives what its batches in (t - length, t] give, whatever the ratio of length and slide."""
    got = collected(context, tmp_path, lambda s: WINDOWS[operator](s, length, slide), BATCHES)

    assert got == [RULES[operator](pairs) for pairs in covered(length, slide)]


@pytest.mark.slow
@pytest.mark.parametrize("operator", WINDOWS)
def test_each_window_survives_a_crash_anywhere(context: LocalContext, tmp_path: Path, operator: str) -> None:
    """Each window operation gives the same when the application is crashed and restarted after every single batch."""

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        app.collect(WINDOWS[operator](stream, 3, 1), "all")

    with App(context, tmp_path, job, BATCHES) as app:
        for _ in BATCHES:
            app.run().crash()

    assert app.out["all"] == [RULES[operator](pairs) for pairs in covered(3, 1)]


@pytest.mark.slow
@pytest.mark.parametrize("operator", WINDOWS)
def test_random_windows_follow_the_one_rule(local_two: LocalContext, tmp_path: Path, operator: str) -> None:
    """Each window operation follows the rule over seeded random batches, empty ones among them."""
    choose = random.Random(11)
    batches = [
        [(choose.choice("abc"), choose.randrange(5)) for _ in range(choose.choice([0, 0, 1, 2, 6]))]
        for _ in range(25)
    ]

    got = collected(local_two, tmp_path, lambda s: WINDOWS[operator](s, 5, 2), batches)

    assert got == [
        RULES[operator]([pair for batch in batches[max(0, end - 5) : end] for pair in batch])
        for end in range(2, 26, 2)
    ]


def test_count_of_an_emptied_window_is_zero(context: LocalContext, tmp_path: Path) -> None:
    """CountByWindow gives one 0 for a window without elements, short or long (PySpark gives nothing below 5 slides)."""
    for length in (2, 5):
        got = collected(
            context,
            tmp_path / str(length),
            lambda s, length=length: s.countByWindow(length, 1),
            [[1], *[[]] * 6],
        )
        assert got == [[1]] * length + [[0]] * (7 - length)


def test_grouped_window_keeps_the_order_of_values(context: LocalContext, tmp_path: Path) -> None:
    """The values of a grouped window stand in the order of their batches, and in a batch in the order in which they came."""
    batches = [[("a", n * 10 + i) for i in range(5)] for n in range(6)]

    got = collected(context, tmp_path, lambda s: s.groupByKeyAndWindow(3, 1), batches)

    assert got[-1] == [("a", [n * 10 + i for n in (3, 4, 5) for i in range(5)])]


def test_grouped_windows_are_each_readers_own(context: LocalContext, tmp_path: Path) -> None:
    """What a reader does to the lists of a grouped window is seen by no other reader and by no later window."""

    def spoil(pair: tuple[str, list[int]]) -> tuple[str, list[int]]:
        pair[1].append(-1)
        return pair

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        window = stream.groupByKeyAndWindow(2, 1)
        app.collect(window.map(spoil), "spoiled")
        app.collect(window, "all")

    with App(context, tmp_path, job, [[("a", 1)], [("a", 2)], [("a", 3)]]) as app:
        out = app.run(3).out

    assert out["all"] == [[("a", [1])], [("a", [1, 2])], [("a", [2, 3])]]


def test_reducers_of_a_window_may_work_in_place(context: LocalContext, tmp_path: Path) -> None:
    """Functions that change their arguments in place give a window what pure ones give."""

    def extend(left: list[int], right: list[int]) -> list[int]:
        left += right
        right.clear()
        return left

    def remove(left: list[int], right: list[int]) -> list[int]:
        del left[: len(right)]
        right.clear()
        return left

    batches = [[[n], [n]] for n in range(6)]

    got = collected(context, tmp_path, lambda s: s.reduceByWindow(extend, remove, 3, 1), batches)

    assert [len(window[0]) for window in got] == [2, 4, 6, 6, 6, 6]
    assert got[-1] == [[3, 3, 4, 4, 5, 5]]


def test_windows_without_an_inverse_need_no_directory(context: LocalContext) -> None:
    """A window that is reduced without an inverse function runs without a checkpoint directory, as in PySpark."""
    clock = ManualClock(1_000_000)
    ssc = StreamingContext(context, 1.0, clock=clock)
    seen: list[list[Any]] = []
    window = ssc.queueStream([[("a", 1)], [("a", 2)], []]).reduceByKeyAndWindow(add, None, 2)
    window.foreachRDD(lambda rdd: seen.append(rdd.collect()))
    ssc.start(thread=False)
    for _ in range(4):
        clock.advance(1_000)
        ssc.runBatch()
    ssc.stop(stopSparkContext=False)

    assert seen == [[("a", 1)], [("a", 3)], [("a", 2)], []]


def test_names_of_windows_stay(local_two: LocalContext) -> None:
    """The names under which windows keep their state are part of the checkpoint's format."""
    ssc = StreamingContext(local_two, 1.0)
    stream = ssc.queueStream([])
    stream.reduceByKeyAndWindow(add, sub, 3, 1)
    stream.map(str).reduceByKeyAndWindow(add, None, 3, 1, name="mine")
    stream.updateStateByKey(lambda _values, state: state).window(2)
    stream.count().countByValue().updateStateByKey(lambda _values, state: state)
    stream.countByWindow(2, 1)
    stream.countByValueAndWindow(2, 1)
    stream.reduceByWindow(add, sub, 2, 1)
    stream.groupByKeyAndWindow(2, 1)

    assert list(ssc.graph.operators().items()) == [
        ("reduceByKeyAndWindow[3000,1000](queue)", "reduceByKeyAndWindow[3000,1000](queue)"),
        ("mine", "reduceByKeyAndWindow[3000,1000](map(queue))"),
        ("updateStateByKey(queue)", "updateStateByKey(queue)"),
        ("window[2000,1000](updateStateByKey(queue))", "window[2000,1000](updateStateByKey(queue))"),
        *[("updateStateByKey(reduceByKey(map(map(reduceByKey(map(count(queue)))))))",) * 2],
        *[("reduceByKeyAndWindow[2000,1000](map(countByWindow(queue)))",) * 2],
        *[("reduceByKeyAndWindow[2000,1000](map(queue))",) * 2],
        ("reduceByKeyAndWindow[2000,1000](map(queue))#1", "reduceByKeyAndWindow[2000,1000](map(queue))"),
        *[("reduceByKeyAndWindow[2000,1000](mapValues(queue))",) * 2],
    ]


class Money(msgspec.Struct, frozen=True):
    """A value that the checkpoint does not know by itself."""

    cents: int

    def __add__(self, other: "Money") -> "Money":
        return Money(self.cents + other.cents)

    def __sub__(self, other: "Money") -> "Money":
        return Money(self.cents - other.cents)


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (
            lambda s: s.map(itemgetter(1)).reduceByWindow(add, sub, 2, 1, name="w", valueType=Money),
            [Money(5)],
        ),
        (
            lambda s: s.groupByKeyAndWindow(2, 1, name="w", keyType=str, valueType=Money),
            [("a", [Money(2), Money(3)])],
        ),
        (
            lambda s: s.map(lambda pair: (pair[0], pair[1].cents)).countByValueAndWindow(
                2, 1, name="w", keyType=tuple[str, int]
            ),
            [(("a", 2), 1), (("a", 3), 1)],
        ),
    ],
    ids=["reduced", "grouped", "counted"],
)
def test_declared_types_of_windows_come_back(
    context: LocalContext, tmp_path: Path, build: Callable[[DStream[Any]], DStream[Any]], expected: list[Any]
) -> None:
    """Keys and values of declared types come back from the checkpoint as themselves."""

    def job(_ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        app.collect(build(stream).map(lambda got: (repr(got), got)), "all")

    with App(context, tmp_path, job, [[("a", Money(1))], [("a", Money(2))], [("a", Money(3))]]) as app:
        for _ in range(3):
            app.run().crash()

    assert [element for _, element in app.out["all"][-1]] == expected


@pytest.mark.parametrize(
    "build",
    [
        lambda s: s.reduceByWindow(lambda _x, _y: next(iter([])), None, 2, 1),
        lambda s: s.reduceByWindow(add, lambda _x, _y: next(iter([])), 2, 1),
        lambda s: s.map(lambda n: (n, n)).reduceByKeyAndWindow(
            add, None, 2, filterFunc=lambda _: next(iter([]))
        ),
    ],
    ids=["reduce", "inverse", "filter"],
)
def test_stop_iteration_in_a_window_is_an_error(
    context: LocalContext, tmp_path: Path, build: Callable[[DStream[Any]], DStream[Any]]
) -> None:
    """A StopIteration that escapes a window's function fails the batch, and never ends a partition in silence."""
    with pytest.raises(UserFunctionError, match="StopIteration"):
        run_batches(build, [[1, 1], [1, 1], [1, 1], [1, 1]], context=context, checkpoint=tmp_path)

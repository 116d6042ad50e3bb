"""Which batches a window covers, and that both ways to reduce it agree with a count by hand."""

from collections import Counter
from collections.abc import Callable
from operator import add, sub
from pathlib import Path
from typing import Any

import pytest

from engine import LocalContext, StreamingContext
from engine.dstream.dstream import DStream
from engine.errors import ConfigurationError
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

"""What the parts of the engine tell of themselves adds up."""

import copy

from hypothesis import given
from hypothesis import strategies as st

from engine.reports import Buckets, Lag, WriteReport, by_table

SECONDS = st.lists(st.floats(0, 1_000))


@given(SECONDS, SECONDS)
def test_merged_buckets_are_those_of_all_observations(left: list[float], right: list[float]) -> None:
    """Two processes that observe apart and merge count what one would have counted."""
    one, other, all_of_them = Buckets(), Buckets(), Buckets()
    one.observe_all(left)
    other.observe_all(right)
    all_of_them.observe_all(left + right)
    one.merge(copy.deepcopy(other))

    assert one.counts == all_of_them.counts
    assert abs(one.total - all_of_them.total) < 1e-6
    assert one.cumulative()[-1] == one.count == len(left + right)


def test_bound_is_inclusive() -> None:
    """An observation that equals a bound is counted under it, as Prometheus means `le`."""
    buckets = Buckets((1, 2))
    buckets.observe(1)
    buckets.observe(2, times=3)

    assert (buckets.counts, buckets.total) == ([1, 3, 0], 7)


def test_reports_merge_by_table() -> None:
    """Reports of one table add up, and the reports themselves stay as they are."""
    report = WriteReport("a", rows=2, requests=1, retries=3, failures=4)
    report.seconds.observe(0.5)
    found = by_table([report, WriteReport("b", rows=1), report])

    assert (found["a"].rows, found["a"].requests, found["a"].retries, found["a"].failures) == (4, 2, 6, 8)
    assert (found["a"].seconds.count, found["b"].rows) == (2, 1)
    assert (report.rows, report.seconds.count) == (2, 1)


def test_nothing_behind_is_no_age() -> None:
    """A partition that is read to its end is 0 seconds behind however old its last record is."""
    assert Lag(0, since=1_000).seconds(now_ms=9_000) == 0
    assert Lag(1, since=1_000).seconds(now_ms=9_000) == 8
    assert Lag(1, since=9_500).seconds(now_ms=9_000) == 0

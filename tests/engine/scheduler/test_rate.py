"""Backpressure's estimate: Spark's own tests of it, what settings say, and what it does to a direct stream."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import LocalContext, ManualClock, SparkConf, StreamingContext
from engine.batch import Duration, TopicPartition
from engine.errors import ConfigurationError, UserFunctionError
from engine.scheduler.rate import KEYS, Backpressure, PidRateEstimator
from engine.sources.direct import create_direct_stream
from engine.sources.limits import RateLimit
from engine.sources.log import LogSource, LogWriter, create_topic
from tests.engine.app import CrashError

MS = 0.001
"""Seconds."""


def estimator(
    proportional: float = 1.0, integral: float = 0.0, derived: float = 0.0, least: float = 10.0
) -> PidRateEstimator:
    """An estimator for batches of 20 ms, as in Spark's PIDRateEstimatorSuite."""
    return PidRateEstimator(Duration(20), Backpressure(True, None, proportional, integral, derived, least))


def rates(made: PidRateEstimator, elements: list[int], processing: float, scheduling: float) -> list[Any]:
    """The estimates after one batch each 20 ms."""
    return [
        made.compute(number * 20 * MS, count, processing, scheduling) for number, count in enumerate(elements)
    ]


def test_first_estimate_is_none_and_the_second_the_speed() -> None:
    """There is no estimate after one batch; after the second it is the speed of processing."""
    assert rates(estimator(), [10, 10], 10 * MS, 0) == [None, pytest.approx(1_000)]


@pytest.mark.parametrize(
    ("moment", "records", "processing"), [(10 * MS, 10, 10 * MS), (30 * MS, 0, 10 * MS), (30 * MS, 10, 0.0)]
)
def test_batch_that_says_nothing_has_no_estimate(moment: float, records: int, processing: float) -> None:
    """No time since the last, no records, or no processing: the rate stays as it was."""
    made = estimator()
    made.compute(0.0, 10, 10 * MS, 0)
    assert made.compute(10 * MS, 10, 10 * MS, 0) is not None
    assert made.compute(moment, records, processing, 0) is None


def test_estimate_is_never_below_the_least() -> None:
    """Batches of one record that wait longer and longer bring the rate to the least, and no lower."""
    assert rates(estimator(integral=1.0, least=60.0), [1] * 50, 20 * MS, 100 * MS) == [None] + [60.0] * 49


@pytest.mark.parametrize("elements", [range(20, 1_020, 20), range(1_000, 0, -20)])
def test_without_waiting_the_estimate_is_the_speed(elements: range) -> None:
    """With nothing that waits the estimate follows the speed, whether it rises or falls."""
    found = rates(estimator(integral=1.0), list(elements), 20 * MS, 0)

    assert found == [None, *(pytest.approx(count * 50) for count in elements[1:])]


@given(elements=st.lists(st.integers(1, 1_000), min_size=2, max_size=50))
def test_with_waiting_the_estimate_is_below_the_speed(elements: list[int]) -> None:
    """While batches wait for their start the estimate stays below what is processed, down to the least."""
    found = rates(estimator(integral=0.01), elements, 20 * MS, 10 * MS)

    for rate, count in zip(found[1:], elements[1:], strict=True):
        assert 10 <= rate <= max(10, count * 50)


def test_derived_gain_answers_to_the_change_of_the_error() -> None:
    """With the third gain a speed that falls lowers the estimate below the speed."""
    found = rates(estimator(derived=0.1), [20, 20, 10], 20 * MS, 0)

    assert found[1] == pytest.approx(1_000)
    assert found[2] < 500


# Settings.


def test_settings_come_from_the_conf_and_from_the_context() -> None:
    """Every key of Spark is read, and what the context is given counts more."""
    prefix = "spark.streaming.backpressure."
    conf = {
        f"{prefix}enabled": "true",
        f"{prefix}initialRate": "500",
        f"{prefix}rateEstimator": "pid",
        **{
            f"{prefix}pid.{name}": str(n) for n, name in enumerate(("proportional", "integral", "derived"), 2)
        },
        f"{prefix}pid.minRate": "7",
    }

    assert conf.keys() == KEYS
    assert Backpressure.of(conf) == (True, 500, 2, 3, 4, 7)
    assert Backpressure.of(conf, enabled=False, initial_rate=9)[:2] == (False, 9)
    assert Backpressure.of({}) == (False, None, 1, 0.2, 0, 100)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("enabled", "yes", "enabled is 'yes'; give true or false"),
        ("rateEstimator", "mine", "rateEstimator is 'mine'; there is pid and no other"),
        ("initialRate", "0", "initialRate is 0.0; give a number above 0"),
        ("pid.integral", "-1", "pid.integral is -1.0; give a number of at least 0"),
        ("pid.derived", "x", "pid.derived is 'x'; give a number"),
        ("pid.minRate", "0", "pid.minRate is 0.0; give a number above 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(name: str, value: str, said: str) -> None:
    """A setting that cannot be is refused with its key and value when the context is made."""
    conf = SparkConf(loadDefaults=False).setMaster("local").set(f"spark.streaming.backpressure.{name}", value)
    with LocalContext(conf=conf) as context, pytest.raises(ConfigurationError, match=said):
        StreamingContext(context, 1)


# Shares of partitions.

places = st.dictionaries(
    st.integers(0, 9).map(lambda n: TopicPartition("t", n)), st.integers(0, 10**6), min_size=1
)


@given(waiting=places, rate=st.floats(1, 10**6), most=st.none() | st.integers(1, 1_000))
def test_shares_stay_within_rate_and_limits(
    waiting: dict[TopicPartition, int], rate: float, most: int | None
) -> None:
    """The shares of a rate are in proportion to what waits, within each partition's limit, and at least one record each."""
    limit = RateLimit()
    limit.rate = rate
    shares = limit.shares(waiting, 2.0, lambda _: most, lambda _: 1)

    given_out = [share for share in shares.values() if share is not None]
    assert len(given_out) == len(waiting)
    assert all(1 <= share <= (most or share) for share in given_out)
    assert sum(given_out) <= 2 * rate + len(waiting)
    total = sum(waiting.values()) or 1
    assert most is not None or all(
        shares[place] == max(1, int(rate * 2 * count / total)) for place, count in waiting.items()
    )


def test_without_a_rate_the_partitions_limits_count() -> None:
    """Before the first estimate a batch takes what the partitions' own limits allow."""
    limit = RateLimit()

    assert limit.shares({TopicPartition("t", 0): 9}, 1.0, lambda _: 5, lambda _: 1) == {
        TopicPartition("t", 0): 5
    }
    assert limit.told == 5
    assert limit.shares({TopicPartition("t", 0): 9}, 1.0, lambda _: None, lambda _: 1) == {
        TopicPartition("t", 0): None
    }
    assert limit.told is None


# A stream that is held back.


class Held:
    """A direct stream over a topic, whose output takes so many milliseconds for each record, by a clock of its own."""

    def __init__(self, folder: Path, each_ms: int, **settings: Any) -> None:
        create_topic(folder / "log", "t", 2)
        self.each_ms = each_ms
        self.fast_from = 1_000_000
        """The batch from which on a record takes a millisecond."""
        self.refill: tuple[int, ...] = ()
        """What is appended before each batch."""
        self.crashes = False
        """Whether the next batch does, when it has its records."""
        self.times: list[int] = []
        self.counts: list[int] = []
        self.limits: list[float | None] = []
        self._folder = folder
        self._settings = settings

    def write(self, *counts: int) -> None:
        """Append so many records to each partition."""
        for partition, count in enumerate(counts):
            with LogWriter(self._folder / "log", "t", partition) as writer:
                writer.append([(0, None, b"%d" % n) for n in range(count)])

    def run(self, context: LocalContext, batches: int) -> None:
        """Run batches as they are due."""
        clock = ManualClock(self.times[-1] if self.times else 1_000_000)
        ssc = StreamingContext(context, 1.0, clock=clock, **self._settings)
        ssc.checkpoint(self._folder / "checkpoints")
        source = LogSource(self._folder / "log", ["t"])
        stream = create_direct_stream(ssc, source, name="t", decoder=int, reset="earliest")

        def output(at: Any, rdd: Any) -> None:
            count = rdd.count()
            self.times.append(round(at.timestamp() * 1_000))
            self.counts.append(count)
            self.limits.append(ssc.graph.inputs[0].limit)
            if self.crashes:
                self.crashes = False
                raise CrashError
            clock.advance(count * (self.each_ms if len(self.counts) <= self.fast_from else 1))

        stream.foreachRDD(output)
        ssc.start(thread=False)
        try:
            for _ in range(batches):
                self.write(*self.refill)
                clock.advance(1_000 - clock.wall_ms() % 1_000)
                ssc.runBatch()
        finally:
            ssc.stop(stopSparkContext=False)


@pytest.mark.fault(43, "an output slower than its input, held back by backpressure")
def test_slow_batches_bring_the_rate_to_what_is_processed(context: LocalContext, tmp_path: Path) -> None:
    """With a record each millisecond and 90,000 waiting, batches of 10 s come down to the 1,000 records of an interval, in order."""
    held = Held(tmp_path, 1, backpressure=True, initialRate=10_000)
    held.write(60_000, 30_000)
    held.run(context, 30)

    assert held.counts[:2] == [9_999, 9_999]
    assert held.limits[0] == 10_000
    assert all(800 <= count <= 1_000 for count in held.counts[4:])
    assert sorted(set(held.times)) == held.times


def test_rate_rises_with_the_speed(context: LocalContext, tmp_path: Path) -> None:
    """An output that becomes a hundred times as fast is given more at once, to the last record."""
    held = Held(tmp_path, 100, backpressure=True, initialRate=10)
    held.write(3_000, 3_000)
    held.fast_from = 4
    held.run(context, 20)

    assert sum(held.counts) == 6_000
    assert max(held.counts[:4]) <= 100
    assert max(held.counts) >= 900


def test_batch_that_runs_again_is_the_first_to_tell_its_speed(context: LocalContext, tmp_path: Path) -> None:
    """After a crash the batch that runs again counts for the estimate, so one more batch goes without and the next has it."""
    held = Held(tmp_path, 1, backpressure=True)
    held.refill = (5_000, 0)
    held.crashes = True
    with pytest.raises(UserFunctionError, match="CrashError"):
        held.run(context, 1)
    held.run(context, 3)

    assert held.counts[:3] == [5_000, 5_000, 5_000]
    assert held.counts[3] <= 1_000


def test_without_backpressure_one_batch_takes_all(context: LocalContext, tmp_path: Path) -> None:
    """Without backpressure a batch takes all that waits, and there is no limit to tell."""
    held = Held(tmp_path, 0)
    held.write(2_000, 1_000)
    held.run(context, 2)

    assert (held.counts, held.limits) == ([3_000, 0], [None, None])

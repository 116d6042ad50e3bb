"""Backpressure: how many records a second an input may bring, as the batches before it went.

Owns: Backpressure, PidRateEstimator, RateControl.
Never: a clock, a source by name; what is told here bounds a plan, and a batch that runs again has its ranges from the journal.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from engine.batch import Batch, Duration
from engine.errors import ConfigurationError

_PREFIX: Final = "spark.streaming.backpressure."
KEYS: Final = frozenset(
    f"{_PREFIX}{name}"
    for name in (
        *("enabled", "initialRate", "rateEstimator"),
        *("pid.proportional", "pid.integral", "pid.derived", "pid.minRate"),
    )
)
"""The settings that are read of a context's conf."""


class Backpressure(NamedTuple):
    """How inputs are held back; the names and what counts without a setting are Spark's."""

    enabled: bool = False
    initial_rate: float | None = None
    """Records a second of each input until there is an estimate; None for no limit but those of its partitions."""
    proportional: float = 1.0
    integral: float = 0.2
    derived: float = 0.0
    min_rate: float = 100.0
    """Least estimate, records a second."""

    @classmethod
    def of(
        cls, conf: Mapping[str, str], enabled: bool | None = None, initial_rate: float | None = None
    ) -> "Backpressure":
        """What the settings of a context say; what is given beside them counts more.

        Raises:
            ConfigurationError: a setting cannot be.

        Example:
            >>> Backpressure.of({"spark.streaming.backpressure.pid.integral": "0.5"}, enabled=True)[:4]
            (True, None, 1.0, 0.5)
        """
        asked = conf.get(f"{_PREFIX}enabled", "false").strip().lower()
        if asked not in {"true", "false"}:
            raise ConfigurationError(f"{_PREFIX}enabled is {asked!r:.60}; give true or false")
        estimator = conf.get(f"{_PREFIX}rateEstimator", "pid")
        if estimator != "pid":
            raise ConfigurationError(
                f"{_PREFIX}rateEstimator is {estimator!r:.60}; there is pid and no other"
            )
        first = initial_rate
        if first is None and f"{_PREFIX}initialRate" in conf:
            first = _number(conf, "initialRate", 0.0)
        if first is not None and (not isinstance(first, int | float) or not first > 0):
            raise ConfigurationError(f"initialRate is {first!r:.60}; give a number above 0, or none")
        made = cls(
            asked == "true" if enabled is None else bool(enabled),
            first,
            _number(conf, "pid.proportional", 1.0),
            _number(conf, "pid.integral", 0.2),
            _number(conf, "pid.derived", 0.0),
            _number(conf, "pid.minRate", 100.0),
        )
        for name, gain in zip(("proportional", "integral", "derived"), made[2:5], strict=True):
            if not gain >= 0:
                raise ConfigurationError(f"{_PREFIX}pid.{name} is {gain}; give a number of at least 0")
        if not made.min_rate > 0:
            raise ConfigurationError(f"{_PREFIX}pid.minRate is {made.min_rate}; give a number above 0")
        return made


def _number(conf: Mapping[str, str], name: str, otherwise: float) -> float:
    text = conf.get(f"{_PREFIX}{name}")
    try:
        return otherwise if text is None else float(text)
    except ValueError:
        raise ConfigurationError(f"{_PREFIX}{name} is {text!r:.60}; give a number") from None


class PidRateEstimator:
    """Spark's estimate: the last rate, less what batches took longer than it allowed, less a part of what waits.

    State: rate, error and moment of the last estimate. A new process begins without.

    Args:
        interval: of batches.
        settings: the gains, and the least rate.

    Example:
        >>> estimator = PidRateEstimator(Duration(1_000), Backpressure())
        >>> estimator.compute(1.0, 5_000, 0.5, 0.0), estimator.compute(2.0, 10_000, 2.0, 0.0)
        (None, 5000.0)

    Source: org.apache.spark.streaming.scheduler.rate.PIDRateEstimator.
    """

    def __init__(self, interval: Duration, settings: Backpressure) -> None:
        self._interval = interval / 1_000
        self._settings = settings
        self._time = self._rate = -1.0
        self._error = -1.0
        self._is_first = True

    def compute(self, time: float, records: int, processing: float, scheduling: float) -> float | None:
        """The rate after a batch, records a second; None without one: after the first batch, and one that says nothing.

        Args:
            time: when it was done, seconds from any start.
            records: that the input brought to it.
            processing: how long it took, seconds.
            scheduling: how long it had waited for its start, seconds.
        """
        if time <= self._time or records <= 0 or processing <= 0:
            return None
        since, gains = time - self._time, self._settings
        speed = records / processing
        error = self._rate - speed
        # What waited could have been processed at this speed: so many records too much for one interval.
        waiting = scheduling * speed / self._interval
        rate = max(
            self._rate
            - gains.proportional * error
            - gains.integral * waiting
            - gains.derived * (error - self._error) / since,
            gains.min_rate,
        )
        self._time = time
        if self._is_first:
            self._is_first, self._rate, self._error = False, speed, 0.0
            return None
        self._rate, self._error = rate, error
        return rate


class _Input(Protocol):
    """What is held back."""

    @property
    def name(self) -> str:
        """Of the stream."""

    def limit_to(self, rate: float) -> None:
        """Bring at most so many records a second from the next plan on."""


class RateControl:
    """Tells every input its rate, after every batch.

    Replay: a batch that runs again tells how long it took as any other, and not how long it has waited.

    Args:
        settings: of the context.
        interval: of batches.
        inputs: of the graph.
    """

    def __init__(self, settings: Backpressure, interval: Duration, inputs: Sequence[_Input]) -> None:
        self._estimators: list[tuple[_Input, Callable[[float, int, float, float], float | None]]] = []
        if not settings.enabled:
            return
        for stream in inputs:
            self._estimators.append((stream, PidRateEstimator(interval, settings).compute))
            if settings.initial_rate is not None:
                stream.limit_to(settings.initial_rate)

    def completed(self, batch: Batch, now: float, processing: float, scheduling: float) -> None:
        """A batch is done: so many seconds of work after so many of waiting; `now` is monotonic."""
        for stream, compute in self._estimators:
            records = sum(part.count() for part in batch.ranges.get(stream.name, ()))
            rate = compute(now, records, processing, scheduling)
            if rate is not None:
                stream.limit_to(rate)

"""The registry of a table's metrics: what a scrape of it has, and what it leaves alone."""

from prometheus_client import CollectorRegistry, Counter, generate_latest

from engine.metrics import OPEN, Metric, Registry
from tests.samples import names_of

TABLE = (
    Metric("jobs_total", "counter", "Jobs.", {"outcome": ("good", "bad")}),
    Metric("workers", "gauge", "Workers."),
    Metric("wait_seconds", "histogram", "Waiting.", {"queue": OPEN}, (1, 5)),
    Metric("work_seconds", "histogram", "Working.", bounds=(1,)),
)


def registry() -> Registry:
    """The metrics of the table, with a value in each."""
    made = Registry(TABLE)
    made.counter("jobs_total").labels("good").inc(2)
    made.gauge("workers").set(0.1)
    made.histogram("wait_seconds").labels(queue="short").observe(3)
    made.histogram("work_seconds")
    return made


def names(text: bytes) -> set[str]:
    """The names of a scrape's samples, those of the process left out."""
    lines = (line for line in text.decode().splitlines() if line and not line.startswith("#"))
    return {line.partition("{")[0].partition(" ")[0] for line in lines if not line.startswith("process_")}


def test_scrape_has_the_samples_of_the_table_and_no_other() -> None:
    """Each row has the names that it tells, among them no time of birth, and known series begin with 0."""
    made = registry()

    assert names(generate_latest(made)) == set().union(*map(names_of, TABLE))
    assert made.get_sample_value("jobs_total", {"outcome": "bad"}) == 0
    assert made.get_sample_value("work_seconds_count") == 0


def test_other_registries_keep_the_times_of_birth() -> None:
    """A registry of ours changes nothing for the metrics that somebody else has in the process."""
    theirs = CollectorRegistry()
    before, after = Counter("before", "Before.", registry=theirs), None
    registry()
    after = Counter("after", "After.", registry=theirs)

    for counter in (before, after):
        counter.inc()
    assert names(generate_latest(theirs)) == {
        "before_total",
        "before_created",
        "after_total",
        "after_created",
    }

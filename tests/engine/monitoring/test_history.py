"""What the streaming page remembers of batches."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine import LocalContext, ManualClock
from engine.batch import Batch, BatchInfo, OffsetRange, Time, TopicPartition
from engine.errors import ExecutorLostError, UserFunctionError
from engine.monitoring.history import TRACEBACK_CHARACTERS, History
from engine.reports import Lag
from engine.scheduler import events
from tests.engine.app import START_MS
from tests.engine.monitoring.shown import Shown


@pytest.fixture
def local() -> Iterator[LocalContext]:
    """A context in this process."""
    with LocalContext("local", "shown") as context:
        yield context


def batch_of(time: int, attempt: int = 0, partitions: int = 2) -> Batch:
    """A batch with ten records in each partition."""
    ranges = tuple(OffsetRange("pages", number, 0, 10) for number in range(partitions))
    return Batch(Time(time), {"pages": ranges}, attempt)


def complete(history: History, batch: Batch, **more: Any) -> None:
    """Tell the history of a batch from its beginning to its end; it takes all that its plan has seen of partition 0."""
    planned = {TopicPartition("pages", 0): Lag(10, int(batch.time) - 2_000)}
    history.onBatchSubmitted(events.StreamingListenerBatchSubmitted(batch, planned))
    history.onBatchStarted(events.StreamingListenerBatchStarted(batch))
    info = BatchInfo(batch, int(batch.time), int(batch.time) + 5, int(batch.time) + 30, **more)
    left = {TopicPartition("pages", 0): Lag(0, int(batch.time))}
    history.onBatchCompleted(events.StreamingListenerBatchCompleted(info, lags=left))


def test_completed_batch_is_kept_with_its_figures(local: LocalContext, tmp_path: Path) -> None:
    """A batch that was committed has its records, outputs, stages, tasks and state in the history."""
    with Shown(local, tmp_path) as shown:
        shown.run(["a", "b", "a"])

        entry = shown.view.entries[-1]

    assert (entry.time, entry.status, entry.records) == (START_MS + 1_000, "COMPLETED", 3)
    assert [output.name for output in entry.outputs] == ["words.table"]
    assert {"plan", "begin", "state", "outputs", "commit", "purge"} <= set(entry.stage_seconds)
    assert entry.state["words.totals"].keys == 2
    assert entry.tasks["completed"] > 0
    assert entry.total_ms == 0


def test_only_the_last_batches_are_kept() -> None:
    """The history holds as many batches as it may, the newest, while its counts go on."""
    history = History(batches=3)

    for second in range(10):
        complete(history, batch_of(second * 1_000))

    view = history.view()
    assert [entry.time for entry in view.entries] == [7_000, 8_000, 9_000]
    assert view.totals.completed == 10
    assert view.totals.records == 200


def test_dead_letters_are_summed_by_reason() -> None:
    """Records that were put aside are counted by reason over all topics, in the batch and since the start."""
    history = History()

    complete(
        history, batch_of(1_000), dead_letters={("a", "late"): 1, ("b", "late"): 2, ("b", "undecodable"): 4}
    )
    complete(history, batch_of(2_000), dead_letters={("a", "late"): 8})

    view = history.view()
    assert [entry.dead_letters for entry in view.entries] == [{"late": 3, "undecodable": 4}, {"late": 8}]
    assert view.totals.dead_letters == {"late": 11, "undecodable": 4}


def test_ranges_of_old_batches_are_dropped_before_their_sums() -> None:
    """With many partitions only the newest batches keep their ranges, and all keep their records."""
    history = History(ranges=40)

    for second in range(5):
        complete(history, batch_of(second * 1_000, partitions=16))

    view = history.view()
    assert [len(entry.ranges.get("pages", ())) for entry in view.entries] == [0, 0, 0, 16, 16]
    assert [len(entry.lags) for entry in view.entries] == [0, 0, 0, 1, 1]
    assert [entry.records for entry in view.entries] == [160] * 5


def test_lag_is_that_of_the_plan() -> None:
    """A batch that takes all that its plan saw is not up to date: its own records count, by topic and until the next plan."""
    history = History(ManualClock(50_500))
    first, second = TopicPartition("pages", 0), TopicPartition("pages", 1)
    planned = {first: Lag(10, 48_000), second: Lag(4, 49_000)}

    history.onBatchSubmitted(events.StreamingListenerBatchSubmitted(batch_of(50_000), planned))
    running = history.view()
    info = BatchInfo(batch_of(50_000), 50_000, 50_500, 53_000)
    left = {first: Lag(0, 50_000), second: Lag(3, 49_200)}
    history.onBatchCompleted(events.StreamingListenerBatchCompleted(info, lags=left))
    done = history.view()

    assert [dict(entry.lag_records) for entry in done.entries] == [{"pages": 14}]
    assert [dict(entry.lag_seconds) for entry in done.entries] == [{"pages": 2.5}]
    assert running.lags == planned
    assert done.lags == {first: Lag(10, 50_000), second: Lag(4, 49_200)}


def test_every_change_has_a_later_revision() -> None:
    """What changed after a revision can be told apart from what did not."""
    history = History()
    complete(history, batch_of(1_000))
    seen = history.view().revision

    history.onBatchSubmitted(events.StreamingListenerBatchSubmitted(batch_of(2_000)))

    view = history.view()
    assert [entry.time for entry in view.entries if entry.revision > seen] == [2_000]
    assert view.revision > seen


def test_failed_run_is_kept_with_its_error_and_runs_again() -> None:
    """A batch whose executor died has the failure of its first run and the status of its second."""
    history = History(ManualClock(9_000))
    history.onBatchSubmitted(events.StreamingListenerBatchSubmitted(batch_of(1_000)))
    history.onBatchStarted(events.StreamingListenerBatchStarted(batch_of(1_000)))

    lost = ExecutorLostError("executor 0 died")
    history.onBatchFailed(events.StreamingListenerBatchFailed(batch_of(1_000), lost, "state"))

    (failed,) = history.view().entries
    assert (failed.status, failed.ended) == ("FAILED", 9_000)
    assert (failed.failures[0].stage, failed.failures[0].reason) == ("state", "executor 0 died")
    history.onBatchStarted(events.StreamingListenerBatchStarted(batch_of(1_000, attempt=1)))
    (running,) = history.view().entries
    assert (running.status, running.attempt, running.ended, len(running.failures)) == (
        "PROCESSING",
        1,
        None,
        1,
    )
    assert history.view().running is running


def test_traceback_is_the_users_and_bounded() -> None:
    """Of an error in a user's function its own traceback is kept, of a very long one the end."""
    history = History()
    history.onBatchSubmitted(events.StreamingListenerBatchSubmitted(batch_of(1_000)))

    error = UserFunctionError("KeyError: 'page'", "x" * 100_000 + "\nKeyError: 'page'")
    history.onBatchFailed(events.StreamingListenerBatchFailed(batch_of(1_000), error))

    text = history.view().entries[0].failures[0].traceback
    assert len(text) == TRACEBACK_CHARACTERS
    assert text.endswith("KeyError: 'page'")


def test_catch_up_batch_covers_the_missed_time() -> None:
    """A batch that takes over missed times tells how much time its records stand for."""
    history = History()
    started = events.StreamingListenerStreamingStarted(500, batch_interval=1_000, committed=batch_of(1_000))
    history.onStreamingStarted(started)

    for time in (5_000, 6_000):
        history.onBatchSubmitted(events.StreamingListenerBatchSubmitted(batch_of(time)))

    assert [entry.covers_ms for entry in history.view().entries] == [4_000, 1_000]


def test_recovery_is_told_until_it_has_caught_up() -> None:
    """A start after a commit counts its batches until one is committed soon after its time and leaves little, and no further."""
    history = History()
    history.onStreamingStarted(
        events.StreamingListenerStreamingStarted(9_000, batch_interval=1_000, committed=batch_of(1_000))
    )
    for keys in (940, 17):
        history.onStateRestored(events.StreamingListenerStateRestored(0.7, keys, 4))
        # Late; in time with more left than it took; in time with nothing left; and one that counts no more.
        for time, took_ms, left in ((9_000, 2_100, 0), (11_000, 50, 21), (12_000, 50, 20), (13_000, 50, 0)):
            info = BatchInfo(batch_of(time), time, time, time + took_ms)
            lags = {TopicPartition("pages", 0): Lag(left, time)}
            history.onBatchCompleted(events.StreamingListenerBatchCompleted(info, lags=lags))

    recovery = history.view().recovery
    assert recovery is not None
    assert recovery.restored is not None
    assert recovery.restored.keys == 940
    assert (recovery.committed_time, recovery.batches, recovery.newest_time) == (1_000, 3, 12_000)
    assert recovery.caught_up_at == 12_050


def test_reading_goes_on_while_batches_are_written() -> None:
    """A reader on another thread always sees whole entries in the order of their times."""
    history, done, seen = History(batches=50), threading.Event(), []

    def read() -> None:
        while not done.is_set():
            times = [entry.time for entry in history.view().entries]
            seen.append(times == sorted(times) and len(times) <= 50)

    reader = threading.Thread(target=read)
    reader.start()
    for second in range(2_000):
        complete(history, batch_of(second * 1_000))
    done.set()
    reader.join()

    assert seen
    assert all(seen)

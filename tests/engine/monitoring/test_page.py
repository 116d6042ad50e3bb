"""What the streaming page's API says, by value, of a small real context."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import LocalContext, StreamingContext
from engine.batch import Batch, OffsetRange, Time
from engine.monitoring import page
from engine.monitoring.history import History
from engine.scheduler import events
from tests.engine.app import START_MS
from tests.engine.monitoring.shown import Shown

RUNNING = page.Status("running", "")


@pytest.fixture
def local() -> Iterator[LocalContext]:
    """A context in this process."""
    with LocalContext("local", "shown") as context:
        yield context


def started(history: History, *times: int) -> None:
    """Tell the history of a context with batches of a second and of batches that run."""
    history.onStreamingStarted(events.StreamingListenerStreamingStarted(START_MS, batch_interval=1_000))
    for time in times:
        batch = Batch(Time(time), {"pages": (OffsetRange("pages", 0, 0, 10),)})
        history.onBatchSubmitted(events.StreamingListenerBatchSubmitted(batch))
        history.onBatchStarted(events.StreamingListenerBatchStarted(batch))


def test_statistics_have_sparks_names_and_the_right_values(local: LocalContext, tmp_path: Path) -> None:
    """Three batches are counted with their records, rate and delays under the names of Spark's REST API."""
    with Shown(local, tmp_path) as shown:
        shown.run(["a"], ["a", "b", "c"], ["d", "e"])

        told = page.statistics(shown.view, RUNNING, shown.now)

    expected = {
        "app": "shown",
        "startTime": START_MS,
        "batchDuration": 1_000,
        "numReceivers": 0,
        "numTotalCompletedBatches": 3,
        "numRetainedCompletedBatches": 3,
        "numActiveBatches": 0,
        "numProcessedRecords": 6,
        "numReceivedRecords": 6,
        "avgInputRate": 2.0,
        "avgSchedulingDelay": 0.0,
        "avgProcessingTime": 0.0,
        "avgTotalDelay": 0.0,
    }
    assert {name: told[name] for name in expected} == expected
    assert told["percentiles"]["inputRate"] == {"p50": 2.0, "p95": 2.9, "p99": 2.98, "max": 3.0}


def test_statistics_before_the_first_batch_are_null(local: LocalContext, tmp_path: Path) -> None:
    """Averages of nothing are null and not zero."""
    with Shown(local, tmp_path) as shown:
        told = page.statistics(shown.view, RUNNING, shown.now)

    assert (told["avgInputRate"], told["avgTotalDelay"]) == (None, None)
    assert told["percentiles"]["totalDelay"]["p95"] is None


def test_batches_are_listed_newest_first_with_sparks_names(local: LocalContext, tmp_path: Path) -> None:
    """The row of a batch has its status, size, delays and output operations, the due ones only."""
    with Shown(local, tmp_path) as shown:
        shown.run(["a"], ["b"])

        newest, oldest = page.batch_rows(shown.view, shown.now)

    assert (newest["batchTime"], oldest["batchTime"]) == (START_MS + 2_000, START_MS + 1_000)
    assert (newest["batchId"], newest["status"], newest["inputSize"]) == (START_MS + 2_000, "COMPLETED", 1)
    assert (newest["numCompletedOutputOps"], newest["numTotalOutputOps"]) == (2, 2)
    assert (oldest["numCompletedOutputOps"], oldest["numTotalOutputOps"]) == (1, 1)
    assert newest["inputs"] == {"words.queue": 1}
    assert newest["firstFailureReason"] is None


def test_due_times_wait_while_a_batch_runs() -> None:
    """Every interval that is due behind a running batch is a queued batch."""
    history = History()
    started(history, START_MS + 1_000)

    rows = page.batch_rows(history.view(), START_MS + 3_500)

    assert [(row["batchTime"] - START_MS, row["status"]) for row in rows] == [
        (3_000, "QUEUED"),
        (2_000, "QUEUED"),
        (1_000, "PROCESSING"),
    ]
    assert page.statistics(history.view(), RUNNING, START_MS + 3_500)["numActiveBatches"] == 3


def test_batch_that_is_about_to_begin_does_not_wait() -> None:
    """A batch that became due a moment ago is not called waiting; one that is late is."""
    history = History()
    started(history)

    assert list(page.waiting_times(history.view(), START_MS + 1_100)) == []
    assert list(page.waiting_times(history.view(), START_MS + 1_900)) == [START_MS + 1_000]


def test_waiting_rows_are_bounded() -> None:
    """A batch that hangs for an hour makes a hundred rows, and the right count."""
    history = History()
    started(history, START_MS + 1_000)
    hour_later = START_MS + 3_601_000

    assert len(page.batch_rows(history.view(), hour_later)) == page.WAITING_ROWS + 1
    assert page.statistics(history.view(), RUNNING, hour_later)["numWaitingBatches"] == 3_600


def test_only_what_changed_is_told_again(local: LocalContext, tmp_path: Path) -> None:
    """With a revision only the batches that changed after it are rows."""
    with Shown(local, tmp_path) as shown:
        shown.run(["a"], ["b"])
        seen = shown.view.revision
        shown.run(["c"])

        rows = page.batch_rows(shown.view, shown.now, seen)

    assert [row["batchTime"] for row in rows] == [START_MS + 3_000]


def test_page_of_a_batch_has_ranges_outputs_stages_and_neighbours(
    local: LocalContext, tmp_path: Path
) -> None:
    """A batch tells the ranges it read, how long outputs and stages took, its state, and which batches are beside it."""
    with Shown(local, tmp_path) as shown:
        shown.run(["a"], ["b", "c"], ["a"])

        told = page.batch_page(shown.view.entries[1], shown.view)

    assert (told["previousBatch"], told["nextBatch"]) == (START_MS + 1_000, START_MS + 3_000)
    (part,) = told["ranges"]
    assert (part["topic"], part["partition"], part["records"]) == ("words.queue", 0, 2)
    assert (part["fromOffset"], part["untilOffset"]) == (1, 3)
    assert [(output["job"], output["description"]) for output in told["operations"]] == [
        ("words", "table"),
        ("words", "recent"),
    ]
    assert {output["status"] for output in told["operations"]} == {"COMPLETED"}
    assert [stage["name"] for stage in told["stages"]][:4] == ["plan", "begin", "state", "outputs"]
    assert {row["operator"]: row["keys"] for row in told["state"]}["words.totals"] == 3


def test_failed_batch_tells_its_traceback(local: LocalContext, tmp_path: Path) -> None:
    """A batch whose output raised has the sentence and the line of the user's code that raised."""

    def fail(_: object) -> None:
        raise KeyError("page")

    with Shown(local, tmp_path, fail) as shown:
        with pytest.raises(Exception, match="page"):
            shown.run(["a"])

        told = page.batch_page(shown.view.entries[0], shown.view)

    assert told["status"] == "FAILED"
    assert "KeyError: 'page'" in told["firstFailureReason"]
    assert 'raise KeyError("page")' in told["failures"][0]["traceback"]
    assert told["operations"][0]["status"] == "FAILED"
    assert told["numFailedOutputOps"] == 1


def test_graph_is_numbered_from_inputs_to_outputs(local: LocalContext, tmp_path: Path) -> None:
    """The graph's nodes have kinds, jobs, slides and parents with lower numbers."""
    with Shown(local, tmp_path) as shown:
        nodes = page.graph(shown.ssc.graph.describe())["nodes"]

    by_name = {node["name"]: node for node in nodes}
    assert [node["id"] for node in nodes] == list(range(len(nodes)))
    assert all(parent < node["id"] for node in nodes for parent in node["parents"])
    assert (by_name["words.totals"]["operator"], by_name["words.totals"]["stateful"]) == (
        "updateStateByKey",
        True,
    )
    assert (by_name["words.recent"]["kind"], by_name["words.recent"]["slide"]) == ("output", 2_000)
    assert {node["job"] for node in nodes} == {"words"}
    assert nodes[0]["kind"] == "input"


def test_state_tells_operators_and_checkpoint(local: LocalContext, tmp_path: Path) -> None:
    """Keys and updates of each operator, the epoch and the last commit are told."""
    with Shown(local, tmp_path) as shown:
        shown.run(["a", "b"], ["a"])

        shown.clock.advance(500)
        told = page.state(shown.view, shown.now, {})

    totals = {row["name"]: row for row in told["operators"]}["words.totals"]
    assert (totals["job"], totals["operator"], totals["keys"]) == ("words", "totals", 2)
    assert totals["batchTime"] == START_MS + 2_000
    assert told["checkpoint"]["epoch"] == 1
    assert told["checkpoint"]["lastCommitAge"] == 500
    assert told["checkpoint"]["journalBytes"] > 0


def test_progress_tells_what_is_committed_and_what_runs(local: LocalContext, tmp_path: Path) -> None:
    """Before a batch nothing is committed, after it its time, attempt and ends are, and in it it runs."""
    seen = []
    with Shown(local, tmp_path, lambda _: seen.append(page.progress(shown.view))) as shown:
        before = page.progress(shown.view)
        shown.run(["a"])
        after = page.progress(shown.view)

    assert before == {"epoch": 1, "committed": None, "running": None}
    assert seen[0] == {"epoch": 1, "committed": None, "running": {"time": START_MS + 1_000, "attempt": 0}}
    committed = {"time": START_MS + 1_000, "attempt": 0, "ends": {"words.queue": {"0": 1}}}
    assert after == {"epoch": 1, "committed": committed, "running": None}


def test_progress_of_a_restarted_engine_begins_where_the_last_one_ended(
    local: LocalContext, tmp_path: Path
) -> None:
    """A second start has the next epoch and tells the commit of the first before it has one of its own."""
    with Shown(local, tmp_path) as shown:
        shown.run(["a"])

    with Shown(local, tmp_path) as again:
        told = page.progress(again.view)

    assert told["epoch"] == 2
    assert told["committed"] == {"time": START_MS + 1_000, "attempt": 0, "ends": {"words.queue": {"0": 1}}}


def test_statistics_tell_how_a_restart_caught_up(local: LocalContext, tmp_path: Path) -> None:
    """A first start has no restart; a second tells the commit it went on from, and the batch with which it caught up."""
    with Shown(local, tmp_path) as shown:
        shown.run(["a", "b"])
        first = page.statistics(shown.view, RUNNING, shown.now)["restart"]

    with Shown(local, tmp_path) as again:
        before = page.statistics(again.view, RUNNING, again.now)["restart"]
        again.clock.advance(4_000)
        again.run(["a"], ["b"])
        after = page.statistics(again.view, RUNNING, again.now)["restart"]

    assert first is None
    assert (before["numBatches"], before["coversMs"], before["caughtUpTime"]) == (0, None, None)
    assert (after["committedBatchTime"], after["restoredKeys"]) == (START_MS + 1_000, 2)
    assert (after["numBatches"], after["coversMs"]) == (1, 4_000)
    assert after["caughtUpTime"] == START_MS + 5_000


def test_without_a_checkpoint_folder_the_page_says_so(local: LocalContext) -> None:
    """A context without state and folder has epoch 0 and no volume."""
    history = History()
    ssc = StreamingContext(local, 1.0)
    ssc.addStreamingListener(history)
    ssc.queueStream([["a"]]).foreachRDD(lambda rdd: rdd.count())
    ssc.start(thread=False)
    ssc.runBatch()
    told = page.state(history.view(), START_MS, {})
    ssc.stop(stopSparkContext=False)

    assert told["checkpoint"]["epoch"] == 0
    assert told["checkpoint"]["journalBytes"] is None

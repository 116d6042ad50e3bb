"""A batch that was begun and not committed runs again with all of its inputs, or not at all."""

from pathlib import Path
from typing import Any

import pytest

from engine import LocalContext, StreamingContext
from engine.dstream.dstream import DStream
from engine.errors import StateVersionError
from tests.engine.app import App, CrashError


class Job:
    """Puts two inputs together, of which the second can be away.

    Args:
        others: batches of the second input.
    """

    def __init__(self, others: list[list[Any]]) -> None:
        self.has_other = True
        self._others = others

    def __call__(self, ssc: StreamingContext, stream: DStream[Any], app: App) -> None:
        """Build the graph."""
        app.collect(stream.union(ssc.queueStream(self._others)) if self.has_other else stream, "all")


def crashed(context: LocalContext, folder: Path, job: Job) -> App:
    """An application that was cut off in its second batch."""
    app = App(context, folder, job, [["1"], ["2"], ["3"]]).start()
    app.run()
    app.crash_in = "all"
    with pytest.raises(Exception, match=CrashError.__name__):
        app.run()
    app.ssc.stop(stopSparkContext=False)
    return app


@pytest.mark.fault(24, "the input of a begun batch is gone from the job, and comes back")
def test_begun_batch_without_one_of_its_inputs_is_refused(context: LocalContext, tmp_path: Path) -> None:
    """A job without an input whose records a begun batch names is refused by batch and input, and loses none of them."""
    job = Job([["a"], ["b"], ["c"]])
    app = crashed(context, tmp_path, job)
    job.has_other = False
    with pytest.raises(StateVersionError, match=r"batch \d+ was begun with records of input 'queue#1'"):
        app.start()

    job.has_other = True
    with App(context, tmp_path, job, [["1"], ["2"], ["3"]]) as again:
        again.clock.advance(2_000)
        again.run()
    assert again.out["all"] == [["2", "b"], ["3", "c"]]


def test_begun_batch_without_an_input_that_brought_nothing_runs(
    context: LocalContext, tmp_path: Path
) -> None:
    """A job without an input that brought nothing to the begun batch runs it again."""
    job = Job([["a"]])
    app = crashed(context, tmp_path, job)
    app.out["all"].clear()
    job.has_other = False
    app.start().run().ssc.stop(stopSparkContext=False)

    assert app.out["all"] == [["2"], ["3"]]

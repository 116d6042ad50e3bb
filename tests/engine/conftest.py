"""The contexts that operator tests run on: each test runs on both embedded backends, and with `-m spark` on a Spark cluster.

A job on Spark costs tenths of a second, so its share of the operator tests is asked for by name: `pytest tests/engine -m spark`.
"""

import os
from collections.abc import Iterator, Mapping
from typing import Any

import pyspark
import pytest

from engine import LocalContext, StreamingContext
from tests.engine.sources.receiving import folders
from tools.stack.spark import SparkCluster

SPARK = pytest.param("spark", marks=[pytest.mark.spark, pytest.mark.slow, pytest.mark.timeout(300)])

NOT_ON_SPARK = {
    # A shuffle of Spark hands on what it fetches as it comes: values of a key have no order over source partitions.
    "test_group_by_key_keeps_the_order_of_values",
    "test_combiners_may_work_in_place",
    "test_reduced_lists_hold_each_value_once",
    # A shard that moved has no running value to take batches out of: its window is reduced as a whole.
    "test_inverse_is_used",
    "test_stop_iteration_in_a_window_is_an_error[spark-inverse]",
    # A shard must be to be had by any worker, so every operator with state needs the folder.
    "test_windows_without_an_inverse_need_no_directory",
}
"""Operator tests of what Spark does not promise."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the operator tests on Spark out, unless the marker is named."""
    is_asked_for = "spark" in config.option.markexpr
    left_out = [
        item
        for item in items
        if _runs_operators_on_spark(item)
        and (not is_asked_for or not NOT_ON_SPARK.isdisjoint({item.name, item.originalname}))
    ]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        without = set(left_out)
        items[:] = [item for item in items if item not in without]


def _runs_operators_on_spark(item: Any) -> bool:
    callspec = getattr(item, "callspec", None)
    return callspec is not None and callspec.params.get("context") == "spark"


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """A test that failed half way does not fail those after it: no context runs on, and no folder of a source stays."""
    yield
    active = StreamingContext.getActive()
    if active is not None:
        active.stop(stopSparkContext=False)
    folders.close()


@pytest.fixture(scope="session")
def local_two() -> Iterator[LocalContext]:
    """Two executor processes for the whole session."""
    with LocalContext("local[2]", "test") as context:
        yield context


@pytest.fixture(scope="session")
def spark_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkCluster]:
    """A master and two workers with one core each, for the whole session; the environment of a driver is set."""
    before = dict(os.environ)
    with SparkCluster(tmp_path_factory.mktemp("spark")) as cluster:
        os.environ.update(cluster.environment)
        yield cluster
    os.environ.clear()
    os.environ.update(before)


class OneSparkContext:
    """The one SparkContext that a process may have: it stays until a test asks for another master.

    Settings go with each context, since the JVM outlives it and has those of its start.
    """

    def __init__(self) -> None:
        self._made: pyspark.SparkContext | None = None

    def on(self, master: str, settings: Mapping[str, str]) -> pyspark.SparkContext:
        """The context of this master."""
        if self._made is None or self._made.master != master:
            self.stop()
            conf = pyspark.SparkConf().setMaster(master).setAppName("test").setAll(list(settings.items()))
            self._made = pyspark.SparkContext(conf=conf)
            # Rows that fail on purpose would fill the report.
            self._made.setLogLevel("OFF")
        return self._made

    def stop(self) -> None:
        """Give back the cores that the context holds."""
        if self._made is not None:
            self._made.stop()
            self._made = None


@pytest.fixture(scope="session")
def one_spark_context() -> Iterator[OneSparkContext]:
    """Who makes the SparkContexts of the session, one at a time."""
    one = OneSparkContext()
    yield one
    one.stop()


@pytest.fixture
def spark_context(spark_cluster: SparkCluster, one_spark_context: OneSparkContext) -> pyspark.SparkContext:
    """A SparkContext on the cluster."""
    return one_spark_context.on(spark_cluster.master, spark_cluster.settings)


@pytest.fixture
def local_spark(one_spark_context: OneSparkContext, monkeypatch: pytest.MonkeyPatch) -> pyspark.SparkContext:
    """A SparkContext in this machine's cores, without the engine."""
    # Without it PySpark refuses to hash a key in the driver.
    monkeypatch.setenv("PYTHONHASHSEED", "0")
    return one_spark_context.on("local[2]", {"spark.ui.enabled": "false"})


@pytest.fixture(params=["local", "local[2]", SPARK])
def context(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Each backend in turn: in this process, over two others, and on the cluster."""
    if request.param == "local":
        with LocalContext("local", "test") as made:
            yield made
    elif request.param == "local[2]":
        yield request.getfixturevalue("local_two")
    else:
        yield request.getfixturevalue("spark_context")

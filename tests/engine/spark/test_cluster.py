"""The cluster that tests and the demo run on."""

from pathlib import Path

import pyspark
import pytest

from engine.rdd.backends import backend_of
from engine.spark.backend import SparkBackend
from tests.engine.children import runs, wait_until
from tools.stack.spark import SparkCluster

pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.timeout(300)]


def test_a_killed_worker_leaves_nothing_and_the_job_goes_on(
    spark_cluster: SparkCluster, spark_context: pyspark.SparkContext
) -> None:
    """A worker that is killed takes its executor and its Pythons along; a new one takes its place in the same context."""
    numbers = spark_context.parallelize(range(100), 4)
    assert numbers.map(lambda n: n).sum() == 4_950
    victim = spark_cluster.busiest_worker()
    pids = [
        process.pid for process in (*spark_cluster.executors(victim), *spark_cluster.python_workers(victim))
    ]
    assert pids

    pids.append(spark_cluster.kill_worker(victim))
    wait_until(lambda: not any(map(runs, pids)), "every process of the worker gone")
    spark_cluster.add_worker()

    assert numbers.map(lambda n: n + 1).sum() == 5_050
    spark_cluster.await_workers(2)


def test_outputs_are_removed_on_sparks_file_systems(
    spark_context: pyspark.SparkContext, tmp_path: Path
) -> None:
    """A folder that an earlier run of a batch wrote is removed with what is in it, and one that is not there is no error."""
    backend = backend_of(spark_context)
    assert isinstance(backend, SparkBackend)
    folder = tmp_path / "out-1000"
    spark_context.parallelize(["a"]).saveAsTextFile(str(folder))
    assert folder.is_dir()

    backend.removeOutput(str(folder))
    backend.removeOutput(str(folder))

    assert not folder.exists()


def test_a_union_of_nothing_is_empty(spark_context: pyspark.SparkContext) -> None:
    """The union of no RDD is empty, where PySpark's own fails."""
    assert backend_of(spark_context).union([]).collect() == []

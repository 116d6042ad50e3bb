"""A `pyspark.SparkContext` as the context of streams: its RDDs are PySpark's own, and only what differs is put right.

Owns: SparkBackend, connect.
Never: a wrapper around an RDD; what a user's function gets is PySpark's.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pyspark
from py4j.protocol import Py4JJavaError

from engine.errors import ConfigurationError
from engine.rdd.api import RDD, T
from engine.spark.access import MovingShards
from engine.spark.pickling import complete_structs

log = logging.getLogger(__name__)

_SETTINGS = {
    "spark.python.unix.domain.socket.enabled": "true",
    "spark.python.daemon.module": "engine.spark.daemon",
}
"""Without them a small batch takes twice as long; docs/spark.md says why."""


class SparkBackend:
    """What streams ask of a context, answered by Spark.

    Args:
        context: of a cluster, with Python 3.11, this engine and its libraries on the workers.
    """

    def __init__(self, context: pyspark.SparkContext) -> None:
        self._context: Any = context
        self._properties: dict[str, str] = {}
        self._told = threading.local()
        complete_structs()
        self._tell_settings()

    def _tell_settings(self) -> None:
        conf = self._context.getConf()
        missing = [f"{key}={value}" for key, value in _SETTINGS.items() if conf.get(key) != value]
        if missing and not self.master.startswith("local"):
            log.warning("batches take longer than they need to; give the application %s", " ".join(missing))

    def __getattr__(self, name: str) -> Any:
        """Everything else is the SparkContext's own: broadcast, textFile and so on."""
        return getattr(self._context, name)

    @property
    def defaultParallelism(self) -> int:
        """Number of tasks that run at the same time."""
        return int(self._context.defaultParallelism)

    @property
    def appName(self) -> str:
        """Name of the application."""
        return str(self._context.appName)

    @property
    def master(self) -> str:
        """The cluster's address."""
        return str(self._context.master)

    def parallelize(self, c: Iterable[T], numSlices: int | None = None) -> RDD[T]:
        """The elements as an RDD of that many partitions."""
        self._tell_thread()
        made: RDD[T] = self._context.parallelize(c, numSlices)
        return made

    def union(self, rdds: Sequence[RDD[Any]]) -> RDD[Any]:
        """The partitions of all of them; PySpark's own fails without one."""
        self._tell_thread()
        made: RDD[Any] = self._context.union(list(rdds)) if rdds else self._context.emptyRDD()
        return made

    def emptyRDD(self) -> RDD[Any]:
        """An RDD without a partition."""
        made: RDD[Any] = self._context.emptyRDD()
        return made

    def setLocalProperty(self, key: str, value: str) -> None:
        """Set what `TaskContext.getLocalProperty` gives in the tasks of later jobs.

        Spark keeps properties by thread; a stream starts on one and runs its batches on another, which gets them all.
        """
        self._properties[key] = value
        if not self._tell_thread():
            self._context.setLocalProperty(key, value)

    def _tell_thread(self) -> bool:
        """Set every property for a thread that is new here; returns whether it is."""
        if getattr(self._told, "is_told", False):
            return False
        self._told.is_told = True
        for key, value in self._properties.items():
            self._context.setLocalProperty(key, value)
        return True

    def accumulator(self, value: Any, accum_param: Any = None) -> Any:
        """A variable that tasks add to and the driver reads; what a failed task added does not count."""
        return self._context.accumulator(value, accum_param)

    def runJob(
        self, rdd: Any, partitionFunc: Callable[[Iterator[Any]], Iterable[T]], partitions: Sequence[int]
    ) -> list[T]:
        """The elements that the function gives for each of these partitions."""
        made: list[T] = self._context.runJob(rdd, partitionFunc, partitions)
        return made

    def checkOutput(self, path: str) -> None:
        """Nothing: which file systems there are is the cluster's."""

    def removeOutput(self, path: str) -> None:
        """Remove the folder with all that is in it, if it is there, on whatever file system it is."""
        java = self._context._jvm.org.apache.hadoop.fs.Path(path)  # noqa: SLF001 - PySpark has no call for it, here and below
        java.getFileSystem(self._context._jsc.hadoopConfiguration()).delete(java, True)  # noqa: SLF001

    @property
    def class_of_nothing(self) -> str:
        """What a Hadoop output of no pair is told of its keys and values; PySpark looks for a first pair and fails without."""
        return "org.apache.hadoop.io.NullWritable"

    def state_access(self, shards: int) -> MovingShards:
        """How tasks come to shards: they are brought to wherever Spark runs a task."""
        return MovingShards(self, self._properties, shards)

    def stop(self) -> None:
        """End the application on the cluster."""
        self._context.stop()


def connect(master: str, appName: str) -> pyspark.SparkContext:
    """A SparkContext on this cluster.

    Raises:
        ConfigurationError: the cluster does not answer.
    """
    try:
        return pyspark.SparkContext(master=master, appName=appName)
    except Py4JJavaError as cause:
        raise ConfigurationError(
            f"no SparkContext on {master} ({str(cause.java_exception).splitlines()[0]}); see that its master and workers run"
        ) from cause

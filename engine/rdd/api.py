"""The part of PySpark's RDD protocol that discretized streams stand on.

`StreamingContext` takes any context with these methods: `LocalContext`, ours, or a `pyspark.SparkContext`. Nothing below
this protocol is used, so a job moves between the two without a change.

Owns: the type variables, RDD, Context, OutputFolders, InfersClasses, Executors.
Never: an implementation.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

T = TypeVar("T")
"""An element."""
U = TypeVar("U")
"""A result."""
K = TypeVar("K", bound=Hashable)
"""A key: None, a number, str, bytes, or a tuple of keys (see `partitioner.portable_hash`)."""
V = TypeVar("V")
"""A value."""
W = TypeVar("W")
"""The value of another stream."""
S = TypeVar("S")
"""A state."""


class RDD(Protocol[T]):
    """A lazily evaluated, partitioned collection; the methods and their meaning are PySpark's.

    A pair operation asks for elements (key, value); Python's type system cannot say so on a method, hence the Any.
    """

    def map(self, f: Callable[[Any], U], preservesPartitioning: bool = False) -> "RDD[U]":
        """The function of each element."""

    def flatMap(self, f: Callable[[Any], Iterable[U]], preservesPartitioning: bool = False) -> "RDD[U]":
        """All elements of the function of each element."""

    def filter(self, f: Callable[[Any], bool]) -> "RDD[T]":
        """The elements for which the function is true."""

    def mapPartitions(
        self, f: Callable[[Iterator[Any]], Iterable[U]], preservesPartitioning: bool = False
    ) -> "RDD[U]":
        """The function of each whole partition."""

    def mapPartitionsWithIndex(
        self, f: Callable[[int, Iterator[Any]], Iterable[U]], preservesPartitioning: bool = False
    ) -> "RDD[U]":
        """The function of each partition's index and the partition."""

    def mapValues(self, f: Callable[[Any], U]) -> "RDD[tuple[Any, U]]":
        """The pairs with the function of each value."""

    def flatMapValues(self, f: Callable[[Any], Iterable[U]]) -> "RDD[tuple[Any, U]]":
        """A pair for each element of the function of each value."""

    def glom(self) -> "RDD[list[T]]":
        """Each partition as one list."""

    def union(self, other: "RDD[Any]") -> "RDD[Any]":
        """The partitions of both."""

    def partitionBy(
        self, numPartitions: int | None, partitionFunc: Callable[[Any], int] = ...
    ) -> "RDD[tuple[Any, Any]]":
        """The pairs, those of one key in one partition: that of its hash, or of the function, modulo their number."""

    def repartition(self, numPartitions: int) -> "RDD[T]":
        """The elements in so many partitions."""

    def combineByKey(
        self,
        createCombiner: Callable[[Any], Any],
        mergeValue: Callable[[Any, Any], Any],
        mergeCombiners: Callable[[Any, Any], Any],
        numPartitions: int | None = None,
        partitionFunc: Callable[[Any], int] = ...,
    ) -> "RDD[tuple[Any, Any]]":
        """One pair a key with its combined values."""

    def reduceByKey(
        self,
        func: Callable[[Any, Any], Any],
        numPartitions: int | None = None,
        partitionFunc: Callable[[Any], int] = ...,
    ) -> "RDD[tuple[Any, Any]]":
        """One pair a key with its reduced values."""

    def groupByKey(
        self, numPartitions: int | None = None, partitionFunc: Callable[[Any], int] = ...
    ) -> "RDD[tuple[Any, Any]]":
        """One pair a key with all of its values."""

    def join(self, other: "RDD[Any]", numPartitions: int | None = None) -> "RDD[tuple[Any, tuple[Any, Any]]]":
        """A pair for each two pairs of one key."""

    def leftOuterJoin(self, other: "RDD[Any]", numPartitions: int | None = None) -> "RDD[tuple[Any, Any]]":
        """As join, and a pair with None for each pair whose key the other lacks."""

    def rightOuterJoin(self, other: "RDD[Any]", numPartitions: int | None = None) -> "RDD[tuple[Any, Any]]":
        """As join, and a pair with None for each pair of the other whose key this lacks."""

    def fullOuterJoin(self, other: "RDD[Any]", numPartitions: int | None = None) -> "RDD[tuple[Any, Any]]":
        """As join, and a pair with None in place of the side that lacks the key."""

    def cogroup(self, other: "RDD[Any]", numPartitions: int | None = None) -> "RDD[tuple[Any, Any]]":
        """One pair a key with the values of each side."""

    def reduce(self, f: Callable[[Any, Any], Any]) -> Any:
        """All elements reduced to one; ValueError when there is none."""

    def count(self) -> int:
        """Number of elements."""

    def collect(self) -> list[T]:
        """All elements, in partition order."""

    def take(self, num: int) -> list[T]:
        """The first elements, from as few partitions as it takes."""

    def isEmpty(self) -> bool:
        """Whether there is no element."""

    def foreach(self, f: Callable[[Any], object]) -> None:
        """Call the function on each element, in the executors."""

    def foreachPartition(self, f: Callable[[Iterator[Any]], object]) -> None:
        """Call the function on each partition, in the executors."""

    def cache(self) -> "RDD[T]":
        """Keep the partitions in the executors' memory once computed."""

    def persist(self, storageLevel: Any = ...) -> "RDD[T]":
        """Keep the partitions where the level says once computed."""

    def getStorageLevel(self) -> Any:
        """Where partitions are kept; its type is the backend's kind of level."""

    def unpersist(self) -> "RDD[T]":
        """Let go of the kept partitions."""

    def getNumPartitions(self) -> int:
        """Number of partitions."""

    def saveAsTextFile(self, path: str, compressionCodecClass: str | None = None) -> None:
        """Write a folder of text, a line an element."""

    def saveAsPickleFile(self, path: str, batchSize: int = ...) -> None:
        """Write a folder of pickled elements."""

    def saveAsHadoopFile(
        self,
        path: str,
        outputFormatClass: str,
        keyClass: str | None = None,
        valueClass: str | None = None,
        keyConverter: str | None = None,
        valueConverter: str | None = None,
        conf: dict[str, str] | None = None,
        compressionCodecClass: str | None = None,
    ) -> None:
        """Write a folder of pairs with an output format of Hadoop's old API."""

    def saveAsNewAPIHadoopFile(
        self,
        path: str,
        outputFormatClass: str,
        keyClass: str | None = None,
        valueClass: str | None = None,
        keyConverter: str | None = None,
        valueConverter: str | None = None,
        conf: dict[str, str] | None = None,
    ) -> None:
        """Write a folder of pairs with an output format of Hadoop's new API."""


class Context(Protocol):
    """What makes RDDs and runs their jobs; the methods and their meaning are PySpark's."""

    @property
    def defaultParallelism(self) -> int:
        """Number of tasks that run at the same time."""

    @property
    def appName(self) -> str:
        """Name of the application."""

    @property
    def master(self) -> str:
        """What computes the RDDs, such as local[2]."""

    def parallelize(self, c: Iterable[T], numSlices: int | None = None) -> RDD[T]:
        """The elements as an RDD of that many partitions."""

    def union(self, rdds: Sequence[RDD[Any]]) -> RDD[Any]:
        """The partitions of all of them."""

    def emptyRDD(self) -> RDD[Any]:
        """An RDD without a partition."""

    def setLocalProperty(self, key: str, value: str) -> None:
        """Set what `TaskContext.getLocalProperty` gives in the tasks of later jobs."""

    def accumulator(self, value: Any, accum_param: Any = None) -> Any:
        """A variable that tasks add to and the driver reads."""

    def runJob(
        self, rdd: Any, partitionFunc: Callable[[Iterator[Any]], Iterable[T]], partitions: Sequence[int]
    ) -> list[T]:
        """The elements that the function gives for each of these partitions."""

    def stop(self) -> None:
        """End the executors."""


@runtime_checkable
class OutputFolders(Protocol):
    """What a context may do for outputs that write folders: a batch that runs again writes its own anew."""

    def removeOutput(self, path: str) -> None:
        """Remove the folder with all that is in it, if it is there; paths are those of `RDD.saveAsTextFile`."""


@runtime_checkable
class InfersClasses(Protocol):
    """A context whose Hadoop outputs find the classes of keys and values from the first pair, and fail where there is none."""

    @property
    def class_of_nothing(self) -> str:
        """The class to name for the keys and values of an RDD without a pair."""


@runtime_checkable
class Executors(Protocol):
    """What a context may tell of its executors beside PySpark's methods; ours does, and metrics show it."""

    @property
    def executor_pids(self) -> list[int]:
        """Process ids of the executors by their number; empty when tasks run in this process."""

    @property
    def task_outcomes(self) -> Mapping[str, int]:
        """Tasks by outcome since the context was made: completed, failed, lost."""

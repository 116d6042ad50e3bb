"""PySpark's RDD protocol: what discretized streams stand on, and what users' functions get.

`StreamingContext` takes any context with these methods: `LocalContext`, ours, or a `pyspark.SparkContext`. Nothing below
this protocol is used, so a job moves between the two without a change. Both have more methods, for users who know which they have.

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

    def __add__(self, other: "RDD[Any]") -> "RDD[Any]":
        """As union."""

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

    def unpersist(self, blocking: bool = False) -> "RDD[T]":
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

    # What follows no node of the engine needs: it is for functions of users, which get RDDs from transform and foreachRDD.

    @property
    def context(self) -> Any:
        """The context that made it."""

    @property
    def partitioner(self) -> Any:
        """How keys were spread, when that is known."""

    def id(self) -> int:
        """A number that no other RDD of its context has."""

    def name(self) -> str | None:
        """The name that it was given."""

    def setName(self, name: str) -> "RDD[T]":
        """Give it a name."""

    def toDebugString(self) -> bytes | None:
        """The RDDs that it is computed from, one a line."""

    def checkpoint(self) -> None:
        """Write the elements to files with the next job, and forget where they came from."""

    def localCheckpoint(self) -> None:
        """As checkpoint, to files that go with the RDD."""

    def isCheckpointed(self) -> bool:
        """Whether the elements are in files."""

    def getCheckpointFile(self) -> str | None:
        """The folder of the files of checkpoint."""

    def keyBy(self, f: Callable[[Any], U]) -> "RDD[tuple[U, T]]":
        """The pairs of the function of each element and the element."""

    def keys(self) -> "RDD[Any]":
        """The key of each pair."""

    def values(self) -> "RDD[Any]":
        """The value of each pair."""

    def zip(self, other: "RDD[U]") -> "RDD[tuple[T, U]]":
        """Pairs of the elements at equal places of both."""

    def zipWithIndex(self) -> "RDD[tuple[T, int]]":
        """Each element with its number in the RDD, from 0."""

    def zipWithUniqueId(self) -> "RDD[tuple[T, int]]":
        """Each element with a number that no other has."""

    def pipe(self, command: str, env: dict[str, str] | None = None, checkCode: bool = False) -> "RDD[str]":
        """The lines that a program prints when it reads the elements as lines."""

    def sample(self, withReplacement: bool, fraction: float, seed: int | None = None) -> "RDD[T]":
        """Each element with this probability."""

    def sampleByKey(
        self, withReplacement: bool, fractions: dict[Any, float], seed: int | None = None
    ) -> "RDD[tuple[Any, Any]]":
        """Each pair with the probability of its key."""

    def randomSplit(self, weights: Sequence[float], seed: int | None = None) -> "list[RDD[T]]":
        """The elements divided by chance over as many RDDs as there are weights."""

    def takeSample(self, withReplacement: bool, num: int, seed: int | None = None) -> list[T]:
        """That many elements by chance."""

    def distinct(self, numPartitions: int | None = None) -> "RDD[T]":
        """Each element once."""

    def subtract(self, other: "RDD[Any]", numPartitions: int | None = None) -> "RDD[T]":
        """The elements that the other has not."""

    def intersection(self, other: "RDD[Any]") -> "RDD[T]":
        """The elements that both have, each once."""

    def cartesian(self, other: "RDD[U]") -> "RDD[tuple[T, U]]":
        """Every pair of an element of this and one of the other."""

    def coalesce(self, numPartitions: int, shuffle: bool = False) -> "RDD[T]":
        """The elements in so many partitions, neighbours together."""

    def groupBy(
        self,
        f: Callable[[Any], Any],
        numPartitions: int | None = None,
        partitionFunc: Callable[[Any], int] = ...,
    ) -> "RDD[tuple[Any, Any]]":
        """One pair a value of the function, with all elements that have it."""

    def groupWith(self, other: "RDD[Any]", *others: "RDD[Any]") -> "RDD[tuple[Any, Any]]":
        """As cogroup, of any number of RDDs."""

    def subtractByKey(self, other: "RDD[Any]", numPartitions: int | None = None) -> "RDD[tuple[Any, Any]]":
        """The pairs whose key the other lacks."""

    def aggregateByKey(
        self,
        zeroValue: Any,
        seqFunc: Callable[[Any, Any], Any],
        combFunc: Callable[[Any, Any], Any],
        numPartitions: int | None = None,
        partitionFunc: Callable[[Any], int] = ...,
    ) -> "RDD[tuple[Any, Any]]":
        """One pair a key with its values folded onto the zero value."""

    def foldByKey(
        self,
        zeroValue: Any,
        func: Callable[[Any, Any], Any],
        numPartitions: int | None = None,
        partitionFunc: Callable[[Any], int] = ...,
    ) -> "RDD[tuple[Any, Any]]":
        """As reduceByKey, from a zero value."""

    def reduceByKeyLocally(self, func: Callable[[Any, Any], Any]) -> dict[Any, Any]:
        """The reduced values of each key, in the driver."""

    def sortBy(
        self, keyfunc: Callable[[Any], Any], ascending: bool = True, numPartitions: int | None = None
    ) -> "RDD[T]":
        """The elements in the order of the function of each, over all partitions."""

    def sortByKey(
        self, ascending: bool = True, numPartitions: int | None = None, keyfunc: Callable[[Any], Any] = ...
    ) -> "RDD[tuple[Any, Any]]":
        """The pairs in the order of their keys, over all partitions."""

    def repartitionAndSortWithinPartitions(
        self,
        numPartitions: int | None = None,
        partitionFunc: Callable[[Any], int] = ...,
        ascending: bool = True,
        keyfunc: Callable[[Any], Any] = ...,
    ) -> "RDD[tuple[Any, Any]]":
        """The pairs as partitionBy spreads them, each partition in the order of its keys."""

    def first(self) -> T:
        """The first element; ValueError when there is none."""

    def lookup(self, key: Any) -> list[Any]:
        """The values of a key."""

    def collectAsMap(self) -> dict[Any, Any]:
        """All pairs as one dict."""

    def toLocalIterator(self, prefetchPartitions: bool = False) -> Iterator[T]:
        """The elements one by one; the driver holds a partition at a time."""

    def top(self, num: int, key: Callable[[Any], Any] | None = None) -> list[T]:
        """The largest elements, in descending order."""

    def takeOrdered(self, num: int, key: Callable[[Any], Any] | None = None) -> list[T]:
        """The smallest elements, in ascending order."""

    def max(self, key: Callable[[Any], Any] | None = None) -> T:
        """The largest element."""

    def min(self, key: Callable[[Any], Any] | None = None) -> T:
        """The smallest element."""

    def countByKey(self) -> dict[Any, int]:
        """How many pairs each key has."""

    def countByValue(self) -> dict[Any, int]:
        """How often each element occurs."""

    def countApprox(self, timeout: int, confidence: float = 0.95) -> int:
        """Number of elements, from what is known after so many milliseconds."""

    def countApproxDistinct(self, relativeSD: float = 0.05) -> int:
        """Number of different elements, about."""

    def fold(self, zeroValue: T, op: Callable[[Any, Any], Any]) -> T:
        """The elements of each partition folded onto the zero value, then those results."""

    def aggregate(
        self, zeroValue: U, seqOp: Callable[[Any, Any], Any], combOp: Callable[[Any, Any], Any]
    ) -> U:
        """As fold, to a value of another type."""

    def treeReduce(self, f: Callable[[Any, Any], Any], depth: int = 2) -> T:
        """As reduce, in a tree of tasks."""

    def treeAggregate(
        self,
        zeroValue: U,
        seqOp: Callable[[Any, Any], Any],
        combOp: Callable[[Any, Any], Any],
        depth: int = 2,
    ) -> U:
        """As aggregate, in a tree of tasks."""

    def sum(self) -> Any:
        """The sum of the elements."""

    def mean(self) -> float:
        """The mean of the elements."""

    def variance(self) -> float:
        """The variance of the elements as all there are."""

    def stdev(self) -> float:
        """The standard deviation of the elements as all there are."""

    def sampleVariance(self) -> float:
        """The variance of the elements as a sample of more."""

    def sampleStdev(self) -> float:
        """The standard deviation of the elements as a sample of more."""

    def stats(self) -> Any:
        """Count, mean, variance, smallest and largest, in one job."""

    def histogram(self, buckets: Any) -> tuple[Sequence[Any], list[int]]:
        """The edges of buckets and how many elements lie in each; `buckets` is their number or their edges."""

    def saveAsSequenceFile(self, path: str, compressionCodecClass: str | None = None) -> None:
        """Write the pairs as a sequence file of Hadoop."""


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

    def checkOutput(self, path: str) -> None:
        """Prove, before a batch runs, that RDDs can be saved to such paths, as far as this can be known.

        Raises:
            ConfigurationError: they cannot.
        """

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

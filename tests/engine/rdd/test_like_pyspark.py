"""The RDD surface against PySpark itself: one expression, computed by a real SparkContext and by the embedded backend.

A row is a name and a function of a context. What it gives must be equal on both; where order is no promise, the row sorts.
"""

import warnings
from collections.abc import Callable
from functools import partial
from operator import add
from pathlib import Path
from typing import Any

import pyspark
import pytest

from engine import LocalContext, TaskContext
from engine.storage import StorageLevel

pytestmark = pytest.mark.slow

Expression = Callable[[Any], Any]
"""A function of a context."""


def numbers(sc: Any) -> Any:
    """Twenty numbers in four partitions."""
    return sc.parallelize([5, 3, 8, 1, 9, 2, 7, 4, 6, 0, 5, 3, 8, 1, 9, 2, 7, 4, 6, 0], 4)


def words(sc: Any) -> Any:
    """Words in three partitions, some twice."""
    return sc.parallelize(["to", "be", "or", "not", "to", "be"], 3)


def pairs(sc: Any) -> Any:
    """Pairs in three partitions, with a key that is None and numbers that are equal across types."""
    return sc.parallelize([("a", 1), ("b", 2), ("a", 3), (None, 4), ("c", 5), ("b", 6)], 3)


def others(sc: Any) -> Any:
    """Pairs to join them with."""
    return sc.parallelize([("a", "x"), ("b", "y"), ("d", "z"), ("a", "w"), (None, "v")], 2)


def by_text(elements: Any) -> list[Any]:
    """The elements in an order that elements of all types have."""
    return sorted(elements, key=repr)


def plain(groups: Any) -> list[Any]:
    """Pairs of a key and an iterable, the latter as a sorted list, in order."""
    return by_text((key, by_text(values)) for key, values in groups)


def plain_sides(groups: Any) -> list[Any]:
    """As plain, of a tuple of iterables."""
    return by_text((key, tuple(by_text(side) for side in sides)) for key, sides in groups)


def error_of(expression: Callable[[], Any]) -> str:
    """The type of the error that the expression raises."""
    try:
        return repr(expression())
    except Exception as error:  # noqa: BLE001 - which error it is is what the row compares
        return f"{type(error).__name__}: {error}"


def without_warnings(expression: Callable[[], Any]) -> Any:
    """What a deprecated expression gives."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return expression()


ACTIONS: dict[str, Expression] = {
    "aggregate": lambda sc: numbers(sc).aggregate(
        (0, 0), lambda kept, n: (kept[0] + n, kept[1] + 1), lambda x, y: (x[0] + y[0], x[1] + y[1])
    ),
    "aggregate in place": lambda sc: sorted(
        numbers(sc).aggregate([], lambda kept, n: kept.append(n) or kept, lambda x, y: x.extend(y) or x)
    ),
    "collect": lambda sc: numbers(sc).collect(),
    "collectAsMap": lambda sc: pairs(sc).collectAsMap(),
    "collectWithJobGroup": lambda sc: without_warnings(lambda: words(sc).collectWithJobGroup("g", "words")),
    "count": lambda sc: numbers(sc).count(),
    "countApprox": lambda sc: numbers(sc).countApprox(10_000),
    "countApproxDistinct": lambda sc: numbers(sc).countApproxDistinct(0.01),
    "countByKey": lambda sc: dict(pairs(sc).countByKey()),
    "countByKey of equal keys": lambda sc: dict(
        sc.parallelize([(1, 0), (1.0, 0), (True, 0)], 2).countByKey()
    ),
    "countByValue": lambda sc: dict(words(sc).countByValue()),
    "first": lambda sc: numbers(sc).first(),
    "first of nothing": lambda sc: error_of(sc.parallelize([], 3).first),
    "first after empty partitions": lambda sc: numbers(sc).filter(lambda n: n == 0).first(),
    "fold": lambda sc: numbers(sc).fold(1, add),
    "fold of nothing": lambda sc: sc.parallelize([], 2).fold(0, add),
    "getNumPartitions": lambda sc: numbers(sc).getNumPartitions(),
    "isEmpty": lambda sc: (words(sc).isEmpty(), sc.emptyRDD().isEmpty(), sc.parallelize([None]).isEmpty()),
    "lookup": lambda sc: (pairs(sc).lookup("a"), pairs(sc).lookup(None), pairs(sc).lookup("none")),
    "lookup where keys are spread": lambda sc: (
        pairs(sc).map(lambda pair: pair[::-1]).partitionBy(4).lookup(6)
    ),
    "lookup in a sort": lambda sc: pairs(sc).filter(lambda pair: pair[0]).sortByKey().lookup("b"),
    "max": lambda sc: (numbers(sc).max(), words(sc).max(key=len)),
    "max of nothing": lambda sc: error_of(sc.parallelize([], 2).max),
    "mean": lambda sc: numbers(sc).mean(),
    "meanApprox": lambda sc: numbers(sc).meanApprox(10_000),
    "min": lambda sc: (numbers(sc).min(), words(sc).min(key=len)),
    "reduce": lambda sc: numbers(sc).reduce(add),
    "reduce of nothing": lambda sc: error_of(lambda: sc.parallelize([], 2).reduce(add)),
    "sampleStdev": lambda sc: round(numbers(sc).sampleStdev(), 9),
    "sampleVariance": lambda sc: round(numbers(sc).sampleVariance(), 9),
    "stats": lambda sc: {k: round(v, 9) for k, v in numbers(sc).stats().asDict().items()},
    "stats of a sample": lambda sc: {k: round(v, 9) for k, v in numbers(sc).stats().asDict(True).items()},
    "stats printed": lambda sc: repr(sc.parallelize([1.0, 2.0, 3.0, 6.0], 2).stats()),
    "stats of nothing": lambda sc: repr(sc.parallelize([], 2).stats()),
    "stdev": lambda sc: round(numbers(sc).stdev(), 9),
    "sum": lambda sc: (numbers(sc).sum(), sc.parallelize([], 2).sum(), sc.parallelize([0.5, 1], 2).sum()),
    "sumApprox": lambda sc: numbers(sc).sumApprox(10_000),
    "take": lambda sc: [numbers(sc).take(n) for n in (0, 1, 6, 99)],
    "takeOrdered": lambda sc: (numbers(sc).takeOrdered(5), words(sc).takeOrdered(3, key=len)),
    "toLocalIterator": lambda sc: list(numbers(sc).toLocalIterator()),
    "toLocalIterator ahead": lambda sc: list(numbers(sc).toLocalIterator(prefetchPartitions=True)),
    "top": lambda sc: (numbers(sc).top(5), words(sc).top(3, key=len)),
    "treeAggregate": lambda sc: numbers(sc).treeAggregate(0, add, add),
    "treeReduce": lambda sc: numbers(sc).treeReduce(add),
    "variance": lambda sc: round(numbers(sc).variance(), 9),
    "reduceByKeyLocally": lambda sc: pairs(sc).reduceByKeyLocally(add),
}

HISTOGRAMS: dict[str, Expression] = {
    "by number": lambda sc: numbers(sc).histogram(3),
    "one bucket": lambda sc: numbers(sc).histogram(1),
    "ints stay ints": lambda sc: sc.parallelize(range(51), 2).histogram(2),
    "floats": lambda sc: sc.parallelize([0.1, 0.5, 0.9, 1.3], 2).histogram(4),
    "by edges": lambda sc: sc.parallelize(range(51), 2).histogram([0, 5, 25, 50]),
    "by equal edges": lambda sc: sc.parallelize(range(51), 2).histogram([0, 10, 20, 30]),
    "of words": lambda sc: sc.parallelize(["ab", "ac", "b", "bd", "ef"], 2).histogram(("a", "b", "c")),
    "one value": lambda sc: sc.parallelize([3, 3], 2).histogram(4),
    "none and nan": lambda sc: sc.parallelize([1.0, None, float("nan"), 2.0], 2).histogram([0, 1, 2]),
    # Which words the ValueError has differs: PySpark's own are lost in its reduce.
    "nothing": lambda sc: error_of(lambda: sc.parallelize([], 2).histogram(2)).partition(":")[0],
    "no buckets": lambda sc: error_of(lambda: numbers(sc).histogram(0)),
    "one edge": lambda sc: error_of(lambda: numbers(sc).histogram([1])),
    "unsorted edges": lambda sc: error_of(lambda: numbers(sc).histogram([2, 1])),
    "edges twice": lambda sc: error_of(lambda: numbers(sc).histogram([1, 1])),
    "none as edge": lambda sc: error_of(lambda: numbers(sc).histogram([1, None])),
    "buckets of a text": lambda sc: error_of(lambda: numbers(sc).histogram("2")),
    "words by number": lambda sc: error_of(lambda: words(sc).histogram(2)),
}

NARROW: dict[str, Expression] = {
    "filter": lambda sc: numbers(sc).filter(lambda n: n % 2 == 0).collect(),
    "flatMap": lambda sc: words(sc).flatMap(list).collect(),
    "flatMapValues": lambda sc: pairs(sc).flatMapValues(range).collect(),
    "glom": lambda sc: numbers(sc).glom().collect(),
    "keyBy": lambda sc: words(sc).keyBy(len).collect(),
    "keys": lambda sc: pairs(sc).keys().collect(),
    "map": lambda sc: numbers(sc).map(lambda n: n * n).collect(),
    "mapPartitions": lambda sc: numbers(sc).mapPartitions(lambda part: [sum(part)]).collect(),
    "mapPartitionsWithIndex": lambda sc: (
        numbers(sc).mapPartitionsWithIndex(lambda index, part: [(index, sum(part))]).collect()
    ),
    "mapPartitionsWithSplit": lambda sc: without_warnings(
        lambda: numbers(sc).mapPartitionsWithSplit(lambda index, part: [(index, max(part))]).collect()
    ),
    "mapValues": lambda sc: pairs(sc).mapValues(str).collect(),
    "pipe": lambda sc: words(sc).pipe("sort", env={"PATH": "/usr/bin:/bin"}).collect(),
    "pipe of lines": lambda sc: sc.parallelize(["a\n", "b\n\n", " c ", 4, None]).pipe("cat").collect(),
    "pipe into a program that fails": lambda sc: words(sc).pipe("false").collect(),
    "values": lambda sc: pairs(sc).values().collect(),
    "zipWithIndex": lambda sc: words(sc).zipWithIndex().collect(),
    "zipWithIndex of one partition": lambda sc: sc.parallelize("abc", 1).zipWithIndex().collect(),
    "zipWithUniqueId": lambda sc: words(sc).zipWithUniqueId().collect(),
    "union": lambda sc: (
        words(sc).union(numbers(sc)).collect(),
        words(sc).union(words(sc)).getNumPartitions(),
    ),
    "union by plus": lambda sc: (words(sc) + numbers(sc) + words(sc)).collect(),
    "plus of what is no RDD": lambda sc: error_of(lambda: words(sc) + [1]).partition(":")[0],  # noqa: RUF005 - an RDD is no list
}

SAMPLES: dict[str, Expression] = {
    "randomSplit": lambda sc: [
        part.collect() for part in sc.parallelize(range(300), 3).randomSplit([2, 3, 1], 17)
    ],
    "randomSplit by bad weights": lambda sc: [
        error_of(partial(numbers(sc).randomSplit, weights)) for weights in ([1, -1], [0, 0])
    ],
    "sample": lambda sc: sc.parallelize(range(300), 3).sample(False, 0.1, 81).collect(),
    "sample with replacement": lambda sc: sc.parallelize(range(300), 3).sample(True, 1.5, 81).collect(),
    "sample many times": lambda sc: sc.parallelize(range(20), 2).sample(True, 25.0, 3).collect(),
    "sample of a negative fraction": lambda sc: error_of(lambda: numbers(sc).sample(False, -0.1)),
    "sampleByKey": lambda sc: (
        sc.parallelize([(n % 3, n) for n in range(300)], 3)
        .sampleByKey(False, {0: 0.2, 1: 0.5, 2: 0.0}, 7)
        .collect()
    ),
    "sampleByKey with replacement": lambda sc: (
        sc.parallelize([(n % 2, n) for n in range(100)], 3).sampleByKey(True, {0: 0.2, 1: 2}, 7).collect()
    ),
    "takeSample": lambda sc: [
        sc.parallelize(range(100), 3).takeSample(False, n, 5) for n in (0, 7, 100, 200)
    ],
    "takeSample with replacement": lambda sc: sc.parallelize(range(30), 3).takeSample(True, 50, 5),
    "takeSample of a negative number": lambda sc: error_of(lambda: numbers(sc).takeSample(False, -1)),
}

WIDE: dict[str, Expression] = {
    "aggregateByKey": lambda sc: by_text(pairs(sc).aggregateByKey(0, add, add).collect()),
    "aggregateByKey in place": lambda sc: plain(
        pairs(sc).aggregateByKey([], lambda kept, n: [*kept, n], add).collect()
    ),
    "cartesian": lambda sc: by_text(words(sc).cartesian(numbers(sc)).collect()),
    "coalesce": lambda sc: [len(part) for part in numbers(sc).coalesce(2).glom().collect()],
    "coalesce to more": lambda sc: numbers(sc).coalesce(9).getNumPartitions(),
    "cogroup": lambda sc: plain_sides(pairs(sc).cogroup(others(sc)).collect()),
    "combineByKey": lambda sc: plain(
        pairs(sc).combineByKey(lambda n: [n], lambda kept, n: [*kept, n], add).collect()
    ),
    "distinct": lambda sc: sorted(words(sc).distinct().collect()),
    "foldByKey": lambda sc: by_text(pairs(sc).foldByKey(0, add).collect()),
    "fullOuterJoin": lambda sc: by_text(pairs(sc).fullOuterJoin(others(sc)).collect()),
    "groupBy": lambda sc: plain(numbers(sc).groupBy(lambda n: n % 2 == 0).collect()),
    "groupByKey": lambda sc: plain(pairs(sc).groupByKey().collect()),
    "groupWith": lambda sc: plain_sides(pairs(sc).groupWith(others(sc), pairs(sc)).collect()),
    "intersection": lambda sc: sorted(
        words(sc).intersection(sc.parallelize(["be", "to", "see", "to"], 2)).collect()
    ),
    "join": lambda sc: by_text(pairs(sc).join(others(sc)).collect()),
    "leftOuterJoin": lambda sc: by_text(pairs(sc).leftOuterJoin(others(sc)).collect()),
    "partitionBy": lambda sc: by_text(pairs(sc).partitionBy(5).collect()),
    "partitionBy a function": lambda sc: [
        by_text(part) for part in pairs(sc).partitionBy(2, lambda key: len(key or "xx")).glom().collect()
    ],
    "reduceByKey": lambda sc: by_text(pairs(sc).reduceByKey(add).collect()),
    "repartition": lambda sc: (
        sorted(numbers(sc).repartition(3).collect()),
        numbers(sc).repartition(3).getNumPartitions(),
    ),
    "repartitionAndSortWithinPartitions": lambda sc: (
        sc.parallelize([(n, n) for n in (3, 8, 2, 0, 5, 1)], 2)
        .repartitionAndSortWithinPartitions(2, lambda n: n % 2, False)
        .glom()
        .collect()
    ),
    "rightOuterJoin": lambda sc: by_text(pairs(sc).rightOuterJoin(others(sc)).collect()),
    "sortBy": lambda sc: words(sc).sortBy(lambda word: word[::-1]).collect(),
    "sortBy descending": lambda sc: numbers(sc).sortBy(lambda n: n, ascending=False).collect(),
    "sortByKey": lambda sc: sc.parallelize([(n, str(n)) for n in (3, 1, 2)], 2).sortByKey().collect(),
    "subtract": lambda sc: sorted(words(sc).subtract(sc.parallelize(["be"], 2)).collect()),
    "subtractByKey": lambda sc: by_text(pairs(sc).subtractByKey(others(sc)).collect()),
    "zip": lambda sc: numbers(sc).zip(numbers(sc).map(str)).collect(),
}

CONTEXT: dict[str, Expression] = {
    "range": lambda sc: [sc.range(5).collect(), sc.range(2, 9, 3).collect(), sc.range(5, 0, -2).collect()],
    "range of slices": lambda sc: sc.range(10, numSlices=3).glom().collect(),
    "parallelize a range": lambda sc: sc.parallelize(range(0, 20, 3), 4).glom().collect(),
    "emptyRDD": lambda sc: (sc.emptyRDD().collect(), sc.emptyRDD().getNumPartitions()),
    "union": lambda sc: sc.union([words(sc), words(sc), numbers(sc)]).collect(),
    "runJob": lambda sc: sc.runJob(numbers(sc), lambda part: [sum(part)]),
    "runJob of some partitions": lambda sc: sc.runJob(numbers(sc), lambda part: [sum(part)], [0, 2], True),
    "defaults": lambda sc: (sc.defaultParallelism, sc.defaultMinPartitions, sc.master),
    "broadcast": lambda sc: broadcast_of(sc),  # noqa: PLW0108 - it stands below
    "accumulator": lambda sc: accumulated(sc, 0, add),
    "accumulator of a float": lambda sc: accumulated(sc, 0.5, add),
    "local properties": lambda sc: properties(sc),  # noqa: PLW0108 - as above
    "name": lambda sc: (words(sc).name(), words(sc).setName("w").name()),
    "storage level": lambda sc: [
        str(kept.getStorageLevel())
        for kept in (words(sc), words(sc).cache(), words(sc).persist(level_of(sc).DISK_ONLY))
    ],
    "storage level, assigned again": lambda sc: [level_after(sc, *names) for names in ASSIGNED],
    "added files": lambda sc: (type(sc.listFiles), type(sc.listArchives)),
    "task": lambda sc: told_in_tasks(sc),  # noqa: PLW0108 - it stands below
    "tasks": lambda sc: tasks_of(sc),  # noqa: PLW0108 - it stands below
    "is_cached": lambda sc: (words(sc).is_cached, words(sc).cache().is_cached),
    "local checkpoint": lambda sc: checkpointed(sc),  # noqa: PLW0108 - as above
}


def broadcast_of(sc: Any) -> Any:
    """A broadcast value, used before and after it was unpersisted."""
    names = sc.broadcast({1: "one", 2: "two"})
    used = sc.parallelize([1, 2], 2).map(lambda n: names.value[n])
    first = used.collect()
    names.unpersist(True)
    return first, used.collect(), names.value


def accumulated(sc: Any, zero: Any, _plus: Any) -> Any:
    """What tasks add up, by both spellings."""
    total = sc.accumulator(zero)

    def note(n: int) -> None:
        nonlocal total
        total += n
        total.add(1)

    numbers(sc).foreach(note)
    return total.value


def properties(sc: Any) -> Any:
    """A property that is set and taken away."""
    sc.setLocalProperty("parity", "yes")
    found = sc.getLocalProperty("parity")
    sc.setLocalProperty("parity", None)
    return found, sc.getLocalProperty("parity"), sc.getLocalProperty("never")


def level_of(sc: Any) -> Any:
    """The class of storage levels that belongs to a context."""
    return pyspark.StorageLevel if isinstance(sc, pyspark.SparkContext) else StorageLevel


ASSIGNED = [
    ("MEMORY_ONLY", "MEMORY_ONLY"),
    ("DISK_ONLY", "MEMORY_ONLY"),
    ("MEMORY_ONLY", "DISK_ONLY"),
    ("DISK_ONLY", None, "MEMORY_ONLY"),
]
"""Levels one after another, None for unpersist."""


def level_after(sc: Any, *names: str | None) -> str:
    """The storage level at the end, or Spark's words for why the last one is refused."""
    kept = words(sc)
    for name in names:
        try:
            kept = kept.unpersist() if name is None else kept.persist(getattr(level_of(sc), name))
        except Exception as error:  # noqa: BLE001 - Java's here, ours there
            refusal = "Cannot change storage level of an RDD after it was already assigned a level"
            return refusal if refusal in str(error) else repr(error)
    return str(kept.getStorageLevel())


def kind_of_task(sc: Any) -> Any:
    """The class of task contexts that belongs to a context."""
    return pyspark.TaskContext if isinstance(sc, pyspark.SparkContext) else TaskContext


def told_in_tasks(sc: Any) -> Any:
    """What tasks know of themselves that does not depend on earlier jobs."""
    kind = kind_of_task(sc)

    def told(_elements: Any) -> list[Any]:
        task = kind.get()
        return [(task.partitionId(), task.attemptNumber(), task.cpus(), task.cpuAmount(), task.resources())]

    return numbers(sc).mapPartitions(told).collect()


def tasks_of(sc: Any) -> Any:
    """How many stages and tasks two jobs have, and the types of their numbers."""
    kind = kind_of_task(sc)
    tasks = numbers(sc).mapPartitions(lambda _: [(kind.get().stageId(), kind.get().taskAttemptId())])
    stages, attempts = zip(*(tasks.collect() + tasks.collect()), strict=True)
    return len(set(stages)), len(set(attempts)), {type(number) for number in stages + attempts}


def checkpointed(sc: Any) -> Any:
    """An RDD before and after its first job, when it is to be checkpointed."""
    rdd = words(sc).map(len)
    rdd.localCheckpoint()
    before = rdd.isCheckpointed()
    return before, rdd.collect(), rdd.isCheckpointed(), rdd.collect()


TABLES = {
    "actions": ACTIONS,
    "histogram": HISTOGRAMS,
    "narrow": NARROW,
    "samples": SAMPLES,
    "wide": WIDE,
    "context": CONTEXT,
}


@pytest.mark.parametrize(
    ("table", "name"), [(table, name) for table, rows in TABLES.items() for name in rows]
)
def test_expression_gives_what_pyspark_gives(
    local_spark: pyspark.SparkContext, local_two: LocalContext, table: str, name: str
) -> None:
    """An expression gives the same on the embedded backend as on a real SparkContext."""
    expression = TABLES[table][name]

    assert expression(local_two) == expression(local_spark)


# Files: what one writes the other reads.

GZIP = "org.apache.hadoop.io.compress.GzipCodec"
WRITERS: dict[str, tuple[Callable[[Any, str], object], Callable[[Any, str], Any]]] = {
    "text": (lambda sc, path: words(sc).saveAsTextFile(path), lambda sc, path: sc.textFile(path)),
    "text, compressed": (
        lambda sc, path: words(sc).saveAsTextFile(path, GZIP),
        lambda sc, path: sc.textFile(path),
    ),
    "pickle": (
        lambda sc, path: sc.parallelize([1, "two", (3, None), [4]] * 30, 2).saveAsPickleFile(path),
        lambda sc, path: sc.pickleFile(path),
    ),
    "pickle one by one": (
        lambda sc, path: words(sc).saveAsPickleFile(path, 1),
        lambda sc, path: sc.pickleFile(path),
    ),
    "sequence of text and long": (
        lambda sc, path: sc.parallelize([("a", 2**40), ("\u00e9", -(2**41))], 2).saveAsSequenceFile(path),
        lambda sc, path: sc.sequenceFile(path),
    ),
    "sequence of int and float, compressed": (
        lambda sc, path: sc.parallelize([(n, n / 7) for n in range(2_000)], 2).saveAsSequenceFile(path, GZIP),
        lambda sc, path: sc.sequenceFile(path),
    ),
    "sequence of bool and none": (
        lambda sc, path: sc.parallelize([(True, None), (False, None)], 1).saveAsSequenceFile(path),
        lambda sc, path: sc.sequenceFile(path),
    ),
    "hadoop's text": (
        lambda sc, path: pairs(sc).saveAsHadoopFile(path, "org.apache.hadoop.mapred.TextOutputFormat"),
        lambda sc, path: sc.textFile(path),
    ),
}
"""What writes a folder, and what makes an RDD of it."""


@pytest.mark.parametrize("name", WRITERS)
def test_files_are_those_of_pyspark(
    local_spark: pyspark.SparkContext, local_two: LocalContext, tmp_path: Path, name: str
) -> None:
    """What either backend writes both read as the same elements, from as many data files."""
    write, read = WRITERS[name]
    read_back = []
    for writer in (local_spark, local_two):
        path = f"{tmp_path}/{writer.applicationId}"
        write(writer, path)
        read_back += [by_text(read(reader, path).collect()) for reader in (local_spark, local_two)]
    files = [
        sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
        for folder in tmp_path.iterdir()
    ]

    assert read_back[1:] == read_back[:-1]
    assert files[0] == files[1]


@pytest.mark.parametrize("parts", [1, 2, 5, 40])
def test_lines_are_cut_like_those_of_pyspark(
    local_spark: pyspark.SparkContext, local_two: LocalContext, tmp_path: Path, parts: int
) -> None:
    """A text has the same partitions on both, to the line."""
    text = tmp_path / "text"
    text.write_bytes(b"\xef\xbb\xbffirst\r\n" + b"".join(b"line %d\n" % n for n in range(100)) + b"\n\nlast")

    assert (
        local_two.textFile(str(text), parts).glom().collect()
        == local_spark.textFile(str(text), parts).glom().collect()
    )
    assert (
        local_two.wholeTextFiles(str(tmp_path)).collect()
        == local_spark.wholeTextFiles(str(tmp_path)).collect()
    )

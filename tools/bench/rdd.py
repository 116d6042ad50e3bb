"""Wide operations on the embedded backend beside PySpark's on as many cores, and the memory of a shuffle that is larger than it.

Both sides run the same functions over the same elements, which each holds in memory. PySpark is an extra: without it there is one side.

Owns: Row, Big, compare, big_shuffle.
Never: a verdict.
"""

import importlib.util
import threading
import time
from collections.abc import Callable
from operator import add
from typing import Any, NamedTuple, Self

import psutil

from engine import LocalContext

HAS_SPARK = importlib.util.find_spec("pyspark") is not None
if HAS_SPARK:
    import pyspark

CORES = 2


class Row(NamedTuple):
    """One operation on both sides: least seconds of all rounds."""

    operation: str
    here: float
    spark: float | None
    result: int
    """What both counted."""

    @property
    def ratio(self) -> float:
        """How many times as long PySpark takes."""
        return (self.spark or 0.0) / self.here


class Big(NamedTuple):
    """A shuffle larger than memory."""

    megabytes: int
    seconds: float
    peak_bytes: int
    """Most resident memory of driver and executors together."""
    file_bytes: int
    spilled_bytes: int


def operations(sc: Any, records: int) -> dict[str, Callable[[], int]]:
    """By name an operation that counts its result; what it reads is cached."""
    numbers = sc.parallelize(range(records), CORES).cache()
    left = numbers.map(lambda n: (n * 7_919 % records, n)).cache()
    right = numbers.map(lambda n: (n * 104_729 % records, n)).cache()
    words = numbers.map(lambda n: (f"user-{n * 7_919 % records}", n)).cache()
    few = numbers.map(lambda n: (n % (records // 10), n)).cache()
    mixed = numbers.map(lambda n: n * 7_919 % records).cache()
    for rdd in (numbers, left, right, words, few, mixed):
        rdd.count()
    return {
        "reduceByKey, every key distinct": lambda: left.reduceByKey(add, CORES).count(),
        "reduceByKey, every key distinct, str": lambda: words.reduceByKey(add, CORES).count(),
        "groupByKey, 10 values a key": lambda: few.groupByKey(CORES).count(),
        "join, every key distinct": lambda: left.join(right, CORES).count(),
        "sortBy": lambda: mixed.sortBy(lambda n: n, True, CORES).count(),
        "distinct": lambda: mixed.distinct(CORES).count(),
        "repartition": lambda: mixed.repartition(CORES).count(),
    }


def compare(records: int, rounds: int, progress: Callable[[], object]) -> list[Row]:
    """Run each operation on both sides in turn."""
    with LocalContext(f"local[{CORES}]", "bench") as context:
        spark = _spark_context() if HAS_SPARK else None
        try:
            here = operations(context, records)
            there = {} if spark is None else operations(spark, records)
            return [_row(name, here[name], there.get(name), rounds, progress) for name in here]
        finally:
            if spark is not None:
                spark.stop()


def steps(rounds: int) -> int:
    """How often `compare` tells its progress."""
    return 7 * rounds


def _row(
    name: str,
    here: Callable[[], int],
    there: Callable[[], int] | None,
    rounds: int,
    progress: Callable[[], object],
) -> Row:
    ours: list[float] = []
    theirs: list[float] = []
    results = set()
    for _ in range(rounds):
        for side, seconds in ((here, ours), (there, theirs)):
            if side is not None:
                begin = time.perf_counter()
                results.add(side())
                seconds.append(time.perf_counter() - begin)
        progress()
    if len(results) != 1:
        raise AssertionError(f"{name}: the sides count {sorted(results)}")
    return Row(name, min(ours), min(theirs, default=None), results.pop())


def _spark_context() -> Any:
    settings = pyspark.SparkConf().setMaster(f"local[{CORES}]").setAppName("bench")
    for key, value in (
        ("spark.ui.enabled", "false"),
        ("spark.ui.showConsoleProgress", "false"),
        ("spark.driver.memory", "4g"),
        ("spark.log.level", "ERROR"),
    ):
        settings = settings.set(key, value)
    return pyspark.SparkContext(conf=settings)


class _Peak:
    """The most resident memory of this process and its children while the block runs, looked at every 20 ms."""

    def __init__(self) -> None:
        self.peak_bytes = 0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _watch(self) -> None:
        own = psutil.Process()
        while not self._is_over.wait(0.02):
            self.peak_bytes = max(self.peak_bytes, sum(map(_resident, [own, *own.children(recursive=True)])))


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def big_shuffle(megabytes: int, folder: str | None = None) -> Big:
    """Group pairs of so many MB, values of 1 kB under keys that come ten times each."""
    records = megabytes * 1_000
    tasks = CORES * 4
    with LocalContext(f"local[{CORES}]", "bench", temporaryFolder=folder) as context, _Peak() as watch:
        numbers = context.parallelize(range(tasks), tasks).flatMap(lambda n: range(n, records, tasks))
        pairs = numbers.map(lambda n: (n % (records // 10), n.to_bytes(8, "big") * 125))
        begin = time.perf_counter()
        sizes = pairs.groupByKey(CORES).map(lambda pair: sum(map(len, pair[1]))).reduce(add)
        seconds = time.perf_counter() - begin
        if sizes != records * 1_000:
            raise AssertionError(f"{sizes} bytes came through in place of {records * 1_000}")
        files, spilled = context.shuffle_file_bytes, context.spilled_bytes
    return Big(megabytes, seconds, watch.peak_bytes, files, spilled)

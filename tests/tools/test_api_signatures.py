"""Operations are called as PySpark's are, and what is otherwise is listed here and told in docs/api.md."""

import inspect
import re

import pytest

from engine import LocalContext, SparkConf, StreamingContext
from engine.monitoring.table import METRICS as OURS
from engine.sources.kafka import KafkaUtils
from services.settings import REPOSITORY
from tools.api.inventory import CLASSES, Class
from tools.api.keys import KEYS, METRICS, PAGES
from tools.api.rows import rows
from tools.api.signatures import deviations

DEVIATIONS = {
    # A window that slides as its parent does needs no second argument.
    "DStream and pair DStream.countByValueAndWindow: slideDuration may be left out",
    "DStream and pair DStream.countByWindow: slideDuration may be left out",
    "DStream and pair DStream.groupByKeyAndWindow: slideDuration may be left out",
    "DStream and pair DStream.reduceByWindow: slideDuration may be left out",
    # None stands for PySpark's own default.
    "DStream and pair DStream.partitionBy: partitionFunc is None by default",
    "RDD.repartitionAndSortWithinPartitions: keyfunc is None by default",
    "RDD.sortByKey: keyfunc is None by default",
    "SparkContext.__init__: serializer is None by default",
    "SparkContext.__init__: profiler_cls is None by default",
    "SparkContext.__init__: udf_profiler_cls is None by default",
    "SparkContext.__init__: memory_profiler_cls is None by default",
    # What has a good default, or is found out.
    "DStream and pair DStream.persist: storageLevel may be left out",
    "SparkContext.hadoopFile: keyClass may be left out",
    "SparkContext.hadoopFile: valueClass may be left out",
    "SparkContext.newAPIHadoopFile: keyClass may be left out",
    "SparkContext.newAPIHadoopFile: valueClass may be left out",
    "StreamingContext.__init__: sparkContext may be left out",
    # The name of the event that it is; the engine gives it by position.
    "StreamingListener.onBatchStarted: batchSubmitted is called batchStarted",
    # PySpark's own.
    "SparkConf.__init__: _jvm is missing",
    "SparkConf.__init__: _jconf is missing",
    # Always refused.
    *(
        f"SparkContext.{name}: {argument} is missing"
        for name in ("hadoopRDD", "newAPIHadoopRDD")
        for argument in ("keyClass", "valueClass", "keyConverter", "valueConverter", "conf", "batchSize")
    ),
}
"""Every parameter of PySpark's that is otherwise here."""


def test_signatures_are_pysparks() -> None:
    """Every operation takes PySpark's parameters with their names, places and defaults, but for those that are listed."""
    found = {
        f"{kind.title}.{row.name}: {deviation}"
        for kind in CLASSES
        for row in rows(kind)
        if row.origin == "yes" and hasattr(kind.ours, row.name)
        for deviation in deviations(getattr(kind.theirs, row.name), getattr(kind.ours, row.name))
    }

    assert found == DEVIATIONS


def test_deviations_are_in_the_rows() -> None:
    """The row of an operation tells each of its deviations."""
    told = {f"{kind.title}.{row.name}": row.difference for kind in CLASSES for row in rows(kind)}
    missing = [
        deviation
        for deviation in DEVIATIONS
        if deviation.partition(": ")[2] not in told[deviation.partition(": ")[0]]
    ]

    assert missing == []


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.title)
def test_properties_are_pysparks(kind: Class) -> None:
    """What PySpark's class has as a property is none to be called here, and the other way round."""
    wrong = [
        row.name
        for row in rows(kind)
        if row.origin == "yes"
        and hasattr(kind.ours, row.name)
        and inspect.isroutine(getattr(kind.theirs, row.name))
        != inspect.isroutine(getattr(kind.ours, row.name))
    ]

    assert wrong == []


SAID = re.compile(
    r"PySpark (tells|copies|reads|takes|has|sets|refuses|keeps|gives|drops|divides|finds|does not)|Scala's rule|, where PySpark"
)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.title)
def test_differences_are_said_as_such(kind: Class) -> None:
    """A docstring that says how PySpark does otherwise says so after "Difference:", which the page reads."""
    wrong = [
        row.name
        for row in rows(kind)
        if not row.difference and SAID.search(inspect.getdoc(getattr(kind.ours, row.name, None)) or "")
    ]

    assert wrong == []


def test_every_key_has_a_place() -> None:
    """The arguments that stand in the place of Spark's keys are there."""
    signatures = {
        "StreamingContext": StreamingContext,
        "StreamingContext.checkpoint": StreamingContext.checkpoint,
        "stop": StreamingContext.stop,
        "createDirectStream": KafkaUtils.createDirectStream,
        "rawSocketStream": StreamingContext.rawSocketStream,
        "LocalContext(conf=)": LocalContext,
    }
    wrong = [
        f"{owner} has no {argument}"
        for place in KEYS.values()
        for argument, owner in re.findall(r"`(\w+)` of `?([\w.]+)", place)
        if owner in signatures and argument not in inspect.signature(signatures[owner]).parameters
    ]

    assert wrong == []
    assert len(KEYS) >= 30


def test_keys_that_are_read_are_named() -> None:
    """The keys that a context reads are those that SparkConf names."""
    read = [key for keys, place in KEYS.items() if place.startswith("read from") for key in keys.split(", ")]

    assert [key for key in read if key not in (SparkConf.__doc__ or "")] == []


def test_metrics_and_pages_are_there() -> None:
    """The metrics in the place of Spark's are in the table of metrics, and the resources in the page's description."""
    named = {metric.name.removesuffix("_total") for metric in OURS}
    wanted = {name for place in METRICS.values() for name in re.findall(r"engine_\w+", place)}
    described = (REPOSITORY / "docs" / "streaming-page.md").read_text()
    resources = {
        name
        for place in (*METRICS.values(), *PAGES.values())
        for name in re.findall(r"`(/api/[^`]*)`", place)
    }

    assert {name for name in wanted if name.removesuffix("_total") not in named} == set()
    assert {name for name in resources if name not in described} == set()

"""What PySpark sends of classes that a driver's script defines."""

import subprocess
import sys

import msgspec
import pyspark
import pytest
from pyspark.serializers import CloudPickleSerializer

from engine.rdd.backends import backend_of
from engine.spark.pickling import complete_structs
from tests.engine.children import ROOT

# As if the script that runs had it: no other process can import it.
Visit = msgspec.defstruct("Visit", [("page", str), ("seconds", int, 1)], frozen=True, module="__main__")
_WORKER = """
import sys
from pyspark.serializers import CloudPickleSerializer

function, value = CloudPickleSerializer().loads(sys.stdin.buffer.read())
sys.stdout.buffer.write(CloudPickleSerializer().dumps(function(value)))
"""


@pytest.mark.slow
def test_a_struct_of_a_script_has_its_fields_in_another_process_and_back() -> None:
    """PySpark's own pickle of a Struct of `__main__` is whole there, and what comes back is of the driver's class."""
    complete_structs()
    sent = CloudPickleSerializer().dumps((lambda visit: Visit(visit.page, visit.seconds + 1), Visit("/a")))

    done = subprocess.run(
        [sys.executable, "-c", _WORKER], input=sent, capture_output=True, cwd=ROOT, check=True
    )

    assert CloudPickleSerializer().loads(done.stdout) == Visit("/a", 2)


@pytest.mark.spark
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_structs_of_a_script_are_records_on_spark(spark_context: pyspark.SparkContext) -> None:
    """Structs of `__main__` are decoded in workers, come back as the driver's class, and go out again through a shuffle."""
    backend = backend_of(spark_context)
    decoded = backend.parallelize([b'{"page":"/a"}', b'{"page":"/a","seconds":3}'], 2).map(
        lambda value: msgspec.json.decode(value, type=Visit)
    )
    visits = decoded.collect()
    longest = (
        backend.parallelize(visits, 2).map(lambda visit: (visit.page, visit)).reduceByKey(max_seconds, 2)
    )

    assert visits == [Visit("/a"), Visit("/a", 3)]
    assert longest.collect() == [("/a", Visit("/a", 3))]


def max_seconds(one: Visit, other: Visit) -> Visit:  # type: ignore[valid-type]  # made at run time
    """The longer visit."""
    return max(one, other, key=lambda visit: visit.seconds)  # type: ignore[attr-defined]  # as above
